#include "test/support/cluster_fixture.h"

#include <time.h>

void fixture_start(struct cluster_fixture *f)
{
    *f = (struct cluster_fixture){0};
    stats_init(1);
    f->loop = loop_new(true);
    mailbox_init(&f->box, f->loop);
    f->home = (struct reclaim_home){pthread_self(), &f->box};
    f->worker = worker_clusters_new(f->loop, &f->box);
    f->table = cluster_table_new(&f->home);
    worker_clusters_swap(f->worker, f->table);
}

void fixture_stop(struct cluster_fixture *f)
{
    mailbox_cleanup(&f->box);
    worker_clusters_free(&f->worker);
    cluster_table_unref(f->table);
    cluster_state_unref(f->state);
    loop_free(&f->loop);
    buffer_free_list_trim();
    stats_cleanup();
}

struct host *fixture_host(struct cluster_fixture *f, const char *address)
{
    struct host_info info = {0};
    CHECK(addr_parse_ip_port(str_of(address), &info.addr));
    return host_new(&f->home, &info);
}

static void publish(struct cluster_fixture *f, struct cluster_table *t)
{
    worker_clusters_swap(f->worker, t);
    cluster_table_unref(f->table);
    f->table = t;
}

void fixture_publish(struct cluster_fixture *f, struct cluster_config *config, struct host **hosts,
                     uint32_t num_hosts)
{
    static uint32_t membership;
    struct cluster_node *old = cluster_table_find(f->table, config->name), *n;
    struct host_group group = {.hosts = hosts, .num_hosts = num_hosts};
    struct host_set_spec spec = {.groups = &group,
                                 .num_groups = 1,
                                 .panic_per_cent = config->healthy_panic_per_cent,
                                 .membership = ++membership};
    struct host_set *set = host_set_new(&f->home, &spec);
    struct cluster_table *t = cluster_table_copy(f->table);

    if (!old) {
        cluster_state_unref(f->state);
        f->state = cluster_state_new(&f->home, config);
    }
    for (unsigned p = 0; p < 2; p++)
        circuit_set_limits(&f->state->circuit, (enum priority)p, &config->limits[p]);
    n = cluster_node_new(&f->home, config, set, f->state);
    cluster_table_put(t, n);
    cluster_node_unref(n);
    cluster_config_unref(config);
    for (uint32_t i = 0; i < num_hosts; i++) {
        hosts[i]->state = f->state;
        host_unref(hosts[i]);
    }
    publish(f, t);
    host_set_unref(set);
}

void fixture_remove(struct cluster_fixture *f, const char *name)
{
    struct cluster_table *t = cluster_table_copy(f->table);
    cluster_table_remove(t, str_of(name));
    publish(f, t);
}

void fixture_turn(struct cluster_fixture *f, int n)
{
    while (n-- > 0)
        loop_run_once(f->loop, false);
}

void fixture_spin(struct cluster_fixture *f, const int *flag)
{
    struct timespec nap = {.tv_nsec = 1000000};
    for (int i = 0; i < 5000 && !*flag; i++) {
        if (!loop_run_once(f->loop, false))
            nanosleep(&nap, NULL);
    }
    CHECK(*flag); /* else nothing happened in time */
}

uint64_t fixture_stat(struct cluster_fixture *f, uint32_t stat)
{
    return stats_sum(f->state->stats, stat);
}
