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

struct filter_state;
struct format_string;
struct headers_mutation; /* compiled header add/remove of one level */
struct compile_env;
struct http_filter_overrides;
struct match_tree;
struct metadata;
struct tls_peer;

/* non_forwarding_action forwards to no cluster: what no filter answers is answered with 503, NC. */
enum route_action { ROUTE_FORWARD, ROUTE_REDIRECT, ROUTE_DIRECT };

struct weighted_cluster {
    struct str name;
    struct str cluster_header; /* instead of the name; lower case */
    uint32_t weight;
    struct headers_mutation *request, *response;
    struct str host_rewrite;               /* empty: none */
    const struct metadata *metadata_match; /* the route's with its own; NULL: none */
    struct http_filter_overrides *filters; /* typed_per_filter_config; NULL: none */
};

/* What upgrade_configs says of one kind (RouteAction.UpgradeConfig). */
struct route_upgrade {
    struct str type; /* lower case: "websocket", "connect" */
    bool enabled;
    bool has_connect; /* connect_config: the router ends CONNECT and sends its payload on */
    bool allow_post;
    unsigned proxy_protocol; /* 0: no PROXY header before the payload, else its version */
};

enum hash_kind { HASH_HEADER, HASH_COOKIE, HASH_SOURCE_IP, HASH_QUERY, HASH_FILTER_STATE };

/* One entry of hash_policy. */
struct hash_policy {
    enum hash_kind kind;
    bool terminal;
    struct str name; /* of the header (lower case), cookie, parameter or key */
    const struct regex *regex;
    struct str substitution;
    bool has_ttl; /* a cookie that is missing is made */
    uint64_t ttl_s;
    struct str path, attributes; /* of that cookie; attributes as in Set-Cookie: "; a=b; c" */
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
    struct str weight_header;        /* lower case; the number in it chooses; empty: none */
    bool weight_by_hash;             /* the hash of hash_policy chooses */
    struct str cluster_header;       /* lower case; empty: none */
    struct match_tree *cluster_tree; /* a matcher chooses; NULL: none */
    unsigned cluster_not_found_code; /* 503 */
    enum priority priority;
    bool has_timeout;
    uint64_t timeout_ms; /* 15 s; 0: none */
    bool has_idle_timeout;
    uint64_t idle_timeout_ms; /* overrides stream_idle_timeout */
    bool has_max_stream_duration;
    uint64_t max_stream_duration_ms;
    bool own_durations; /* max_stream_duration is there: `timeout` is then without effect */
    bool has_grpc_timeout_max;
    uint64_t grpc_timeout_max_ms, grpc_timeout_offset_ms;
    bool has_max_grpc_timeout; /* the deprecated pair, of the route's timeout */
    uint64_t max_grpc_timeout_ms, old_grpc_timeout_offset_ms;
    const struct metadata *metadata_match; /* hosts to choose from; NULL: any */
    const struct hash_policy *hash;
    size_t num_hash;
    const struct route_upgrade *upgrades; /* of what is not here the connection manager decides */
    size_t num_upgrades;
    bool auto_host_rewrite; /* route_rewrite_host_auto once the host is chosen */
    /* Of the route, or of its virtual host where it has none; NULL: none. */
    const struct retry_policy *retry;
    const struct hedge_policy *hedge;
    struct mirrors mirrors;
    const struct internal_redirects *redirects;
    struct str decorator;
    bool decorator_propagate;
    const struct metadata *metadata; /* NULL: none */
    struct headers_mutation *request, *response;
    struct http_filter_overrides *filters; /* typed_per_filter_config; NULL: none */
    bool has_body_limit;                   /* request_body_buffer_limit, the virtual host's if the
                                              route has none */
    uint64_t body_limit;
    bool attempt_count;          /* of the virtual host: include_request_attempt_count */
    bool attempt_count_response; /* include_attempt_count_in_response */
    bool timeout_retry_header;   /* include_is_timeout_retry_header */
    /* REDIRECT and DIRECT */
    struct redirect *redirect;
    unsigned direct_status;
    struct str direct_body;
    struct format_string *direct_format; /* body_format; NULL: the body as it is */
};

struct route_table {
    struct refcount ref;
    struct arena *arena;
    struct str name;
    struct str version;
    /* the rest is private to router/ */
    struct route_inside *inside;
    bool ignore_port;
    bool ignore_path_parameters;
    struct str vhost_header; /* lower case: instead of the authority; empty: none */
    struct headers_mutation *request, *response;
    struct mirrors mirrors;
    struct http_filter_overrides *filters; /* typed_per_filter_config; NULL: none */
    struct str *internal_only;             /* internal_only_headers, lower case */
    size_t num_internal_only;
    const struct metadata *metadata; /* NULL: none */
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

struct route_match_input {
    const struct headers *headers; /* with authority and path (query included) */
    uint64_t random; /* one number a stream: runtime_fraction and weighted clusters are stable on
                        retries */
    struct str sni;
    bool tls;
    const struct tls_peer *peer;             /* NULL: plaintext */
    const struct conn_info *conn;            /* for hash_policy; NULL: unknown */
    const struct addr *remote;               /* the client, after X-Forwarded-For; NULL: unknown */
    const struct metadata *metadata;         /* dynamic metadata; NULL: none */
    const struct filter_state *filter_state; /* NULL: none */
};

/* route_match finds the route of a request, or NULL: none (404, flag NR). Borrowed from the table.
 * `a` is scratch. Domains: exact, suffix wildcard, prefix wildcard, "*"; the longest wins
 * (RouteConfiguration.virtual_hosts). */
const struct route *route_match(const struct route_table *t, const struct route_match_input *in,
                                struct arena *a);

/* route_filter_overrides gives the typed_per_filter_config of the levels that have one, the least
 * specific first: table, virtual host, route, weighted cluster (NULL is fine). Returns how many. */
size_t route_filter_overrides(const struct route_table *t, const struct route *r,
                              const struct weighted_cluster *w,
                              const struct http_filter_overrides *out[4]);

/* route_cluster_name chooses the cluster: fixed, weighted (by a header's number, by the hash, or by
 * in->random), from a header, or by a matcher; empty: none found. *out_weighted is the entry
 * chosen, or NULL. The arena of the headers is scratch. */
struct str route_cluster_name(const struct route *r, const struct route_match_input *in,
                              const struct weighted_cluster **out_weighted);

/* A cookie that a hash policy makes because the request has none: the response sets it. */
struct route_cookie {
    const struct hash_policy *policy; /* NULL: none was made */
    struct str value;
};

/* route_hash computes the hash of hash_policy; false: no policy gave one, and the balancer takes a
 * number of its own. The hashes (XXH64 of the text) are combined by rotating left one bit and xor.
 * A cookie that must be made is put into *out_cookie (NULL: none is made), its text in `a`. */
bool route_hash(const struct route *r, const struct route_match_input *in, struct arena *a,
                struct route_cookie *out_cookie, uint64_t *out);

/* route_cookie_header is the value of the Set-Cookie for a cookie that route_hash made. */
struct str route_cookie_header(const struct route_cookie *c, struct arena *a);

/* route_timeout_ms is how long the response may take, the request's grpc-timeout heeded where the
 * route says so (max_grpc_timeout); 0: for ever. */
uint64_t route_timeout_ms(const struct route *r, const struct headers *h);

/* route_stream_duration_ms is how long the stream may last: the route's, with grpc-timeout where it
 * says so, else `def` (0: none). False: for ever. True and 0: its time is over already. */
bool route_stream_duration_ms(const struct route *r, const struct headers *h, uint64_t def,
                              uint64_t *out_ms);

/* route_upgrade_find is the route's own word on a kind of upgrade ("websocket"), or NULL. */
const struct route_upgrade *route_upgrade_find(const struct route *r, struct str type);

/* route_rewrite_request applies prefix, regex and host rewrites and the header changes of every
 * level (route, virtual host, table, as most_specific_wins says) to a request about to be sent.
 * `tell`: x-envoy-original-path and x-envoy-original-host say what they were. */
void route_rewrite_request(const struct route_table *t, const struct route *r,
                           const struct weighted_cluster *w, bool tell, struct headers *h,
                           struct stream_info *si);

/* route_rewrite_host_auto puts the chosen host's name in the place of the authority
 * (auto_host_rewrite); an empty name changes nothing. */
void route_rewrite_host_auto(const struct route *r, struct str hostname, bool tell,
                             struct headers *h);

/* route_rewrite_response applies the response header changes of every level. */
void route_rewrite_response(const struct route_table *t, const struct route *r,
                            const struct weighted_cluster *w, struct headers *h,
                            const struct stream_info *si);

/* route_remove_internal takes internal_only_headers out of an external request. */
void route_remove_internal(const struct route_table *t, struct headers *h);

/* route_redirect_location builds the Location for a redirect route. */
struct str route_redirect_location(const struct route *r, const struct headers *h, bool tls,
                                   struct arena *a, unsigned *out_status);

/* route_redirect_rewrite does to the request's own path what the redirect's prefix_rewrite or
 * regex_rewrite say, for the access log, as Envoy does. After route_redirect_location. */
void route_redirect_rewrite(const struct route *r, bool tell, struct headers *h);

/* route_direct_body makes the body of a direct response and its content type. */
struct str route_direct_body(const struct route *r, const struct stream_info *si, struct arena *a,
                             struct str *out_type);
