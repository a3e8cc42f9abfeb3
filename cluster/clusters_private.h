/* The inside of struct clusters, for clusters.c (all of them), cluster_entry.c (one, and its
 * warming) and clusters_admin.c (who asks). Main thread. */
#pragma once

#include "base/map.h"
#include "cluster/clusters.h"
#include "cluster/dns_hosts.h"
#include "cluster/health.h"
#include "cluster/membership.h"

enum { CLUSTER_ENTRY_MAGIC = 0x434c4e54, CLUSTER_VERSION_MAGIC = 0x434c5652 };

enum clusters_phase {
    CLUSTERS_LOADING,   /* the bootstrap is being read */
    CLUSTERS_PRIMARY,   /* waits for static clusters of fixed endpoints */
    CLUSTERS_SECONDARY, /* EDS and CDS run; waits for them */
    CLUSTERS_READY,
};

/* One version of a cluster: warming, then active. */
struct cluster_version {
    uint32_t magic;
    struct cluster_entry *entry;
    struct cluster_config *config; /* referenced */
    struct str version;            /* owned */
    uint64_t updated_us;
    struct subscription *eds;
    struct dns_hosts *dns;              /* NULL: no DNS cluster */
    struct load_assignment *assignment; /* referenced; NULL: none */
    bool started;
    bool endpoints_settled;       /* they are there, or will not come for now */
    struct transport_wait *waits; /* per transport */
    uint32_t num_waiting;
    struct timer stale; /* endpoint_stale_after */
};

struct transport_wait { /* what a transport's `settled` is told */
    struct cluster_version *version;
    bool waiting;
};

struct cluster_entry {
    uint32_t magic;
    struct clusters *owner;
    struct str name; /* owned */
    bool is_static, removed;
    struct cluster_state *state;              /* referenced; from the first activation on */
    struct cluster_version *active, *warming; /* NULL: none */
    struct membership members;
    struct host_set *hosts;         /* referenced: published last */
    struct host_set *next;          /* its tables are being built; NULL: none */
    bool rebuild;                   /* hosts is out of date */
    bool others;                    /* members came or went before the first activation */
    struct health_checker *checker; /* NULL: no health checks, or not warm enough for them */
    struct task checked_task;       /* every host has been checked once */
    struct list dirty_link;         /* has something to publish */
};

struct clusters {
    struct loop *loop;
    struct xds *xds;
    struct resolver *resolver; /* NULL: not needed yet */
    struct reclaim_home home;
    struct clusters_options opts;
    struct map entries; /* struct cluster_entry */
    struct stats_scope *stats;
    struct cluster_table *table; /* referenced: published last */
    struct worker_clusters **workers;
    size_t num_workers, cap_workers;
    struct list dirty;
    struct list unfinished; /* of the present publication: their host sets are not built yet */
    struct health_budget health;
    struct task publish_task, init_task;
    struct addr *own; /* to be published with the next table; NULL: as before */
    size_t num_own;
    bool own_changed;

    enum clusters_phase phase;
    bool compiling_static, cds_wanted, cds_settled;
    struct xds_source cds; /* its text is in the arena */
    struct arena arena;
    uint32_t num_active, num_warming;
    uint32_t num_first_primary; /* not fit to be used yet: fixed endpoints */
    uint32_t num_first;         /* the same, all of them */
    void (*initialized)(void *arg);
    void *initialized_arg;
};

/* entry_apply puts a new version into the place of the warming one, if any, and begins to warm it.
 */
void entry_apply(struct cluster_entry *e, struct cluster_config *config, struct str version);

/* entry_remove takes the cluster out; the entry itself goes with the next publication. entry_free
 * frees it. */
void entry_remove(struct cluster_entry *e);
void entry_free(struct cluster_entry *e);

/* entry_init_health prepares a new entry's health checks. */
void entry_init_health(struct cluster_entry *e);

/* entry_start begins what a version waits for, once. */
void entry_start(struct cluster_version *v);

/* entry_build makes the host set to publish, if the members, their health or the configuration
 * changed since, and keeps it in e->hosts. False: a large one of a cluster that has hosts already
 * takes more than one call, and nothing is published before. */
bool entry_build(struct cluster_entry *e);

/* clusters_dirty has e published at the end of this iteration. */
void clusters_dirty(struct cluster_entry *e);

/* clusters_counted shows the numbers of active and warming clusters and goes on with
 * initialization. */
void clusters_counted(struct clusters *c);
