#include "cluster/circuit.h"

#include <check.h>
#include <pthread.h>

static struct circuit circuit;

static void limit(enum circuit_kind k, uint64_t max)
{
    struct circuit_limits l;
    circuit_limits_default(&l);
    l.max[k] = max;
    if (k == CIRCUIT_RETRIES)
        l.has_retry_budget = false;
    circuit_set_limits(&circuit, PRIORITY_DEFAULT, &l);
}

static void setup(void)
{
    circuit_init(&circuit);
}

START_TEST(takes_up_to_the_limit)
{
    limit(CIRCUIT_RQ, 2);
    ck_assert_uint_eq(circuit_remaining(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ), 2);
    ck_assert(circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    ck_assert(!circuit_is_open(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    ck_assert(circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    ck_assert(circuit_is_open(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    ck_assert(!circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    ck_assert_uint_eq(circuit_active(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ), 2);
    ck_assert_uint_eq(circuit_remaining(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ), 0);
    circuit_give(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ);
    ck_assert(circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    /* the other priority is not touched */
    ck_assert_uint_eq(circuit_active(&circuit, PRIORITY_HIGH, CIRCUIT_RQ), 0);
    ck_assert(circuit_take(&circuit, PRIORITY_HIGH, CIRCUIT_RQ));
}
END_TEST

START_TEST(always_goes_beyond)
{
    limit(CIRCUIT_CX, 0);
    ck_assert(!circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_CX));
    circuit_take_always(&circuit, PRIORITY_DEFAULT, CIRCUIT_CX);
    ck_assert_uint_eq(circuit_active(&circuit, PRIORITY_DEFAULT, CIRCUIT_CX), 1);
    ck_assert_uint_eq(circuit_remaining(&circuit, PRIORITY_DEFAULT, CIRCUIT_CX), 0);
}
END_TEST

START_TEST(lowered_limit_refuses_until_below)
{
    limit(CIRCUIT_RQ, 3);
    for (int i = 0; i < 3; i++)
        ck_assert(circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    limit(CIRCUIT_RQ, 1);
    circuit_give(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ);
    circuit_give(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ);
    ck_assert(!circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
    circuit_give(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ);
    ck_assert(circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ));
}
END_TEST

static void take_n(enum circuit_kind k, int n)
{
    while (n-- > 0)
        ck_assert(circuit_take(&circuit, PRIORITY_DEFAULT, k));
}

START_TEST(retry_budget)
{
    /* nothing under way: the minimum */
    ck_assert_uint_eq(circuit_max(&circuit, PRIORITY_DEFAULT, CIRCUIT_RETRIES), 3);
    take_n(CIRCUIT_RETRIES, 3);
    ck_assert(!circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RETRIES));
    /* 20 % of active and pending requests */
    take_n(CIRCUIT_RQ, 40);
    take_n(CIRCUIT_PENDING, 10);
    ck_assert_uint_eq(circuit_max(&circuit, PRIORITY_DEFAULT, CIRCUIT_RETRIES), 10);
    take_n(CIRCUIT_RETRIES, 7);
    ck_assert(!circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RETRIES));
}
END_TEST

START_TEST(max_retries_instead_of_a_budget)
{
    limit(CIRCUIT_RETRIES, 1);
    take_n(CIRCUIT_RQ, 100);
    take_n(CIRCUIT_RETRIES, 1);
    ck_assert(!circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RETRIES));
}
END_TEST

/* --- four threads -------------------------------------------------------------------------------
 */

enum { THREADS = 4, ROUNDS = 20000, LIMIT = 3 };

static _Atomic uint32_t inside, most;

static void *hammer(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t now, seen;
        if (!circuit_take(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ))
            continue;
        now = atomic_fetch_add(&inside, 1) + 1;
        seen = atomic_load(&most);
        while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
            ;
        atomic_fetch_sub(&inside, 1);
        circuit_give(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ);
    }
    return NULL;
}

START_TEST(holds_across_threads)
{
    pthread_t threads[THREADS];
    limit(CIRCUIT_RQ, LIMIT);
    inside = most = 0;
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_le(most, LIMIT);
    ck_assert_uint_ge(most, 1);
    ck_assert_uint_eq(circuit_active(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/circuit");
    TCase *t = tcase_create("circuit");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, takes_up_to_the_limit);
    tcase_add_test(t, always_goes_beyond);
    tcase_add_test(t, lowered_limit_refuses_until_below);
    tcase_add_test(t, retry_budget);
    tcase_add_test(t, max_retries_instead_of_a_budget);
    tcase_add_test(t, holds_across_threads);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
