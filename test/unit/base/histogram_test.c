#include "base/histogram.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static struct histogram *h;
static struct histogram_counts counts;

static void record(uint64_t v, unsigned times)
{
    while (times--)
        histogram_record(h, v);
}

static void take(void)
{
    histogram_counts_cleanup(&counts);
    histogram_counts_add(&counts, h);
}

static void setup(void)
{
    h = histogram_new();
}

static void teardown(void)
{
    histogram_free(&h);
    histogram_counts_cleanup(&counts);
}

static const char *number(double v)
{
    static char buf[32];
    return histogram_number(v, buf);
}

static const char *quantile(double q)
{
    return number(histogram_quantile(&counts, q));
}

/* The values below are what Envoy 1.40 prints for the same recordings. */
START_TEST(test_quantiles_as_envoy)
{
    record(0, 2);
    record(5, 1);
    take();
    ck_assert_str_eq(quantile(0), "0");
    ck_assert_str_eq(quantile(0.5), "0");
    ck_assert_str_eq(quantile(0.75), "5.05");
    ck_assert_str_eq(quantile(1), "5.05");
}
END_TEST

START_TEST(test_quantiles_inside_a_bin)
{
    record(1, 2);
    record(6, 1);
    take();
    ck_assert_str_eq(quantile(0), "1.0333333333333334");
    ck_assert_str_eq(quantile(0.5), "1.0666666666666667");
    ck_assert_str_eq(quantile(0.9), "6.05");
    histogram_free(&h);
    setup();
    record(1, 1);
    record(2, 1);
    record(3, 1);
    record(7, 1);
    record(1001, 3);
    take();
    ck_assert_str_eq(quantile(0), "1.05");
    ck_assert_str_eq(quantile(0.25), "2.05");
    ck_assert_str_eq(quantile(0.5), "7.05");
    ck_assert_str_eq(quantile(0.75), "1050");
    ck_assert_str_eq(quantile(0.9), "1075");
}
END_TEST

START_TEST(test_empty)
{
    take();
    ck_assert_str_eq(quantile(0.5), "nan");
    ck_assert_uint_eq(histogram_below(&counts, 1e30), 0);
    unsigned it = 0;
    double left, width;
    uint64_t n;
    ck_assert(!histogram_next_bin(&counts, &it, &left, &width, &n));
}
END_TEST

START_TEST(test_every_value_is_in_its_bin)
{
    static const uint64_t edges[] = {1, 9, 10, 11, 99, 100, 101, 109, 110, 999, 1000, 65535};
    for (size_t i = 0; i < ARRAY_LEN(edges) + 40; i++) {
        uint64_t v = i < ARRAY_LEN(edges) ? edges[i] : 0;
        if (!v) {
            uint64_t p = 1;
            for (size_t k = 0; k < (i - ARRAY_LEN(edges)) / 2; k++)
                p *= 10;
            v = p - (i & 1);
            if (!v)
                continue;
        }
        histogram_free(&h);
        setup();
        record(v, 1);
        take();
        unsigned it = 0;
        double left, width;
        uint64_t n;
        ck_assert(histogram_next_bin(&counts, &it, &left, &width, &n));
        ck_assert_msg((double)v >= left && (double)v <= left + width, "%lu", (unsigned long)v);
        ck_assert_msg(width * 10 <= left * 1.0000001, "%lu", (unsigned long)v);
        ck_assert_uint_eq(n, 1);
        ck_assert(!histogram_next_bin(&counts, &it, &left, &width, &n));
    }
    record(UINT64_MAX, 1);
    take();
    ck_assert_uint_eq(counts.count, 2);
}
END_TEST

START_TEST(test_buckets)
{
    record(0, 2);
    record(5, 1);
    record(26, 1);
    record(100000000, 1);
    take();
    ck_assert_uint_eq(histogram_below(&counts, 0.5), 2);
    ck_assert_uint_eq(histogram_below(&counts, 1), 2);
    ck_assert_uint_eq(histogram_below(&counts, 5), 3);
    ck_assert_uint_eq(histogram_below(&counts, 25), 3);
    ck_assert_uint_eq(histogram_below(&counts, 50), 4);
    ck_assert_uint_eq(histogram_below(&counts, 3600000), 4);
    ck_assert_uint_eq(counts.count, 5);
    ck_assert_uint_eq(counts.sum, 100000031);
}
END_TEST

START_TEST(test_difference)
{
    struct histogram_counts before = {0};
    record(0, 1);
    record(3, 2);
    histogram_counts_add(&before, h);
    record(3, 1);
    record(5000, 1);
    take();
    histogram_counts_sub(&counts, &before);
    ck_assert_uint_eq(counts.count, 2);
    ck_assert_uint_eq(counts.sum, 5003);
    ck_assert_uint_eq(counts.zeros, 0);
    ck_assert_str_eq(quantile(0), "3.05");
    ck_assert_str_eq(quantile(1), "5050");
    histogram_counts_cleanup(&before);
}
END_TEST

START_TEST(test_numbers)
{
    ck_assert_str_eq(number(NAN), "nan");
    ck_assert_str_eq(number(0), "0");
    ck_assert_str_eq(number(1.05), "1.05");
    ck_assert_str_eq(number(1850000), "1850000");
    ck_assert_str_eq(number(1e15), "1000000000000000");
    ck_assert_str_eq(number(1.05e16), "1.05e+16");
    ck_assert_str_eq(number(1.0 + 0.1 / 3), "1.0333333333333334");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/histogram");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_quantiles_as_envoy);
    tcase_add_test(tc, test_quantiles_inside_a_bin);
    tcase_add_test(tc, test_empty);
    tcase_add_test(tc, test_every_value_is_in_its_bin);
    tcase_add_test(tc, test_buckets);
    tcase_add_test(tc, test_difference);
    tcase_add_test(tc, test_numbers);
    tcase_add_checked_fixture(tc, setup, teardown);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
