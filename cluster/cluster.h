/* Clusters: the compiled configuration (immutable, shared), the state that outlives an update
 * (named: breakers, outlier state, statistics) and each worker's own view (pools, balancer), made
 * on first use.
 *
 * Main: struct clusters (clusters.h) accepts Cluster and ClusterLoadAssignment resources, warms and
 * publishes them. Worker: struct worker_clusters finds a cluster by name. Threads meet by mailbox
 * only. */
#pragma once

#include "base/addr.h"
#include "base/errors.h"
#include "base/loop.h"
#include "base/mailbox.h"
#include "base/stats.h"
#include "cluster/circuit.h"
#include "cluster/cluster_stats.h"
#include "cluster/host.h"
#include "cluster/http1_options.h"
#include "cluster/http2_options.h"
#include "tls/transport.h"

enum cluster_type {
    CLUSTER_STATIC,
    CLUSTER_EDS,
    CLUSTER_ORIGINAL_DST,
    CLUSTER_STRICT_DNS,
    CLUSTER_LOGICAL_DNS
};
enum lb_policy {
    LB_ROUND_ROBIN,
    LB_LEAST_REQUEST,
    LB_RANDOM,
    LB_CLUSTER_PROVIDED,
    LB_RING_HASH,
    LB_MAGLEV,
};

/* What HTTP speaks to the hosts (HttpProtocolOptions). */
enum upstream_http {
    UPSTREAM_HTTP1,
    UPSTREAM_HTTP2,      /* explicit_http_config.http2_protocol_options */
    UPSTREAM_DOWNSTREAM, /* use_downstream_protocol_config: what the client speaks */
    UPSTREAM_AUTO,       /* auto_config: what ALPN chooses */
};

/* A host that is new, or is healthy again, gets its share over a time (slow_start_config). */
struct slow_start {
    uint64_t window_ms;
    double aggression; /* the share grows with time to the power of 1 / aggression */
    double least;      /* of the weight, from the first moment on */
};

/* A control plane that a cluster depends on. */
struct cluster_need {
    const struct cluster_need *next;
    bool ads;           /* the aggregated stream, */
    struct str cluster; /* or a stream over this cluster */
};

/* What a Cluster message was compiled to. Immutable; reference counted; freed on main. */
struct cluster_config {
    struct reclaim reclaim;
    struct arena arena;
    struct str name;
    struct str stat_name; /* alt_stat_name, or name */
    enum cluster_type type;
    enum lb_policy lb_policy;
    uint64_t connect_timeout_ms;
    uint64_t idle_timeout_ms;             /* of pooled connections; default 1 h, 0 none */
    uint64_t max_connection_duration_ms;  /* 0: none */
    uint32_t max_requests_per_connection; /* 0: no limit */
    double preconnect_ratio;              /* connections for each request; 1 or less: no more */
    size_t buffer_limit;
    const struct cluster_bind *bind; /* upstream_bind_config; NULL: none */
    int first_family;     /* happy_eyeballs_config: AF_INET, AF_INET6, 0: the address's own */
    uint32_t first_count; /* so many of it before the other family has its turn */
    bool keepalive;
    uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes;
    bool use_http_header;            /* original_dst_lb_config */
    struct str http_header_name;     /* lower case; "x-envoy-original-dst-host" by default */
    uint32_t upstream_port_override; /* 0: none */
    uint64_t cleanup_interval_ms;
    uint32_t healthy_panic_per_cent;
    bool locality_weighted;
    bool close_on_host_set_change;
    bool close_on_health_failure;
    uint32_t choice_count;               /* least request: of so many hosts, */
    bool full_scan;                      /* or of all */
    double active_bias;                  /* active_request_bias */
    const struct slow_start *slow_start; /* NULL: hosts get all of their share at once */
    const struct lb_table_config *table; /* ring hash, Maglev; else NULL */
    const struct subset_config *subsets; /* lb_subset_config; NULL: none */
    uint32_t balance_factor;             /* hash_balance_factor; 0: no bound */
    enum upstream_http http;
    struct http1_options http1;
    struct http2_options http2_options;
    void *http_filters; /* struct http_filter_list of each try; NULL: the router's */
    const struct cluster_filter_ops *filter_ops; /* what gives them back */
    uint64_t max_stream_ms;                      /* of a request to a host; 0: none */
    uint32_t max_headers_count;                  /* of a response; 0: the codec's default */
    uint32_t max_headers_kb;                     /* the same */
    struct transport_factory **transports; /* [0] the default; the rest: transport_socket_matches;
                                              NULL entries are raw_buffer */
    uint32_t num_transports;
    const struct transport_match *matches; /* num_transports - 1 */
    bool proxy_header;                     /* a transport says where a connection is from, */
    bool proxy_tlv_key;                    /* and pools are kept apart by its TLVs too */
    struct circuit_limits limits[2];       /* by enum priority */
    struct outlier_config *outlier;        /* NULL: none */
    struct health_config *health;          /* NULL: no active checks */
    bool remove_despite_health;            /* ignore_health_on_host_removal */
    bool exclude_unchecked;                /* ignore_new_hosts_until_first_hc */
    uint64_t connection_hash; /* of what a live connection depends on: pools survive an update that
                                 leaves it as it was */
    struct load_assignment *assignment; /* STATIC: the inline one; DNS: its names; else NULL */
    const struct dns_config *dns;       /* DNS; else NULL */
    const struct xds_source *eds;       /* EDS: where from */
    struct str eds_name;                /* EDS: service_name, or name */
    const struct cluster_need *needs;   /* what it waits for from control planes */
    struct str metadata; /* serialised envoy.config.core.v3.Metadata; empty if none */
};

/* cluster_config_ref and cluster_config_unref: any thread; NULL is fine. Who keeps config beyond
 * the present event needs a reference: an update replaces cluster->config between two events. */
struct cluster_config *cluster_config_ref(struct cluster_config *c);
void cluster_config_unref(struct cluster_config *c);

struct dns_config;
struct cluster_bind;
struct load_assignment;
struct transport_match;
struct xds_source;

struct cluster_state; /* main and shared */
struct cluster_node;  /* what is published: configuration, hosts, state */
struct cluster_table; /* all of them */
struct clusters;      /* main */
struct worker_clusters;

/* One worker's view of one cluster. Held (cluster_hold) by streams, pool waiters and retries; a
 * removed cluster lives until the last one lets go. */
struct cluster {
    uint32_t magic;
    struct worker_clusters *owner;
    struct loop *loop;
    unsigned thread; /* index of this worker in stats */
    const struct cluster_config *config;
    struct host_set *hosts;
    struct circuit *circuit;   /* shared by the workers, both priorities */
    struct stats_scope *stats; /* "cluster.<name>.", cluster_stats.h */
    struct lb *lb;
    struct pools *pools;
    struct original_dst *original_dst; /* CLUSTER_ORIGINAL_DST only */
    uint32_t holds;
    bool removed;              /* or the worker ends */
    bool ending;               /* its pools are being freed */
    struct cluster_node *node; /* referenced: what config, hosts, circuit and stats belong to */
    struct cluster *next;      /* same bucket of the owner */
    struct list link;          /* among the owner's removed ones */
    struct task free_task;
};

/* worker_clusters_new makes the clusters of one worker, empty until clusters_attach. The box is the
 * worker's own; both pointers are borrowed. Before or on the worker's thread. */
struct worker_clusters *worker_clusters_new(struct loop *l, struct mailbox *box);

/* worker_clusters_free closes every connection and frees; sets *w to NULL. After clusters_detach on
 * main. Publications that are still in the box are harmless; a cluster that is held stays until it
 * is released, with pool_cancel, cluster_release and what loop_free runs; no slot is in use any
 * more. Worker. */
void worker_clusters_free(struct worker_clusters **w);

/* worker_clusters_find returns the worker's cluster of that name, made from the published
 * configuration on first use, or NULL: unknown or not yet warm (flag NC). Not held. */
struct cluster *worker_clusters_find(struct worker_clusters *w, struct str name);

/* cluster_hold and cluster_release: while a request, a waiter or a retry needs it. The memory of a
 * removed one goes at the end of the iteration in which the last hold is released. */
void cluster_hold(struct cluster *c);
void cluster_release(struct cluster *c);

struct lb_request { /* what a balancer may look at; borrowed for the call */
    uint64_t hash;
    bool has_hash;
    const struct labels *match; /* the metadata that hosts must have, sorted; NULL: none given */
    const struct labels *const *fallbacks; /* fallback_list of it: to be tried in turn */
    uint32_t num_fallbacks;
    const struct addr *original_dst; /* ORIGINAL_DST: where the downstream connection was going */
    struct host *const *tried;       /* previous_hosts: pass these by */
    size_t num_tried;
    unsigned max_tries;            /* host_selection_retry_max_attempts + 1 */
    struct host *const *attempted; /* previous_priorities: leave the priorities of these, */
    size_t num_attempted;
    unsigned update_frequency; /* looking at so many at a time; 0: as they are */
    /* The host that a session asks for, taken if it is a member that is not unhealthy. NULL: none.
     * Not for ORIGINAL_DST. */
    const struct addr *override_host;
    bool override_strict; /* else no host at all */
};

/* cluster_pick chooses a host, with a reference for the caller, or NULL: none healthy (flag UH; the
 * caller counts upstream_cx_none_healthy). For ORIGINAL_DST the host is made on the fly; an address
 * that would come straight back to a listener of this process is refused (loop guard). */
struct host *cluster_pick(struct cluster *c, const struct lb_request *rq);

/* cluster_drops rolls the dice of the assignment's drop_overloads: whether this request is to be
 * answered 503 instead of being sent, with flag DO, or UDO when all are. Counted. Ask once a
 * request, before the first cluster_pick. */
enum cluster_drop { CLUSTER_DROP_NONE, CLUSTER_DROP_THIS, CLUSTER_DROP_ALL };
enum cluster_drop cluster_drops(struct cluster *c);

/* cluster_count_outcome feeds outlier detection and the host's counters (rq_success, rq_error,
 * rq_timeout) with the outcome of a try. `status` with OUTCOME_STATUS only. */
enum host_outcome {
    OUTCOME_STATUS,         /* status holds the HTTP status */
    OUTCOME_CONNECT_FAILED, /* local origin */
    OUTCOME_CONNECT_TIMEOUT,
    OUTCOME_TIMEOUT, /* request timed out */
    OUTCOME_RESET,
    OUTCOME_TCP_OK,
};
void cluster_count_outcome(struct cluster *c, struct host *h, enum host_outcome o, unsigned status);

/* cluster_retry_take asks the breaker for one more retry at a time (max_retries or retry_budget):
 * false: refused (upstream_rq_retry_overflow is the caller's to count). Each true needs one
 * cluster_retry_give when the retried try is over. */
static inline bool cluster_retry_take(struct cluster *c, enum priority p)
{
    return circuit_take(c->circuit, p, CIRCUIT_RETRIES);
}
static inline void cluster_retry_give(struct cluster *c, enum priority p)
{
    circuit_give(c->circuit, p, CIRCUIT_RETRIES);
}
