// covers: cluster/load_assignment.c
// covers: cluster/address.c
// covers: cluster/host_set.c
/* Two ClusterLoadAssignments, one after the other, for the members of one cluster: the input is cut
 * at its first two bytes. What is accepted becomes a host set that balancers can work with. Of
 * membership.c, what active health checks keep is not reached from here:
 * test/unit/cluster/membership_test.c. */
#include "api-protos/message.h"
#include "base/random.h"
#include "cluster/lb.h"
#include "cluster/lb_subset.h"
#include "cluster/membership.h"
#include "cluster/cluster_config.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_set(const struct host_set *set)
{
    unsigned load = 0;
    CHECK(set->num_priorities >= 1 && set->num_priorities <= HOST_PRIORITY_MAX + 1);
    CHECK(set->priority_start[set->num_priorities] == set->num_hosts);
    CHECK(set->num_healthy + set->num_degraded <= set->num_hosts);
    for (uint32_t p = 0; p < set->num_priorities; p++) {
        const struct host_priority *prio = &set->priorities[p];
        load += prio->load[HOSTS_HEALTHY] + prio->load[HOSTS_DEGRADED];
        CHECK(prio->lists[HOSTS_HEALTHY].num + prio->lists[HOSTS_DEGRADED].num <=
              prio->lists[HOSTS_ALL].num);
    }
    CHECK(load == 100);
}

static void check_picks(const struct cluster_config *config, const struct host_set *set)
{
    struct lb *lb = lb_new(config, NULL);
    lb_update(lb, set);
    for (int i = 0; i < 8; i++) {
        struct lb_choice c = lb_pick(lb, &(struct lb_request){.max_tries = 2});
        CHECK(c.host || config->table || config->subsets ||
              set->num_healthy + set->num_degraded < set->num_hosts || set->num_hosts == 0 ||
              set->priorities[0].localities);
        CHECK(!c.host || c.panic || host_healthy(c.host));
    }
    lb_free(&lb);
}

/* The same where its addresses may be names, as in a cluster that asks DNS: every endpoint has an
 * address or a name to ask for. */
static void take_names(struct str bytes)
{
    struct load_assignment *la;
    struct arena scratch;
    struct errors e;

    arena_init(&scratch, 0);
    errors_init(&e);
    const void *msg = PB_UNPACK(Envoy__Config__Endpoint__V3__ClusterLoadAssignment,
                                envoy__config__endpoint__v3__cluster_load_assignment, bytes,
                                &scratch, &e, NULL);
    la = msg ? load_assignment_from_names(msg, &e) : NULL;
    CHECK((la != NULL) == errors_ok(&e));
    for (uint32_t i = 0; la && i < la->num_localities; i++)
        for (uint32_t j = 0; j < la->localities[i].num_endpoints; j++)
            CHECK(addr_is_ip(&la->localities[i].endpoints[j].addr) !=
                  (la->localities[i].endpoints[j].dns_name.len > 0));
    load_assignment_unref(la);
    errors_cleanup(&e);
    arena_cleanup(&scratch);
}

static void take(struct membership *m, const struct cluster_config *config, struct str bytes)
{
    struct load_assignment *la;
    struct host_set *set;
    struct errors e;

    errors_init(&e);
    la = load_assignment_compile(bytes, &e, NULL);
    CHECK((la != NULL) == errors_ok(&e));
    errors_cleanup(&e);
    if (!la)
        return;
    (void)membership_update(m, la, config);
    CHECK(membership_update(m, la, config) == MEMBERS_SAME);
    set = membership_build(m, config);
    uint64_t budget = UINT64_MAX;
    CHECK(host_set_step(set, &budget));
    CHECK(set->num_hosts == m->num_hosts);
    check_set(set);
    check_picks(config, set);
    host_set_unref(set);
    load_assignment_unref(la);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct labels empty = {0};
    static struct str keys[] = {STR("a"), STR("b")};
    static const struct subset_selector selectors[] = {{.keys = {1, keys}}, {.keys = {2, keys}}};
    static const struct subset_config subsets = {.selectors = selectors,
                                                 .num_selectors = 2,
                                                 .fallback = SUBSET_ANY_ENDPOINT,
                                                 .list_as_any = true,
                                                 .locality_weighted = true,
                                                 .scale = true};
    static const struct lb_table_config maglev = {.kind = LB_TABLE_MAGLEV, .size = 31};
    static const struct lb_table_config ring = {
        .kind = LB_TABLE_RING, .min_size = 20, .max_size = 100};
    struct transport_match matches[] = {{STR("a"), NULL}};
    struct transport_factory *transports[2] = {0};
    struct cluster_config *config;
    struct membership m;
    size_t first;

    if (len < 3)
        return 0;
    first = ((size_t)data[0] << 8 | data[1]) % (len - 1);
    random_seed_for_test(len);
    config = cluster_config_new(NULL, STR("c"));
    config->lb_policy = (enum lb_policy)(data[2] % 3);
    config->locality_weighted = data[2] & 4;
    if (data[2] & 16) {
        config->lb_policy = data[2] & 64 ? LB_RING_HASH : LB_MAGLEV;
        config->table = data[2] & 64 ? &ring : &maglev;
    }
    config->subsets = data[2] & 32 ? &subsets : NULL;
    config->healthy_panic_per_cent = data[2] & 8 ? 50 : 0;
    if (data[2] & 16) {
        matches[0].labels = &empty;
        config->matches = matches;
        config->transports = transports;
        config->num_transports = 2;
    }
    membership_init(&m, NULL, NULL);
    if (first > 2)
        take(&m, config, str_n((const char *)data + 3, first - 2));
    take(&m, config, str_n((const char *)data + first + 1, len - first - 1));
    take_names(str_n((const char *)data + first + 1, len - first - 1));
    (void)membership_update(&m, NULL, config);
    CHECK(m.num_hosts == 0);
    membership_cleanup(&m);
    config->num_transports = 0;
    cluster_config_unref(config);
    return 0;
}
