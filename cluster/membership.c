#include "cluster/membership.h"

#include "base/map.h"
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
    return addr_key(a);
}

static void drop(struct host *h)
{
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
    m->overprovisioning = HOST_OVERPROVISIONING;
}

void membership_cleanup(struct membership *m)
{
    for (uint32_t i = 0; i < m->num_hosts; i++)
        drop(m->order[i]);
    mem_free(m->order);
    mem_free(m->groups);
    m->order = NULL;
    m->groups = NULL;
    m->num_hosts = m->num_groups = 0;
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

/* The members of before, by address; few are searched, many looked up. */
struct former {
    struct host **hosts;
    uint32_t num;
    struct map map;
};

enum { FEW = 8 };

static void former_init(struct former *f, struct host **hosts, uint32_t num)
{
    f->hosts = hosts;
    f->num = num;
    map_init(&f->map, false);
    for (uint32_t i = 0; i < num && num > FEW; i++)
        (void)map_put(&f->map, key_of(&hosts[i]->addr), hosts[i]);
}

static struct host *former_find(const struct former *f, const struct addr *a)
{
    if (f->num > FEW)
        return map_get(&f->map, key_of(a));
    for (uint32_t i = 0; i < f->num; i++) {
        if (addr_eq(&f->hosts[i]->addr, a))
            return f->hosts[i];
    }
    return NULL;
}

/* find_or_make returns a host with a reference for the new order. */
static struct host *find_or_make(struct membership *m, const struct former *f,
                                 const struct host_info *info, enum membership_change *change)
{
    struct host *h = former_find(f, &info->addr);
    if (h && host_is(h, info))
        return host_ref(h);
    h = host_new(m->home, info);
    h->state = m->state;
    *change = MEMBERS_OTHER;
    return h;
}

static void changed(enum membership_change *change)
{
    if (*change == MEMBERS_SAME)
        *change = MEMBERS_CHANGED;
}

static void take_locality(struct membership *m, const struct former *f,
                          const struct assigned_locality *l, const struct cluster_config *config,
                          enum membership_change *change)
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
            .more = ep->more,
            .num_more = ep->num_more,
            .transport_index = transport_index_of(config, ep->labels, l->labels),
        };
        struct host *h = find_or_make(m, f, &info, change);
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

/* let_go gives back what the former order held; who is not in the new one is removed. */
static void let_go(const struct membership *m, const struct former *f,
                   enum membership_change *change)
{
    for (uint32_t i = 0; i < f->num; i++) {
        if (f->hosts[i]->mark == m->mark) {
            host_unref(f->hosts[i]);
            continue;
        }
        drop(f->hosts[i]);
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
    struct former former;

    for (uint32_t i = 0; la && i < la->num_localities; i++)
        total += la->localities[i].num_endpoints;
    former_init(&former, order, num_hosts);
    m->mark++;
    m->num_groups = m->num_hosts = 0;
    m->groups = mem_alloc((la ? la->num_localities : 0) * sizeof(*m->groups));
    m->order = mem_alloc(total * sizeof(struct host *));
    for (uint32_t i = 0; la && i < la->num_localities; i++)
        take_locality(m, &former, &la->localities[i], config, &change);
    if (set_policy(m, la) || !same_groups(m, groups, order, num_groups, num_hosts))
        changed(&change);
    let_go(m, &former, &change);
    map_cleanup(&former.map, NULL);
    mem_free(groups);
    mem_free(order);
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
