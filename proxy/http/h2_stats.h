/* What is counted of HTTP/2: "http2." of the process for downstream, "cluster.NAME.http2." for
 * upstream; names as Envoy's. */
#pragma once

#include "base/stats.h"

#define H2_STATS(X)                                                                                \
    X(H2_DROPPED_UNDERSCORES, "dropped_headers_with_underscores", COUNTER)                         \
    X(H2_GOAWAY_SENT, "goaway_sent", COUNTER)                                                      \
    X(H2_HEADER_OVERFLOW, "header_overflow", COUNTER)                                              \
    X(H2_HEADERS_CB_NO_STREAM, "headers_cb_no_stream", COUNTER)                                    \
    X(H2_EMPTY_FRAMES_FLOOD, "inbound_empty_frames_flood", COUNTER)                                \
    X(H2_PRIORITY_FLOOD, "inbound_priority_frames_flood", COUNTER)                                 \
    X(H2_WINDOW_UPDATE_FLOOD, "inbound_window_update_frames_flood", COUNTER)                       \
    X(H2_KEEPALIVE_TIMEOUT, "keepalive_timeout", COUNTER)                                          \
    X(H2_OUTBOUND_CONTROL_FLOOD, "outbound_control_flood", COUNTER)                                \
    X(H2_OUTBOUND_FLOOD, "outbound_flood", COUNTER)                                                \
    X(H2_PENDING_SEND_BYTES, "pending_send_bytes", GAUGE)                                          \
    X(H2_REJECTED_UNDERSCORES, "requests_rejected_with_underscores_in_headers", COUNTER)           \
    X(H2_RX_MESSAGING_ERROR, "rx_messaging_error", COUNTER)                                        \
    X(H2_RX_RESET, "rx_reset", COUNTER)                                                            \
    X(H2_STREAM_REFUSED_ERRORS, "stream_refused_errors", COUNTER)                                  \
    X(H2_STREAMS_ACTIVE, "streams_active", GAUGE)                                                  \
    X(H2_TOO_MANY_HEADER_FRAMES, "too_many_header_frames", COUNTER)                                \
    X(H2_TRAILERS, "trailers", COUNTER)                                                            \
    X(H2_TX_FLUSH_TIMEOUT, "tx_flush_timeout", COUNTER)                                            \
    X(H2_TX_RESET, "tx_reset", COUNTER)

enum { H2_STATS(STATS_ENUM) H2_NUM_STATS };

/* Where a connection counts. The names of an upstream come up in the cluster's own scope with their
 * first use: few clusters ever have them. */
struct h2_stats {
    struct stats_scope *scope; /* NULL: nowhere (tests) */
    unsigned thread;
    bool of_cluster;
};

/* h2_stats_scope is the downstream's scope, "http2."; owned by the caller. Main thread. */
struct stats_scope *h2_stats_scope(void);

/* h2_count adds n to a counter; h2_gauge moves a gauge. */
void h2_count_n(const struct h2_stats *st, uint32_t id, uint64_t n);
void h2_gauge(const struct h2_stats *st, uint32_t id, int64_t n);
static inline void h2_count(const struct h2_stats *st, uint32_t id)
{
    h2_count_n(st, id, 1);
}
