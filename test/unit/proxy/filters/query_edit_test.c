/* Query parameters that are changed: what stays keeps its bytes and comes in the order of names. */
#include "proxy/filters/query_edit.h"

#include <check.h>
#include <stdio.h>
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

static void check_end(const struct query_edit *q, const char *want)
{
    struct str got = query_edit_end(q);
    ck_assert_msg(str_eq(got, str_of(want)), "%.*s, not %s", STR_ARG(got), want);
}

static const struct {
    const char *path, *kept, *without_a, *with_a;
} cases[] = {
    {"/p", "/p", "/p", "/p?a=%25%20z"},
    {"/p?", "/p", "/p", "/p?a=%25%20z"},
    {"/p?a=1", "/p?a=1", "/p", "/p?a=1&a=%25%20z"},
    {"/p?b=2&a=1", "/p?a=1&b=2", "/p?b=2", "/p?a=1&a=%25%20z&b=2"},
    {"/p?b&a&b=1", "/p?a=&b=&b=1", "/p?b=&b=1", "/p?a=&a=%25%20z&b=&b=1"},
    {"/p?%61=1&%41=2", "/p?%41=2&%61=1", "/p?%41=2", "/p?%41=2&%61=1&a=%25%20z"},
    {"/p?x=%0d%0a&a=%zz%4", "/p?a=%zz%4&x=%0d%0a", "/p?x=%0d%0a", "/p?a=%zz%4&a=%25%20z&x=%0d%0a"},
    {"/p?z=a=b?c&&", "/p?=&z=a=b?c", "/p?=&z=a=b?c", "/p?=&a=%25%20z&z=a=b?c"},
};

START_TEST(test_edit)
{
    struct query_edit q;
    query_edit_begin(&q, &arena, str_of(cases[_i].path));
    check_end(&q, cases[_i].kept);
    query_edit_add(&q, STR("a"), STR("% z"));
    ck_assert(query_edit_has(&q, STR("a")));
    check_end(&q, cases[_i].with_a);
    query_edit_remove(&q, STR("a"));
    ck_assert(!query_edit_has(&q, STR("a")));
    check_end(&q, cases[_i].without_a);
}
END_TEST

START_TEST(test_names_are_encoded)
{
    struct query_edit q;
    query_edit_begin(&q, &arena, STR("/"));
    query_edit_add(&q, STR("a&b=\r\n~"), STR(""));
    check_end(&q, "/?a%26b%3D%0D%0A%7E=");
}
END_TEST

/* The order of many is right, and found without the square of their number. */
START_TEST(test_many)
{
    enum { MANY = 20000 };
    char *text = arena_bytes(&arena, MANY * 8 + 8);
    size_t n = 0;
    text[n++] = '?';
    for (unsigned i = 0; i < MANY; i++)
        n += (size_t)snprintf(text + n, 8, "%05u&", i * 7919u % MANY);
    struct query_edit q;
    query_edit_begin(&q, &arena, str_n(text, n));
    unsigned at = 0;
    for (const struct query_param *p = q.first; p; p = p->next, at++) {
        uint64_t name;
        ck_assert(str_to_u64(p->name, &name) && name == at);
    }
    ck_assert_uint_eq(at, MANY);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("query_edit");
    TCase *t = tcase_create("query_edit");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_edit, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(t, test_names_are_encoded);
    tcase_add_test(t, test_many);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
