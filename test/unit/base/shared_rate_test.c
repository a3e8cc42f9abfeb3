#include "base/shared_rate.h"

#include <check.h>
#include <stdlib.h>

static struct shared_rate r;

START_TEST(starts_with_an_interval)
{
    shared_rate_init(&r, 1000);
    shared_rate_start(&r, 50, 10000000);
    shared_rate_start(&r, 1000, 10000000); /* only the first counts */
    ck_assert_uint_eq(shared_rate_take(&r, 100, 10000000), 50);
    ck_assert_uint_eq(shared_rate_take(&r, 100, 10000000), 0);
    ck_assert_uint_eq(shared_rate_take(&r, 100, 10010000), 10);
}
END_TEST

START_TEST(holds_a_second)
{
    shared_rate_init(&r, 1000);
    shared_rate_start(&r, 0, 10000000);
    ck_assert_uint_eq(shared_rate_take(&r, 600, 50000000), 600);
    ck_assert_uint_eq(shared_rate_take(&r, 600, 50000000), 400);
    ck_assert_uint_eq(shared_rate_take(&r, 600, 50000000), 0);
}
END_TEST

/* What is taken over a time is what the rate brings, in steps of any size; also when one thread's
 * clock is behind. */
START_TEST(keeps_the_rate)
{
    uint64_t got = 0, at = 10000000;
    shared_rate_init(&r, 777777);
    shared_rate_start(&r, 0, at);
    for (int i = 0; i < 100000; i++) {
        at += (uint64_t)i % 200;
        got += shared_rate_take(&r, (uint64_t)i % 300, i % 7 ? at : at - 150);
    }
    uint64_t brought = (at - 10000000) * 777777 / 1000000;
    ck_assert_uint_le(got, brought);
    ck_assert_uint_ge(got, brought * 99 / 100);
}
END_TEST

START_TEST(rates_are_clamped)
{
    shared_rate_init(&r, 0);
    ck_assert_uint_eq(r.per_s, 1);
    shared_rate_init(&r, UINT64_MAX);
    shared_rate_start(&r, 1000, 10000000);
    ck_assert_uint_eq(shared_rate_take(&r, UINT64_MAX, 20000000), SHARED_RATE_MAX);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shared_rate");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, starts_with_an_interval);
    tcase_add_test(tc, holds_a_second);
    tcase_add_test(tc, keeps_the_rate);
    tcase_add_test(tc, rates_are_clamped);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
