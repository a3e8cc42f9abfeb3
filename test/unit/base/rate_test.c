#include "base/rate.h"

#include <check.h>
#include <stdlib.h>

START_TEST(test_burst_then_refill)
{
    struct rate r;
    rate_init(&r, 3, 1, 100, 1000);
    for (int i = 0; i < 3; i++)
        ck_assert(rate_take(&r, 1, 1000));
    ck_assert(!rate_take(&r, 1, 1099));
    ck_assert_uint_eq(rate_wait_ms(&r, 1, 1099), 1);
    ck_assert(rate_take(&r, 1, 1100));
    ck_assert(!rate_take(&r, 1, 1100));
    /* 50 ms into an interval are not lost. */
    ck_assert(!rate_take(&r, 1, 1150));
    ck_assert(rate_take(&r, 1, 1200));
    ck_assert(rate_take(&r, 3, 100000));
    ck_assert(!rate_take(&r, 1, 100000));
}
END_TEST

START_TEST(test_wait)
{
    struct rate r;
    rate_init(&r, 10, 2, 50, 0);
    ck_assert_uint_eq(rate_wait_ms(&r, 10, 0), 0);
    ck_assert(rate_take(&r, 10, 0));
    ck_assert_uint_eq(rate_wait_ms(&r, 1, 0), 50);
    ck_assert_uint_eq(rate_wait_ms(&r, 3, 0), 100);
    ck_assert_uint_eq(rate_wait_ms(&r, 3, 20), 80);
    ck_assert_uint_eq(rate_wait_ms(&r, 11, 0), UINT64_MAX);
    rate_init(&r, 1, 0, 50, 0);
    ck_assert(rate_take(&r, 1, 0));
    ck_assert_uint_eq(rate_wait_ms(&r, 1, 0), UINT64_MAX);
}
END_TEST

START_TEST(test_odd_input)
{
    struct rate r;
    rate_init(&r, 5, UINT64_MAX, 0, 100);
    ck_assert_uint_eq(r.interval_ms, 1);
    ck_assert(rate_take(&r, 5, 50)); /* time before the start adds nothing */
    ck_assert(!rate_take(&r, 1, 60));
    ck_assert(rate_take(&r, 5, UINT64_MAX)); /* the product overflows: full, not wrapped */
    ck_assert_uint_eq(r.tokens, 0);
    ck_assert(rate_take(&r, 0, UINT64_MAX));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/rate");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_burst_then_refill);
    tcase_add_test(tc, test_wait);
    tcase_add_test(tc, test_odd_input);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
