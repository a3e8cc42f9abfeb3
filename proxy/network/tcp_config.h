/* The configuration of tcp_proxy, compiled on main, immutable. */
#pragma once

#include "base/stats.h"
#include "proxy/network/network_filter.h"
#include "proxy/observe/format_string.h"

struct headers_mutation;
struct lb_match;

struct tcp_target {
    struct str cluster;
    uint32_t weight;
    const struct lb_match
        *match; /* metadata_match: the filter's with its own over it; NULL: none */
};

enum tcp_hash { TCP_HASH_NONE, TCP_HASH_SOURCE_IP, TCP_HASH_FILTER_STATE };

/* When the upstream connection is begun. A filter starts after the TLS handshake, so that
 * ON_DOWNSTREAM_TLS_HANDSHAKE is at once too. */
enum tcp_connect_mode { TCP_CONNECT_NOW, TCP_CONNECT_ON_DATA };

struct tcp_tunnel_config {
    struct format *hostname;
    struct headers_mutation *headers; /* NULL: none */
    bool post;
    struct str post_path;
    bool keep_headers, keep_trailers; /* propagate_response_headers, _trailers */
    bool request_id;
    struct str request_id_header, request_id_key;
};

/* An entry of proxy_protocol_tlvs; one of the two values. */
struct tcp_tlv {
    uint8_t type;
    struct str value;
    struct format_string *format; /* NULL: value */
};

struct tcp_config {
    struct arena *arena;
    struct stats_scope *stats; /* "tcp.<stat_prefix>."; NULL while validating */
    struct tcp_target *targets;
    size_t num_targets;
    uint64_t total_weight;
    uint64_t idle_ms;       /* no byte in either direction; 0: no limit */
    uint64_t half_close_ms; /* the same once one side has ended its direction */
    uint64_t flush_ms;      /* how long the last bytes may take */
    uint64_t max_ms;        /* of the connection; 0: no limit */
    double max_jitter;      /* so much of max_ms may be added, 0 to 1 */
    uint32_t connect_attempts;
    uint64_t backoff_base_ms, backoff_max_ms; /* between attempts; 0: none */
    enum tcp_hash hash;
    struct str hash_key; /* of TCP_HASH_FILTER_STATE */
    enum tcp_connect_mode connect_mode;
    bool limits_early; /* max_early_data_bytes is set */
    uint32_t max_early;
    const struct tcp_tunnel_config *tunnel; /* NULL: none */
    const struct tcp_tlv *tlvs;
    size_t num_tlvs;
    struct access_log **logs;
    size_t num_logs;
    uint64_t log_interval_ms; /* 0: at the end only */
    bool log_connected;
};

/* tcp_config_compile makes it of a TcpProxy message; NULL after errors. tcp_config_free gives it
 * back. They are a network filter's compile and free. Main. */
void *tcp_config_compile(const struct compile_env *env, const void *msg, struct errors *e);
void tcp_config_free(void *config);

#define TCP_STATS(X)                                                                               \
    X(TCP_CX_TOTAL, "downstream_cx_total", COUNTER)                                                \
    X(TCP_CX_NO_ROUTE, "downstream_cx_no_route", COUNTER)                                          \
    X(TCP_CX_TX, "downstream_cx_tx_bytes_total", COUNTER)                                          \
    X(TCP_CX_RX, "downstream_cx_rx_bytes_total", COUNTER)                                          \
    X(TCP_PAUSED, "downstream_flow_control_paused_reading_total", COUNTER)                         \
    X(TCP_RESUMED, "downstream_flow_control_resumed_reading_total", COUNTER)                       \
    X(TCP_EARLY_DATA, "early_data_received_count_total", COUNTER)                                  \
    X(TCP_IDLE, "idle_timeout", COUNTER)                                                           \
    X(TCP_HALF_CLOSE, "half_close_timeout", COUNTER)                                               \
    X(TCP_MAX_DURATION, "max_downstream_connection_duration", COUNTER)                             \
    X(TCP_FLUSH_TOTAL, "upstream_flush_total", COUNTER)                                            \
    X(TCP_FLUSH_ACTIVE, "upstream_flush_active", GAUGE)

enum { TCP_STATS(STATS_ENUM) TCP_NUM_STATS };
