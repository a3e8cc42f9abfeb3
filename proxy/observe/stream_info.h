/* What is known of one request, or of one connection in tcp_proxy, while it goes on: the input of
 * access logs, format operators and statistics. Plain data; belongs to its stream, on the worker's
 * thread. Views live as long as the stream. */
#pragma once

#include "base/addr.h"
#include "base/str.h"
#include "proxy/http/headers.h"
#include "proxy/observe/metadata.h"
#include "tls/transport.h"

/* Envoy's response flags, those that are set before others first, as it prints them in the order of
 * setting. X(id, short, long) */
#define RESPONSE_FLAGS(X)                                                                          \
    X(DELAY_INJECTED, "DI", "DelayInjected")                                                       \
    X(UPSTREAM_RETRY_LIMIT_EXCEEDED, "URX", "UpstreamRetryLimitExceeded")                          \
    X(UPSTREAM_OVERFLOW, "UO", "UpstreamOverflow")                                                 \
    X(FAILED_LOCAL_HEALTH_CHECK, "LH", "FailedLocalHealthCheck")                                   \
    X(NO_HEALTHY_UPSTREAM, "UH", "NoHealthyUpstream")                                              \
    X(UPSTREAM_REQUEST_TIMEOUT, "UT", "UpstreamRequestTimeout")                                    \
    X(LOCAL_RESET, "LR", "LocalReset")                                                             \
    X(UPSTREAM_REMOTE_RESET, "UR", "UpstreamRemoteReset")                                          \
    X(UPSTREAM_CONNECTION_FAILURE, "UF", "UpstreamConnectionFailure")                              \
    X(UPSTREAM_CONNECTION_TERMINATION, "UC", "UpstreamConnectionTermination")                      \
    X(NO_ROUTE_FOUND, "NR", "NoRouteFound")                                                        \
    X(FAULT_INJECTED, "FI", "FaultInjected")                                                       \
    X(RATE_LIMITED, "RL", "RateLimited")                                                           \
    X(UNAUTHORIZED_EXTERNAL_SERVICE, "UAEX", "UnauthorizedExternalService")                        \
    X(RATELIMIT_SERVICE_ERROR, "RLSE", "RateLimitServiceError")                                    \
    X(DOWNSTREAM_CONNECTION_TERMINATION, "DC", "DownstreamConnectionTermination")                  \
    X(STREAM_IDLE_TIMEOUT, "SI", "StreamIdleTimeout")                                              \
    X(INVALID_ENVOY_REQUEST_HEADERS, "IH", "InvalidEnvoyRequestHeaders")                           \
    X(DOWNSTREAM_PROTOCOL_ERROR, "DPE", "DownstreamProtocolError")                                 \
    X(UPSTREAM_MAX_STREAM_DURATION, "UMSDR", "UpstreamMaxStreamDurationReached")                   \
    X(RESPONSE_FROM_CACHE, "RFCF", "ResponseFromCacheFilter")                                      \
    X(NO_FILTER_CONFIG_FOUND, "NFCF", "NoFilterConfigFound")                                       \
    X(DURATION_TIMEOUT, "DT", "DurationTimeout")                                                   \
    X(UPSTREAM_PROTOCOL_ERROR, "UPE", "UpstreamProtocolError")                                     \
    X(NO_CLUSTER_FOUND, "NC", "NoClusterFound")                                                    \
    X(OVERLOAD_MANAGER, "OM", "OverloadManagerTerminated")                                         \
    X(DNS_RESOLUTION_FAILED, "DF", "DnsResolutionFailed")                                          \
    X(DROP_OVERLOAD, "DO", "DropOverload")                                                         \
    X(DOWNSTREAM_REMOTE_RESET, "DR", "DownstreamRemoteReset")                                      \
    X(UNCONDITIONAL_DROP_OVERLOAD, "UDO", "UnconditionalDropOverload")

enum response_flag_bit {
#define X(id, short_name, long_name) FLAG_BIT_##id,
    RESPONSE_FLAGS(X)
#undef X
        NUM_RESPONSE_FLAGS
};
#define FLAG(id) (1ULL << FLAG_BIT_##id)

/* The moments at which something is logged: envoy.data.accesslog.v3.AccessLogType, by its numbers.
 * X(id, "name") */
#define LOG_TYPES(X)                                                                               \
    X(NOT_SET, "NotSet")                                                                           \
    X(TCP_UPSTREAM_CONNECTED, "TcpUpstreamConnected")                                              \
    X(TCP_PERIODIC, "TcpPeriodic")                                                                 \
    X(TCP_CONNECTION_END, "TcpConnectionEnd")                                                      \
    X(DOWNSTREAM_START, "DownstreamStart")                                                         \
    X(DOWNSTREAM_PERIODIC, "DownstreamPeriodic")                                                   \
    X(DOWNSTREAM_END, "DownstreamEnd")                                                             \
    X(UPSTREAM_POOL_READY, "UpstreamPoolReady")                                                    \
    X(UPSTREAM_PERIODIC, "UpstreamPeriodic")                                                       \
    X(UPSTREAM_END, "UpstreamEnd")                                                                 \
    X(DOWNSTREAM_TUNNEL, "DownstreamTunnelSuccessfullyEstablished")                                \
    X(UDP_TUNNEL_CONNECTED, "UdpTunnelUpstreamConnected")                                          \
    X(UDP_PERIODIC, "UdpPeriodic")                                                                 \
    X(UDP_SESSION_END, "UdpSessionEnd")

enum log_type {
#define X(id, name) LOG_TYPE_##id,
    LOG_TYPES(X)
#undef X
        NUM_LOG_TYPES
};

enum http_protocol { PROTOCOL_NONE, PROTOCOL_HTTP10, PROTOCOL_HTTP11, PROTOCOL_HTTP2 };

/* Of a downstream connection; shared by its requests. */
struct conn_info {
    struct addr remote;         /* the peer as seen, or as a PROXY header says */
    struct addr direct_remote;  /* the peer's socket address */
    struct addr local;          /* where it was going: the original destination if there is one */
    struct addr direct_local;   /* our socket's */
    const struct tls_peer *tls; /* NULL: plaintext */
    struct str sni;             /* requested server name, also from the inspector */
    struct str listener_name;
    struct str chain_name;
    struct str transport_failure; /* downstream handshake */
    uint64_t id;
    uint64_t start_wall_us;
    struct addr upstream_source; /* original_src: where connections to hosts come from, if an IP */
    uint32_t upstream_mark;      /* and their SO_MARK */
    struct metadata metadata;    /* of listener filters */
    struct proxy_tlv *tlvs;      /* of a PROXY header, pass_through_tlvs; in its order */
};

struct stream_info {
    const struct conn_info *conn;
    uint64_t start_wall_us;
    /* loop_now_us of each event, 0: did not happen */
    uint64_t start_us;
    uint64_t downstream_last_rx_us;
    uint64_t upstream_first_tx_us, upstream_last_tx_us;
    uint64_t upstream_first_rx_us, upstream_last_rx_us;
    uint64_t downstream_first_tx_us, downstream_last_tx_us;
    uint64_t end_us;
    /* body bytes; and of the upstream's wire */
    uint64_t bytes_received, bytes_sent;
    uint64_t upstream_wire_bytes_sent, upstream_wire_bytes_received;
    uint64_t flags;         /* FLAG(...) set */
    unsigned response_code; /* 0: none */
    enum log_type log_type; /* of the line being written */
    enum http_protocol protocol;
    enum http_protocol upstream_protocol;
    struct str code_details;        /* "via_upstream" */
    struct str termination_details; /* connection termination */
    struct str route_name;
    struct str vhost_name;
    struct str upstream_cluster;
    struct str upstream_host;     /* "10.0.0.1:80" */
    struct str upstream_hostname; /* the endpoint's hostname; empty: it has none */
    struct addr upstream_local;
    struct addr upstream_remote;
    struct str upstream_failure;         /* transport failure reason */
    const struct tls_peer *upstream_tls; /* a copy: the connection may be gone (see below) */
    struct str upstream_uri_san;  /* the peer's first URI SAN, in case that is all there is */
    uint64_t upstream_connect_us; /* pool: time to connect, when this request waited for it */
    unsigned attempts;
    struct str request_id;
    struct addr downstream_remote;                                /* after XFF */
    const struct headers *request, *response, *response_trailers; /* may be NULL */
    struct str original_path;
    bool health_check;                     /* the health_check filter says it is one */
    struct metadata metadata;              /* what filters left for others */
    const struct metadata *route_metadata; /* the route's own; NULL: none */
    struct filter_state filter_state;
    struct str local_reply_body; /* only while a local reply is put into its format */
};

/* stream_info_set_upstream_tls copies what the log says of the upstream's TLS session into arena a
 * (not the certificate itself), so that it outlives the connection; NULL: plaintext. */
void stream_info_set_upstream_tls(struct stream_info *si, const struct tls_peer *tls,
                                  struct arena *a);
