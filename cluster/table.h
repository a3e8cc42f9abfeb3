/* The published clusters: an immutable hash table from names to nodes, shared by all threads. A
 * change copies the bucket it falls into and the row of buckets; everything else is shared with the
 * table before, so ten thousand clusters cost no more to publish than ten, and a worker sees which
 * buckets changed by comparing pointers. Built on main; read anywhere. */
#pragma once

#include "cluster/cluster.h"

/* What stays the same over updates of a cluster. Shared by the workers; freed on main. */
struct cluster_state {
    struct reclaim reclaim;
    struct str stat_name; /* of the first configuration; in `stats` */
    struct circuit circuit;
    struct stats_scope *stats;
    struct stats_scope *tls_stats;     /* made by who needs them; freed with the state */
    struct stats_scope *outlier_stats; /* NULL: never had outlier detection */
    struct stats_scope *dns_stats;     /* NULL: never was a DNS cluster */
    struct stats_scope *ring_stats, *maglev_stats; /* NULL: never was that policy */
    struct stats_scope *health_stats;              /* NULL: never had health checks */
    struct outlier *outlier;      /* main thread; NULL: none, or the cluster is removed */
    const struct host_set *hosts; /* main thread: those published last, for statistics */
    uint32_t membership_change, update_no_rebuild, assignment_stale; /* main thread, statistics */
    bool warming;                                                    /* main thread */
    bool track_remaining[2];
};

struct cluster_node {
    struct reclaim reclaim;
    uint64_t hash;                 /* of the name */
    struct cluster_config *config; /* these three referenced */
    struct host_set *hosts;
    struct cluster_state *state;
};

/* Addresses this process listens on, for the loop guard. */
struct own_listeners {
    struct reclaim reclaim;
    uint64_t generation; /* 1 and up: another number, another list */
    uint32_t num;
    struct addr addrs[];
};

struct cluster_bucket {
    struct reclaim reclaim;
    uint32_t num;
    struct cluster_node *nodes[];
};

enum { CLUSTER_BUCKETS = 512 };

struct cluster_table {
    struct reclaim reclaim;
    struct own_listeners *own;
    struct cluster_bucket *buckets[CLUSTER_BUCKETS]; /* NULL: empty */
};

/* cluster_state_new makes the state of a name, with one reference. Main. */
struct cluster_state *cluster_state_new(const struct reclaim_home *home,
                                        const struct cluster_config *config);
struct cluster_state *cluster_state_ref(struct cluster_state *s);
void cluster_state_unref(struct cluster_state *s);

/* cluster_state_table_stats makes the statistics of the policy's hash table, once. Main. */
void cluster_state_table_stats(struct cluster_state *s, const struct cluster_config *config);

/* cluster_node_new makes a node from references it takes itself; one reference for the caller. */
struct cluster_node *cluster_node_new(const struct reclaim_home *home,
                                      struct cluster_config *config, struct host_set *hosts,
                                      struct cluster_state *state);
struct cluster_node *cluster_node_ref(struct cluster_node *n);
void cluster_node_unref(struct cluster_node *n);

/* cluster_table_new makes an empty table. */
struct cluster_table *cluster_table_new(const struct reclaim_home *home);
struct cluster_table *cluster_table_ref(struct cluster_table *t);
void cluster_table_unref(struct cluster_table *t);

/* cluster_table_copy makes a table that shares everything with t, to be changed by the next two. */
struct cluster_table *cluster_table_copy(const struct cluster_table *t);

/* cluster_table_put and cluster_table_remove change a table that is not yet published. put
 * references the node, in place of one of the same name. */
void cluster_table_put(struct cluster_table *t, struct cluster_node *n);
void cluster_table_remove(struct cluster_table *t, struct str name);

/* cluster_table_set_own replaces the own listeners (copied). */
void cluster_table_set_own(struct cluster_table *t, const struct addr *addrs, uint32_t num);

/* cluster_table_find returns the node of a name, borrowed from the table, or NULL. */
struct cluster_node *cluster_table_find(const struct cluster_table *t, struct str name);

/* cluster_bucket_find the same in the bucket of that hash. */
struct cluster_node *cluster_bucket_find(const struct cluster_bucket *b, uint64_t hash,
                                         struct str name);

/* cluster_table_bucket says which bucket a hash falls into. */
static inline unsigned cluster_table_bucket(uint64_t hash)
{
    return (unsigned)(hash % CLUSTER_BUCKETS);
}
