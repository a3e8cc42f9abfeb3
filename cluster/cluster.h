/* Clusters: the compiled configuration (immutable, shared), the state that outlives an update
 * (named: breakers, outlier state, statistics) and each worker's own view (pools, balancer), made
 * on first use.
 *
 * Main: struct clusters accepts Cluster and ClusterLoadAssignment resources, warms and publishes
 * them. Worker: struct worker_clusters finds a cluster by name. Threads meet by mailbox only. */
#pragma once

#include "base/addr.h"
#include "base/errors.h"
#include "base/loop.h"
#include "base/mailbox.h"
#include "base/stats.h"
#include "cluster/circuit.h"
#include "cluster/host.h"
#include "tls/transport.h"

enum cluster_type { CLUSTER_STATIC, CLUSTER_EDS, CLUSTER_ORIGINAL_DST };
enum lb_policy { LB_ROUND_ROBIN, LB_LEAST_REQUEST, LB_RANDOM, LB_CLUSTER_PROVIDED };

/* What a Cluster message was compiled to. Immutable; reference counted; freed on main. */
struct cluster_config {
    struct refcount ref;
    struct str name;
    struct str stat_name; /* alt_stat_name without its trailing delimiter handling, or name */
    enum cluster_type type;
    enum lb_policy lb_policy;
    uint64_t connect_timeout_ms;
    uint64_t idle_timeout_ms; /* of pooled connections; default 1 h, 0 none */
    uint64_t max_connection_duration_ms;
    uint32_t max_requests_per_connection; /* 0: no limit */
    size_t buffer_limit;
    bool has_bind;
    struct addr bind; /* upstream_bind_config.source_address */
    bool keepalive;
    uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes;
    bool use_http_header; /* original_dst_lb_config */
    uint32_t upstream_port_override;
    uint64_t cleanup_interval_ms;
    uint32_t healthy_panic_per_cent;
    uint32_t choice_count;
    bool http2; /* explicit_http_config.http2_protocol_options; refused until it is implemented */
    struct transport_factory **transports; /* [0] the default; the rest: transport_socket_matches */
    uint32_t num_transports;
    struct circuit_limits limits[2]; /* by enum priority */
    struct outlier_config *outlier;  /* NULL: none */
    uint64_t connection_hash; /* of what a live connection depends on: pools survive an update
                                 that leaves it as it was */
};

struct clusters;        /* main */
struct worker_clusters; /* one a worker */

/* One worker's view of one cluster. Held (cluster_hold) by streams, pool waiters and retries; a
 * removed cluster lives until the last one lets go. */
struct cluster {
    uint32_t magic;
    struct worker_clusters *owner;
    const struct cluster_config *config;
    struct host_set *hosts;
    struct circuit *circuit;   /* shared by the workers, both priorities */
    struct stats_scope *stats; /* "cluster.<name>." */
    struct lb *lb;
    struct pools *pools;
    uint32_t holds;
    bool removed;
};

/* worker_clusters_find returns the worker's cluster of that name, made from the published
 * configuration on first use, or NULL: unknown (flag NC). Not held. */
struct cluster *worker_clusters_find(struct worker_clusters *w, struct str name);

/* cluster_hold and cluster_release: while a request, a waiter or a retry needs it. */
void cluster_hold(struct cluster *c);
void cluster_release(struct cluster *c);

struct lb_request { /* what a balancer may look at; borrowed for the call */
    uint64_t hash;
    bool has_hash;
    const struct addr *original_dst; /* ORIGINAL_DST: where the downstream connection was going */
    struct host *const *tried;       /* previous_hosts: pass these by */
    size_t num_tried;
    unsigned max_tries; /* host_selection_retry_max_attempts + 1 */
};

/* cluster_pick chooses a host, with a reference for the caller, or NULL: none healthy (flag UH).
 * For ORIGINAL_DST the host is made on the fly; an address that would come straight back to a
 * listener of this process is refused (loop guard). */
struct host *cluster_pick(struct cluster *c, const struct lb_request *rq);

/* cluster_count_response feeds outlier detection and the host's counters with the outcome of a try:
 * an HTTP status, or 0 with `local` set for connect failure, timeout, reset. */
enum host_outcome {
    OUTCOME_STATUS,         /* status holds the HTTP status */
    OUTCOME_CONNECT_FAILED, /* local origin */
    OUTCOME_CONNECT_TIMEOUT,
    OUTCOME_TIMEOUT, /* request timed out */
    OUTCOME_RESET,
    OUTCOME_TCP_OK,
};
void cluster_count_outcome(struct cluster *c, struct host *h, enum host_outcome o, unsigned status);
