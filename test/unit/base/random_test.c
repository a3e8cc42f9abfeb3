#include "base/backoff.h"
#include "base/random.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

START_TEST(test_below_is_in_range_and_even)
{
    unsigned seen[7] = {0};
    random_seed_for_test(1);
    for (int i = 0; i < 70000; i++)
        seen[random_below(7)]++;
    for (int i = 0; i < 7; i++) {
        ck_assert_uint_gt(seen[i], 9500);
        ck_assert_uint_lt(seen[i], 10500);
    }
    ck_assert_uint_eq(random_below(0), 0);
    ck_assert_uint_eq(random_below(1), 0);
    uint64_t huge = (1ull << 63) + 1;
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_lt(random_below(huge), huge);
}
END_TEST

START_TEST(test_seed_repeats)
{
    random_seed_for_test(42);
    uint64_t a = random_u64(), b = random_u64();
    random_seed_for_test(42);
    ck_assert_uint_eq(random_u64(), a);
    ck_assert_uint_eq(random_u64(), b);
    random_seed_for_test(43);
    ck_assert_uint_ne(random_u64(), a);
}
END_TEST

static void *draw(void *arg)
{
    *(uint64_t *)arg = random_u64();
    return NULL;
}

START_TEST(test_threads_have_their_own_sequence)
{
    uint64_t got[2];
    for (int i = 0; i < 2; i++) {
        pthread_t t;
        ck_assert_int_eq(pthread_create(&t, NULL, draw, &got[i]), 0);
        pthread_join(t, NULL);
    }
    ck_assert_uint_ne(got[0], got[1]);
}
END_TEST

START_TEST(test_uuid)
{
    char a[UUID_LEN], b[UUID_LEN];
    random_uuid(b);
    for (int round = 0; round < 100; round++) {
        random_uuid(a);
        for (int i = 0; i < UUID_LEN; i++) {
            if (i == 8 || i == 13 || i == 18 || i == 23)
                ck_assert_int_eq(a[i], '-');
            else
                ck_assert(strchr("0123456789abcdef", a[i]) != NULL);
        }
        ck_assert_int_eq(a[14], '4');
        ck_assert(strchr("89ab", a[19]) != NULL);
        ck_assert_int_ne(memcmp(a, b, UUID_LEN), 0);
    }
}
END_TEST

START_TEST(test_secure_fills)
{
    unsigned char a[512] = {0};
    unsigned zeros = 0;
    random_secure(a, sizeof(a));
    for (size_t i = 0; i < sizeof(a); i++)
        zeros += a[i] == 0;
    ck_assert_uint_lt(zeros, 50);
}
END_TEST

START_TEST(test_backoff_doubles_up_to_the_maximum)
{
    struct backoff b;
    backoff_init(&b, 500, 30000);
    uint64_t bound = 500, longest = 0;
    for (int i = 0; i < 200; i++) {
        uint64_t wait = backoff_next_ms(&b);
        ck_assert_uint_ge(wait, 1);
        ck_assert_uint_lt(wait, bound);
        bound = bound * 2 > 30000 ? 30000 : bound * 2;
        longest = wait > longest ? wait : longest;
    }
    ck_assert_uint_gt(longest, 20000);
    backoff_reset(&b);
    ck_assert_uint_lt(backoff_next_ms(&b), 500);
}
END_TEST

START_TEST(test_backoff_odd_settings)
{
    struct backoff b;
    backoff_init(&b, 0, 0);
    for (int i = 0; i < 10; i++)
        ck_assert_uint_eq(backoff_next_ms(&b), 1);
    backoff_init(&b, 100, 10); /* max below base counts as base */
    for (int i = 0; i < 100; i++)
        ck_assert_uint_lt(backoff_next_ms(&b), 100);
    backoff_init(&b, UINT64_MAX / 2 + 10, UINT64_MAX);
    (void)backoff_next_ms(&b);
    ck_assert_uint_eq(b.next_ms, UINT64_MAX); /* no wrap */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/random");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_below_is_in_range_and_even);
    tcase_add_test(tc, test_seed_repeats);
    tcase_add_test(tc, test_threads_have_their_own_sequence);
    tcase_add_test(tc, test_uuid);
    tcase_add_test(tc, test_secure_fills);
    tcase_add_test(tc, test_backoff_doubles_up_to_the_maximum);
    tcase_add_test(tc, test_backoff_odd_settings);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
