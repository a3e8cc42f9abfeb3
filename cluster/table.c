#include "cluster/table.h"

#include "base/hash.h"
#include "cluster/lb_subset.h"

/* --- state --------------------------------------------------------------------------------- */

static void state_free(void *arg)
{
    struct cluster_state *s = arg;
    stats_scope_free(&s->stats);
    stats_scope_free(&s->tls_stats);
    stats_scope_free(&s->outlier_stats);
    stats_scope_free(&s->dns_stats);
    stats_scope_free(&s->ring_stats);
    stats_scope_free(&s->maglev_stats);
    stats_scope_free(&s->health_stats);
    mem_free(s);
}

static uint64_t read_circuit(const struct cluster_state *s, enum priority p, uint32_t i)
{
    if (i < NUM_CIRCUIT_KINDS)
        return circuit_is_open(&s->circuit, p, (enum circuit_kind)i);
    if (!s->track_remaining[p])
        return 0;
    return circuit_remaining(&s->circuit, p, (enum circuit_kind)(i - NUM_CIRCUIT_KINDS));
}

/* read_stat gives the gauges that are not counted but read from where they are kept. */
static bool read_stat(void *arg, uint32_t idx, uint64_t *out)
{
    const struct cluster_state *s = arg;
    const struct host_set *hosts = s->hosts;

    if (idx >= CLUSTER_HIGH_CX_OPEN)
        *out = read_circuit(s, PRIORITY_HIGH, idx - CLUSTER_HIGH_CX_OPEN);
    else if (idx >= CLUSTER_DEFAULT_CX_OPEN)
        *out = read_circuit(s, PRIORITY_DEFAULT, idx - CLUSTER_DEFAULT_CX_OPEN);
    else if (idx == CLUSTER_WARMING_STATE)
        *out = s->warming;
    else if (idx == CLUSTER_MEMBERSHIP_TOTAL)
        *out = hosts ? hosts->num_hosts : 0;
    else if (idx == CLUSTER_MEMBERSHIP_HEALTHY)
        *out = hosts ? hosts->num_healthy : 0;
    else if (idx == CLUSTER_MEMBERSHIP_DEGRADED)
        *out = hosts ? hosts->num_degraded : 0;
    else if (idx == CLUSTER_MEMBERSHIP_EXCLUDED)
        *out = hosts ? hosts->num_excluded : 0;
    else if (idx == CLUSTER_LB_SUBSETS_ACTIVE)
        *out = hosts && hosts->subsets ? hosts->subsets->map.num : 0;
    else if (idx == CLUSTER_MAX_HOST_WEIGHT)
        *out = hosts ? hosts->max_weight : 0;
    else if (idx == CLUSTER_MEMBERSHIP_CHANGE)
        *out = s->membership_change;
    else if (idx == CLUSTER_UPDATE_NO_REBUILD)
        *out = s->update_no_rebuild;
    else if (idx == CLUSTER_ASSIGNMENT_STALE)
        *out = s->assignment_stale;
    else
        return false;
    return true;
}

struct cluster_state *cluster_state_new(const struct reclaim_home *home,
                                        const struct cluster_config *config)
{
    struct cluster_state *s = NEW(struct cluster_state);
    const struct stats_part parts[] = {
        {STR("cluster"), NULL},
        {config->stat_name, "envoy_cluster_name"},
    };
    reclaim_init(&s->reclaim, home, state_free, s);
    circuit_init(&s->circuit);
    s->stats = stats_scope_new(&cluster_stats_table, parts, ARRAY_LEN(parts));
    stats_scope_set_reader(s->stats, read_stat, s);
    s->stat_name = s->stats->tags[0].text;
    return s;
}

/* Of several priorities the last one that has hosts, as in Envoy. */
static struct lb_table_size table_size(const struct cluster_state *s)
{
    struct lb_table_size size = {0};
    for (uint32_t i = 0; s->hosts && i < s->hosts->num_priorities; i++) {
        const struct lb_table *t = s->hosts->priorities[i].hash.table;
        if (t && lb_table_size_of(t).size)
            size = lb_table_size_of(t);
    }
    return size;
}

static bool read_ring(void *arg, uint32_t idx, uint64_t *out)
{
    struct lb_table_size size = table_size(arg);
    *out = idx == RING_SIZE ? size.size : idx == RING_MIN_HASHES ? size.least : size.most;
    return true;
}

static bool read_maglev(void *arg, uint32_t idx, uint64_t *out)
{
    struct lb_table_size size = table_size(arg);
    *out = idx == MAGLEV_MIN_ENTRIES ? size.least : size.most;
    return true;
}

void cluster_state_table_stats(struct cluster_state *s, const struct cluster_config *config)
{
    struct stats_part parts[] = {
        {STR("cluster"), NULL}, {s->stat_name, "envoy_cluster_name"}, {STR_NULL, NULL}};
    bool ring = config->lb_policy == LB_RING_HASH;
    struct stats_scope **scope = ring ? &s->ring_stats : &s->maglev_stats;
    if (!config->table || *scope)
        return;
    parts[2].text = ring ? STR("ring_hash_lb") : STR("maglev_lb");
    *scope = stats_scope_new(ring ? &ring_stats_table : &maglev_stats_table, parts,
                             ARRAY_LEN(parts));
    stats_scope_set_reader(*scope, ring ? read_ring : read_maglev, s);
}

struct cluster_state *cluster_state_ref(struct cluster_state *s)
{
    reclaim_ref(&s->reclaim);
    return s;
}

void cluster_state_unref(struct cluster_state *s)
{
    if (s)
        reclaim_unref(&s->reclaim);
}

/* --- nodes --------------------------------------------------------------------------------- */

static void node_free(void *arg)
{
    struct cluster_node *n = arg;
    cluster_config_unref(n->config);
    host_set_unref(n->hosts);
    cluster_state_unref(n->state);
    mem_free(n);
}

struct cluster_node *cluster_node_new(const struct reclaim_home *home,
                                      struct cluster_config *config, struct host_set *hosts,
                                      struct cluster_state *state)
{
    struct cluster_node *n = NEW(struct cluster_node);
    reclaim_init(&n->reclaim, home, node_free, n);
    n->hash = hash_str(config->name);
    n->config = cluster_config_ref(config);
    n->hosts = host_set_ref(hosts);
    n->state = cluster_state_ref(state);
    return n;
}

struct cluster_node *cluster_node_ref(struct cluster_node *n)
{
    if (n)
        reclaim_ref(&n->reclaim);
    return n;
}

void cluster_node_unref(struct cluster_node *n)
{
    if (n)
        reclaim_unref(&n->reclaim);
}

/* --- buckets ------------------------------------------------------------------------------- */

static void bucket_free(void *arg)
{
    struct cluster_bucket *b = arg;
    for (uint32_t i = 0; i < b->num; i++)
        cluster_node_unref(b->nodes[i]);
    mem_free(b);
}

static void bucket_unref(struct cluster_bucket *b)
{
    if (b)
        reclaim_unref(&b->reclaim);
}

/* bucket_with copies `old` without the name, and with `n` if there is one; NULL for an empty one.
 */
static struct cluster_bucket *bucket_with(const struct reclaim_home *home,
                                          const struct cluster_bucket *old, struct str name,
                                          struct cluster_node *n)
{
    uint32_t max = (old ? old->num : 0) + 1;
    struct cluster_bucket *b = mem_zalloc(sizeof(*b) + max * sizeof(b->nodes[0]));

    reclaim_init(&b->reclaim, home, bucket_free, b);
    for (uint32_t i = 0; old && i < old->num; i++) {
        if (!str_eq(old->nodes[i]->config->name, name))
            b->nodes[b->num++] = cluster_node_ref(old->nodes[i]);
    }
    if (n)
        b->nodes[b->num++] = cluster_node_ref(n);
    if (b->num > 0)
        return b;
    mem_free(b);
    return NULL;
}

struct cluster_node *cluster_bucket_find(const struct cluster_bucket *b, uint64_t hash,
                                         struct str name)
{
    for (uint32_t i = 0; b && i < b->num; i++) {
        if (b->nodes[i]->hash == hash && str_eq(b->nodes[i]->config->name, name))
            return b->nodes[i];
    }
    return NULL;
}

/* --- tables -------------------------------------------------------------------------------- */

static void own_free(void *arg)
{
    mem_free(arg);
}

static void table_free(void *arg)
{
    struct cluster_table *t = arg;
    for (unsigned i = 0; i < CLUSTER_BUCKETS; i++)
        bucket_unref(t->buckets[i]);
    if (t->own)
        reclaim_unref(&t->own->reclaim);
    mem_free(t);
}

struct cluster_table *cluster_table_new(const struct reclaim_home *home)
{
    struct cluster_table *t = NEW(struct cluster_table);
    reclaim_init(&t->reclaim, home, table_free, t);
    return t;
}

struct cluster_table *cluster_table_ref(struct cluster_table *t)
{
    reclaim_ref(&t->reclaim);
    return t;
}

void cluster_table_unref(struct cluster_table *t)
{
    if (t)
        reclaim_unref(&t->reclaim);
}

struct cluster_table *cluster_table_copy(const struct cluster_table *t)
{
    struct cluster_table *copy = cluster_table_new(t->reclaim.home);
    for (unsigned i = 0; i < CLUSTER_BUCKETS; i++) {
        copy->buckets[i] = t->buckets[i];
        if (copy->buckets[i])
            reclaim_ref(&copy->buckets[i]->reclaim);
    }
    copy->own = t->own;
    if (copy->own)
        reclaim_ref(&copy->own->reclaim);
    return copy;
}

static void replace(struct cluster_table *t, uint64_t hash, struct str name, struct cluster_node *n)
{
    struct cluster_bucket **slot = &t->buckets[cluster_table_bucket(hash)];
    struct cluster_bucket *old = *slot;
    *slot = bucket_with(t->reclaim.home, old, name, n);
    bucket_unref(old);
}

void cluster_table_put(struct cluster_table *t, struct cluster_node *n)
{
    replace(t, n->hash, n->config->name, n);
}

void cluster_table_remove(struct cluster_table *t, struct str name)
{
    replace(t, hash_str(name), name, NULL);
}

void cluster_table_set_own(struct cluster_table *t, const struct addr *addrs, uint32_t num)
{
    struct own_listeners *own = mem_zalloc(sizeof(*own) + num * sizeof(own->addrs[0]));
    reclaim_init(&own->reclaim, t->reclaim.home, own_free, own);
    own->generation = t->own ? t->own->generation + 1 : 1;
    own->num = num;
    for (uint32_t i = 0; i < num; i++)
        own->addrs[i] = addrs[i];
    if (t->own)
        reclaim_unref(&t->own->reclaim);
    t->own = own;
}

struct cluster_node *cluster_table_find(const struct cluster_table *t, struct str name)
{
    uint64_t hash = hash_str(name);
    return cluster_bucket_find(t->buckets[cluster_table_bucket(hash)], hash, name);
}
