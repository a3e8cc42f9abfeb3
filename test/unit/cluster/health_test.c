#include "cluster/health.h"

#include "cluster/cluster_config.h"
#include "cluster/table.h"
#include <check.h>
#include <stdio.h>
#include <string.h>

enum { MAX_HOSTS = HEALTH_CHECKS_MAX + 8 };

static struct loop *loop;
static struct mailbox box;
static struct reclaim_home home;
static struct cluster_config *config;
static struct cluster_state *state;
static struct health_checker *checker;
static struct health_budget budget;
static struct host *hosts[MAX_HOSTS];
static uint32_t num_hosts, changes, settled, passes;
static char log_text[65536];

/* --- a probe whose outcome the test gives --- */

struct fake_probe {
    struct health_probe base;
    unsigned checks, abandoned;
    bool running;
};

static struct fake_probe *probes[MAX_HOSTS];
static uint32_t num_probes, num_running;

static struct health_probe *fake_make(struct health_session *s)
{
    struct fake_probe *p = NEW(struct fake_probe);
    extern const struct health_probe_ops fake_ops;
    p->base = (struct health_probe){&fake_ops, s};
    probes[num_probes++] = p;
    return &p->base;
}

static void fake_check(struct health_probe *base)
{
    struct fake_probe *p = CONTAINER_OF(base, struct fake_probe, base);
    ck_assert(!p->running);
    p->running = true;
    p->checks++;
    num_running++;
}

static void fake_abandon(struct health_probe *base)
{
    struct fake_probe *p = CONTAINER_OF(base, struct fake_probe, base);
    p->running = false;
    p->abandoned++;
    num_running--;
}

static void fake_free(struct health_probe *base)
{
    struct fake_probe *p = CONTAINER_OF(base, struct fake_probe, base);
    num_running -= p->running;
    for (uint32_t i = 0; i < num_probes; i++) {
        if (probes[i] == p)
            probes[i] = NULL;
    }
    mem_free(p);
}

const struct health_probe_ops fake_ops = {"TCP", fake_make, fake_check, fake_abandon, fake_free};

static void answer(uint32_t i, struct health_result r)
{
    ck_assert_msg(probes[i]->running, "host %u is not being asked", i);
    probes[i]->running = false;
    num_running--;
    health_session_done(probes[i]->base.session, &r);
}

#define OK                                                                                         \
    (struct health_result)                                                                         \
    {                                                                                              \
        .ok = true                                                                                 \
    }
#define DEGRADED                                                                                   \
    (struct health_result)                                                                         \
    {                                                                                              \
        .ok = true, .degraded = true                                                               \
    }
#define NO                                                                                         \
    (struct health_result)                                                                         \
    {                                                                                              \
        .failure = HEALTH_ACTIVE, .status = 503                                                    \
    }
#define AGAIN                                                                                      \
    (struct health_result)                                                                         \
    {                                                                                              \
        .failure = HEALTH_ACTIVE, .retriable = true                                                \
    }
#define LOST                                                                                       \
    (struct health_result)                                                                         \
    {                                                                                              \
        .failure = HEALTH_NETWORK                                                                  \
    }

/* --- fixture --- */

static void on_changed(void *arg)
{
    changes++;
}

static void on_settled(void *arg)
{
    settled++;
}

static void on_passed(void *arg, struct host *h)
{
    passes++;
}

static const struct health_checker_ops ops = {on_changed, on_settled, on_passed};

static void *sink_open(void *arg, struct str path)
{
    return log_text;
}

static void sink_write(void *file, struct str line)
{
    size_t n = strlen(log_text);
    ck_assert_uint_lt(n + line.len, sizeof(log_text));
    memcpy(log_text + n, line.p, line.len);
    log_text[n + line.len] = 0;
}

static void sink_close(void *file)
{
}

static const struct event_sink sink = {sink_open, sink_write, sink_close, NULL};

static struct cluster_config *new_config(void)
{
    struct cluster_config *c = cluster_config_new(&home, STR("c"));
    struct health_config *h = c->health = ARENA_NEW(&c->arena, struct health_config);
    *h = (struct health_config){
        .kind = HEALTH_TCP,
        .probe = &fake_ops,
        .timeout_ms = 1000,
        .interval_ms = 5000,
        .no_traffic_ms = 60000,
        .no_traffic_healthy_ms = 90000,
        .unhealthy_ms = 7000,
        .unhealthy_edge_ms = 300,
        .healthy_edge_ms = 200,
        .unhealthy_threshold = 2,
        .healthy_threshold = 3,
        .log = {&sink, log_text},
        .hash = 1,
    };
    return c;
}

static void add_hosts(uint32_t n)
{
    for (uint32_t end = num_hosts + n; num_hosts < end; num_hosts++) {
        struct host_info info = {.hostname = STR("h")};
        ck_assert(addr_parse_ip(STR("127.0.0.1"), (uint16_t)(num_hosts + 1), &info.addr));
        hosts[num_hosts] = host_new(&home, &info);
        hosts[num_hosts]->state = state;
        health_host_new(config, hosts[num_hosts], NULL);
    }
}

static void turn(void)
{
    for (int i = 0; i < 6; i++)
        loop_run_once(loop, false);
}

static void pass(uint64_t ms)
{
    loop_advance(loop, ms);
    turn();
}

static void begin(uint32_t n)
{
    add_hosts(n);
    health_checker_sync(checker, hosts, num_hosts);
    pass(1);
}

static void setup(void)
{
    stats_init(1);
    loop = loop_new(true);
    mailbox_init(&box, loop);
    home = (struct reclaim_home){pthread_self(), &box};
    budget = (struct health_budget){0};
    list_init(&budget.waiting);
    num_hosts = num_probes = num_running = changes = settled = passes = 0;
    log_text[0] = 0;
    config = new_config();
    state = cluster_state_new(&home, config);
    checker = health_checker_new(loop, &budget, config, state, &ops, NULL);
    stats_inc(state->stats, 0, CLUSTER_UPSTREAM_CX_TOTAL); /* it has traffic */
}

static void teardown(void)
{
    health_checker_free(&checker);
    ck_assert_uint_eq(budget.running, 0);
    ck_assert_uint_eq(num_running, 0);
    mailbox_cleanup(&box);
    for (uint32_t i = 0; i < num_hosts; i++)
        host_unref(hosts[i]);
    cluster_state_unref(state);
    cluster_config_unref(config);
    loop_free(&loop);
    stats_cleanup();
}

static uint64_t sum(uint32_t stat)
{
    return stats_sum(state->health_stats, stat);
}

static uint32_t flags(uint32_t i)
{
    return hosts[i]->health;
}

/* --- tests --- */

START_TEST(first_check_decides)
{
    begin(2);
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC);
    ck_assert_uint_eq(health_checker_pending(checker), 2);
    answer(0, OK);
    ck_assert_uint_eq(flags(0), 0);
    ck_assert_uint_eq(settled, 0);
    answer(1, LOST);
    ck_assert_uint_eq(flags(1), HOST_FAILED_ACTIVE_HC);
    ck_assert_uint_eq(settled, 1);
    ck_assert_uint_eq(health_checker_pending(checker), 0);
    ck_assert_uint_eq(sum(HEALTH_STAT_ATTEMPT), 2);
    ck_assert_uint_eq(sum(HEALTH_STAT_SUCCESS), 1);
    ck_assert_uint_eq(sum(HEALTH_STAT_FAILURE), 1);
    ck_assert_uint_eq(sum(HEALTH_STAT_NETWORK_FAILURE), 1);
    ck_assert_uint_eq(sum(HEALTH_STAT_HEALTHY), 1);
    ck_assert_uint_eq(changes, 1);
    ck_assert_uint_eq(passes, 1);
}
END_TEST

START_TEST(thresholds_and_intervals)
{
    begin(1);
    answer(0, OK);
    pass(4999);
    ck_assert(!probes[0]->running);
    pass(2); /* interval */
    answer(0, AGAIN);
    ck_assert_uint_eq(flags(0), 0);
    pass(301);     /* unhealthy_edge_interval: on the way to unhealthy */
    answer(0, OK); /* breaks the row */
    pass(5001);
    answer(0, LOST);
    pass(301);
    answer(0, LOST);
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC);
    pass(6990);
    ck_assert(!probes[0]->running);
    pass(20); /* unhealthy_interval */
    for (int i = 0; i < 2; i++) {
        answer(0, OK);
        ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC);
        pass(201); /* healthy_edge_interval */
    }
    answer(0, LOST); /* from the beginning */
    pass(7001);
    for (int i = 0; i < 3; i++) {
        answer(0, OK);
        pass(i < 2 ? 201 : 0);
    }
    ck_assert_uint_eq(flags(0), 0);
    pass(5001);
    answer(0, NO); /* an answer that says no needs no second one */
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC);
}
END_TEST

START_TEST(no_hurry_without_traffic)
{
    health_checker_free(&checker);
    cluster_state_unref(state);
    state = cluster_state_new(&home, config);
    checker = health_checker_new(loop, &budget, config, state, &ops, NULL);
    begin(2);
    answer(0, OK);
    answer(1, LOST);
    pass(60001); /* no_traffic_interval */
    ck_assert(!probes[0]->running && probes[1]->running);
    answer(1, LOST);
    pass(30000); /* no_traffic_healthy_interval */
    ck_assert(probes[0]->running);
}
END_TEST

START_TEST(jitter)
{
    config->health->timeout_ms = 100000;
    config->health->interval_jitter_ms = 1000;
    config->health->interval_jitter_per_cent = 50;
    config->health->initial_jitter_ms = 2000;
    begin(40);
    ck_assert_uint_lt(num_running, 40);
    pass(2001);
    ck_assert_uint_eq(num_running, 40);
    for (uint32_t i = 0; i < 40; i++)
        answer(i, OK);
    pass(4990);
    ck_assert_uint_eq(num_running, 0);
    pass(1500);
    ck_assert(num_running > 0 && num_running < 40);
}
END_TEST

START_TEST(timeout)
{
    begin(1);
    answer(0, OK);
    for (int i = 0; i < 2; i++) {
        pass(i == 0 ? 5001 : 301);
        ck_assert(probes[0]->running);
        pass(1001);
        ck_assert(!probes[0]->running);
    }
    ck_assert_uint_eq(probes[0]->abandoned, 2);
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC | HOST_HC_TIMEOUT);
    pass(7001);
    answer(0, LOST);
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC);
}
END_TEST

START_TEST(degraded)
{
    begin(1);
    answer(0, DEGRADED);
    ck_assert_uint_eq(flags(0), HOST_DEGRADED_ACTIVE_HC);
    ck_assert_uint_eq(sum(HEALTH_STAT_DEGRADED), 1);
    pass(5001);
    answer(0, OK);
    ck_assert_uint_eq(flags(0), 0);
    ck_assert_uint_eq(sum(HEALTH_STAT_DEGRADED), 0);
    ck_assert_uint_eq(changes, 2);
    ck_assert_ptr_nonnull(strstr(log_text, "\"degraded_healthy_host\":{}"));
    ck_assert_ptr_nonnull(strstr(log_text, "\"no_longer_degraded_host\":{}"));
}
END_TEST

START_TEST(host_asks_to_be_left_out)
{
    begin(2);
    answer(0, OK);
    answer(1, OK);
    health_report_fail(hosts[0]);
    health_report_fail(hosts[0]); /* one message is enough */
    turn();
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC | HOST_EXCLUDED);
    ck_assert_uint_eq(sum(HEALTH_STAT_PASSIVE_FAILURE), 1);
    for (int i = 0; i < 3; i++) {
        pass(i == 0 ? 5001 : 201);
        answer(0, OK);
    }
    ck_assert_uint_eq(flags(0), 0);
    health_checker_sync(checker, hosts + 1, 1); /* and when it has left */
    health_report_fail(hosts[0]);
    turn();
    ck_assert_uint_eq(flags(0), 0);
}
END_TEST

START_TEST(not_counted_before_the_first_check)
{
    config->exclude_unchecked = true;
    begin(1);
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC | HOST_PENDING_ACTIVE_HC);
    answer(0, LOST);
    ck_assert_uint_eq(flags(0), HOST_FAILED_ACTIVE_HC);
    ck_assert_uint_eq(changes, 1); /* who counts is another number now */
}
END_TEST

START_TEST(checks_at_one_time)
{
    begin(HEALTH_CHECKS_MAX + 5);
    ck_assert_uint_eq(num_running, HEALTH_CHECKS_MAX);
    answer(0, OK);
    answer(1, OK);
    ck_assert_uint_eq(num_running, HEALTH_CHECKS_MAX); /* others took their places */
    health_checker_sync(checker, hosts + 100, num_hosts - 100);
    ck_assert_uint_eq(num_running, num_hosts - 100);
}
END_TEST

START_TEST(hosts_come_and_go)
{
    begin(2);
    answer(0, OK);
    answer(1, OK);
    add_hosts(1);
    health_checker_sync(checker, hosts + 1, 2); /* the first is gone */
    pass(1);
    ck_assert_ptr_null(hosts[0]->health_session);
    ck_assert_ptr_null(probes[0]);
    ck_assert_uint_eq(health_checker_pending(checker), 1);
    ck_assert_uint_eq(sum(HEALTH_STAT_HEALTHY), 1);
    answer(2, OK);
    ck_assert_uint_eq(settled, 2);
}
END_TEST

START_TEST(another_configuration)
{
    struct cluster_config *next = new_config();
    begin(1);
    answer(0, OK);
    health_checker_configure(checker, next); /* checks alike: the session goes on */
    ck_assert_uint_eq(num_probes, 1);
    cluster_config_unref(next);
    next = new_config();
    next->health->hash = 2;
    health_checker_configure(checker, next);
    cluster_config_unref(next);
    pass(1);
    ck_assert_uint_eq(num_probes, 2);
    ck_assert_ptr_null(probes[0]);
    ck_assert_uint_eq(flags(0), 0); /* nothing is known to its disadvantage */
    answer(1, LOST);
    ck_assert_uint_eq(flags(0), 0);
}
END_TEST

START_TEST(end_of_checks)
{
    begin(2);
    answer(0, NO);
    health_checker_free(&checker);
    ck_assert_uint_eq(flags(0), 0);
    ck_assert_uint_eq(flags(1), 0);
    checker = health_checker_new(loop, &budget, config, state, &ops, NULL);
}
END_TEST

START_TEST(log_lines)
{
    begin(1);
    answer(0, OK);
    ck_assert_ptr_nonnull(strstr(
        log_text, "{\"health_checker_type\":\"TCP\",\"host\":{\"socket_address\":{\"protocol\":"
                  "\"TCP\",\"address\":\"127.0.0.1\",\"port_value\":1,\"resolver_name\":\"\","
                  "\"ipv4_compat\":false,\"network_namespace_filepath\":\"\"}},\"cluster_name\":"
                  "\"c\",\"add_healthy_event\":{\"first_check\":true},\"timestamp\":\""));
    log_text[0] = 0;
    pass(5001);
    answer(0, NO);
    ck_assert_ptr_nonnull(strstr(log_text, "\"eject_unhealthy_event\":{\"failure_type\":\"ACTIVE\","
                                           "\"http_status_code\":503}"));
    ck_assert_ptr_null(strstr(log_text, "health_check_failure_event"));
    log_text[0] = 0;
    config->health->log_failures = true;
    pass(7001);
    answer(0, LOST);
    ck_assert_ptr_nonnull(strstr(log_text, "\"health_check_failure_event\":{\"failure_type\":"
                                           "\"NETWORK\",\"first_check\":false,"
                                           "\"http_status_code\":0},\"locality\":{"));
}
END_TEST

START_TEST(payloads)
{
    const struct str v[] = {STR("one"), STR("two")};
    const struct health_payloads p = {v, 2}, none = {NULL, 0};
    ck_assert(health_payloads_match(&p, STR("onetwo")));
    ck_assert(health_payloads_match(&p, STR("xx one two two")));
    ck_assert(!health_payloads_match(&p, STR("two one")));
    ck_assert(!health_payloads_match(&p, STR("ontwo")));
    ck_assert(!health_payloads_match(&p, STR_NULL));
    ck_assert(health_payloads_match(&none, STR_NULL));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("health");
    TCase *t = tcase_create("health");
    SRunner *r;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, first_check_decides);
    tcase_add_test(t, thresholds_and_intervals);
    tcase_add_test(t, no_hurry_without_traffic);
    tcase_add_test(t, jitter);
    tcase_add_test(t, timeout);
    tcase_add_test(t, degraded);
    tcase_add_test(t, host_asks_to_be_left_out);
    tcase_add_test(t, not_counted_before_the_first_check);
    tcase_add_test(t, checks_at_one_time);
    tcase_add_test(t, hosts_come_and_go);
    tcase_add_test(t, another_configuration);
    tcase_add_test(t, end_of_checks);
    tcase_add_test(t, log_lines);
    tcase_add_test(t, payloads);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
