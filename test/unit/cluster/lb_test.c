#include "cluster/lb.h"

#include "base/random.h"
#include "cluster/cluster_config.h"
#include <check.h>
#include <stdio.h>

enum { MAX_HOSTS = 16 };

static struct host *hosts[MAX_HOSTS];
static unsigned num_hosts;
static unsigned picks[MAX_HOSTS];
static struct cluster_config *config;
static struct host_set *set;
static struct lb *lb;
static struct circuit circuit;

static struct host *make_host(uint32_t weight)
{
    struct host_info info = {0};
    char text[32];
    snprintf(text, sizeof(text), "127.0.0.1:%u", num_hosts + 1);
    ck_assert(addr_parse_ip_port(str_of(text), &info.addr));
    hosts[num_hosts] = host_new(NULL, &info);
    hosts[num_hosts]->weight = weight;
    return hosts[num_hosts++];
}

static void setup(void)
{
    num_hosts = 0;
    random_seed_for_test(7);
    circuit_init(&circuit);
    config = cluster_config_new(NULL, STR("c"));
    lb = NULL;
    set = NULL;
}

static void teardown(void)
{
    lb_free(&lb);
    host_set_unref(set);
    for (unsigned i = 0; i < num_hosts; i++)
        host_unref(hosts[i]);
    cluster_config_unref(config);
}

static void build(const struct host_group *groups, uint32_t num_groups)
{
    struct host_set *old = set;
    struct host_set_spec spec = {.groups = groups,
                                 .num_groups = num_groups,
                                 .panic_per_cent = config->healthy_panic_per_cent,
                                 .locality_weighted = config->locality_weighted,
                                 .table = config->table};
    uint64_t budget = UINT64_MAX;
    set = host_set_new(NULL, &spec);
    ck_assert(host_set_step(set, &budget));
    if (!lb)
        lb = lb_new(config, &circuit);
    lb_update(lb, set);
    host_set_unref(old);
}

/* one group of everything */
static void build_all(void)
{
    struct host_group g = {.hosts = hosts, .num_hosts = num_hosts};
    build(&g, 1);
}

static struct host *pick(void)
{
    return lb_pick(lb, &(struct lb_request){0}).host;
}

static void pick_many(unsigned n)
{
    memset(picks, 0, sizeof(picks));
    while (n-- > 0) {
        struct host *h = pick();
        ck_assert_ptr_nonnull(h);
        picks[addr_port(&h->addr) - 1]++;
    }
}

static void check_share(unsigned i, unsigned want, unsigned slack)
{
    ck_assert_msg(picks[i] + slack >= want && picks[i] <= want + slack, "host %u: %u, not %u", i,
                  picks[i], want);
}

START_TEST(round_robin_equal)
{
    unsigned first;
    for (int i = 0; i < 4; i++)
        make_host(5);
    build_all();
    pick_many(400);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(picks[i], 100);
    first = addr_port(&pick()->addr);
    for (unsigned i = 1; i < 8; i++) /* in turn */
        ck_assert_uint_eq(addr_port(&pick()->addr) - 1, (first - 1 + i) % 4);
}
END_TEST

START_TEST(round_robin_weighted)
{
    make_host(1);
    make_host(2);
    make_host(7);
    build_all();
    pick_many(1000);
    check_share(0, 100, 1);
    check_share(1, 200, 1);
    check_share(2, 700, 1);
    pick_many(10); /* interleaved, not in bursts of a weight */
    ck_assert_uint_le(picks[0], 2);
    ck_assert_uint_ge(picks[1], 1);
}
END_TEST

START_TEST(starts_anywhere)
{
    bool seen[4] = {false};
    for (int i = 0; i < 4; i++)
        make_host(1);
    for (int i = 0; i < 100; i++) {
        lb_free(&lb);
        build_all();
        seen[addr_port(&pick()->addr) - 1] = true;
    }
    ck_assert(seen[0] && seen[1] && seen[2] && seen[3]);
    hosts[0]->weight = 2;
    memset(seen, 0, sizeof(seen));
    for (int i = 0; i < 100; i++) {
        lb_free(&lb);
        build_all();
        seen[addr_port(&pick()->addr) - 1] = true;
    }
    ck_assert(seen[0] && seen[1] && seen[2] && seen[3]);
}
END_TEST

START_TEST(random_is_even)
{
    config->lb_policy = LB_RANDOM;
    for (int i = 0; i < 4; i++)
        make_host(1);
    build_all();
    pick_many(4000);
    for (unsigned i = 0; i < 4; i++)
        check_share(i, 1000, 150);
}
END_TEST

START_TEST(least_request_prefers_idle)
{
    config->lb_policy = LB_LEAST_REQUEST;
    for (int i = 0; i < 4; i++)
        make_host(1);
    hosts[2]->rq_active = 10;
    build_all();
    pick_many(1600);
    check_share(2, 100, 40); /* only if both choices fall on it: 1/16 */
    for (int i = 0; i < 1000; i++) {
        struct host *h = pick();
        h->rq_active++;
    }
    for (unsigned i = 0; i < 4; i++) /* levels out */
        ck_assert_uint_le(hosts[i]->rq_active, 260);
}
END_TEST

START_TEST(least_request_weighted)
{
    config->lb_policy = LB_LEAST_REQUEST;
    make_host(1);
    make_host(3);
    build_all();
    pick_many(400);
    check_share(0, 100, 2);
    hosts[1]->rq_active = 2; /* 3 / (2 + 1) = 1 */
    build_all();
    pick_many(400);
    check_share(0, 200, 2);
}
END_TEST

START_TEST(more_choices)
{
    config->lb_policy = LB_LEAST_REQUEST;
    config->choice_count = 50;
    for (int i = 0; i < 4; i++)
        make_host(1);
    for (int i = 0; i < 3; i++)
        hosts[i]->rq_active = 1;
    build_all();
    pick_many(100);
    ck_assert_uint_ge(picks[3], 99);
}
END_TEST

START_TEST(unhealthy_are_left_out)
{
    for (int i = 0; i < 4; i++)
        make_host(1);
    host_set_flag(hosts[1], HOST_FAILED_OUTLIER);
    build_all();
    pick_many(300);
    ck_assert_uint_eq(picks[1], 0);
    ck_assert_uint_eq(picks[0], 100);
}
END_TEST

START_TEST(panic)
{
    struct lb_choice c;
    for (int i = 0; i < 5; i++)
        make_host(1);
    host_set_flag(hosts[0], HOST_FAILED_EDS);
    host_set_flag(hosts[1], HOST_FAILED_EDS);
    host_set_flag(hosts[2], HOST_FAILED_OUTLIER);
    build_all(); /* 40 % healthy */
    c = lb_pick(lb, &(struct lb_request){0});
    ck_assert(c.panic);
    pick_many(500);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(picks[i], 100);
    config->healthy_panic_per_cent = 0; /* never, as Istio has it */
    build_all();
    pick_many(100);
    ck_assert_uint_eq(picks[0] + picks[1] + picks[2], 0);
    host_set_flag(hosts[3], HOST_FAILED_EDS);
    host_set_flag(hosts[4], HOST_FAILED_EDS);
    build_all();
    ck_assert_ptr_null(pick());
}
END_TEST

START_TEST(nobody)
{
    build(NULL, 0);
    ck_assert_ptr_null(pick());
    make_host(1);
    build_all();
    ck_assert_ptr_eq(pick(), hosts[0]);
    build(NULL, 0);
    ck_assert_ptr_null(pick());
}
END_TEST

START_TEST(priorities_spill_over)
{
    struct host_group g[2] = {{.priority = 0, .hosts = hosts, .num_hosts = 4},
                              {.priority = 1, .hosts = hosts + 4, .num_hosts = 4}};
    for (int i = 0; i < 8; i++)
        make_host(1);
    build(g, 2);
    pick_many(400);
    ck_assert_uint_eq(picks[4] + picks[5] + picks[6] + picks[7], 0);
    host_set_flag(hosts[0], HOST_FAILED_EDS); /* 3/4 * 1.4 = 105 %: nothing spills yet */
    build(g, 2);
    pick_many(400);
    ck_assert_uint_eq(picks[4] + picks[5] + picks[6] + picks[7], 0);
    host_set_flag(hosts[1], HOST_FAILED_EDS); /* 2/4 * 1.4 = 70 % */
    build(g, 2);
    ck_assert_uint_eq(set->priorities[0].load[HOSTS_HEALTHY], 70);
    ck_assert_uint_eq(set->priorities[1].load[HOSTS_HEALTHY], 30);
    pick_many(4000);
    ck_assert_uint_ge(picks[4] + picks[5] + picks[6] + picks[7], 1000);
    ck_assert_uint_le(picks[4] + picks[5] + picks[6] + picks[7], 1400);
    host_set_flag(hosts[2], HOST_FAILED_EDS);
    host_set_flag(hosts[3], HOST_FAILED_EDS);
    build(g, 2);
    ck_assert_uint_eq(set->priorities[0].load[HOSTS_HEALTHY], 0);
    ck_assert(!set->priorities[0].panic); /* the other one can take it all */
    pick_many(400);
    ck_assert_uint_eq(picks[0] + picks[1] + picks[2] + picks[3], 0);
}
END_TEST

START_TEST(gap_in_priorities)
{
    struct host_group g[2] = {{.priority = 0, .hosts = hosts, .num_hosts = 1},
                              {.priority = 3, .hosts = hosts + 1, .num_hosts = 1}};
    make_host(1);
    make_host(1);
    host_set_flag(hosts[0], HOST_FAILED_EDS);
    build(g, 2);
    ck_assert_uint_eq(set->num_priorities, 4);
    ck_assert_uint_eq(set->priorities[3].load[HOSTS_HEALTHY], 100);
    pick_many(10);
    ck_assert_uint_eq(picks[1], 10);
}
END_TEST

START_TEST(degraded_come_after_healthy)
{
    struct host_group g[2] = {{.priority = 0, .hosts = hosts, .num_hosts = 2},
                              {.priority = 1, .hosts = hosts + 2, .num_hosts = 2}};
    for (int i = 0; i < 4; i++)
        make_host(1);
    host_set_flag(hosts[0], HOST_DEGRADED_EDS);
    host_set_flag(hosts[1], HOST_DEGRADED_EDS);
    build(g, 2);
    pick_many(100);
    ck_assert_uint_eq(picks[0] + picks[1], 0); /* healthy ones of a lower priority go first */
    host_set_flag(hosts[2], HOST_FAILED_EDS);
    host_set_flag(hosts[3], HOST_FAILED_EDS);
    build(g, 2);
    pick_many(100);
    ck_assert_uint_eq(picks[0] + picks[1], 100);
}
END_TEST

START_TEST(total_panic_goes_by_size)
{
    struct host_group g[2] = {{.priority = 0, .hosts = hosts, .num_hosts = 1},
                              {.priority = 1, .hosts = hosts + 1, .num_hosts = 3}};
    for (int i = 0; i < 4; i++) {
        make_host(1);
        host_set_flag(hosts[i], HOST_FAILED_EDS);
    }
    build(g, 2);
    ck_assert_uint_eq(set->priorities[0].load[HOSTS_HEALTHY], 25);
    ck_assert_uint_eq(set->priorities[1].load[HOSTS_HEALTHY], 75);
    pick_many(4000);
    check_share(0, 1000, 150);
}
END_TEST

START_TEST(localities_by_weight)
{
    struct host_group g[3] = {
        {.locality_weight = 1, .hosts = hosts, .num_hosts = 1},
        {.locality_weight = 3, .hosts = hosts + 1, .num_hosts = 2},
        {.locality_weight = 0, .hosts = hosts + 3, .num_hosts = 1},
    };
    for (int i = 0; i < 4; i++)
        make_host(1);
    config->locality_weighted = true;
    build(g, 3);
    pick_many(400);
    check_share(0, 100, 1);
    check_share(1, 150, 1);
    check_share(2, 150, 1);
    ck_assert_uint_eq(picks[3], 0);           /* no weight, no requests */
    host_set_flag(hosts[1], HOST_FAILED_EDS); /* 1/2 * 1.4 = 0.7: 3 becomes 2.1 */
    build(g, 3);
    pick_many(3100);
    check_share(0, 1000, 20);
    check_share(2, 2100, 20);
    g[0].locality_weight = g[1].locality_weight = 0; /* none has: as if there were no localities */
    build(g, 3);
    pick_many(300);
    check_share(3, 100, 1);
}
END_TEST

START_TEST(tried_hosts_are_passed_by)
{
    struct host *tried[2];
    struct lb_request rq = {.tried = tried, .num_tried = 2, .max_tries = 10};
    for (int i = 0; i < 3; i++)
        make_host(1);
    build_all();
    tried[0] = hosts[0];
    tried[1] = hosts[2];
    for (int i = 0; i < 20; i++)
        ck_assert_ptr_eq(lb_pick(lb, &rq).host, hosts[1]);
    rq.max_tries = 1; /* the last choice stands */
    ck_assert_ptr_nonnull(lb_pick(lb, &rq).host);
    make_host(1);
    host_set_flag(hosts[0], HOST_FAILED_EDS);
    host_set_flag(hosts[1], HOST_FAILED_EDS);
    build_all();
    tried[0] = hosts[2];
    tried[1] = hosts[3];
    rq.max_tries = 5;
    ck_assert_ptr_nonnull(lb_pick(lb, &rq).host); /* all tried: one of them */
}
END_TEST

START_TEST(weighted_health)
{
    struct host_group g[2] = {{.priority = 0, .hosts = hosts, .num_hosts = 2},
                              {.priority = 1, .hosts = hosts + 2, .num_hosts = 1}};
    struct host_set_spec spec = {.groups = g, .num_groups = 2, .weighted_health = true};
    make_host(9);
    make_host(1);
    make_host(1);
    host_set_flag(hosts[0], HOST_FAILED_EDS);
    set = host_set_new(NULL, &spec);
    ck_assert_uint_eq(set->priorities[0].load[HOSTS_HEALTHY], 14); /* 1/10 * 1.4 */
    ck_assert_uint_eq(set->priorities[1].load[HOSTS_HEALTHY], 86);
}
END_TEST

/* Ten thousand hosts: a pick must not walk them. */
/* --- hashes --- */

static const struct lb_table_config ring = {
    .kind = LB_TABLE_RING, .min_size = 1024, .max_size = 8 << 20};
static const struct lb_table_config maglev = {.kind = LB_TABLE_MAGLEV, .size = 65537};

static void use_table(enum lb_policy policy)
{
    config->lb_policy = policy;
    config->table = policy == LB_MAGLEV ? &maglev : &ring;
}

static struct host *pick_hash(uint64_t hash)
{
    return lb_pick(lb, &(struct lb_request){.hash = hash, .has_hash = true}).host;
}

START_TEST(a_hash_has_its_host)
{
    struct host *before[200];
    unsigned moved = 0;
    use_table((enum lb_policy)_i);
    for (int i = 0; i < 10; i++)
        make_host(1);
    build_all();
    for (uint64_t i = 0; i < 200; i++)
        before[i] = pick_hash(i * 0x9e3779b97f4a7c15u);
    ck_assert(host_set_flag(hosts[3], HOST_FAILED_OUTLIER));
    build_all();
    for (uint64_t i = 0; i < 200; i++) { /* who had another one mostly keeps it */
        struct host *h = pick_hash(i * 0x9e3779b97f4a7c15u);
        ck_assert_ptr_ne(h, hosts[3]);
        moved += before[i] != hosts[3] && h != before[i];
    }
    ck_assert_uint_le(moved, 40); /* the others have more points now */
    ck_assert(host_clear_flag(hosts[3], HOST_FAILED_OUTLIER));
    build_all();
    for (uint64_t i = 0; i < 200; i++)
        ck_assert_ptr_eq(pick_hash(i * 0x9e3779b97f4a7c15u), before[i]);
    pick_many(1000); /* without a hash: any */
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_gt(picks[i], 20);
}
END_TEST

START_TEST(hashes_pass_tried_hosts_by)
{
    struct lb_request rq = {.hash = 77, .has_hash = true, .num_tried = 1, .max_tries = 10};
    struct host *first;
    use_table((enum lb_policy)_i);
    for (int i = 0; i < 10; i++)
        make_host(1);
    build_all();
    first = pick_hash(77);
    rq.tried = &first;
    ck_assert_ptr_ne(lb_pick(lb, &rq).host, first);
}
END_TEST

START_TEST(hashes_of_nobody)
{
    use_table((enum lb_policy)_i);
    config->healthy_panic_per_cent = 0;
    make_host(1);
    ck_assert(host_set_flag(hosts[0], HOST_FAILED_EDS));
    build_all();
    ck_assert_ptr_null(pick_hash(1));
    config->healthy_panic_per_cent = 50;
    build_all();
    ck_assert_ptr_eq(pick_hash(1), hosts[0]);
    ck_assert(lb_pick(lb, &(struct lb_request){0}).panic);
}
END_TEST

/* Five hosts, each at most 1.2 times the average: one hash spreads over them in an order of its
 * own, and comes back to its host when that has room again. */
START_TEST(bounded_loads)
{
    struct host *first, *h;
    unsigned used = 0;
    use_table(LB_RING_HASH);
    config->balance_factor = 120;
    for (int i = 0; i < 5; i++)
        make_host(1);
    build_all();
    first = pick_hash(99);
    for (unsigned n = 0; n < 100; n++) {
        h = pick_hash(99);
        ck_assert_uint_le(atomic_fetch_add(&h->rq_active, 1), (n + 1) * 120 / 100 / 5 + 1);
        circuit_take_always(&circuit, PRIORITY_DEFAULT, CIRCUIT_RQ);
    }
    for (int i = 0; i < 5; i++)
        used += hosts[i]->rq_active > 0;
    ck_assert_uint_ge(used, 4);
    atomic_store(&first->rq_active, 30);
    ck_assert_ptr_ne(pick_hash(99), first);
    atomic_store(&first->rq_active, 0);
    ck_assert_ptr_eq(pick_hash(99), first);
    for (int i = 0; i < 5; i++) /* all of them full: the least so */
        atomic_store(&hosts[i]->rq_active, i == 2 ? 500 : 1000);
    ck_assert_ptr_eq(pick_hash(99), hosts[2]);
}
END_TEST

START_TEST(full_scan_finds_the_idle_one)
{
    config->lb_policy = LB_LEAST_REQUEST;
    config->full_scan = true;
    for (int i = 0; i < 10; i++)
        atomic_store(&make_host(1)->rq_active, i == 4 || i == 6 ? 1 : 2);
    build_all();
    pick_many(1000);
    ck_assert_uint_eq(picks[4] + picks[6], 1000);
    check_share(4, 500, 100);
}
END_TEST

START_TEST(active_bias)
{
    config->lb_policy = LB_LEAST_REQUEST;
    make_host(1);
    make_host(2);
    atomic_store(&hosts[1]->rq_active, 3);
    config->active_bias = 0; /* by weight alone */
    build_all();
    pick_many(900);
    check_share(0, 300, 1);
    lb_free(&lb);
    config->active_bias = 0.5; /* 1 : 2 / sqrt(4) */
    build_all();
    pick_many(900);
    check_share(0, 450, 1);
}
END_TEST

/* Of two hosts one came just now: in the middle of its window it has half a share. */
START_TEST(slow_start)
{
    static const struct slow_start slow = {.window_ms = 10000, .aggression = 1, .least = 0.1};
    uint64_t from;
    config->lb_policy = (enum lb_policy)_i;
    config->slow_start = &slow;
    make_host(1);
    make_host(1);
    from = hosts[1]->slow_from_ms;
    hosts[0]->slow_from_ms = 0;
    build_all();
    lb->now_ms = from + 1; /* the least: 10 % */
    pick_many(1100);
    check_share(1, 100, 12);
    lb->now_ms = from + 5000;
    pick_many(1500);
    check_share(1, 500, 12);
    lb->now_ms = from + 10000;
    if (_i == LB_ROUND_ROBIN) {
        pick_many(1000);
        check_share(1, 500, 1);
    }
    ck_assert(host_set_flag(hosts[0], HOST_FAILED_ACTIVE_HC));
    ck_assert(host_clear_flag(hosts[0], HOST_FAILED_ACTIVE_HC));
    ck_assert_uint_ge(hosts[0]->slow_from_ms, from); /* healthy again: slowly */
}
END_TEST

START_TEST(slow_start_with_aggression)
{
    static const struct slow_start slow = {.window_ms = 10000, .aggression = 2, .least = 0.1};
    make_host(3);
    make_host(3);
    make_host(1);
    config->slow_start = &slow;
    hosts[0]->slow_from_ms = hosts[2]->slow_from_ms = 0;
    build_all();
    lb->now_ms = hosts[1]->slow_from_ms + 2500; /* the root of a quarter: 1.5 of 3 */
    pick_many(5500);
    check_share(0, 3000, 10);
    check_share(1, 1500, 10);
    check_share(2, 1000, 10);
}
END_TEST

START_TEST(many_hosts)
{
    enum { MANY = 10000, PICKS = 50000 };
    struct host **many = mem_alloc(MANY * sizeof(struct host *));
    struct host_group g = {.hosts = many, .num_hosts = MANY};
    for (unsigned i = 0; i < MANY; i++) {
        struct host_info info = {0};
        ck_assert(addr_parse_ip(STR("127.0.0.1"), (uint16_t)(i + 1), &info.addr));
        many[i] = host_new(NULL, &info);
        many[i]->weight = 1 + i % 7;
    }
    config->lb_policy = (enum lb_policy)_i;
    build(&g, 1);
    for (unsigned i = 0; i < PICKS; i++) /* would be 5 * 10^8 steps */
        ck_assert_ptr_nonnull(pick());
    lb_free(&lb);
    host_set_unref(set);
    set = NULL;
    for (unsigned i = 0; i < MANY; i++)
        host_unref(many[i]);
    mem_free(many);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/lb");
    TCase *t = tcase_create("lb");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, round_robin_equal);
    tcase_add_test(t, round_robin_weighted);
    tcase_add_test(t, starts_anywhere);
    tcase_add_test(t, random_is_even);
    tcase_add_test(t, least_request_prefers_idle);
    tcase_add_test(t, least_request_weighted);
    tcase_add_test(t, more_choices);
    tcase_add_test(t, unhealthy_are_left_out);
    tcase_add_test(t, panic);
    tcase_add_test(t, nobody);
    tcase_add_test(t, priorities_spill_over);
    tcase_add_test(t, gap_in_priorities);
    tcase_add_test(t, degraded_come_after_healthy);
    tcase_add_test(t, total_panic_goes_by_size);
    tcase_add_test(t, localities_by_weight);
    tcase_add_test(t, tried_hosts_are_passed_by);
    tcase_add_test(t, weighted_health);
    tcase_add_loop_test(t, a_hash_has_its_host, LB_RING_HASH, LB_MAGLEV + 1);
    tcase_add_loop_test(t, hashes_pass_tried_hosts_by, LB_RING_HASH, LB_MAGLEV + 1);
    tcase_add_loop_test(t, hashes_of_nobody, LB_RING_HASH, LB_MAGLEV + 1);
    tcase_add_test(t, bounded_loads);
    tcase_add_test(t, full_scan_finds_the_idle_one);
    tcase_add_test(t, active_bias);
    tcase_add_loop_test(t, slow_start, LB_ROUND_ROBIN, LB_LEAST_REQUEST + 1);
    tcase_add_test(t, slow_start_with_aggression);
    tcase_add_loop_test(t, many_hosts, LB_ROUND_ROBIN, LB_RANDOM + 1);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
