#include "cluster/host.h"
#include "cluster/lb_subset.h"
#include "cluster/load_assignment.h"
#include <stdlib.h>

/* The lists of one kind of hosts share memory where they are equal: in the common case all hosts
 * are healthy and there is one list. */

static bool in_list(const struct host *h, enum host_list_kind kind)
{
    uint32_t health = atomic_load_explicit(&h->health, memory_order_relaxed);
    switch (kind) {
    case HOSTS_ALL:
    case NUM_HOST_LISTS:
        break;
    case HOSTS_HEALTHY:
        return (health & (HOST_UNHEALTHY | HOST_DEGRADED)) == 0;
    case HOSTS_DEGRADED:
        return (health & HOST_UNHEALTHY) == 0 && (health & HOST_DEGRADED) != 0;
    }
    return true;
}

static bool is_excluded(const struct host *h)
{
    return (atomic_load_explicit(&h->health, memory_order_relaxed) & HOST_NOT_COUNTED) != 0;
}

static const uint32_t *list_weights(struct host_set *s, const struct host_list *l)
{
    uint32_t *w;
    bool equal = true;
    for (uint32_t i = 1; i < l->num && equal; i++)
        equal = l->hosts[i]->weight == l->hosts[0]->weight;
    if (equal)
        return NULL;
    w = arena_alloc(&s->arena, l->num * sizeof(*w));
    for (uint32_t i = 0; i < l->num; i++)
        w[i] = l->hosts[i]->weight;
    return w;
}

/* fill_lists makes the three lists of `num` hosts at `all`. */
static void fill_lists(struct host_set *s, struct host_list *lists, struct host **all, uint32_t num)
{
    lists[HOSTS_ALL] = (struct host_list){.hosts = all, .num = num, .id = s->num_lists++};
    lists[HOSTS_ALL].weights = list_weights(s, &lists[HOSTS_ALL]);
    for (unsigned kind = HOSTS_HEALTHY; kind < NUM_HOST_LISTS; kind++) {
        struct host_list *l = &lists[kind];
        uint32_t n = 0;
        for (uint32_t i = 0; i < num; i++)
            n += in_list(all[i], (enum host_list_kind)kind);
        l->id = s->num_lists++;
        l->num = n;
        l->hosts = NULL;
        l->weights = NULL;
        if (n == num) {
            l->hosts = all;
            l->weights = lists[HOSTS_ALL].weights;
            continue;
        }
        if (n == 0)
            continue;
        l->hosts = arena_alloc(&s->arena, n * sizeof(struct host *));
        n = 0;
        for (uint32_t i = 0; i < num; i++) {
            if (in_list(all[i], (enum host_list_kind)kind))
                l->hosts[n++] = all[i];
        }
        l->weights = list_weights(s, l);
    }
}

static void fill_localities(struct host_set *s, struct host_priority *p,
                            const struct host_group *groups, uint32_t num, uint32_t at)
{
    p->localities = arena_zalloc(&s->arena, num * sizeof(*p->localities));
    p->num_localities = num;
    for (uint32_t i = 0; i < num; i++) {
        struct host_locality *loc = &p->localities[i];
        uint32_t total = groups[i].num_hosts, counted = total;
        loc->weight = groups[i].locality_weight;
        fill_lists(s, loc->lists, s->hosts + at, total);
        for (uint32_t k = 0; k < total; k++)
            counted -= is_excluded(s->hosts[at + k]);
        for (unsigned kind = HOSTS_HEALTHY; kind < NUM_HOST_LISTS && counted; kind++) {
            double available = (double)loc->lists[kind].num / counted * s->overprovisioning / 100.0;
            loc->effective[kind] = loc->weight * (available < 1.0 ? available : 1.0);
        }
        at += total;
    }
}

/* percent_available is what a priority can take, as if it had overprovisioning % of its hosts. */
static uint32_t percent_available(const struct host_set *s, const struct host_priority *p,
                                  enum host_list_kind kind)
{
    uint64_t total = p->lists[HOSTS_ALL].num - p->num_excluded, part = p->lists[kind].num, percent;
    if (s->weighted_health) {
        total = p->weight[HOSTS_ALL] - p->excluded_weight;
        part = p->weight[kind];
    }
    if (total == 0)
        return 0;
    percent = part * s->overprovisioning / total;
    return percent < 100 ? (uint32_t)percent : 100;
}

static void sum_weights(struct host_priority *p)
{
    for (unsigned kind = 0; kind < NUM_HOST_LISTS; kind++) {
        const struct host_list *l = &p->lists[kind];
        for (uint32_t i = 0; i < l->num; i++)
            p->weight[kind] += l->hosts[i]->weight;
    }
    for (uint32_t i = 0; i < p->lists[HOSTS_ALL].num; i++) {
        const struct host *h = p->lists[HOSTS_ALL].hosts[i];
        if (is_excluded(h)) {
            p->num_excluded++;
            p->excluded_weight += h->weight;
        }
    }
}

static bool is_panic(const struct host_priority *p, uint32_t threshold)
{
    uint64_t total = p->lists[HOSTS_ALL].num - p->num_excluded, percent = 0;
    if (total)
        percent = 100 * p->lists[HOSTS_HEALTHY].num / total +
                  100 * p->lists[HOSTS_DEGRADED].num / total;
    return percent < threshold;
}

/* With every priority in panic the load goes by the number of hosts. */
static void load_in_total_panic(struct host_set *s)
{
    uint32_t left = 100, first = UINT32_MAX;
    for (uint32_t i = 0; i < s->num_priorities; i++) {
        struct host_priority *p = &s->priorities[i];
        p->load[HOSTS_DEGRADED] = 0;
        p->load[HOSTS_HEALTHY] = 0;
        if (p->lists[HOSTS_ALL].num == 0)
            continue;
        if (first == UINT32_MAX)
            first = i;
        p->load[HOSTS_HEALTHY] = (uint8_t)((uint64_t)100 * p->lists[HOSTS_ALL].num / s->num_hosts);
        left -= p->load[HOSTS_HEALTHY];
    }
    s->priorities[first == UINT32_MAX ? 0 : first].load[HOSTS_HEALTHY] += (uint8_t)left;
}

/* spread gives what is left of 100 % to the hosts of one kind, priority by priority; returns what
 * is left then. */
static uint32_t spread(struct host_set *s, enum host_list_kind kind, uint32_t total, uint32_t left)
{
    for (uint32_t i = 0; i < s->num_priorities; i++) {
        struct host_priority *p = &s->priorities[i];
        uint32_t share = percent_available(s, p, kind) * 100 / total;
        p->load[kind] = (uint8_t)(share < left ? share : left);
        left -= p->load[kind];
    }
    return left;
}

static void round_up(struct host_set *s, uint32_t left)
{
    for (unsigned kind = HOSTS_HEALTHY; kind < NUM_HOST_LISTS; kind++) {
        for (uint32_t i = 0; i < s->num_priorities; i++) {
            if (s->priorities[i].load[kind]) {
                s->priorities[i].load[kind] += (uint8_t)left;
                return;
            }
        }
    }
}

static void compute_load(struct host_set *s, uint32_t threshold)
{
    uint32_t total = 0;
    bool all_panic = true;

    for (uint32_t i = 0; i < s->num_priorities; i++)
        total += percent_available(s, &s->priorities[i], HOSTS_HEALTHY) +
                 percent_available(s, &s->priorities[i], HOSTS_DEGRADED);
    total = total < 100 ? total : 100;
    if (total)
        round_up(s, spread(s, HOSTS_DEGRADED, total, spread(s, HOSTS_HEALTHY, total, 100)));
    if (threshold == 0 && total == 0) {
        s->priorities[0].load[HOSTS_HEALTHY] = 100; /* where nobody will be found */
        return;
    }
    for (uint32_t i = 0; i < s->num_priorities; i++) {
        s->priorities[i].panic = total < 100 && is_panic(&s->priorities[i], threshold);
        all_panic = all_panic && s->priorities[i].panic;
    }
    if (all_panic)
        load_in_total_panic(s);
}

/* --- tables --- */

static struct str hash_key(const struct host *h, bool use_hostname)
{
    struct str key = labels_text(h->labels, STR("hash_key"));
    if (key.len)
        return key;
    return use_hostname ? h->hostname : h->address_text;
}

static uint64_t sum_of(const struct host_list *l)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < l->num; i++)
        sum += l->hosts[i]->weight;
    return sum;
}

/* The hosts of one list with `share` of all requests between them. */
static void add_hosts(struct host_table *t, double *weights, const struct host_list *l,
                      double share)
{
    uint64_t sum = sum_of(l);
    for (uint32_t i = 0; i < l->num; i++) {
        weights[t->num] = l->hosts[i]->weight * share / (double)sum;
        t->hosts[t->num++] = l->hosts[i];
    }
}

static int by_place(const void *pa, const void *pb)
{
    const struct host_locality *const *a = pa, *const *b = pb;
    const struct host *x = (*a)->lists[HOSTS_ALL].hosts[0], *y = (*b)->lists[HOSTS_ALL].hosts[0];
    int order = str_cmp(x->region, y->region);
    if (!order)
        order = str_cmp(x->zone, y->zone);
    if (!order)
        order = str_cmp(x->sub_zone, y->sub_zone);
    return order ? order : *a < *b ? -1 : 1;
}

/* With locality weights each locality has its share of the requests, and one without weight none:
 * in the order of their names, so that the table does not depend on how they are listed. */
static void add_localities(struct host_set *s, struct host_priority *p, double *weights,
                           enum host_list_kind kind)
{
    const struct host_locality **order = arena_alloc(&s->arena, p->num_localities * sizeof(*order));
    uint64_t sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->num_localities; i++) {
        if (p->localities[i].lists[HOSTS_ALL].num == 0)
            continue;
        order[n++] = &p->localities[i];
        sum += p->localities[i].weight;
    }
    if (n > 1)
        qsort(order, n, sizeof(*order), by_place);
    for (uint32_t i = 0; i < n; i++) {
        if (order[i]->weight)
            add_hosts(&p->hash, weights, &order[i]->lists[kind],
                      (double)order[i]->weight / (double)sum);
    }
}

/* Degraded hosts have no place in a table, as in Envoy. */
static void make_table(struct host_set *s, struct host_priority *p,
                       const struct lb_table_config *config)
{
    enum host_list_kind kind = p->panic ? HOSTS_ALL : HOSTS_HEALTHY;
    const struct host_list *l = &p->lists[kind];
    double *weights = arena_alloc(&s->arena, l->num * sizeof(*weights));
    struct lb_table_entry *entries;

    p->hash.hosts = arena_alloc(&s->arena, l->num * sizeof(struct host *));
    p->hash.weights = weights;
    if (p->localities)
        add_localities(s, p, weights, kind);
    else
        add_hosts(&p->hash, weights, l, 1);
    entries = mem_alloc(p->hash.num * sizeof(*entries));
    for (uint32_t i = 0; i < p->hash.num; i++)
        entries[i] = (struct lb_table_entry){
            .key = hash_key(p->hash.hosts[i], config->use_hostname), .weight = weights[i]};
    p->hash.table = lb_table_new(config, entries, p->hash.num);
    mem_free(entries);
}

static void host_set_free(void *arg)
{
    struct host_set *s = arg;
    for (uint32_t i = 0; i < s->num_hosts; i++)
        host_unref(s->hosts[i]);
    for (uint32_t i = 0; i < s->num_priorities; i++)
        lb_table_free(&s->priorities[i].hash.table);
    host_subsets_free(&s->subsets);
    arena_cleanup(&s->arena);
    mem_free(s);
}

static void fill_hosts(struct host_set *s, const struct host_set_spec *spec)
{
    uint32_t at = 0, g = 0;
    for (uint32_t p = 0; p < s->num_priorities; p++) {
        s->priority_start[p] = at;
        for (; g < spec->num_groups && spec->groups[g].priority == p; g++) {
            for (uint32_t i = 0; i < spec->groups[g].num_hosts; i++) {
                struct host *h = spec->groups[g].hosts[i];
                s->hosts[at++] = host_ref(h);
                s->num_healthy += in_list(h, HOSTS_HEALTHY);
                s->num_degraded += in_list(h, HOSTS_DEGRADED);
                s->num_excluded += is_excluded(h);
                if (h->weight > s->max_weight)
                    s->max_weight = h->weight;
            }
        }
    }
    s->priority_start[s->num_priorities] = at;
}

struct host *host_set_find(const struct host_set *s, const struct addr *addr)
{
    for (uint32_t i = 0; i < s->num_hosts; i++) {
        if (addr_eq(&s->hosts[i]->addr, addr))
            return s->hosts[i];
    }
    return NULL;
}

struct host_set *host_set_new(const struct reclaim_home *home, const struct host_set_spec *spec)
{
    struct host_set *s = NEW(struct host_set);
    uint32_t g = 0;

    reclaim_init(&s->reclaim, home, host_set_free, s);
    s->overprovisioning = spec->overprovisioning ? spec->overprovisioning : HOST_OVERPROVISIONING;
    s->drop_ppm = spec->drop_ppm;
    s->membership = spec->membership;
    s->weighted_health = spec->weighted_health;
    s->num_priorities = 1;
    for (uint32_t i = 0; i < spec->num_groups; i++) {
        s->num_hosts += spec->groups[i].num_hosts;
        s->num_priorities = spec->groups[i].priority + 1;
    }
    arena_init(&s->arena, s->num_hosts * sizeof(struct host *) + 16 +
                              (s->num_priorities + 1) * sizeof(uint32_t) + 16 +
                              s->num_priorities * sizeof(struct host_priority) + 64);
    s->hosts = arena_alloc(&s->arena, s->num_hosts * sizeof(struct host *));
    s->priority_start = arena_alloc(&s->arena, (s->num_priorities + 1) * sizeof(uint32_t));
    s->priorities = arena_zalloc(&s->arena, s->num_priorities * sizeof(*s->priorities));
    fill_hosts(s, spec);
    for (uint32_t p = 0; p < s->num_priorities; p++) {
        struct host_priority *prio = &s->priorities[p];
        uint32_t at = s->priority_start[p], first = g;
        fill_lists(s, prio->lists, s->hosts + at, s->priority_start[p + 1] - at);
        sum_weights(prio);
        while (g < spec->num_groups && spec->groups[g].priority == p)
            g++;
        if (spec->locality_weighted)
            fill_localities(s, prio, spec->groups + first, g - first, at);
    }
    compute_load(s, spec->panic_per_cent);
    for (uint32_t p = 0; spec->table && p < s->num_priorities; p++)
        make_table(s, &s->priorities[p], spec->table);
    if (spec->subsets)
        s->subsets = host_subsets_new(home, spec);
    return s;
}

bool host_set_step(struct host_set *s, uint64_t *budget)
{
    for (uint32_t p = 0; p < s->num_priorities; p++) {
        struct lb_table *t = s->priorities[p].hash.table;
        if (t && !lb_table_step(t, budget))
            return false;
    }
    return !s->subsets || host_subsets_step(s->subsets, budget);
}

struct host_set *host_set_ref(struct host_set *s)
{
    if (s)
        reclaim_ref(&s->reclaim);
    return s;
}

void host_set_unref(struct host_set *s)
{
    if (s)
        reclaim_unref(&s->reclaim);
}
