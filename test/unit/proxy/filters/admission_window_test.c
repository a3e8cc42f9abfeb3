#include "proxy/filters/admission_window.h"

#include <check.h>
#include <stdlib.h>

static struct admission_window w;

static void record(uint64_t now, int requests, int successes)
{
    for (int i = 0; i < requests; i++)
        admission_window_record(&w, now, i < successes);
}

START_TEST(forgets_what_is_too_old)
{
    admission_window_init(&w, 3);
    record(100, 4, 1);
    record(102, 2, 2);
    ck_assert_uint_eq(w.requests, 6);
    ck_assert_uint_eq(admission_window_rps(&w, 102), 3);
    ck_assert_uint_eq(admission_window_rps(&w, 103), 1); /* two of the last two seconds */
    ck_assert_uint_eq(w.requests, 2);
    ck_assert_uint_eq(w.successes, 2);
    ck_assert_uint_eq(admission_window_rps(&w, 500), 0);
    ck_assert_uint_eq(w.requests, 0);
    record(501, 5, 5);
    ck_assert_uint_eq(admission_window_rps(&w, 501), 5);
    admission_window_cleanup(&w);
}
END_TEST

START_TEST(no_seconds_are_one)
{
    admission_window_init(&w, 0);
    record(7, 3, 0);
    ck_assert_uint_eq(w.requests, 3);
    record(8, 1, 0);
    ck_assert_uint_eq(w.requests, 1);
    admission_window_cleanup(&w);
}
END_TEST

START_TEST(probability)
{
    ck_assert_double_eq(admission_probability(0, 0, 0.95, 1), 0);
    ck_assert_double_eq_tol(admission_probability(99, 0, 0.95, 1), 0.99, 1e-9);
    ck_assert_double_eq_tol(admission_probability(100, 95, 0.95, 1), 0, 1e-9);
    ck_assert_double_eq(admission_probability(100, 100, 0.95, 2), 0);
    ck_assert_double_eq_tol(admission_probability(99, 0, 0.95, 2), 0.99498743710662, 1e-9);
    ck_assert_double_eq_tol(admission_probability(3, 1, 0.5, 1), 0.25, 1e-9);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("admission_window");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, forgets_what_is_too_old);
    tcase_add_test(tc, no_seconds_are_one);
    tcase_add_test(tc, probability);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
