#include "base/errors.h"

#include <check.h>
#include <stdlib.h>

START_TEST(test_paths)
{
    struct errors e;
    struct arena a;
    errors_init(&e);
    arena_init(&a, 0);
    ck_assert(errors_ok(&e));
    ck_assert_uint_eq(errors_text(&e, &a).len, 0);
    errors_add(&e, NULL, "at the root");
    size_t m1 = errors_push_index(&e, "filter_chains", 0);
    size_t m2 = errors_push_key(&e, "typed_config", STR("a.b"));
    errors_add(&e, "stat_prefix", "must not be empty, got %d", 3);
    errors_add(&e, NULL, "here");
    errors_pop(&e, m2);
    errors_warn(&e, "name", "not honoured");
    errors_pop(&e, m1);
    size_t m3 = errors_push(&e, "x");
    errors_add(&e, "y", "last");
    errors_pop(&e, m3);
    ck_assert(!errors_ok(&e));
    ck_assert_uint_eq(e.num_errors, 4);
    ck_assert_uint_eq(e.num_warnings, 1);
    ck_assert_str_eq(e.warn_first->path.p, "filter_chains[0].name");
    ck_assert_str_eq(errors_text(&e, &a).p,
                     "at the root; "
                     "filter_chains[0].typed_config[a.b].stat_prefix: must not be empty, got 3; "
                     "filter_chains[0].typed_config[a.b]: here; x.y: last");
    errors_cleanup(&e);
    arena_cleanup(&a);
}
END_TEST

START_TEST(test_bounded)
{
    struct errors e;
    struct arena a;
    errors_init(&e);
    arena_init(&a, 0);
    for (int i = 0; i < 1000; i++) {
        errors_add(&e, "f", "%d", i);
        errors_warn(&e, "f", "%d", i);
    }
    ck_assert_uint_eq(e.num_errors, 1000);
    ck_assert_uint_eq(e.num_warnings, 1000);
    struct str t = errors_text(&e, &a);
    ck_assert(str_ends(t, STR("f: 99; and 900 more")));
    size_t n = 0;
    for (struct error_item *it = e.first; it; it = it->next)
        n++;
    ck_assert_uint_eq(n, ERRORS_MAX);
    errors_cleanup(&e);
    arena_cleanup(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/errors");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_paths);
    tcase_add_test(tc, test_bounded);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
