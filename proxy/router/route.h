/* Route tables: RouteConfiguration compiled to an immutable, shared, reference-counted object, and
 * the choice of a route for a request. Main compiles; workers match. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "base/refcount.h"
#include "base/regex.h"
#include "cluster/circuit.h"
#include "proxy/http/headers.h"
#include "proxy/observe/format.h"
#include "proxy/router/policies.h"

struct headers_mutation; /* compiled header add/remove of one level */
struct http_filter_env;
struct http_filter_overrides;

enum route_action { ROUTE_FORWARD, ROUTE_REDIRECT, ROUTE_DIRECT, ROUTE_NON_FORWARDING };

struct weighted_cluster {
    struct str name;
    uint32_t weight;
    struct headers_mutation *request, *response;
    struct str host_rewrite; /* empty: none */
    struct http_filter_overrides *filters;
};

struct route {
    struct str name;
    struct vhost *vhost;
    enum route_action action;
    /* FORWARD */
    struct str cluster; /* empty: weighted or by header */
    const struct weighted_cluster *weighted;
    size_t num_weighted;
    uint64_t total_weight;
    struct str cluster_header;       /* lower case; empty: none */
    unsigned cluster_not_found_code; /* 503 */
    enum priority priority;
    bool has_timeout;
    uint64_t timeout_ms; /* 15 s; 0: none */
    bool has_idle_timeout;
    uint64_t idle_timeout_ms; /* overrides stream_idle_timeout */
    bool has_max_stream_duration;
    uint64_t max_stream_duration_ms;
    /* Of the route, or of its virtual host where it has none; NULL: none. */
    const struct retry_policy *retry;
    const struct hedge_policy *hedge;
    struct mirrors mirrors;
    const struct internal_redirects *redirects;
    bool has_body_limit; /* request_body_buffer_limit, per_request_buffer_limit_bytes */
    uint64_t body_limit;
    bool own_durations; /* max_stream_duration is there: `timeout` is then without effect */
    bool has_max_grpc_timeout;
    uint64_t max_grpc_timeout_ms, old_grpc_timeout_offset_ms;
    bool timeout_retry_header; /* include_is_timeout_retry_header */
    struct str decorator;
    struct headers_mutation *request, *response;
    struct http_filter_overrides *filters;
    bool attempt_count;          /* of the virtual host: include_request_attempt_count */
    bool attempt_count_response; /* include_attempt_count_in_response */
    /* REDIRECT and DIRECT */
    struct redirect *redirect;
    unsigned direct_status;
    struct str direct_body;
};

struct route_table {
    struct refcount ref;
    struct arena *arena;
    struct str name;
    struct str version;
    /* the rest is private to router/ */
    struct vhost_index *index;
    bool ignore_port;
    struct headers_mutation *request, *response;
    struct mirrors mirrors;
    struct http_filter_overrides *filters;
    const char **internal_only; /* internal_only_headers */
    size_t num_internal_only;
    bool most_specific_wins;
};

struct route_compile_options { /* what a RouteConfiguration may refer to; may be NULL */
    bool (*cluster_known)(void *arg, struct str name); /* validate_clusters */
    void *arg;
    bool validate_clusters;        /* where the table does not say: true for one that is inline */
    const struct compile_env *env; /* for per-route configurations of filters; never NULL then */
};

/* route_table_compile compiles an unpacked envoy.config.route.v3.RouteConfiguration; NULL after
 * errors. One reference, the caller's. Main. */
struct route_table *route_table_compile(const void *msg, const struct route_compile_options *opts,
                                        struct errors *e);

/* route_table_ref and route_table_unref: any thread; the last unref may be on a worker: freeing an
 * immutable arena is allowed on any thread. */
struct route_table *route_table_ref(struct route_table *t);
void route_table_unref(struct route_table *t);

/* route_filter_overrides gives the typed_per_filter_config of the levels that have one, the least
 * specific first: table, virtual host, route, weighted cluster (NULL is fine). Returns how many. */
size_t route_filter_overrides(const struct route_table *t, const struct route *r,
                              const struct weighted_cluster *w,
                              const struct http_filter_overrides *out[4]);

struct route_match_input {
    const struct headers *headers; /* with authority and path (query included) */
    uint64_t random; /* one number a stream: runtime_fraction and weighted clusters are stable on
                        retries */
    struct str sni;
    bool tls;
};

/* route_match finds the route of a request, or NULL: none (404, flag NR). Borrowed from the table.
 * `a` is scratch. Domains: exact, suffix wildcard, prefix wildcard, "*"; the longest wins
 * (RouteConfiguration.virtual_hosts). */
const struct route *route_match(const struct route_table *t, const struct route_match_input *in,
                                struct arena *a);

/* route_cluster_name chooses the cluster: fixed, weighted (by in->random) or from the header;
 * empty: none found. *out_weighted is the entry chosen, or NULL. */
struct str route_cluster_name(const struct route *r, const struct route_match_input *in,
                              const struct weighted_cluster **out_weighted);

/* route_rewrite_request applies prefix, regex and host rewrites and the header changes of every
 * level (route, virtual host, table, as most_specific_wins says) to a request about to be sent.
 * `tell`: x-envoy-original-path and x-envoy-original-host say what they were. */
void route_rewrite_request(const struct route_table *t, const struct route *r,
                           const struct weighted_cluster *w, bool tell, struct headers *h,
                           struct stream_info *si);

/* route_rewrite_response applies the response header changes of every level. */
void route_rewrite_response(const struct route_table *t, const struct route *r,
                            const struct weighted_cluster *w, struct headers *h,
                            const struct stream_info *si);

/* route_redirect_location builds the Location for a redirect route. */
struct str route_redirect_location(const struct route *r, const struct headers *h, bool tls,
                                   struct arena *a, unsigned *out_status);
