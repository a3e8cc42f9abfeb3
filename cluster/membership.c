#include "cluster/membership.h"

#include "cluster/cluster_config.h"
#include "cluster/outlier.h"

enum health_status { /* envoy.config.core.v3.HealthStatus */
                     STATUS_UNKNOWN,
                     STATUS_HEALTHY,
                     STATUS_UNHEALTHY,
                     STATUS_DRAINING,
                     STATUS_TIMEOUT,
                     STATUS_DEGRADED,
};

static struct str key_of(const struct addr *a)
{
    return str_n((const char *)&a->sa, a->sa_len);
}

static void drop(void *arg)
{
    struct host *h = arg;
    if (h->state && h->state->outlier)
        outlier_host_removed(h->state->outlier, h);
    atomic_store_explicit(&h->removed, true, memory_order_relaxed);
    h->state = NULL;
    host_unref(h);
}

void membership_init(struct membership *m, const struct reclaim_home *home,
                     struct cluster_state *state)
{
    *m = (struct membership){.home = home, .state = state};
    map_init(&m->hosts, true);
    m->overprovisioning = HOST_OVERPROVISIONING;
}

static void free_order(struct membership *m)
{
    mem_free(m->order);
    mem_free(m->groups);
    m->order = NULL;
    m->groups = NULL;
    m->num_hosts = m->num_groups = 0;
}

void membership_cleanup(struct membership *m)
{
    map_cleanup(&m->hosts, drop);
    free_order(m);
}

uint32_t transport_index_of(const struct cluster_config *config, const struct labels *endpoint,
                            const struct labels *locality)
{
    for (uint32_t i = 1; i < config->num_transports; i++) {
        const struct labels *want = config->matches[i - 1].labels;
        if (labels_match(want, endpoint) || labels_match(want, locality))
            return i;
    }
    return 0;
}

/* set_health turns what the control plane says into flags; true if that changed any. */
static bool set_health(struct host *h, uint32_t status)
{
    uint32_t flag = 0;
    bool changed;

    switch ((enum health_status)status) {
    case STATUS_UNKNOWN:
    case STATUS_HEALTHY:
        break;
    case STATUS_UNHEALTHY:
    case STATUS_DRAINING:
    case STATUS_TIMEOUT:
        flag = HOST_FAILED_EDS;
        break;
    case STATUS_DEGRADED:
        flag = HOST_DEGRADED_EDS;
        break;
    }
    h->eds_health = status;
    changed = host_clear_flag(h, (HOST_FAILED_EDS | HOST_DEGRADED_EDS) & ~flag);
    return (flag && host_set_flag(h, flag)) || changed;
}

static struct host *find_or_make(struct membership *m, const struct host_info *info,
                                 enum membership_change *change)
{
    struct host *h = map_get(&m->hosts, key_of(&info->addr));
    if (h && host_is(h, info))
        return h;
    if (h)
        drop(map_remove(&m->hosts, key_of(&info->addr)));
    h = host_new(m->home, info);
    h->state = m->state;
    (void)map_put(&m->hosts, key_of(&h->addr), h);
    *change = MEMBERS_OTHER;
    return h;
}

static void changed(enum membership_change *change)
{
    if (*change == MEMBERS_SAME)
        *change = MEMBERS_CHANGED;
}

static void take_locality(struct membership *m, const struct assigned_locality *l,
                          const struct cluster_config *config, enum membership_change *change)
{
    struct host_group *g = &m->groups[m->num_groups++];
    *g = (struct host_group){.priority = l->priority,
                             .locality_weight = l->weight,
                             .hosts = m->order + m->num_hosts,
                             .num_hosts = l->num_endpoints};
    for (uint32_t i = 0; i < l->num_endpoints; i++) {
        const struct assigned_endpoint *ep = &l->endpoints[i];
        struct host_info info = {
            .addr = ep->addr,
            .hostname = ep->hostname,
            .region = l->region,
            .zone = l->zone,
            .sub_zone = l->sub_zone,
            .transport_index = transport_index_of(config, ep->labels, l->labels),
        };
        struct host *h = find_or_make(m, &info, change);
        if (h->weight != ep->weight || h->priority != l->priority)
            changed(change);
        h->weight = ep->weight;
        h->priority = l->priority;
        h->mark = m->mark;
        if (set_health(h, ep->health))
            changed(change);
        m->order[m->num_hosts++] = h;
    }
}

/* same_groups says whether the new groups and order are those of before. */
static bool same_groups(const struct membership *m, const struct host_group *groups,
                        struct host *const *order, uint32_t num_groups, uint32_t num_hosts)
{
    if (m->num_groups != num_groups || m->num_hosts != num_hosts)
        return false;
    for (uint32_t i = 0; i < num_groups; i++) {
        if (groups[i].priority != m->groups[i].priority ||
            groups[i].locality_weight != m->groups[i].locality_weight ||
            groups[i].num_hosts != m->groups[i].num_hosts)
            return false;
    }
    return num_hosts == 0 || memcmp(order, m->order, num_hosts * sizeof(*order)) == 0;
}

static void drop_unmarked(struct membership *m, enum membership_change *change)
{
    struct str key;
    void *h;
    for (size_t it = 0; map_next(&m->hosts, &it, &key, &h);) {
        if (((struct host *)h)->mark == m->mark)
            continue;
        (void)map_remove(&m->hosts, key);
        drop(h);
        *change = MEMBERS_OTHER;
    }
}

static bool set_policy(struct membership *m, const struct load_assignment *la)
{
    uint32_t overprovisioning = la ? la->overprovisioning : HOST_OVERPROVISIONING;
    uint32_t drop_ppm = la ? la->drop_ppm : 0;
    bool weighted = la && la->weighted_health;
    bool other = m->overprovisioning != overprovisioning || m->drop_ppm != drop_ppm ||
                 m->weighted_health != weighted;
    m->overprovisioning = overprovisioning;
    m->drop_ppm = drop_ppm;
    m->weighted_health = weighted;
    return other;
}

enum membership_change membership_update(struct membership *m, const struct load_assignment *la,
                                         const struct cluster_config *config)
{
    enum membership_change change = MEMBERS_SAME;
    struct host_group *groups = m->groups;
    struct host **order = m->order;
    uint32_t num_groups = m->num_groups, num_hosts = m->num_hosts, total = 0;

    for (uint32_t i = 0; la && i < la->num_localities; i++)
        total += la->localities[i].num_endpoints;
    m->mark++;
    m->num_groups = m->num_hosts = 0;
    m->groups = mem_alloc((la ? la->num_localities : 0) * sizeof(*m->groups));
    m->order = mem_alloc(total * sizeof(struct host *));
    for (uint32_t i = 0; la && i < la->num_localities; i++)
        take_locality(m, &la->localities[i], config, &change);
    if (set_policy(m, la) || !same_groups(m, groups, order, num_groups, num_hosts))
        changed(&change);
    mem_free(groups);
    mem_free(order);
    drop_unmarked(m, &change);
    if (change == MEMBERS_OTHER)
        m->generation++;
    return change;
}

struct host_set *membership_build(struct membership *m, const struct cluster_config *config)
{
    struct host_set_spec spec = {
        .groups = m->groups,
        .num_groups = m->num_groups,
        .overprovisioning = m->overprovisioning,
        .panic_per_cent = config->healthy_panic_per_cent,
        .locality_weighted = config->locality_weighted,
        .weighted_health = m->weighted_health,
        .membership = m->generation,
        .drop_ppm = m->drop_ppm,
    };
    return host_set_new(m->home, &spec);
}
