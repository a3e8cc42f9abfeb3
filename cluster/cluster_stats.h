/* The statistics of a cluster, "cluster.NAME.": names as Envoy's. One table for the pool, the
 * balancer, outlier detection and, by the same numbers, the router and tcp_proxy:
 *
 *     stats_inc(cluster->stats, thread, CLUSTER_UPSTREAM_RQ_TIMEOUT);
 *
 * Counts by response code (upstream_rq_200, upstream_rq_2xx and the same below "internal." and
 * "external.") are made with stats_count_code. */
#pragma once

#include "base/stats.h"

/* X(CLUSTER_..., "name", kind), grouped by who writes them. */
#define CLUSTER_STATS_POOL(X)                                                                      \
    X(CLUSTER_UPSTREAM_CX_TOTAL, "upstream_cx_total", COUNTER)                                     \
    X(CLUSTER_UPSTREAM_CX_ACTIVE, "upstream_cx_active", GAUGE)                                     \
    X(CLUSTER_UPSTREAM_CX_HTTP1_TOTAL, "upstream_cx_http1_total", COUNTER)                         \
    X(CLUSTER_UPSTREAM_CX_HTTP2_TOTAL, "upstream_cx_http2_total", COUNTER)                         \
    X(CLUSTER_UPSTREAM_CX_CONNECT_FAIL, "upstream_cx_connect_fail", COUNTER)                       \
    X(CLUSTER_UPSTREAM_CX_CONNECT_TIMEOUT, "upstream_cx_connect_timeout", COUNTER)                 \
    X(CLUSTER_UPSTREAM_CX_IDLE_TIMEOUT, "upstream_cx_idle_timeout", COUNTER)                       \
    X(CLUSTER_UPSTREAM_CX_MAX_DURATION_REACHED, "upstream_cx_max_duration_reached", COUNTER)       \
    X(CLUSTER_UPSTREAM_CX_MAX_REQUESTS, "upstream_cx_max_requests", COUNTER)                       \
    X(CLUSTER_UPSTREAM_CX_OVERFLOW, "upstream_cx_overflow", COUNTER)                               \
    X(CLUSTER_UPSTREAM_CX_POOL_OVERFLOW, "upstream_cx_pool_overflow", COUNTER)                     \
    X(CLUSTER_UPSTREAM_CX_DESTROY, "upstream_cx_destroy", COUNTER)                                 \
    X(CLUSTER_UPSTREAM_CX_DESTROY_LOCAL, "upstream_cx_destroy_local", COUNTER)                     \
    X(CLUSTER_UPSTREAM_CX_DESTROY_REMOTE, "upstream_cx_destroy_remote", COUNTER)                   \
    X(CLUSTER_UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ, "upstream_cx_destroy_with_active_rq", COUNTER)   \
    X(CLUSTER_UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ,                                            \
      "upstream_cx_destroy_local_with_active_rq", COUNTER)                                         \
    X(CLUSTER_UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ,                                           \
      "upstream_cx_destroy_remote_with_active_rq", COUNTER)                                        \
    X(CLUSTER_UPSTREAM_CX_RX_BYTES_TOTAL, "upstream_cx_rx_bytes_total", COUNTER)                   \
    X(CLUSTER_UPSTREAM_CX_RX_BYTES_BUFFERED, "upstream_cx_rx_bytes_buffered", GAUGE)               \
    X(CLUSTER_UPSTREAM_CX_TX_BYTES_TOTAL, "upstream_cx_tx_bytes_total", COUNTER)                   \
    X(CLUSTER_UPSTREAM_CX_TX_BYTES_BUFFERED, "upstream_cx_tx_bytes_buffered", GAUGE)               \
    X(CLUSTER_UPSTREAM_CX_CONNECT_MS, "upstream_cx_connect_ms", HISTOGRAM)                         \
    X(CLUSTER_UPSTREAM_CX_LENGTH_MS, "upstream_cx_length_ms", HISTOGRAM)                           \
    X(CLUSTER_UPSTREAM_RQ_PER_CX, "upstream_rq_per_cx", HISTOGRAM)                                 \
    X(CLUSTER_UPSTREAM_RQ_TOTAL, "upstream_rq_total", COUNTER)                                     \
    X(CLUSTER_UPSTREAM_RQ_ACTIVE, "upstream_rq_active", GAUGE)                                     \
    X(CLUSTER_UPSTREAM_RQ_ACTIVE_OVERFLOW, "upstream_rq_active_overflow", COUNTER)                 \
    X(CLUSTER_UPSTREAM_RQ_PENDING_TOTAL, "upstream_rq_pending_total", COUNTER)                     \
    X(CLUSTER_UPSTREAM_RQ_PENDING_ACTIVE, "upstream_rq_pending_active", GAUGE)                     \
    X(CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW, "upstream_rq_pending_overflow", COUNTER)               \
    X(CLUSTER_UPSTREAM_RQ_PENDING_FAILURE_EJECT, "upstream_rq_pending_failure_eject", COUNTER)     \
    X(CLUSTER_UPSTREAM_RQ_CANCELLED, "upstream_rq_cancelled", COUNTER)

#define CLUSTER_STATS_PROXY(X)                                                                     \
    X(CLUSTER_UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED, "upstream_cx_connect_attempts_exceeded",      \
      COUNTER)                                                                                     \
    X(CLUSTER_UPSTREAM_CX_NONE_HEALTHY, "upstream_cx_none_healthy", COUNTER)                       \
    X(CLUSTER_UPSTREAM_CX_PROTOCOL_ERROR, "upstream_cx_protocol_error", COUNTER)                   \
    X(CLUSTER_UPSTREAM_CX_CLOSE_NOTIFY, "upstream_cx_close_notify", COUNTER)                       \
    X(CLUSTER_UPSTREAM_RQ_COMPLETED, "upstream_rq_completed", COUNTER)                             \
    X(CLUSTER_UPSTREAM_RQ_1XX, "upstream_rq_1xx", COUNTER)                                         \
    X(CLUSTER_UPSTREAM_RQ_2XX, "upstream_rq_2xx", COUNTER)                                         \
    X(CLUSTER_UPSTREAM_RQ_3XX, "upstream_rq_3xx", COUNTER)                                         \
    X(CLUSTER_UPSTREAM_RQ_4XX, "upstream_rq_4xx", COUNTER)                                         \
    X(CLUSTER_UPSTREAM_RQ_5XX, "upstream_rq_5xx", COUNTER)                                         \
    X(CLUSTER_UPSTREAM_RQ_TIMEOUT, "upstream_rq_timeout", COUNTER)                                 \
    X(CLUSTER_UPSTREAM_RQ_PER_TRY_TIMEOUT, "upstream_rq_per_try_timeout", COUNTER)                 \
    X(CLUSTER_UPSTREAM_RQ_PER_TRY_IDLE_TIMEOUT, "upstream_rq_per_try_idle_timeout", COUNTER)       \
    X(CLUSTER_UPSTREAM_RQ_MAX_DURATION_REACHED, "upstream_rq_max_duration_reached", COUNTER)       \
    X(CLUSTER_UPSTREAM_RQ_MAINTENANCE_MODE, "upstream_rq_maintenance_mode", COUNTER)               \
    X(CLUSTER_UPSTREAM_RQ_RX_RESET, "upstream_rq_rx_reset", COUNTER)                               \
    X(CLUSTER_UPSTREAM_RQ_TX_RESET, "upstream_rq_tx_reset", COUNTER)                               \
    X(CLUSTER_UPSTREAM_RQ_DROP_OVERLOAD, "upstream_rq_drop_overload", COUNTER)                     \
    X(CLUSTER_UPSTREAM_RQ_RETRY, "upstream_rq_retry", COUNTER)                                     \
    X(CLUSTER_UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL, "upstream_rq_retry_backoff_exponential",      \
      COUNTER)                                                                                     \
    X(CLUSTER_UPSTREAM_RQ_RETRY_BACKOFF_RATELIMITED, "upstream_rq_retry_backoff_ratelimited",      \
      COUNTER)                                                                                     \
    X(CLUSTER_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED, "upstream_rq_retry_limit_exceeded", COUNTER)       \
    X(CLUSTER_UPSTREAM_RQ_RETRY_OVERFLOW, "upstream_rq_retry_overflow", COUNTER)                   \
    X(CLUSTER_UPSTREAM_RQ_RETRY_SUCCESS, "upstream_rq_retry_success", COUNTER)                     \
    X(CLUSTER_UPSTREAM_RQ_RETRY_REUSED_CONNECTION, "upstream_rq_retry_reused_connection", COUNTER) \
    X(CLUSTER_INTERNAL_REDIRECT_SUCCEEDED, "upstream_internal_redirect_succeeded_total", COUNTER)  \
    X(CLUSTER_INTERNAL_REDIRECT_FAILED, "upstream_internal_redirect_failed_total", COUNTER)        \
    X(CLUSTER_UPSTREAM_RQ_TIME, "upstream_rq_time", HISTOGRAM)                                     \
    X(CLUSTER_UPSTREAM_FLOW_CONTROL_BACKED_UP_TOTAL, "upstream_flow_control_backed_up_total",      \
      COUNTER)                                                                                     \
    X(CLUSTER_UPSTREAM_FLOW_CONTROL_DRAINED_TOTAL, "upstream_flow_control_drained_total", COUNTER) \
    X(CLUSTER_UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL,                                          \
      "upstream_flow_control_paused_reading_total", COUNTER)                                       \
    X(CLUSTER_UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL,                                         \
      "upstream_flow_control_resumed_reading_total", COUNTER)                                      \
    X(CLUSTER_RETRY_OR_SHADOW_ABANDONED, "retry_or_shadow_abandoned", COUNTER)                     \
    X(CLUSTER_BIND_ERRORS, "bind_errors", COUNTER)                                                 \
    X(CLUSTER_ORIGINAL_DST_HOST_INVALID, "original_dst_host_invalid", COUNTER)                     \
    X(CLUSTER_LB_HEALTHY_PANIC, "lb_healthy_panic", COUNTER)                                       \
    X(CLUSTER_HTTP2_STREAMS_ACTIVE, "http2.streams_active", GAUGE)                                 \
    X(CLUSTER_HTTP2_PENDING_SEND_BYTES, "http2.pending_send_bytes", GAUGE)                         \
    X(CLUSTER_LB_SUBSETS_SELECTED, "lb_subsets_selected", COUNTER)                                 \
    X(CLUSTER_LB_SUBSETS_FALLBACK, "lb_subsets_fallback", COUNTER)                                 \
    X(CLUSTER_LB_SUBSETS_FALLBACK_PANIC, "lb_subsets_fallback_panic", COUNTER)

/* Of main, seldom: kept in struct cluster_state and read from there, as the next ones. */
#define CLUSTER_STATS_MAIN(X)                                                                      \
    X(CLUSTER_MEMBERSHIP_CHANGE, "membership_change", COUNTER)                                     \
    X(CLUSTER_ASSIGNMENT_STALE, "assignment_stale", COUNTER)                                       \
    X(CLUSTER_ASSIGNMENT_TIMEOUT_RECEIVED, "assignment_timeout_received", COUNTER)                 \
    X(CLUSTER_ASSIGNMENT_USE_CACHED, "assignment_use_cached", COUNTER)                             \
    X(CLUSTER_UPDATE_NO_REBUILD, "update_no_rebuild", COUNTER)

/* Read from where they are kept (table.c). */
#define CLUSTER_STATS_READ(X)                                                                      \
    X(CLUSTER_MEMBERSHIP_TOTAL, "membership_total", GAUGE)                                         \
    X(CLUSTER_MEMBERSHIP_HEALTHY, "membership_healthy", GAUGE)                                     \
    X(CLUSTER_MEMBERSHIP_DEGRADED, "membership_degraded", GAUGE)                                   \
    X(CLUSTER_MEMBERSHIP_EXCLUDED, "membership_excluded", GAUGE)                                   \
    X(CLUSTER_LB_SUBSETS_ACTIVE, "lb_subsets_active", GAUGE)                                       \
    X(CLUSTER_MAX_HOST_WEIGHT, "max_host_weight", GAUGE)                                           \
    X(CLUSTER_WARMING_STATE, "warming_state", GAUGE)                                               \
    CLUSTER_STATS_CIRCUIT(X, DEFAULT, "default")                                                   \
    CLUSTER_STATS_CIRCUIT(X, HIGH, "high")

/* In the order of enum circuit_kind, the open ones first. */
#define CLUSTER_STATS_CIRCUIT(X, P, p)                                                             \
    X(CLUSTER_##P##_CX_OPEN, "circuit_breakers." p ".cx_open", GAUGE)                              \
    X(CLUSTER_##P##_RQ_PENDING_OPEN, "circuit_breakers." p ".rq_pending_open", GAUGE)              \
    X(CLUSTER_##P##_RQ_OPEN, "circuit_breakers." p ".rq_open", GAUGE)                              \
    X(CLUSTER_##P##_RQ_RETRY_OPEN, "circuit_breakers." p ".rq_retry_open", GAUGE)                  \
    X(CLUSTER_##P##_CX_POOL_OPEN, "circuit_breakers." p ".cx_pool_open", GAUGE)                    \
    X(CLUSTER_##P##_REMAINING_CX, "circuit_breakers." p ".remaining_cx", GAUGE)                    \
    X(CLUSTER_##P##_REMAINING_PENDING, "circuit_breakers." p ".remaining_pending", GAUGE)          \
    X(CLUSTER_##P##_REMAINING_RQ, "circuit_breakers." p ".remaining_rq", GAUGE)                    \
    X(CLUSTER_##P##_REMAINING_RETRIES, "circuit_breakers." p ".remaining_retries", GAUGE)          \
    X(CLUSTER_##P##_REMAINING_CX_POOLS, "circuit_breakers." p ".remaining_cx_pools", GAUGE)

#define CLUSTER_STATS(X)                                                                           \
    CLUSTER_STATS_POOL(X) CLUSTER_STATS_PROXY(X) CLUSTER_STATS_MAIN(X) CLUSTER_STATS_READ(X)

enum { CLUSTER_STATS(STATS_ENUM) CLUSTER_NUM_STATS };

/* Of clusters with outlier detection, "cluster.NAME.outlier_detection."; main thread. */
#define OUTLIER_STATS(X)                                                                           \
    X(OUTLIER_EJECTIONS_ACTIVE, "ejections_active", GAUGE)                                         \
    X(OUTLIER_EJECTIONS_TOTAL, "ejections_total", COUNTER)                                         \
    X(OUTLIER_EJECTIONS_OVERFLOW, "ejections_overflow", COUNTER)                                   \
    X(OUTLIER_EJECTIONS_CONSECUTIVE_5XX, "ejections_consecutive_5xx", COUNTER)                     \
    X(OUTLIER_EJECTIONS_ENFORCED_TOTAL, "ejections_enforced_total", COUNTER)                       \
    X(OUTLIER_DETECTED_5XX, "ejections_detected_consecutive_5xx", COUNTER)                         \
    X(OUTLIER_DETECTED_GATEWAY, "ejections_detected_consecutive_gateway_failure", COUNTER)         \
    X(OUTLIER_EJECTIONS_SUCCESS_RATE, "ejections_success_rate", COUNTER)                           \
    X(OUTLIER_DETECTED_LOCAL, "ejections_detected_consecutive_local_origin_failure", COUNTER)      \
    X(OUTLIER_DETECTED_RATE, "ejections_detected_success_rate", COUNTER)                           \
    X(OUTLIER_DETECTED_LOCAL_RATE, "ejections_detected_local_origin_success_rate", COUNTER)        \
    X(OUTLIER_DETECTED_PERCENTAGE, "ejections_detected_failure_percentage", COUNTER)               \
    X(OUTLIER_DETECTED_LOCAL_PERCENTAGE, "ejections_detected_local_origin_failure_percentage",     \
      COUNTER)                                                                                     \
    X(OUTLIER_ENFORCED_RATE, "ejections_enforced_success_rate", COUNTER)                           \
    X(OUTLIER_ENFORCED_LOCAL_RATE, "ejections_enforced_local_origin_success_rate", COUNTER)        \
    X(OUTLIER_ENFORCED_PERCENTAGE, "ejections_enforced_failure_percentage", COUNTER)               \
    X(OUTLIER_ENFORCED_LOCAL_PERCENTAGE, "ejections_enforced_local_origin_failure_percentage",     \
      COUNTER)                                                                                     \
    X(OUTLIER_ENFORCED_5XX, "ejections_enforced_consecutive_5xx", COUNTER)                         \
    X(OUTLIER_ENFORCED_GATEWAY, "ejections_enforced_consecutive_gateway_failure", COUNTER)         \
    X(OUTLIER_ENFORCED_LOCAL, "ejections_enforced_consecutive_local_origin_failure", COUNTER)

enum { OUTLIER_STATS(STATS_ENUM) OUTLIER_NUM_STATS };

/* Of clusters with a hash table, "cluster.NAME.ring_hash_lb." and "cluster.NAME.maglev_lb.": read
 * from the tables (table.c). */
#define RING_STATS(X)                                                                              \
    X(RING_SIZE, "size", GAUGE)                                                                    \
    X(RING_MIN_HASHES, "min_hashes_per_host", GAUGE)                                               \
    X(RING_MAX_HASHES, "max_hashes_per_host", GAUGE)

#define MAGLEV_STATS(X)                                                                            \
    X(MAGLEV_MIN_ENTRIES, "min_entries_per_host", GAUGE)                                           \
    X(MAGLEV_MAX_ENTRIES, "max_entries_per_host", GAUGE)

enum { RING_STATS(STATS_ENUM) RING_NUM_STATS };
enum { MAGLEV_STATS(STATS_ENUM) MAGLEV_NUM_STATS };
/* Of clusters with active health checks, "cluster.NAME.health_check."; main thread. */
#define CLUSTER_HEALTH_STATS(X)                                                                    \
    X(HEALTH_STAT_ATTEMPT, "attempt", COUNTER)                                                     \
    X(HEALTH_STAT_SUCCESS, "success", COUNTER)                                                     \
    X(HEALTH_STAT_FAILURE, "failure", COUNTER)                                                     \
    X(HEALTH_STAT_PASSIVE_FAILURE, "passive_failure", COUNTER)                                     \
    X(HEALTH_STAT_NETWORK_FAILURE, "network_failure", COUNTER)                                     \
    X(HEALTH_STAT_VERIFY_CLUSTER, "verify_cluster", COUNTER)                                       \
    X(HEALTH_STAT_HEALTHY, "healthy", GAUGE)                                                       \
    X(HEALTH_STAT_DEGRADED, "degraded", GAUGE)

enum { CLUSTER_HEALTH_STATS(STATS_ENUM) CLUSTER_HEALTH_NUM_STATS };

/* "cluster_manager." */
#define CLUSTERS_STATS(X)                                                                          \
    X(CLUSTERS_ADDED, "cluster_added", COUNTER)                                                    \
    X(CLUSTERS_MODIFIED, "cluster_modified", COUNTER)                                              \
    X(CLUSTERS_REMOVED, "cluster_removed", COUNTER)                                                \
    X(CLUSTERS_UPDATED, "cluster_updated", COUNTER)                                                \
    X(CLUSTERS_UPDATED_VIA_MERGE, "cluster_updated_via_merge", COUNTER)                            \
    X(CLUSTERS_UPDATE_MERGE_CANCELLED, "update_merge_cancelled", COUNTER)                          \
    X(CLUSTERS_UPDATE_OUT_OF_MERGE_WINDOW, "update_out_of_merge_window", COUNTER)                  \
    X(CLUSTERS_ACTIVE, "active_clusters", GAUGE)                                                   \
    X(CLUSTERS_WARMING, "warming_clusters", GAUGE)

enum { CLUSTERS_STATS(STATS_ENUM) CLUSTERS_NUM_STATS };

extern struct stats_table cluster_stats_table;
extern struct stats_table outlier_stats_table;
extern struct stats_table ring_stats_table;
extern struct stats_table maglev_stats_table;
extern struct stats_table health_stats_table;
extern struct stats_table clusters_stats_table;
