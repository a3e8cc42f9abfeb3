/* What choosing a host costs: among ten and among ten thousand, of equal and of different weights,
 * for every balancer. Each pick is of another hash, and all hosts get their turn, so that the many
 * find the caches cold. Linked with the proxy as it is released. */
#include "cluster/cluster_config.h"
#include "cluster/lb.h"

#include <stdio.h>
#include <time.h>

enum { PICKS = 400000, SCANS = 400, REPEATS = 7, FEW = 10, MANY = 10000 };

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static const struct lb_table_config ring = {
    .kind = LB_TABLE_RING, .min_size = 1024, .max_size = 8 << 20};
static const struct lb_table_config maglev = {.kind = LB_TABLE_MAGLEV, .size = 65537};

static const struct bench {
    const char *title;
    enum lb_policy policy;
    const struct lb_table_config *table;
    uint32_t balance_factor;
    bool full_scan;
} benches[] = {
    {"round robin", LB_ROUND_ROBIN, NULL, 0, false},
    {"least request", LB_LEAST_REQUEST, NULL, 0, false},
    {"random", LB_RANDOM, NULL, 0, false},
    {"ring hash", LB_RING_HASH, &ring, 0, false},
    {"ring hash, bounded", LB_RING_HASH, &ring, 120, false},
    {"Maglev", LB_MAGLEV, &maglev, 0, false},
    {"Maglev, bounded", LB_MAGLEV, &maglev, 120, false},
    {"least request, full scan", LB_LEAST_REQUEST, NULL, 0, true},
};

static struct host_set *make_set(struct host **hosts, uint32_t num, bool weights,
                                 const struct lb_table_config *table)
{
    struct host_group group = {.hosts = hosts, .num_hosts = num};
    struct host_set_spec spec = {
        .groups = &group, .num_groups = 1, .panic_per_cent = 50, .table = table};
    uint64_t budget = UINT64_MAX;
    for (uint32_t i = 0; i < num; i++)
        hosts[i]->weight = weights ? 1 + i % 7 : 1;
    struct host_set *set = host_set_new(NULL, &spec);
    CHECK(host_set_step(set, &budget));
    return set;
}

/* Nanoseconds of CPU a pick, the best of some repeats. */
static double measure(const struct bench *b, struct host **hosts, uint32_t num, bool weights)
{
    struct cluster_config *config = cluster_config_new(NULL, STR("c"));
    struct host_set *set = make_set(hosts, num, weights, b->table);
    int picks = b->full_scan && !weights ? SCANS : PICKS;
    struct circuit circuit;
    double best = 0;

    circuit_init(&circuit);
    config->lb_policy = b->policy;
    config->table = b->table;
    config->balance_factor = b->balance_factor;
    config->full_scan = b->full_scan;
    struct lb *lb = lb_new(config, &circuit);
    lb_update(lb, set);
    for (int r = 0; r < REPEATS; r++) {
        uint64_t hash = 1;
        double start = now_ns();
        for (int i = 0; i < picks; i++) {
            struct lb_request rq = {.hash = hash, .has_hash = true};
            struct host *h = lb_pick(lb, &rq).host;
            CHECK(h);
            host_unref(host_ref(h)); /* as cluster_pick and its caller do */
            hash = hash * 0x5851f42d4c957f2du + 0x14057b7ef767814fu;
        }
        double each = (now_ns() - start) / picks;
        best = r == 0 || each < best ? each : best;
    }
    lb_free(&lb);
    host_set_unref(set);
    cluster_config_unref(config);
    return best;
}

int main(void)
{
    static struct host *hosts[MANY];
    for (uint32_t i = 0; i < MANY; i++) {
        struct host_info info = {0};
        char text[32];
        (void)snprintf(text, sizeof(text), "10.1.%u.%u:80", i / 250, i % 250);
        CHECK(addr_parse_ip_port(str_of(text), &info.addr));
        hosts[i] = host_new(NULL, &info);
    }
    printf("%-26s %9s %9s %9s %9s\n", "ns a pick, of hosts", "10", "10,000", "10 w.", "10,000 w.");
    for (size_t i = 0; i < sizeof(benches) / sizeof(*benches); i++)
        printf("%-26s %9.1f %9.1f %9.1f %9.1f\n", benches[i].title,
               measure(&benches[i], hosts, FEW, false), measure(&benches[i], hosts, MANY, false),
               measure(&benches[i], hosts, FEW, true), measure(&benches[i], hosts, MANY, true));
    for (uint32_t i = 0; i < MANY; i++)
        host_unref(hosts[i]);
    return 0;
}
