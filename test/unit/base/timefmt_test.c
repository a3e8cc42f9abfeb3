#include "base/random.h"
#include "base/timefmt.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *iso(uint64_t us)
{
    static char buf[TIMEFMT_ISO_LEN + 1];
    timefmt_iso(us, buf);
    return buf;
}

static const char *http(uint64_t us)
{
    static char buf[TIMEFMT_HTTP_LEN + 1];
    timefmt_http(us, buf);
    return buf;
}

START_TEST(test_known_times)
{
    ck_assert_str_eq(iso(0), "1970-01-01T00:00:00.000Z");
    ck_assert_str_eq(http(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    ck_assert_str_eq(iso(784111777123999), "1994-11-06T08:49:37.123Z");
    ck_assert_str_eq(iso(784111777999999), "1994-11-06T08:49:37.999Z"); /* the same second */
    ck_assert_str_eq(iso(784111778000000), "1994-11-06T08:49:38.000Z");
    ck_assert_str_eq(http(784111777999999), "Sun, 06 Nov 1994 08:49:37 GMT");
    ck_assert_str_eq(http(951782400000000), "Tue, 29 Feb 2000 00:00:00 GMT");
}
END_TEST

START_TEST(test_far_future_is_clamped)
{
    ck_assert_str_eq(iso(253402300799999999), "9999-12-31T23:59:59.999Z");
    ck_assert_str_eq(iso(253402300800000000), "9999-12-31T23:59:59.999Z");
    ck_assert_str_eq(iso(UINT64_MAX), "9999-12-31T23:59:59.999Z");
    ck_assert_str_eq(http(UINT64_MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
}
END_TEST

START_TEST(test_agrees_with_strftime)
{
    random_seed_for_test(3);
    for (int i = 0; i < 2000; i++) {
        uint64_t second = random_below(253402300800);
        time_t t = (time_t)second;
        struct tm tm;
        char want[64];
        ck_assert_ptr_nonnull(gmtime_r(&t, &tm));
        ck_assert_uint_gt(strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.045Z", &tm), 0);
        ck_assert_str_eq(iso(second * 1000000 + 45678), want);
        ck_assert_uint_gt(strftime(want, sizeof(want), "%a, %d %b %Y %H:%M:%S GMT", &tm), 0);
        ck_assert_str_eq(http(second * 1000000 + 45678), want);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/timefmt");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_known_times);
    tcase_add_test(tc, test_far_future_is_clamped);
    tcase_add_test(tc, test_agrees_with_strftime);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
