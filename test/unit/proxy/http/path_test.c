/* Paths as Envoy 1.40 forwards them (observed). */
#include "proxy/http/path.h"

#include <check.h>
#include <stdlib.h>

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 0);
}

static void teardown(void)
{
    arena_cleanup(&arena);
}

struct path_case {
    const char *from, *to; /* to NULL: rejected */
};

static void expect(enum path_result r, struct str got, const struct path_case *c)
{
    if (!c->to) {
        ck_assert_msg(r == PATH_REJECTED, "%s", c->from);
        return;
    }
    ck_assert_msg(r != PATH_REJECTED, "%s", c->from);
    ck_assert_msg(str_eq(got, str_of(c->to)), "%s: got %.*s, want %s", c->from, STR_ARG(got),
                  c->to);
    ck_assert_msg((r == PATH_CHANGED) == (strcmp(c->from, c->to) != 0), "%s", c->from);
}

/* ";" begins parameters of a segment: what is left of it decides (CVE-2026-73551, -73511). */
START_TEST(parameters_hide_no_dot_segment)
{
    static const struct path_case cases[] = {
        {"/a/..;/b", "/b"},         {"/a/.;x/b", "/a/b"},       {"/..;x/a", "/a"},
        {"/a/%2E;x/b", "/a/b"},     {"/a/.%2e;x=1/b", "/b"},    {"/a/..;a;b", "/"},
        {"/a;x=1/../b", "/b"},      {"/a/b;p/../c", "/a/c"},    {"/a/;/b", "/a/;/b"},
        {"/a/...;/b", "/a/...;/b"}, {"/a/x..;/b", "/a/x..;/b"}, {"/a/..%3bx/b", "/a/..%3bx/b"},
        {"/a?..;/b", "/a?..;/b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str path = str_of(cases[i].from);
        expect(path_normalize(&arena, &path), path, &cases[i]);
    }
}
END_TEST

START_TEST(normalize)
{
    static const struct path_case cases[] = {
        {"/", "/"},
        {"/a/b", "/a/b"},
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/a/../../b", "/b"},
        {"/..", "/"},
        {"/.", "/"},
        {"/../", "/"},
        {"/./", "/"},
        {"/a/..", "/"},
        {"/a/.", "/a/"},
        {"/a/b/..", "/a/"},
        {"/a/b/../", "/a/"},
        {"/a/b/c/../../d", "/a/d"},
        {"/a//b", "/a//b"},
        {"//a", "//a"},
        {"/a//../b", "/a/b"},
        {"/a/%2e/b", "/a/b"},
        {"/a/%2E%2e/b", "/b"},
        {"/a/.%2e/b", "/b"},
        {"/a/...", "/a/..."},
        {"/.../a", "/.../a"},
        {"/..a", "/..a"},
        {"/a/..b", "/a/..b"},
        {"/%61", "/a"},
        {"/%41%5A%30", "/AZ0"},
        {"/%7e%7E", "/~~"},
        {"/%2D%2e%5f", "/-._"},
        {"/%2f", "/%2f"},
        {"/%5c", "/%5c"},
        {"/a\\b", "/a/b"},
        {"/a\\..\\b", "/b"},
        {"/a%25b", "/a%25b"},
        {"/a%252e", "/a%252e"},
        {"/a%20b", "/a%20b"},
        {"/a%c3%A9", "/a%c3%A9"},
        {"/a%00b", NULL},
        {"/a%zzb", "/a%zzb"},
        {"/a%", "/a%"},
        {"/a%2", "/a%2"},
        {"/a%2%2e", "/a%2."},
        {"/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D"},
        {"/[x]!$&'()*+,;=:@", "/[x]!$&'()*+,;=:@"},
        {"/a?x/../y", "/a?x/../y"},
        {"/a/../b?c/%2e%2e/d", "/b?c/%2e%2e/d"},
        {"/a/..?x", "/?x"},
        {"/a?%41%00", "/a?%41%00"},
        {"/a/../b#%00", "/b#%00"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str path = str_of(cases[i].from);
        enum path_result r = path_normalize(&arena, &path);
        expect(r, path, &cases[i]);
        struct str again = path;
        if (r != PATH_REJECTED) /* normal paths stay */
            ck_assert_int_eq(path_normalize(&arena, &again), PATH_OK);
    }
}
END_TEST

START_TEST(merge)
{
    static const struct path_case cases[] = {{"/a/b", "/a/b"},       {"//a", "/a"},
                                             {"/a///b//", "/a/b/"},  {"///", "/"},
                                             {"/a?b//c", "/a?b//c"}, {"/a//b?c//d", "/a/b?c//d"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str path = str_of(cases[i].from);
        enum path_result r = path_merge_slashes(&arena, &path);
        expect(r, path, &cases[i]);
    }
}
END_TEST

START_TEST(escaped_slashes)
{
    static const struct path_case cases[] = {
        {"/a", "/a"},     {"/a%2fb", "/a/b"},     {"/a%2Fb%5c%5C", "/a/b\\\\"}, {"/%2", "/%2"},
        {"/%2g", "/%2g"}, {"/a%252f", "/a%252f"}, {"/a?b%2fc", "/a?b%2fc"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str path = str_of(cases[i].from);
        enum path_result r = path_escaped_slashes(&arena, &path);
        expect(r, path, &cases[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("path");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, normalize);
    tcase_add_test(t, parameters_hide_no_dot_segment);
    tcase_add_test(t, merge);
    tcase_add_test(t, escaped_slashes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
