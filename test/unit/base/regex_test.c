#include "base/regex.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>

static struct arena arena;
static struct str err;

static struct regex *make(const char *pattern, unsigned flags)
{
    err = STR_NULL;
    struct regex *r = regex_new(str_of(pattern), flags, 0, &arena, &err);
    ck_assert_msg(r != NULL, "%s: %.*s", pattern, STR_ARG(err));
    return r;
}

START_TEST(test_full_and_search)
{
    struct regex *r = make("a(b+)(c)?", 0);
    struct str g[4];
    ck_assert(regex_full(r, STR("abbc")));
    ck_assert(!regex_full(r, STR("xabbc")));
    ck_assert(!regex_full(r, STR("abbcx")));
    ck_assert(!regex_full(r, STR_NULL));
    ck_assert(regex_search(r, STR("xxabby"), g, 4));
    ck_assert(str_eq(g[0], STR("abb")) && str_eq(g[1], STR("bb")));
    ck_assert_ptr_null(g[2].p);
    ck_assert_ptr_null(g[3].p); /* there is no third group */
    ck_assert(regex_search(r, STR("xxabby"), NULL, 0));
    ck_assert(!regex_search(r, STR("xx"), g, 4));
    ck_assert_uint_eq(regex_num_groups(r), 2);
    ck_assert(str_eq(regex_pattern(r), STR("a(b+)(c)?")));
    regex_free(&r);
    ck_assert_ptr_null(r);
    regex_free(&r);
    r = make(".*", 0);
    ck_assert(regex_full(r, STR_NULL));
    regex_free(&r);
}
END_TEST

START_TEST(test_alternatives_match_the_whole)
{
    struct regex *r = make("a|ab", 0);
    ck_assert(regex_full(r, STR("ab")));
    regex_free(&r);
    r = make("(?i)ab", 0);
    ck_assert(regex_full(r, STR("AB")));
    regex_free(&r);
    r = make("ab", REGEX_IGNORE_CASE);
    ck_assert(regex_full(r, STR("Ab")));
    regex_free(&r);
}
END_TEST

START_TEST(test_refuses)
{
    static const char *const bad[] = {"(",      "a)", "[",       "*",     "a**", "(?=x)",
                                      "(a)\\1", "\\", "x{1001}", "(?P<n", "\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err = STR_NULL;
        struct regex *r = regex_new(str_of(bad[i]), 0, 0, &arena, &err);
        ck_assert_msg(r == NULL, "%s", bad[i]);
        ck_assert_uint_gt(err.len, 0);
    }
}
END_TEST

START_TEST(test_program_size)
{
    struct regex *r = make("(abc){50}", 0);
    uint32_t size = regex_program_size(r);
    ck_assert_uint_gt(size, 100);
    regex_free(&r);
    r = regex_new(STR("(abc){50}"), 0, size, &arena, &err);
    ck_assert_ptr_nonnull(r);
    regex_free(&r);
    r = regex_new(STR("(abc){50}"), 0, size - 1, &arena, &err);
    ck_assert_ptr_null(r);
    ck_assert_int_ge(str_find(err, STR("max program size")), 0);
    /* RE2's own memory limit, without one of ours. */
    r = regex_new(STR("((a{100}){100}){100}"), 0, 0, &arena, &err);
    ck_assert_ptr_null(r);
}
END_TEST

START_TEST(test_bytes_and_utf8)
{
    struct regex *text = make("x.y", 0), *bytes = make("x.y", REGEX_BYTES);
    ck_assert(!regex_full(text, STR("x\xffy")));
    ck_assert(regex_full(bytes, STR("x\xffy")));
    ck_assert(regex_full(text, STR("x\xc3\xa9y")));
    ck_assert(!regex_full(bytes, STR("x\xc3\xa9y")));
    ck_assert(regex_full(bytes, STR("x\0y")));
    regex_free(&text);
    regex_free(&bytes);
}
END_TEST

START_TEST(test_rewrite)
{
    struct regex *r = make("/svc/([^/]+)(/.*)", 0);
    ck_assert(regex_check_rewrite(r, STR("\\2/inst/\\1\\\\"), &arena, &err));
    ck_assert(str_eq(regex_replace_all(r, STR("/svc/foo/v1"), STR("\\2/inst/\\1\\\\"), &arena),
                     STR("/v1/inst/foo\\")));
    struct str same = STR("/other");
    ck_assert_ptr_eq(regex_replace_all(r, same, STR("\\1"), &arena).p, same.p);
    ck_assert(!regex_check_rewrite(r, STR("\\3"), &arena, &err));
    ck_assert_uint_gt(err.len, 0);
    ck_assert(!regex_check_rewrite(r, STR("\\x"), &arena, &err));
    ck_assert(!regex_check_rewrite(r, STR("a\\"), &arena, &err));
    regex_free(&r);
    r = make("one", 0);
    ck_assert(str_eq(regex_replace_all(r, STR("/one/one"), STR("two"), &arena), STR("/two/two")));
    regex_free(&r);
    r = make("b*", 0);
    ck_assert(str_eq(regex_replace_all(r, STR("abb"), STR("-"), &arena), STR("-a-")));
    regex_free(&r);
}
END_TEST

/* A back-tracking engine needs 2^n steps here. */
START_TEST(test_linear_time)
{
    struct regex *r = make("(a+)+$", 0);
    char s[20001];
    memset(s, 'a', sizeof(s));
    s[sizeof(s) - 1] = 'b';
    ck_assert(!regex_full(r, str_n(s, sizeof(s))));
    regex_free(&r);
}
END_TEST

START_TEST(test_abort_too_many_groups)
{
    struct str g[REGEX_MAX_GROUPS + 1];
    struct regex *r = make("a", 0);
    (void)!regex_search(r, STR("a"), g, ARRAY_LEN(g));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/regex");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_full_and_search);
    tcase_add_test(tc, test_alternatives_match_the_whole);
    tcase_add_test(tc, test_refuses);
    tcase_add_test(tc, test_program_size);
    tcase_add_test(tc, test_bytes_and_utf8);
    tcase_add_test(tc, test_rewrite);
    tcase_add_test(tc, test_linear_time);
    tcase_add_test_raise_signal(tc, test_abort_too_many_groups, SIGABRT);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
