#include "base/stats_prometheus.h"
#include "base/stats_text.h"

#include <check.h>
#include <stdlib.h>

static const struct stats_def defs[] = {{"rq_time", STATS_HISTOGRAM}};
static struct stats_table table = STATS_TABLE(defs);
static struct stats_scope *s;
static struct arena arena;

static void setup(void)
{
    stats_init(1);
    arena_init(&arena, 0);
    s = stats_scope_named(&table, STR("x"));
}

static void teardown(void)
{
    stats_scope_free(&s);
    stats_prometheus_reset();
    stats_cleanup();
    arena_cleanup(&arena);
}

static void record(uint64_t v, int times)
{
    while (times--)
        stats_record(s, 0, 0, v);
}

/* Lines of Envoy 1.40 for the same recordings. */
START_TEST(test_as_envoy)
{
    record(1, 1);
    record(2, 1);
    record(3, 1);
    record(7, 1);
    stats_flush();
    record(1000, 3);
    stats_flush();
    const struct stats_merged *m = stats_histogram(s, 0);
    ck_assert_str_eq(
        arena_str(&arena, stats_text_quantiles(m, &arena)).p,
        "P0(1025,1.05) P25(1025,2.05) P50(1050,7.05) P75(1075,1050) P90(1075,1075) P95(1075,1075) "
        "P99(1075,1075) P99.5(1075,1075) P99.9(1075,1075) P100(1075,1075)");
    ck_assert_str_eq(stats_text_bins(m, false, &arena).p,
                     "1,0.1:1, 2,0.1:1, 3,0.1:1, 7,0.1:1, 1000,100:3");
    ck_assert_str_eq(stats_text_bins(m, true, &arena).p, "1000,100:3");
    ck_assert_str_eq(
        arena_str(&arena, stats_text_buckets(m, STR("x.rq_time"), false, &arena)).p,
        "B0.5(0,0) B1(0,1) B5(0,3) B10(0,4) B25(0,4) B50(0,4) B100(0,4) B250(0,4) B500(0,4) "
        "B1000(3,7) B2500(3,7) B5000(3,7) B10000(3,7) B30000(3,7) B60000(3,7) B300000(3,7) "
        "B600000(3,7) B1.8e+06(3,7) B3.6e+06(3,7)");
    ck_assert(str_starts(stats_text_buckets(m, STR("x.rq_time"), true, &arena),
                         STR("B0.5(0,0) B1(0,1) B5(0,2) B10(0,1) B25(0,0)")));
}
END_TEST

START_TEST(test_nothing_recorded)
{
    record(5, 1);
    stats_flush();
    stats_flush();
    ck_assert(str_starts(stats_text_quantiles(stats_histogram(s, 0), &arena),
                         STR("P0(nan,5.05) P25(nan,5.05)")));
    ck_assert(str_eq(stats_text_bins(stats_histogram(s, 0), true, &arena), STR("")));
    ck_assert(str_eq(stats_text_quantiles(NULL, &arena), STR("No recorded values")));
    ck_assert(str_eq(stats_text_buckets(NULL, STR("x"), true, &arena), STR("No recorded values")));
    ck_assert_uint_eq(stats_text_bins(NULL, true, &arena).len, 0);
}
END_TEST

START_TEST(test_longest_numbers_fit)
{
    record(UINT64_MAX, 3);
    stats_flush();
    ck_assert_uint_gt(stats_text_quantiles(stats_histogram(s, 0), &arena).len, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/stats_text");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_as_envoy);
    tcase_add_test(tc, test_nothing_recorded);
    tcase_add_test(tc, test_longest_numbers_fit);
    tcase_add_checked_fixture(tc, setup, teardown);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
