#include "cluster/worker_clusters.h"

#include "base/hash.h"
#include "cluster/cluster_config.h"
#include <check.h>
#include <pthread.h>
#include <stdio.h>

/* --- the table ----------------------------------------------------------------------------------
 */

static struct cluster_node *node(const struct reclaim_home *home, const char *name)
{
    struct cluster_config *config = cluster_config_new(home, str_of(name));
    struct cluster_state *state = cluster_state_new(home, config);
    struct host_set *set = host_set_new(home, &(struct host_set_spec){0});
    struct cluster_node *n = cluster_node_new(home, config, set, state);
    cluster_config_unref(config);
    cluster_state_unref(state);
    host_set_unref(set);
    return n;
}

static void put(struct cluster_table *t, const char *name)
{
    struct cluster_node *n = node(NULL, name);
    cluster_table_put(t, n);
    cluster_node_unref(n);
}

START_TEST(table_shares_what_did_not_change)
{
    enum { MANY = 2000 };
    struct cluster_table *t, *copy;
    struct cluster_node *before;
    unsigned differ = 0;
    char name[16];

    stats_init(1);
    t = cluster_table_new(NULL);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        put(t, name);
    }
    before = cluster_node_ref(cluster_table_find(t, STR("c7")));
    copy = cluster_table_copy(t);
    put(copy, "c7");
    cluster_table_remove(copy, STR("c8"));
    cluster_table_remove(copy, STR("never"));
    ck_assert_ptr_eq(cluster_table_find(t, STR("c7")), before);
    ck_assert_ptr_ne(cluster_table_find(copy, STR("c7")), before);
    ck_assert_ptr_null(cluster_table_find(copy, STR("c8")));
    ck_assert_ptr_nonnull(cluster_table_find(t, STR("c8")));
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "c%d", i);
        ck_assert_ptr_nonnull(cluster_table_find(t, str_of(name)));
    }
    for (unsigned i = 0; i < CLUSTER_BUCKETS; i++)
        differ += t->buckets[i] != copy->buckets[i];
    ck_assert_uint_le(differ, 3);
    cluster_node_unref(before);
    cluster_table_unref(t);
    ck_assert_ptr_nonnull(cluster_table_find(copy, STR("c9")));
    cluster_table_unref(copy);
    stats_cleanup();
}
END_TEST

START_TEST(table_becomes_empty)
{
    struct cluster_table *t;
    stats_init(1);
    t = cluster_table_new(NULL);
    put(t, "a");
    cluster_table_remove(t, STR("a"));
    for (unsigned i = 0; i < CLUSTER_BUCKETS; i++)
        ck_assert_ptr_null(t->buckets[i]);
    cluster_table_unref(t);
    stats_cleanup();
}
END_TEST

/* --- main and workers
 * ------------------------------------------------------------------------------- */

enum { WORKERS = 4, UPDATES = 300, NAMES = 20 };

struct thread {
    pthread_t id;
    struct loop *loop;
    struct mailbox box;
    struct worker_clusters *clusters;
    _Atomic bool stop;
    uint64_t picks, found;
};

static struct loop *main_loop;
static struct mailbox main_box;
static struct reclaim_home home;
static struct thread threads[WORKERS];

/* What a worker does: looks clusters up, holds some, picks hosts, counts outcomes. */
static void *work(void *arg)
{
    struct thread *t = arg;
    struct cluster *held[NAMES] = {0};
    unsigned round = 0;

    /* On a busy machine a thread may not have run at all before it is told to stop. */
    for (int late = 0; !atomic_load(&t->stop) || (!t->picks && late < 100000); late++) {
        unsigned i = round++ % NAMES;
        char name[8];
        struct cluster *c;
        struct host *h;
        loop_run_once(t->loop, false);
        if (held[i])
            cluster_release(held[i]);
        held[i] = NULL;
        snprintf(name, sizeof(name), "c%u", i);
        c = worker_clusters_find(t->clusters, str_of(name));
        if (!c)
            continue;
        t->found++;
        h = cluster_pick(c, &(struct lb_request){0});
        if (h) {
            t->picks++;
            cluster_count_outcome(c, h, OUTCOME_STATUS, round % 3 ? 200 : 503);
            host_unref(h);
        }
        if (circuit_take(c->circuit, PRIORITY_DEFAULT, CIRCUIT_RQ))
            circuit_give(c->circuit, PRIORITY_DEFAULT, CIRCUIT_RQ);
        stats_inc(c->stats, c->thread, CLUSTER_UPSTREAM_RQ_TOTAL);
        cluster_hold(c);
        held[i] = c;
    }
    for (unsigned i = 0; i < NAMES; i++) {
        if (held[i])
            cluster_release(held[i]);
    }
    worker_clusters_free(&t->clusters);
    mailbox_cleanup(&t->box);
    loop_free(&t->loop);
    return NULL;
}

static struct host *new_host(unsigned port)
{
    struct host_info info = {0};
    ck_assert(addr_parse_ip(STR("127.0.0.1"), (uint16_t)port, &info.addr));
    return host_new(&home, &info);
}

static struct cluster_state *states[NAMES];

/* change publishes one cluster with other hosts, or takes it out. */
static struct cluster_table *change(const struct cluster_table *old, unsigned update)
{
    unsigned i = update % NAMES;
    struct cluster_table *t = cluster_table_copy(old);
    struct cluster_config *config;
    struct cluster_node *n;
    struct host_set *set;
    struct host *hosts[3];
    char name[8];

    snprintf(name, sizeof(name), "c%u", i);
    if (update % 7 == 6) {
        cluster_table_remove(t, str_of(name));
        cluster_state_unref(states[i]);
        states[i] = NULL;
        return t;
    }
    config = cluster_config_new(&home, str_of(name));
    config->lb_policy = (enum lb_policy)(update % 3);
    config->connection_hash = update % 5;
    if (!states[i])
        states[i] = cluster_state_new(&home, config);
    for (unsigned h = 0; h < 3; h++) {
        hosts[h] = new_host(h + 1);
        hosts[h]->weight = 1 + (update + h) % 3;
    }
    set = host_set_new(&home, &(struct host_set_spec){
                                  .groups = &(struct host_group){.hosts = hosts, .num_hosts = 3},
                                  .num_groups = 1,
                                  .membership = update});
    n = cluster_node_new(&home, config, set, states[i]);
    cluster_table_put(t, n);
    cluster_node_unref(n);
    host_set_unref(set);
    cluster_config_unref(config);
    for (unsigned h = 0; h < 3; h++)
        host_unref(hosts[h]);
    return t;
}

START_TEST(publishing_under_load)
{
    struct cluster_table *table;

    stats_init(WORKERS + 1);
    main_loop = loop_new(false);
    mailbox_init(&main_box, main_loop);
    home = (struct reclaim_home){pthread_self(), &main_box};
    table = cluster_table_new(&home);
    for (unsigned i = 0; i < WORKERS; i++) {
        threads[i] = (struct thread){0};
        threads[i].loop = loop_new(false);
        loop_set_thread_index(threads[i].loop, i + 1);
        mailbox_init(&threads[i].box, threads[i].loop);
        threads[i].clusters = worker_clusters_new(threads[i].loop, &threads[i].box);
        worker_clusters_send(threads[i].clusters, table);
        ck_assert_int_eq(pthread_create(&threads[i].id, NULL, work, &threads[i]), 0);
    }
    for (unsigned u = 0; u < UPDATES; u++) {
        struct cluster_table *next = change(table, u);
        for (unsigned i = 0; i < WORKERS; i++)
            worker_clusters_send(threads[i].clusters, next);
        cluster_table_unref(table);
        table = next;
        for (int spin = 0; spin < 5; spin++)
            loop_run_once(main_loop, false);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        atomic_store(&threads[i].stop, true);
        pthread_join(threads[i].id, NULL);
        ck_assert_uint_gt(threads[i].found, 0);
        ck_assert_uint_gt(threads[i].picks, 0);
    }
    cluster_table_unref(table);
    for (unsigned i = 0; i < NAMES; i++)
        cluster_state_unref(states[i]);
    mailbox_cleanup(&main_box); /* what the workers let go of last */
    loop_free(&main_loop);
    stats_cleanup(); /* every scope was freed */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/worker_clusters");
    TCase *t = tcase_create("worker_clusters");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_test(t, table_shares_what_did_not_change);
    tcase_add_test(t, table_becomes_empty);
    tcase_add_test(t, publishing_under_load);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
