/* Host: one upstream endpoint of a cluster, matched by address across updates so that it keeps its
 * state. Made on main (those of ORIGINAL_DST by a worker) and freed there; counted references from
 * host sets, pools and requests; the mutable fields are relaxed atomics on lines of their own,
 * shared by all workers.
 *
 * Host set: the immutable list of a cluster's hosts with what the balancers look at, built by main
 * for every change of membership, weight or health and published as a whole. */
#pragma once

#include "base/addr.h"
#include "base/arena.h"
#include "cluster/lb_table.h"
#include "cluster/reclaim.h"
#include <stdatomic.h>

struct cluster_state;
struct host_subsets;
struct labels;
struct subset_config;

enum { /* why a host is not healthy; several may hold */
       HOST_FAILED_ACTIVE_HC = 1,
       HOST_FAILED_OUTLIER = 2,
       HOST_FAILED_EDS = 4, /* UNHEALTHY, TIMEOUT */
       HOST_DEGRADED_EDS = 8,
       HOST_DEGRADED_ACTIVE_HC = 0x10,
       HOST_DRAINING_EDS = 0x200, /* DRAINING: it is meant to go, which is no reason for panic */
       /* More about it, that makes it neither healthy nor not: */
       HOST_PENDING_REMOVAL = 0x20,   /* no longer listed, but it passes its checks */
       HOST_PENDING_ACTIVE_HC = 0x40, /* not checked yet, and not to count until it is */
       HOST_EXCLUDED = 0x80,    /* it asked to be left out: x-envoy-immediate-health-check-fail */
       HOST_HC_TIMEOUT = 0x100, /* FAILED_ACTIVE_HC for want of an answer */
};

enum {
    HOST_UNHEALTHY = HOST_FAILED_ACTIVE_HC | HOST_FAILED_OUTLIER | HOST_FAILED_EDS |
                     HOST_DRAINING_EDS,
    HOST_DEGRADED = HOST_DEGRADED_EDS | HOST_DEGRADED_ACTIVE_HC,
    HOST_NOT_COUNTED = HOST_PENDING_ACTIVE_HC | HOST_EXCLUDED |
                       HOST_DRAINING_EDS, /* in priorities and panic */
};

struct host_info { /* what a host is; views are copied by host_new */
    struct addr addr;
    struct str hostname;
    struct str region, zone, sub_zone;
    uint32_t transport_index; /* which transport_socket_match applies; see cluster.h */
    struct addr hc_addr;      /* where it is checked */
    struct str hc_hostname;   /* what it is then called; empty: what the health check says */
    bool hc_disabled;         /* it is not checked */
    const struct addr *more;  /* additional_addresses: the same host (happy eyeballs) */
    uint32_t num_more;
};

struct outlier_host { /* of hosts that are or were ejected; main thread */
    struct list link;
    struct host *host;   /* referenced */
    uint64_t ejected_ms; /* when it was ejected last */
    uint64_t jitter_ms;  /* of the present ejection */
    uint64_t changed_us; /* when it was ejected or taken back last; wall clock */
    uint32_t ejections;
    uint32_t count; /* of base_ejection_time; shrinks again while it behaves */
    bool ejected;
};

/* Requests and successes of an interval: 32 bits each, in one, so that main takes both at once. */
#define HOST_RATE_REQUEST (1ULL << 32)

struct host {
    struct reclaim reclaim;
    struct addr addr;
    struct str address_text; /* "10.0.0.1:80", as %UPSTREAM_HOST% */
    struct str hostname;
    struct str region, zone, sub_zone;
    uint32_t transport_index;
    struct addr *more; /* additional addresses; NULL: none */
    uint32_t num_more;
    char *text;                  /* backs the views */
    struct cluster_state *state; /* whose host it is; valid on main while the host is not removed */
    struct addr hc_addr;
    struct str hc_hostname;
    bool hc_disabled;
    struct outlier_host *outlier;          /* main thread; NULL: was never ejected */
    struct health_session *health_session; /* main thread; NULL: not checked */
    double success_rate[2]; /* main thread: of the last interval, per cent; -1: not known; of
                               answers, and of what began here */

    /* main thread only: the balancers look at the host set's copies */
    uint32_t weight, priority;
    uint32_t eds_health;   /* envoy.config.core.v3.HealthStatus, as sent */
    uint32_t mark;         /* scratch of load_assignment.c */
    struct labels *labels; /* metadata "envoy.lb"; owned; NULL: none */

    char apart[64];          /* what workers write is on cache lines of its own */
    _Atomic uint32_t health; /* HOST_* set; 0 healthy */
    _Atomic uint64_t
        slow_from_ms;     /* loop_now_ms: it came, or passed its active health check again */
    _Atomic bool removed; /* no longer a member: pools close what is idle */
    _Atomic uint32_t cx_active, rq_active, rq_pending_active;
    _Atomic uint64_t cx_total, cx_connect_fail, rq_total, rq_success, rq_error, rq_timeout;
    _Atomic uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
    _Atomic uint32_t outlier_reported; /* bit per outlier_kind: on its way to main */
    _Atomic uint64_t rate[2];          /* HOST_RATE_REQUEST; as success_rate */
    _Atomic bool checked;              /* it has a health_session */
    _Atomic bool fail_reported;        /* it asked to be left out; on its way to main */
};

/* host_new makes a host with one reference, the caller's. home NULL: freed by who lets go last. */
struct host *host_new(const struct reclaim_home *home, const struct host_info *info) WARN_UNUSED;

/* host_ref and host_unref: any thread. The last unref frees through main; NULL is fine. */
struct host *host_ref(struct host *h);
void host_unref(struct host *h);

/* host_set_labels takes a copy of the labels (NULL: none) if they are others than the host has;
 * true if so. Main thread. */
bool host_set_labels(struct host *h, const struct labels *l);

/* host_is says whether the host was made from equal info, so that it can stay. */
bool host_is(const struct host *h, const struct host_info *info);

/* host_set_flag and host_clear_flag change one HOST_* flag; true if that changed the host. Main
 * thread; the host set must be built again to make it count. */
bool host_set_flag(struct host *h, uint32_t flag);
bool host_clear_flag(struct host *h, uint32_t flag);

/* host_healthy says whether the balancer may prefer it. Any thread. */
static inline bool host_healthy(const struct host *h)
{
    return (atomic_load_explicit(&h->health, memory_order_relaxed) & HOST_UNHEALTHY) == 0;
}

/* --- host sets ----------------------------------------------------------------------------- */

enum host_list_kind { HOSTS_ALL, HOSTS_HEALTHY, HOSTS_DEGRADED, NUM_HOST_LISTS };

/* Hosts to pick from. Its id is dense over the set: balancers keep state a list. */
struct host_list {
    struct host **hosts;
    const uint32_t *weights; /* NULL: all equal */
    uint32_t num;
    uint32_t id;
};

struct host_locality { /* only with locality weights */
    uint32_t weight;
    double effective[NUM_HOST_LISTS]; /* weight times availability; [HOSTS_ALL] unused */
    struct host_list lists[NUM_HOST_LISTS];
};

/* What a hash chooses from: the hosts of the list in force, healthy or all, and their table. */
struct host_table {
    struct host **hosts;
    const double *weights; /* all of them together: 1 */
    uint32_t num;
    struct lb_table *table;
};

struct host_priority {
    struct host_list lists[NUM_HOST_LISTS];
    struct host_locality *localities; /* NULL: the lists are not divided */
    uint32_t num_localities;
    uint8_t load[NUM_HOST_LISTS];    /* per cent of the requests that its healthy and its degraded
                                        hosts get; [HOSTS_ALL] unused */
    uint64_t weight[NUM_HOST_LISTS]; /* sums of the lists' weights */
    uint32_t num_excluded;           /* HOST_NOT_COUNTED */
    uint64_t excluded_weight;
    bool panic;             /* too few healthy: all hosts are used */
    struct host_table hash; /* only with spec.table */
};

struct host_set {
    struct reclaim reclaim;
    struct host **hosts; /* all, priority by priority; referenced */
    uint32_t num_hosts;
    uint32_t *priority_start;  /* num_priorities + 1 offsets into hosts */
    uint32_t num_priorities;   /* at least 1 */
    uint32_t overprovisioning; /* per cent, 140 by default */
    struct host_priority *priorities;
    uint32_t num_lists;
    bool weighted_health;
    uint32_t num_healthy, num_degraded, num_excluded;
    uint32_t max_weight;
    uint32_t membership;          /* another number, other members */
    uint32_t drop_ppm;            /* drop_overloads: so many requests in a million are refused */
    struct host_subsets *subsets; /* lb_subset.h; NULL: not divided */
    struct arena arena;
};

/* What a host set is made from: hosts in groups of one priority and locality. Borrowed. */
struct host_group {
    uint32_t priority;
    uint32_t locality_weight; /* 0: none */
    struct host **hosts;
    uint32_t num_hosts;
};

struct host_set_spec {
    const struct host_group *groups; /* in order of priority */
    uint32_t num_groups;
    uint32_t overprovisioning; /* 0: 140 */
    uint32_t panic_per_cent;   /* below so many healthy per cent all hosts are used; 0 never */
    bool locality_weighted;
    bool weighted_health; /* a priority's health is that of its weights, not of its hosts */
    uint32_t membership;
    uint32_t drop_ppm;
    const struct lb_table_config *table; /* NULL: none is needed */
    const struct subset_config *subsets; /* NULL: not divided */
};

enum { HOST_OVERPROVISIONING = 140, HOST_PRIORITY_MAX = 128 };

/* host_set_new builds a set with one reference, the caller's, from the hosts' weights and their
 * health as it is now; it references the hosts. Main thread. */
struct host_set *host_set_new(const struct reclaim_home *home,
                              const struct host_set_spec *spec) WARN_UNUSED;

/* host_set_step goes on building the tables of a set that was made with spec.table, until the
 * budget (lb_table_step) is used up; true when the set is fit to be used. The hosts' hostnames and
 * labels must not change before. Main thread. */
bool host_set_step(struct host_set *s, uint64_t *budget) WARN_UNUSED;

/* host_set_find returns the member of that address, NULL: none. Costs a comparison a member. Any
 * thread. */
struct host *host_set_find(const struct host_set *s, const struct addr *addr);

/* host_set_ref and host_set_unref: any thread; NULL is fine. */
struct host_set *host_set_ref(struct host_set *s);
void host_set_unref(struct host_set *s);
