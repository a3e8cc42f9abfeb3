/* HTTP connection manager: the network filter that speaks HTTP with a downstream connection, one
 * stream an exchange. Configuration is compiled on main and immutable; the rest is the worker's. */
#pragma once

#include "base/cidr.h"
#include "base/stats.h"
#include "cluster/http2_options.h"
#include "proxy/http/codec.h"
#include "proxy/http/http_filter.h"
#include "proxy/listener/downstream.h"
#include "proxy/router/matchers.h"
#include "proxy/router/route_slots.h"

#define HCM_STATS(X)                                                                               \
    X(HCM_CX_TOTAL, "downstream_cx_total", COUNTER)                                                \
    X(HCM_CX_ACTIVE, "downstream_cx_active", GAUGE)                                                \
    X(HCM_CX_HTTP1_TOTAL, "downstream_cx_http1_total", COUNTER)                                    \
    X(HCM_CX_HTTP1_ACTIVE, "downstream_cx_http1_active", GAUGE)                                    \
    X(HCM_CX_HTTP2_TOTAL, "downstream_cx_http2_total", COUNTER)                                    \
    X(HCM_CX_HTTP2_ACTIVE, "downstream_cx_http2_active", GAUGE)                                    \
    X(HCM_CX_SSL_TOTAL, "downstream_cx_ssl_total", COUNTER)                                        \
    X(HCM_CX_SSL_ACTIVE, "downstream_cx_ssl_active", GAUGE)                                        \
    X(HCM_CX_DESTROY, "downstream_cx_destroy", COUNTER)                                            \
    X(HCM_CX_DESTROY_LOCAL, "downstream_cx_destroy_local", COUNTER)                                \
    X(HCM_CX_DESTROY_REMOTE, "downstream_cx_destroy_remote", COUNTER)                              \
    X(HCM_CX_DESTROY_ACTIVE, "downstream_cx_destroy_active_rq", COUNTER)                           \
    X(HCM_CX_DESTROY_LOCAL_ACTIVE, "downstream_cx_destroy_local_active_rq", COUNTER)               \
    X(HCM_CX_DESTROY_REMOTE_ACTIVE, "downstream_cx_destroy_remote_active_rq", COUNTER)             \
    X(HCM_CX_UPGRADES_TOTAL, "downstream_cx_upgrades_total", COUNTER)                              \
    X(HCM_CX_UPGRADES_ACTIVE, "downstream_cx_upgrades_active", GAUGE)                              \
    X(HCM_CX_DRAIN_CLOSE, "downstream_cx_drain_close", COUNTER)                                    \
    X(HCM_CX_MAX_DURATION, "downstream_cx_max_duration_reached", COUNTER)                          \
    X(HCM_CX_SOFT_DRAIN, "downstream_cx_http1_soft_drain", COUNTER)                                \
    X(HCM_CX_MAX_REQUESTS, "downstream_cx_max_requests_reached", COUNTER)                          \
    X(HCM_CX_IDLE_TIMEOUT, "downstream_cx_idle_timeout", COUNTER)                                  \
    X(HCM_CX_PROTOCOL_ERROR, "downstream_cx_protocol_error", COUNTER)                              \
    X(HCM_CX_LENGTH, "downstream_cx_length_ms", HISTOGRAM)                                         \
    X(HCM_CX_RX, "downstream_cx_rx_bytes_total", COUNTER)                                          \
    X(HCM_CX_TX, "downstream_cx_tx_bytes_total", COUNTER)                                          \
    X(HCM_RQ_TOTAL, "downstream_rq_total", COUNTER)                                                \
    X(HCM_RQ_HTTP1_TOTAL, "downstream_rq_http1_total", COUNTER)                                    \
    X(HCM_RQ_HTTP2_TOTAL, "downstream_rq_http2_total", COUNTER)                                    \
    X(HCM_RQ_TOO_MANY_RESETS, "downstream_rq_too_many_premature_resets", COUNTER)                  \
    X(HCM_RQ_ACTIVE, "downstream_rq_active", GAUGE)                                                \
    X(HCM_RQ_COMPLETED, "downstream_rq_completed", COUNTER)                                        \
    X(HCM_RQ_1XX, "downstream_rq_1xx", COUNTER)                                                    \
    X(HCM_RQ_2XX, "downstream_rq_2xx", COUNTER)                                                    \
    X(HCM_RQ_3XX, "downstream_rq_3xx", COUNTER)                                                    \
    X(HCM_RQ_4XX, "downstream_rq_4xx", COUNTER)                                                    \
    X(HCM_RQ_5XX, "downstream_rq_5xx", COUNTER)                                                    \
    X(HCM_RQ_EARLY_RESPONSE, "downstream_rq_response_before_rq_complete", COUNTER)                 \
    X(HCM_RQ_RX_RESET, "downstream_rq_rx_reset", COUNTER)                                          \
    X(HCM_RQ_TX_RESET, "downstream_rq_tx_reset", COUNTER)                                          \
    X(HCM_RQ_TIMEOUT, "downstream_rq_timeout", COUNTER)                                            \
    X(HCM_RQ_HEADER_TIMEOUT, "downstream_rq_header_timeout", COUNTER)                              \
    X(HCM_RQ_IDLE_TIMEOUT, "downstream_rq_idle_timeout", COUNTER)                                  \
    X(HCM_RQ_MAX_DURATION, "downstream_rq_max_duration_reached", COUNTER)                          \
    X(HCM_RQ_TOO_LARGE, "downstream_rq_too_large", COUNTER)                                        \
    X(HCM_RQ_TIME, "downstream_rq_time", HISTOGRAM)                                                \
    X(HCM_RS_TOO_LARGE, "rs_too_large", COUNTER)                                                   \
    X(HCM_NO_ROUTE, "no_route", COUNTER)                                                           \
    X(HCM_NO_CLUSTER, "no_cluster", COUNTER)                                                       \
    X(HCM_RQ_REDIRECT, "rq_redirect", COUNTER)                                                     \
    X(HCM_RQ_DIRECT, "rq_direct_response", COUNTER)                                                \
    X(HCM_RQ_ROUTED, "rq_total", COUNTER)                                                          \
    X(HCM_RQ_RESET_AFTER_RESPONSE, "rq_reset_after_downstream_response_started", COUNTER)          \
    X(HCM_REDIRECT_BAD_LOCATION, "passthrough_internal_redirect_bad_location", COUNTER)            \
    X(HCM_REDIRECT_UNSAFE_SCHEME, "passthrough_internal_redirect_unsafe_scheme", COUNTER)          \
    X(HCM_REDIRECT_TOO_MANY, "passthrough_internal_redirect_too_many_redirects", COUNTER)          \
    X(HCM_REDIRECT_NO_ROUTE, "passthrough_internal_redirect_no_route", COUNTER)                    \
    X(HCM_REDIRECT_PREDICATE, "passthrough_internal_redirect_predicate", COUNTER)

enum { HCM_STATS(STATS_ENUM) HCM_NUM_STATS };

enum forward_cert { /* forward_client_cert_details */
                    CERT_SANITIZE,
                    CERT_FORWARD_ONLY,
                    CERT_APPEND_FORWARD,
                    CERT_SANITIZE_SET,
                    CERT_ALWAYS_FORWARD_ONLY
};

enum escaped_slashes { SLASHES_KEEP, SLASHES_REJECT, SLASHES_REDIRECT, SLASHES_UNESCAPE };
enum underscores { UNDERSCORES_ALLOW, UNDERSCORES_REJECT, UNDERSCORES_DROP };
enum codec_type { CODEC_AUTO, CODEC_HTTP1, CODEC_HTTP2 };
enum server_header { SERVER_OVERWRITE, SERVER_APPEND_IF_ABSENT, SERVER_PASS_THROUGH };

/* One entry of upgrade_configs. */
struct hcm_upgrade {
    struct str type; /* "websocket", "CONNECT"; compared without regard to case */
    bool enabled;    /* unless the route says otherwise */
    bool own_filters;
    struct http_filter_list filters; /* instead of the connection manager's */
};

struct hcm_config {
    struct arena *arena;
    struct stats_scope *stats; /* "http.<stat_prefix>." */
    struct str stat_prefix;
    struct route_slot *routes;
    struct http_filter_list filters; /* in order, without the router */
    struct hcm_upgrade *upgrades;    /* upgrade_configs */
    size_t num_upgrades;
    struct http_limits limits;
    struct regex_list regexes; /* of matchers */
    enum codec_type codec;
    struct http2_options h2;
    struct access_log **logs;
    size_t num_logs;
    struct str server_name;
    enum server_header server_header;
    enum forward_cert forward_cert;
    bool cert_subject, cert_cert, cert_chain, cert_dns, cert_uri;
    bool use_remote_address;
    struct ip_detection *ip_detection;     /* NULL: X-Forwarded-For and the fields below */
    struct early_mutation *early_mutation; /* NULL: none */
    bool skip_xff_append;
    uint32_t xff_hops;
    struct cidr *internal; /* internal_address_config: who is one of us; by default nobody */
    size_t num_internal;
    bool internal_pipes;
    bool append_x_forwarded_port;
    bool generate_request_id, preserve_request_id, request_id_in_response;
    bool strip_any_port, strip_matching_port, strip_trailing_dot;
    bool suppress_envoy_headers; /* of the router */
    bool dynamic_stats;          /* of the router: response codes of clusters are counted */
    bool respect_expected_timeout, suppress_grpc_codes; /* of the router */
    struct access_log **upstream_logs;                  /* of the router: one entry a try */
    size_t num_upstream_logs;
    const struct str *strict_headers; /* of the router: strict_check_headers */
    size_t num_strict;
    bool trailers; /* http_protocol_options.enable_trailers */
    bool normalize_path, merge_slashes;
    enum escaped_slashes escaped_slashes;
    enum underscores underscores;
    struct str scheme;                        /* instead of what is said; empty: none */
    bool scheme_match_upstream;               /* of the upstream's connection, when it is known */
    struct str service_cluster, service_node; /* add_user_agent; empty: not */
    struct str via;
    struct local_reply *local_reply;  /* NULL: none configured */
    uint64_t log_interval_ms;         /* 0: at the end only */
    bool log_new_request, log_tunnel; /* and at these moments */
    bool http1_safe_duration;         /* an old connection ends with a response, never by itself */
    uint64_t stream_idle_ms, request_ms, max_stream_ms, max_connection_ms, drain_ms;
};

extern const struct network_filter_ops hcm_filter;

/* One downstream connection. */
struct hcm_conn {
    uint32_t magic;
    const struct hcm_config *config;
    struct downstream *down;
    struct http_server *codec; /* NULL while the first bytes are awaited to tell which */
    bool http2;
    struct timer sniff;
    struct list streams; /* struct stream */
    struct timer age;
    uint64_t num_streams;
    uint64_t counted_rx, counted_tx;
    unsigned error_status; /* of the last response of the codec's own */
    size_t error_bytes;    /* of its body */
    bool closed;
    bool ending; /* idle or old: it takes one more request at most */
};

/* hcm_count adds one to a statistic of the connection's manager. Worker. */
void hcm_count(const struct hcm_conn *hc, uint32_t stat);
