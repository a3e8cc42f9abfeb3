#include "cluster/outlier.h"

#include "cluster/table.h"
#include <check.h>
#include <math.h>
#include <pthread.h>

static struct loop *loop;
static struct mailbox box;
static struct reclaim_home home;
static struct outlier_config config;
static struct cluster_state *state;
static struct stats_scope *stats;
static struct host *hosts[10];
static uint32_t num_hosts, changes;

static struct host *const *list_hosts(void *arg, uint32_t *num)
{
    *num = num_hosts;
    return hosts;
}

static void changed(void *arg)
{
    changes++;
}

static const struct outlier_ops ops = {list_hosts, changed};

static void setup(void)
{
    struct cluster_config *c;
    stats_init(1);
    loop = loop_new(true);
    mailbox_init(&box, loop);
    home = (struct reclaim_home){pthread_self(), &box};
    outlier_config_default(&config);
    config.interval_ms = 1000;
    config.base_ejection_ms = 10000;
    config.max_ejection_per_cent = 50;
    c = NEW(struct cluster_config);
    c->name = c->stat_name = STR("c");
    state = cluster_state_new(&home, c);
    mem_free(c);
    stats = stats_scope_named(&outlier_stats_table, STR("outlier"));
    changes = 0;
    for (num_hosts = 0; num_hosts < 4; num_hosts++) {
        struct host_info info = {0};
        ck_assert(addr_parse_ip(STR("127.0.0.1"), (uint16_t)(num_hosts + 1), &info.addr));
        hosts[num_hosts] = host_new(&home, &info);
        hosts[num_hosts]->state = state;
    }
    state->outlier = outlier_new(loop, &config, STR("c"), stats, NULL, &ops, NULL);
}

static void teardown(void)
{
    mailbox_cleanup(&box);
    outlier_free(&state->outlier);
    for (unsigned i = 0; i < num_hosts; i++)
        host_unref(hosts[i]);
    cluster_state_unref(state);
    stats_scope_free(&stats);
    loop_free(&loop);
    stats_cleanup();
}

static void turn(void)
{
    for (int i = 0; i < 5; i++)
        loop_run_once(loop, false);
}

static void answer(struct host *h, unsigned status, int n)
{
    while (n-- > 0)
        outlier_report(&config, h, OUTCOME_STATUS, status);
    turn();
}

static uint64_t sum(uint32_t stat)
{
    return stats_sum(stats, stat);
}

START_TEST(five_in_a_row)
{
    answer(hosts[0], 500, 4);
    ck_assert(host_healthy(hosts[0]));
    answer(hosts[0], 200, 1); /* breaks the row */
    answer(hosts[0], 500, 4);
    ck_assert(host_healthy(hosts[0]));
    answer(hosts[0], 500, 1);
    ck_assert(!host_healthy(hosts[0]));
    ck_assert_uint_eq(changes, 1);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_ACTIVE), 1);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_ENFORCED_TOTAL), 1);
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_5XX), 1);
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_5XX), 1);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_TOTAL), 1);
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_GATEWAY), 0);
    answer(hosts[0], 500, 20); /* one that is out is not detected again */
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_5XX), 1);
}
END_TEST

START_TEST(gateway_failures)
{
    answer(hosts[0], 503, 5);
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_GATEWAY), 1); /* detected; not enforced by default */
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_GATEWAY), 0);
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_5XX), 1);
    config.enforcing[OUTLIER_GATEWAY] = 100;
    config.consecutive[OUTLIER_GATEWAY] = 2;
    answer(hosts[1], 502, 1);
    answer(hosts[1], 500, 1); /* breaks the row of gateway failures, not that of 5xx */
    answer(hosts[1], 504, 1);
    ck_assert(host_healthy(hosts[1]));
    answer(hosts[1], 503, 1);
    ck_assert(!host_healthy(hosts[1]));
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_GATEWAY), 1);
}
END_TEST

START_TEST(at_most_so_many)
{
    answer(hosts[0], 500, 5);
    answer(hosts[1], 500, 5);
    ck_assert_uint_eq(outlier_num_ejected(state->outlier), 2); /* 50 % of 4 */
    answer(hosts[2], 500, 5);
    ck_assert(host_healthy(hosts[2]));
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_OVERFLOW), 1);
    answer(hosts[2], 500, 5); /* its row began anew */
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_OVERFLOW), 2);
}
END_TEST

START_TEST(one_of_few)
{
    config.max_ejection_per_cent = 10;
    answer(hosts[0], 500, 5); /* 25 % would be more than 10 % */
    ck_assert(host_healthy(hosts[0]));
    config.always_eject_one = true;
    answer(hosts[0], 500, 5);
    ck_assert(!host_healthy(hosts[0]));
    answer(hosts[1], 500, 5);
    ck_assert(host_healthy(hosts[1]));
}
END_TEST

START_TEST(not_enforced)
{
    config.enforcing[OUTLIER_5XX] = 0;
    answer(hosts[0], 500, 5);
    ck_assert(host_healthy(hosts[0]));
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_5XX), 1);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_ENFORCED_TOTAL), 0);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_TOTAL), 1);
}
END_TEST

START_TEST(comes_back)
{
    answer(hosts[0], 500, 5);
    loop_advance(loop, 9900);
    turn();
    ck_assert(!host_healthy(hosts[0]));
    loop_advance(loop, 200);
    turn();
    ck_assert(host_healthy(hosts[0]));
    ck_assert_uint_eq(changes, 2);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_ACTIVE), 0);
    ck_assert_uint_eq(hosts[0]->consecutive_5xx, 0);
    /* the second time at once: twice as long */
    answer(hosts[0], 500, 5);
    loop_advance(loop, 15000);
    turn();
    ck_assert(!host_healthy(hosts[0]));
    loop_advance(loop, 6000);
    turn();
    ck_assert(host_healthy(hosts[0]));
}
END_TEST

START_TEST(good_behaviour_is_rewarded)
{
    answer(hosts[0], 500, 5);
    loop_advance(loop, 10100);
    turn();
    ck_assert(host_healthy(hosts[0]));
    ck_assert_uint_eq(hosts[0]->outlier->count, 1);
    loop_advance(loop, 3000);
    turn();
    ck_assert_uint_eq(hosts[0]->outlier->count, 0);
    answer(hosts[0], 500, 5);
    loop_advance(loop, 11000);
    turn();
    ck_assert(host_healthy(hosts[0])); /* as long as the first time */
}
END_TEST

START_TEST(longest_ejection)
{
    config.max_ejection_ms = 15000;
    for (int i = 0; i < 4; i++) {
        answer(hosts[0], 500, 5);
        ck_assert(!host_healthy(hosts[0]));
        loop_advance(loop, 16500);
        turn();
        ck_assert(host_healthy(hosts[0]));
    }
}
END_TEST

START_TEST(jitter_adds)
{
    config.jitter_ms = 1000000;
    answer(hosts[0], 500, 5);
    ck_assert_uint_le(hosts[0]->outlier->jitter_ms, 1000000);
    loop_advance(loop, 10000 + hosts[0]->outlier->jitter_ms + 1001);
    turn();
    ck_assert(host_healthy(hosts[0]));
}
END_TEST

START_TEST(local_failures_count_as_answers)
{
    outlier_report(&config, hosts[0], OUTCOME_CONNECT_FAILED, 0);
    outlier_report(&config, hosts[0], OUTCOME_CONNECT_TIMEOUT, 0);
    outlier_report(&config, hosts[0], OUTCOME_TIMEOUT, 0);
    outlier_report(&config, hosts[0], OUTCOME_RESET, 0);
    outlier_report(&config, hosts[0], OUTCOME_TCP_OK, 0);
    ck_assert_uint_eq(hosts[0]->consecutive_5xx, 0);
    for (int i = 0; i < 5; i++)
        outlier_report(&config, hosts[0], OUTCOME_CONNECT_FAILED, 0);
    turn();
    ck_assert(!host_healthy(hosts[0]));
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_5XX), 1);
}
END_TEST

START_TEST(local_failures_apart)
{
    config.split_local = true;
    for (int i = 0; i < 4; i++)
        outlier_report(&config, hosts[0], OUTCOME_CONNECT_FAILED, 0);
    ck_assert_uint_eq(hosts[0]->consecutive_5xx, 0);
    answer(hosts[0], 500, 1); /* an answer: it could be connected */
    ck_assert_uint_eq(hosts[0]->consecutive_local, 0);
    for (int i = 0; i < 5; i++)
        outlier_report(&config, hosts[0], OUTCOME_TIMEOUT, 0);
    turn();
    ck_assert(!host_healthy(hosts[0]));
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_LOCAL), 1);
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_5XX), 0);
}
END_TEST

static void interval(void)
{
    loop_advance(loop, config.interval_ms);
    turn();
}

static void mixed(struct host *h, int good, int bad)
{
    answer(h, 200, good);
    while (bad-- > 0) { /* never two in a row */
        answer(h, 500, 1);
        answer(h, 200, 1);
    }
}

START_TEST(worse_than_the_others)
{
    config.rate_min_hosts = 4;
    config.rate_volume = 20;
    config.rate_factor = 1000;
    for (unsigned i = 0; i < 3; i++)
        mixed(hosts[i], 20, 0);
    mixed(hosts[3], 0, 10);
    interval();
    /* 100, 100, 100, 50: 87.5 on average, with a deviation of 21.65 */
    ck_assert(outlier_rates(state->outlier, false)->average == 87.5);
    ck_assert(fabs(outlier_rates(state->outlier, false)->threshold - 65.8494) < 0.001);
    ck_assert(hosts[3]->success_rate[0] == 50 && hosts[0]->success_rate[0] == 100);
    ck_assert(!host_healthy(hosts[3]) && host_healthy(hosts[0]));
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_RATE), 1);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_SUCCESS_RATE), 1);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_TOTAL), 1);
    interval(); /* another one, without requests */
    ck_assert(hosts[0]->success_rate[0] == -1);
    ck_assert(outlier_rates(state->outlier, false)->average == -1);
}
END_TEST

START_TEST(too_little_is_known)
{
    config.rate_min_hosts = 4;
    config.rate_volume = 20;
    config.rate_factor = 1000;
    for (unsigned i = 0; i < 2; i++)
        mixed(hosts[i], 20, 0);
    mixed(hosts[2], 19, 0); /* one request short */
    mixed(hosts[3], 0, 10);
    interval();
    ck_assert(host_healthy(hosts[3]));
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_RATE), 0);
}
END_TEST

START_TEST(fails_too_often)
{
    config.enforcing[OUTLIER_RATE] = 0;
    config.enforcing[OUTLIER_PERCENTAGE] = 100;
    config.percentage = 50;
    config.percentage_min_hosts = 2;
    config.percentage_volume = 10;
    mixed(hosts[0], 0, 10);  /* just so much */
    mixed(hosts[1], 10, 10); /* a third */
    interval();
    ck_assert(!host_healthy(hosts[0]) && host_healthy(hosts[1]));
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_PERCENTAGE), 1);
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_PERCENTAGE), 1);
}
END_TEST

START_TEST(local_rates_apart)
{
    config.split_local = true;
    config.consecutive[OUTLIER_LOCAL] = 1000;
    config.percentage_min_hosts = 1;
    config.percentage_volume = 10;
    config.enforcing[OUTLIER_LOCAL_PERCENTAGE] = 100;
    for (int i = 0; i < 20; i++)
        outlier_report(&config, hosts[0], OUTCOME_CONNECT_FAILED, 0);
    mixed(hosts[1], 20, 0);
    interval();
    ck_assert(hosts[0]->success_rate[0] == -1 && hosts[0]->success_rate[1] == 0);
    ck_assert(hosts[1]->success_rate[0] == 100 && hosts[1]->success_rate[1] == 100);
    ck_assert(!host_healthy(hosts[0]));
    ck_assert_uint_eq(sum(OUTLIER_ENFORCED_LOCAL_PERCENTAGE), 1);
}
END_TEST

START_TEST(check_ends_ejection)
{
    answer(hosts[0], 500, 5);
    config.uneject_on_check = false;
    outlier_health_passed(state->outlier, hosts[0]);
    ck_assert(!host_healthy(hosts[0]));
    config.uneject_on_check = true;
    outlier_health_passed(state->outlier, hosts[1]);
    outlier_health_passed(state->outlier, hosts[0]);
    ck_assert(host_healthy(hosts[0]));
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_ACTIVE), 0);
    ck_assert_uint_eq(changes, 2);
}
END_TEST

START_TEST(host_leaves)
{
    answer(hosts[0], 500, 5);
    outlier_host_removed(state->outlier, hosts[0]);
    ck_assert_uint_eq(outlier_num_ejected(state->outlier), 0);
    ck_assert_uint_eq(sum(OUTLIER_EJECTIONS_ACTIVE), 0);
    /* a report that is under way when its host leaves */
    for (int i = 0; i < 5; i++)
        outlier_report(&config, hosts[1], OUTCOME_STATUS, 500);
    hosts[1]->removed = true;
    turn();
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_5XX), 1);
}
END_TEST

START_TEST(end_of_detection_frees_all)
{
    answer(hosts[0], 500, 5);
    answer(hosts[1], 500, 5);
    outlier_free(&state->outlier);
    ck_assert(host_healthy(hosts[0]) && host_healthy(hosts[1]));
    ck_assert_uint_eq(changes, 3);
    answer(hosts[2], 500, 5); /* nobody listens */
    ck_assert(host_healthy(hosts[2]));
}
END_TEST

/* --- threads: the threshold holds for the process ------------------------------------------------
 */

enum { THREADS = 4, EACH = 5000 };

static void *fail_often(void *arg)
{
    for (int i = 0; i < EACH; i++)
        outlier_report(&config, hosts[0], OUTCOME_STATUS, 500);
    return NULL;
}

START_TEST(counts_of_all_workers)
{
    pthread_t threads[THREADS];
    config.consecutive[OUTLIER_5XX] = THREADS * EACH;
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, fail_often, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    turn();
    ck_assert(!host_healthy(hosts[0]));
    ck_assert_uint_eq(sum(OUTLIER_DETECTED_5XX), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/outlier");
    TCase *t = tcase_create("outlier");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, five_in_a_row);
    tcase_add_test(t, gateway_failures);
    tcase_add_test(t, at_most_so_many);
    tcase_add_test(t, one_of_few);
    tcase_add_test(t, not_enforced);
    tcase_add_test(t, comes_back);
    tcase_add_test(t, good_behaviour_is_rewarded);
    tcase_add_test(t, longest_ejection);
    tcase_add_test(t, jitter_adds);
    tcase_add_test(t, local_failures_count_as_answers);
    tcase_add_test(t, local_failures_apart);
    tcase_add_test(t, worse_than_the_others);
    tcase_add_test(t, too_little_is_known);
    tcase_add_test(t, fails_too_often);
    tcase_add_test(t, local_rates_apart);
    tcase_add_test(t, check_ends_ejection);
    tcase_add_test(t, host_leaves);
    tcase_add_test(t, end_of_detection_frees_all);
    tcase_add_test(t, counts_of_all_workers);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
