#include "proxy/admin/admin_stats_scope.h"

#include "base/stats.h"

#define HTTP_STATS(X)                                                                              \
    X(ADMIN_CX_TOTAL, "downstream_cx_total", COUNTER)                                              \
    X(ADMIN_CX_ACTIVE, "downstream_cx_active", GAUGE)                                              \
    X(ADMIN_CX_HTTP1_TOTAL, "downstream_cx_http1_total", COUNTER)                                  \
    X(ADMIN_CX_HTTP1_ACTIVE, "downstream_cx_http1_active", GAUGE)                                  \
    X(ADMIN_CX_DESTROY, "downstream_cx_destroy", COUNTER)                                          \
    X(ADMIN_CX_DESTROY_LOCAL, "downstream_cx_destroy_local", COUNTER)                              \
    X(ADMIN_CX_DESTROY_REMOTE, "downstream_cx_destroy_remote", COUNTER)                            \
    X(ADMIN_CX_PROTOCOL_ERROR, "downstream_cx_protocol_error", COUNTER)                            \
    X(ADMIN_CX_LENGTH, "downstream_cx_length_ms", HISTOGRAM)                                       \
    X(ADMIN_CX_RX, "downstream_cx_rx_bytes_total", COUNTER)                                        \
    X(ADMIN_CX_TX, "downstream_cx_tx_bytes_total", COUNTER)                                        \
    X(ADMIN_RQ_TOTAL, "downstream_rq_total", COUNTER)                                              \
    X(ADMIN_RQ_HTTP1_TOTAL, "downstream_rq_http1_total", COUNTER)                                  \
    X(ADMIN_RQ_ACTIVE, "downstream_rq_active", GAUGE)                                              \
    X(ADMIN_RQ_COMPLETED, "downstream_rq_completed", COUNTER)                                      \
    X(ADMIN_RQ_1XX, "downstream_rq_1xx", COUNTER)                                                  \
    X(ADMIN_RQ_2XX, "downstream_rq_2xx", COUNTER)                                                  \
    X(ADMIN_RQ_3XX, "downstream_rq_3xx", COUNTER)                                                  \
    X(ADMIN_RQ_4XX, "downstream_rq_4xx", COUNTER)                                                  \
    X(ADMIN_RQ_5XX, "downstream_rq_5xx", COUNTER)                                                  \
    X(ADMIN_RQ_RX_RESET, "downstream_rq_rx_reset", COUNTER)                                        \
    X(ADMIN_RQ_TIME, "downstream_rq_time", HISTOGRAM)

#define LISTENER_STATS(X)                                                                          \
    X(ADMIN_LISTENER_CX_TOTAL, "downstream_cx_total", COUNTER)                                     \
    X(ADMIN_LISTENER_CX_ACTIVE, "downstream_cx_active", GAUGE)                                     \
    X(ADMIN_LISTENER_CX_DESTROY, "downstream_cx_destroy", COUNTER)                                 \
    X(ADMIN_LISTENER_CX_OVERFLOW, "downstream_cx_overflow", COUNTER)                               \
    X(ADMIN_LISTENER_CX_LENGTH, "downstream_cx_length_ms", HISTOGRAM)

enum { HTTP_STATS(STATS_ENUM) ADMIN_NUM_HTTP_STATS };
enum { LISTENER_STATS(STATS_ENUM) ADMIN_NUM_LISTENER_STATS };
static const struct stats_def http_defs[] = {HTTP_STATS(STATS_DEF)};
static const struct stats_def listener_defs[] = {LISTENER_STATS(STATS_DEF)};
static struct stats_table http_table = STATS_TABLE(http_defs);
static struct stats_table listener_table = STATS_TABLE(listener_defs);

void admin_stats_init(struct admin_stats_scope *s)
{
    const struct stats_part http[] = {{STR("http"), NULL},
                                      {STR("admin"), "envoy_http_conn_manager_prefix"}};
    const struct stats_part listener[] = {{STR("listener"), NULL}, {STR("admin"), NULL}};
    s->http = stats_scope_new(&http_table, http, ARRAY_LEN(http));
    s->listener = stats_scope_new(&listener_table, listener, ARRAY_LEN(listener));
    stats_gauge_set(s->http, 0, ADMIN_CX_ACTIVE, 0);
    stats_gauge_set(s->listener, 0, ADMIN_LISTENER_CX_ACTIVE, 0);
}

void admin_stats_cleanup(struct admin_stats_scope *s)
{
    stats_scope_free(&s->http);
    stats_scope_free(&s->listener);
}

void admin_stats_conn(struct admin_stats_scope *s)
{
    stats_inc(s->http, 0, ADMIN_CX_TOTAL);
    stats_inc(s->http, 0, ADMIN_CX_HTTP1_TOTAL);
    stats_gauge_inc(s->http, 0, ADMIN_CX_ACTIVE);
    stats_gauge_inc(s->http, 0, ADMIN_CX_HTTP1_ACTIVE);
    stats_inc(s->listener, 0, ADMIN_LISTENER_CX_TOTAL);
    stats_gauge_inc(s->listener, 0, ADMIN_LISTENER_CX_ACTIVE);
}

void admin_stats_overflow(struct admin_stats_scope *s)
{
    stats_inc(s->listener, 0, ADMIN_LISTENER_CX_OVERFLOW);
}

void admin_stats_conn_over(struct admin_stats_scope *s, bool local, uint64_t ms, uint64_t rx,
                           uint64_t tx)
{
    stats_inc(s->http, 0, ADMIN_CX_DESTROY);
    stats_inc(s->http, 0, local ? ADMIN_CX_DESTROY_LOCAL : ADMIN_CX_DESTROY_REMOTE);
    stats_gauge_dec(s->http, 0, ADMIN_CX_ACTIVE);
    stats_gauge_dec(s->http, 0, ADMIN_CX_HTTP1_ACTIVE);
    stats_record(s->http, 0, ADMIN_CX_LENGTH, ms);
    stats_add(s->http, 0, ADMIN_CX_RX, rx);
    stats_add(s->http, 0, ADMIN_CX_TX, tx);
    stats_inc(s->listener, 0, ADMIN_LISTENER_CX_DESTROY);
    stats_gauge_dec(s->listener, 0, ADMIN_LISTENER_CX_ACTIVE);
    stats_record(s->listener, 0, ADMIN_LISTENER_CX_LENGTH, ms);
}

void admin_stats_exchange(struct admin_stats_scope *s)
{
    stats_inc(s->http, 0, ADMIN_RQ_TOTAL);
    stats_inc(s->http, 0, ADMIN_RQ_HTTP1_TOTAL);
    stats_gauge_inc(s->http, 0, ADMIN_RQ_ACTIVE);
}

static void count_status(struct admin_stats_scope *s, unsigned status)
{
    if (status >= 100 && status < 600)
        stats_inc(s->http, 0, ADMIN_RQ_1XX + status / 100 - 1);
}

void admin_stats_exchange_over(struct admin_stats_scope *s, unsigned status, uint64_t ms)
{
    stats_gauge_dec(s->http, 0, ADMIN_RQ_ACTIVE);
    if (status == 0) {
        stats_inc(s->http, 0, ADMIN_RQ_RX_RESET);
        return;
    }
    count_status(s, status);
    stats_inc(s->http, 0, ADMIN_RQ_COMPLETED);
    stats_record(s->http, 0, ADMIN_RQ_TIME, ms);
}

void admin_stats_malformed(struct admin_stats_scope *s, unsigned status)
{
    stats_inc(s->http, 0, ADMIN_CX_PROTOCOL_ERROR);
    count_status(s, status);
}
