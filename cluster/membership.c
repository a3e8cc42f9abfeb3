#include "cluster/membership.h"

#include "base/map.h"
#include "cluster/cluster_config.h"
#include "cluster/health.h"
#include "cluster/outlier.h"
#include <stdlib.h>

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
    case STATUS_TIMEOUT:
        flag = HOST_FAILED_EDS;
        break;
    case STATUS_DRAINING:
        flag = HOST_DRAINING_EDS;
        break;
    case STATUS_DEGRADED:
        flag = HOST_DEGRADED_EDS;
        break;
    }
    h->eds_health = status;
    changed = host_clear_flag(h, (HOST_FAILED_EDS | HOST_DRAINING_EDS | HOST_DEGRADED_EDS) & ~flag);
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
                                 const struct host_info *info, const struct cluster_config *config,
                                 enum membership_change *change)
{
    struct host *h = former_find(f, &info->addr), *before;
    if (h && host_is(h, info))
        return host_ref(h);
    before = h;
    h = host_new(m->home, info);
    h->state = m->state;
    health_host_new(config, h, before);
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
            .hc_addr = ep->hc_addr,
            .hc_hostname = ep->hc_hostname,
            .hc_disabled = ep->hc_disabled,
        };
        struct host *h = find_or_make(m, f, &info, config, change);
        host_clear_flag(h, HOST_PENDING_REMOVAL);
        if (h->weight != ep->weight || h->priority != l->priority)
            changed(change);
        h->weight = ep->weight;
        h->priority = l->priority;
        h->mark = m->mark;
        if (host_set_labels(h, ep->lb))
            changed(change);
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

/* --- hosts that are no longer listed and still pass their checks --- */

static bool is_kept(const struct membership *m, const struct host *h,
                    const struct cluster_config *config)
{
    uint32_t health = atomic_load_explicit(&h->health, memory_order_relaxed);
    bool told = config->type == CLUSTER_EDS || config->type == CLUSTER_STRICT_DNS;
    return h->mark != m->mark && told && config->health && !config->remove_despite_health &&
           h->health_session &&
           (health & (HOST_FAILED_ACTIVE_HC | HOST_FAILED_EDS | HOST_DRAINING_EDS)) == 0;
}

static bool same_place(const struct host_group *g, const struct host *h)
{
    const struct host *first = g->num_hosts ? g->hosts[0] : NULL;
    return first && g->priority == h->priority && str_eq(first->region, h->region) &&
           str_eq(first->zone, h->zone) && str_eq(first->sub_zone, h->sub_zone);
}

struct rebuilding {
    struct host **order;
    struct host_group *groups;
    uint32_t num_hosts, num_groups;
};

static struct host_group *add_group(struct rebuilding *r, uint32_t priority, uint32_t weight)
{
    struct host_group *g = &r->groups[r->num_groups++];
    *g = (struct host_group){
        .priority = priority, .locality_weight = weight, .hosts = r->order + r->num_hosts};
    return g;
}

/* take_kept adds the kept hosts that belong to the group (NULL: those of a priority below `limit`
 * that belong to none, each in a group of its own). */
static void take_kept(struct rebuilding *r, struct host **kept, uint32_t num,
                      const struct host_group *like, uint32_t limit)
{
    struct host_group *g = like ? &r->groups[r->num_groups - 1] : NULL;
    for (uint32_t i = 0; i < num; i++) {
        if (!kept[i] || (like ? !same_place(like, kept[i]) : kept[i]->priority >= limit))
            continue;
        if (!like)
            g = add_group(r, kept[i]->priority, 0);
        r->order[r->num_hosts++] = kept[i];
        g->num_hosts++;
        kept[i] = NULL;
    }
}

static int by_priority(const void *pa, const void *pb)
{
    const struct host *a = *(struct host *const *)pa, *b = *(struct host *const *)pb;
    return a->priority < b->priority ? -1 : a->priority > b->priority;
}

static void merge_kept(struct membership *m, struct host **kept, uint32_t num)
{
    struct rebuilding r = {
        .order = mem_alloc((m->num_hosts + num) * sizeof(struct host *)),
        .groups = mem_alloc((m->num_groups + num) * sizeof(*r.groups)),
    };
    qsort(kept, num, sizeof(struct host *), by_priority);
    for (uint32_t g = 0; g < m->num_groups; g++) {
        const struct host_group *old = &m->groups[g];
        struct host_group *new;
        /* Groups of their own come before those of a higher number. */
        if (g == 0 || old->priority > m->groups[g - 1].priority)
            take_kept(&r, kept, num, NULL, old->priority);
        new = add_group(&r, old->priority, old->locality_weight);
        for (uint32_t i = 0; i < old->num_hosts; i++)
            r.order[r.num_hosts++] = old->hosts[i];
        new->num_hosts = old->num_hosts;
        take_kept(&r, kept, num, old, 0);
    }
    take_kept(&r, kept, num, NULL, UINT32_MAX);
    mem_free(m->order);
    mem_free(m->groups);
    m->order = r.order;
    m->groups = r.groups;
    m->num_hosts = r.num_hosts;
    m->num_groups = r.num_groups;
}

static void keep_healthy(struct membership *m, const struct former *f,
                         const struct cluster_config *config, enum membership_change *change)
{
    struct host **kept = NULL;
    struct former listed = {0};
    size_t cap = 0;

    m->num_kept = 0;
    for (uint32_t i = 0; i < f->num; i++) {
        struct host *h = f->hosts[i];
        if (!is_kept(m, h, config))
            continue;
        if (!listed.hosts)
            former_init(&listed, m->order, m->num_hosts);
        if (former_find(&listed, &h->addr)) /* at the same address there is another one now */
            continue;
        kept = mem_grow_array(kept, &cap, m->num_kept + 1, sizeof(struct host *));
        kept[m->num_kept++] = host_ref(h);
        if (host_set_flag(h, HOST_PENDING_REMOVAL))
            changed(change);
    }
    if (listed.hosts)
        map_cleanup(&listed.map, NULL);
    for (uint32_t i = 0; i < m->num_kept; i++)
        kept[i]->mark = m->mark;
    if (m->num_kept)
        merge_kept(m, kept, m->num_kept);
    mem_free(kept);
}

bool membership_kept_failed(const struct membership *m)
{
    for (uint32_t i = 0; m->num_kept && i < m->num_hosts; i++) {
        uint32_t health = atomic_load_explicit(&m->order[i]->health, memory_order_relaxed);
        if ((health & HOST_PENDING_REMOVAL) && (health & HOST_FAILED_ACTIVE_HC))
            return true;
    }
    return false;
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
    keep_healthy(m, &former, config, &change);
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
        .table = config->table,
        .subsets = config->subsets,
    };
    return host_set_new(m->home, &spec);
}
