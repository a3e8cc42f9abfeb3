/* A HealthCheck message compiled: when a host is checked, how, and what follows from the outcome.
 * Immutable, part of a struct cluster_config. Main thread. */
#pragma once

#include "cluster/cluster.h"
#include "cluster/event_log.h"

struct cluster_compile_env;
struct health_probe_kinds;
struct health_probe_ops;

enum health_kind { HEALTH_HTTP, HEALTH_TCP, HEALTH_GRPC };

struct health_payloads { /* bytes to be found in an answer, in this order */
    const struct str *v;
    size_t n;
};

struct health_config {
    enum health_kind kind;
    const struct health_probe_ops *probe;
    const struct health_probe_kinds *kinds;
    void *special; /* what the probe's own compile function made; NULL for TCP */
    uint64_t timeout_ms, interval_ms, initial_jitter_ms, interval_jitter_ms;
    uint32_t interval_jitter_per_cent;
    uint32_t unhealthy_threshold, healthy_threshold;
    uint64_t no_traffic_ms, no_traffic_healthy_ms;
    uint64_t unhealthy_ms, unhealthy_edge_ms, healthy_edge_ms;
    uint32_t alt_port; /* 0: the endpoint's */
    bool reuse;
    bool log_failures, log_successes;
    struct event_log log;
    const struct str *alpn; /* tls_options; in place of the transport's */
    size_t num_alpn;
    bool has_transport;             /* transport_socket_match_criteria chose one, */
    uint32_t transport;             /* of cluster_config.transports */
    struct str send;                /* TCP */
    struct health_payloads receive; /* TCP */
    uint64_t hash;                  /* of the whole message: equal ones check alike */
};

/* health_config_compile compiles the list Cluster.health_checks (messages HealthCheck) into the
 * cluster being compiled, after its transports. NULL without any, or after errors. It goes with
 * out's arena after health_config_release. */
struct health_config *health_config_compile(void *const *msgs, size_t n,
                                            const struct cluster_compile_env *env,
                                            struct cluster_config *out, struct arena *scratch,
                                            struct errors *e);

/* health_config_release gives back what is not in the arena; NULL is fine. */
void health_config_release(struct health_config *c);

/* health_payload_compile reads a Payload message into arena a; empty after an error. */
struct str health_payload_compile(const void *msg, struct arena *a, struct errors *e);

/* health_payloads_compile reads a list of them, below `field`. */
struct health_payloads health_payloads_compile(void *const *msgs, size_t n, const char *field,
                                               struct arena *a, struct errors *e);

/* health_payloads_match says whether `text` holds all of them, each behind the one before. */
bool health_payloads_match(const struct health_payloads *p, struct str text);
