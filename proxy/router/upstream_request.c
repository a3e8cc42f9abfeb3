#include "proxy/router/upstream_request.h"

#include "base/obj.h"
#include "cluster/cluster_stats.h"
#include "cluster/health.h"
#include "proxy/http/stream.h"
#include "proxy/listener/downstream.h"
#include "tls/proxy_header_write.h"
#include "proxy/observe/access_log.h"
#include "proxy/router/router.h"
#include "proxy/router/router_config.h"
#include "proxy/router/test_faults.h"
#include "proxy/router/upstream_filters.h"
#include "proxy/worker.h"

enum { UPSTREAM_MAGIC = 0x55505351 };

enum { RESPONSE_HEADERS_BYTES = 61440, RESPONSE_HEADERS = 100 };

static struct http_client_limits response_limits(const struct cluster_config *config)
{
    return (struct http_client_limits){
        config->max_headers_kb ? config->max_headers_kb * 1024 : RESPONSE_HEADERS_BYTES,
        config->max_headers_count ? config->max_headers_count : RESPONSE_HEADERS, &config->http1};
}

const struct pool_protocol *upstream_protocol(const struct cluster *c, enum http_protocol down)
{
    switch (c->config->http) {
    case UPSTREAM_HTTP1:
        break;
    case UPSTREAM_HTTP2:
        return &h2_client_protocol;
    case UPSTREAM_DOWNSTREAM:
        return down == PROTOCOL_HTTP2 ? &h2_client_protocol : &h1_client_protocol;
    case UPSTREAM_AUTO:
        return &http_auto_protocol;
    }
    return &h1_client_protocol;
}

struct codec_stream *upstream_open(struct pool_conn *pc, const struct cluster *c, struct arena *a,
                                   const struct codec_events *events, void *user)
{
    struct http_client_limits limits = response_limits(c->config);
    return http_client_stream(pc, a, &limits, events, user);
}

static uint64_t now_us(const struct upstream_request *u)
{
    return loop_now_us(u->router->stream->worker->loop);
}

static void count(struct upstream_request *u, uint32_t stat)
{
    stats_inc(u->router->cluster->stats, u->router->stream->worker->index, stat);
}

/* The exchange is over; the connection belongs to the codec and the pool again. */
static void let_go(struct upstream_request *u)
{
    struct stream_info *si = &u->router->stream->info;
    if (u->pc && !(u->wire && http_client_wire(u->pc, u->wire, &si->upstream_wire_bytes_received,
                                               &si->upstream_wire_bytes_sent))) {
        si->upstream_wire_bytes_received = u->pc->conn.bytes_read - u->bytes_read;
        si->upstream_wire_bytes_sent = u->pc->conn.bytes_written - u->bytes_written;
    }
    u->over = true;
    u->cs = u->wire = NULL;
    u->pc = NULL;
    timer_disarm(&u->per_try);
    timer_disarm(&u->per_try_idle);
    timer_disarm(&u->max_duration);
}

static void failed(struct upstream_request *u, enum try_failure f, struct str transport)
{
    let_go(u);
    router_on_failed(u->router, u, f, transport);
}

/* --- lost races --- */

bool upstream_request_written(const struct upstream_request *u)
{
    return u->pc && u->pc->conn.bytes_written != u->bytes_written;
}

/* Safe methods (RFC 9110 section 9.2.1) without a body: twice is as good as once. */
static bool harmless(const struct stream *s)
{
    static const struct str safe[] = {{"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"TRACE", 5}};
    if (!s->request_end || s->info.bytes_received || s->request_trailers)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(safe); i++) {
        if (str_eq(s->request->method, safe[i]))
            return true;
    }
    return false;
}

/* Whether the connection that failed had served others before and was closed without a word. */
static bool lost_race(const struct upstream_request *u)
{
    if (!u->pc || u->pc->requests < 2 || u->got_headers)
        return false;
    if (!u->http2 && u->pc->conn.bytes_read != u->bytes_read)
        return false;
    return (!u->http2 && !upstream_request_written(u)) || harmless(u->router->stream);
}

/* --- events of the upstream codec --- */

static void touch(struct upstream_request *u)
{
    uint64_t idle = u->router->per_try_idle_ms;
    if (idle && u->sent_end)
        timer_arm(&u->per_try_idle, idle);
}

static void response_ended(struct upstream_request *u)
{
    struct stream_info *si = &u->router->stream->info;
    si->upstream_last_rx_us = now_us(u);
    if (u->sent_end)
        let_go(u); /* otherwise the exchange is reset when the try is dropped */
    timer_disarm(&u->per_try);
    timer_disarm(&u->per_try_idle);
    timer_disarm(&u->max_duration);
}

static void on_informational(void *user, struct headers *h)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    stream_response_informational(u->router->stream, h);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    struct router *r = u->router;
    u->got_headers = true;
    u->response = h;
    r->stream->info.upstream_first_rx_us = now_us(u);
    cluster_count_outcome(r->cluster, u->host, OUTCOME_STATUS, h->status);
    if (headers_known(h, HDR_X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL))
        health_report_fail(u->host);
    timer_disarm(&u->per_try);
    touch(u);
    if (end)
        response_ended(u);
    router_on_headers(r, u, h, end);
}

static void on_data(void *user, struct buffer *data, bool end)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    touch(u);
    u->body_received += data->len;
    if (end)
        response_ended(u);
    router_on_data(u->router, u, data, end);
}

static void on_trailers(void *user, struct headers *h)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    response_ended(u);
    router_on_trailers(u->router, u, h);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    enum try_failure f = TRY_CONN_TERMINATED;
    u->raced = why == RESET_CONN_TERMINATED && lost_race(u);
    switch (why) {
    case RESET_LOCAL:
    case RESET_CONN_TERMINATED:
        break;
    case RESET_REMOTE:
        f = TRY_REMOTE_RESET;
        break;
    case RESET_PROTOCOL_ERROR:
    case RESET_OVERFLOW:
    case RESET_HEADERS_TOO_LARGE:
        f = TRY_PROTOCOL_ERROR;
        count(u, CLUSTER_UPSTREAM_CX_PROTOCOL_ERROR);
        break;
    case RESET_REFUSED:
        f = TRY_REFUSED;
        break;
    }
    if (why == RESET_REMOTE || why == RESET_REFUSED)
        count(u, CLUSTER_UPSTREAM_RQ_RX_RESET);
    if (!u->got_headers && !u->raced)
        cluster_count_outcome(u->router->cluster, u->host, OUTCOME_RESET, 0);
    failed(u, f, STR_NULL);
}

static void on_above(void *user)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    u->above = true;
}

static void on_below(void *user)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    u->above = false;
    router_on_writable(u->router, u);
}

static const struct codec_events events = {
    .on_informational = on_informational,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_above,
    .on_below = on_below,
};

/* --- timeouts --- */

static void timed_out(struct upstream_request *u, enum try_failure f, uint32_t stat)
{
    struct codec_stream *cs = u->cs;
    count(u, stat);
    if (!u->got_headers && f != TRY_MAX_DURATION)
        cluster_count_outcome(u->router->cluster, u->host, OUTCOME_TIMEOUT, 0);
    let_go(u);
    if (cs && u->http2)
        count(u, CLUSTER_UPSTREAM_RQ_TX_RESET);
    if (cs)
        cs->ops->reset(cs, RESET_LOCAL);
    router_on_failed(u->router, u, f, STR_NULL);
}

static void on_per_try(void *arg)
{
    struct upstream_request *u = OBJ_CAST(arg, struct upstream_request, UPSTREAM_MAGIC);
    if (u->router->hedge) {
        router_on_late(u->router, u);
        return;
    }
    timed_out(u, TRY_TIMEOUT, CLUSTER_UPSTREAM_RQ_PER_TRY_TIMEOUT);
}

static void on_per_try_idle(void *arg)
{
    struct upstream_request *u = OBJ_CAST(arg, struct upstream_request, UPSTREAM_MAGIC);
    if (u->router->hedge) {
        if (!u->late)
            router_on_late(u->router, u);
        return;
    }
    timed_out(u, TRY_IDLE_TIMEOUT, CLUSTER_UPSTREAM_RQ_PER_TRY_IDLE_TIMEOUT);
}

static void on_max_duration(void *arg)
{
    struct upstream_request *u = OBJ_CAST(arg, struct upstream_request, UPSTREAM_MAGIC);
    timed_out(u, TRY_MAX_DURATION, CLUSTER_UPSTREAM_RQ_MAX_DURATION_REACHED);
}

/* The per-try timeout runs from the moment the whole request was there to be sent. */
static void arm_per_try(struct upstream_request *u)
{
    struct router *r = u->router;
    if (r->per_try_ms && u->sent_end && !u->got_headers && !u->late)
        timer_arm(&u->per_try, r->per_try_ms);
    touch(u);
}

/* --- the slot --- */

void upstream_request_describe(struct upstream_request *u)
{
    struct stream *s = u->router->stream;
    struct stream_info *si = &s->info;
    if (!u->pc)
        return;
    si->upstream_local = u->pc->conn.local;
    si->upstream_remote = u->pc->conn.peer;
    u->http2 = u->pc->proto == &h2_client_protocol;
    si->upstream_protocol = u->http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP11;
    si->upstream_first_tx_us = u->started_us;
    stream_info_set_upstream_tls(si, conn_peer(&u->pc->conn), s->arena);
    if (s->hc->config->scheme_match_upstream)
        s->request->scheme = si->upstream_tls ? STR("https") : STR("http");
}

/* A CONNECT, or where that is allowed a POST, that ends here (connect_config): its payload alone is
 * sent on. NULL: it is forwarded. */
static const struct route_upgrade *connect_here(const struct stream *s)
{
    bool connect = s->tunnel && !headers_known(s->request, HDR_UPGRADE);
    if (!s->route->num_upgrades || (!connect && !str_eq(s->request->method, STR("POST"))))
        return NULL;
    const struct route_upgrade *u = route_upgrade_find(s->route, STR("CONNECT"));
    return u && u->has_connect && (connect || u->allow_post) ? u : NULL;
}

static struct codec_stream *open_tunnel(struct upstream_request *u,
                                        const struct route_upgrade *connect)
{
    struct stream *s = u->router->stream;
    if (connect->proxy_protocol) {
        (void)proxy_header_write(&u->pc->conn.out, connect->proxy_protocol,
                                 &s->info.downstream_remote, &s->hc->down->info.local, NULL);
        conn_flush_soon(&u->pc->conn);
    }
    return tcp_client_stream(u->pc, s->arena, &events, u);
}

/* As long as not one byte could be written, any request may be sent once more. */
static void hold_body(struct upstream_request *u)
{
    struct router *r = u->router;
    if (u->http2 || u->pc->requests < 2 || r->keep || !u->body.len || r->raced)
        return;
    r->hold = true;
    buffer_cleanup(&r->replay);
    for (size_t off = 0, n; off < u->body.len; off += n) {
        char bytes[4096];
        n = buffer_copy_out(&u->body, off, bytes, sizeof(bytes));
        buffer_add(&r->replay, bytes, n);
    }
}

/* The cluster's list counts more than the router's. The cluster may be changed meanwhile. */
static const struct http_filter_list *filters_of(struct upstream_request *u)
{
    const struct cluster_config *config = u->router->cluster->config;
    if (!config->http_filters)
        return router_upstream_filters(u->router->stream->hc->config->filters.terminal);
    if (!u->pinned)
        u->pinned = cluster_config_ref((struct cluster_config *)(uintptr_t)config);
    return config->http_filters;
}

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result result, struct str detail)
{
    struct upstream_request *u = OBJ_CAST(arg, struct upstream_request, UPSTREAM_MAGIC);
    struct router *r = u->router;
    struct stream *s = r->stream;
    switch (result) {
    case POOL_OVERFLOW:
        failed(u, TRY_OVERFLOW, STR_NULL);
        return;
    case POOL_CONNECT_FAILED:
        cluster_count_outcome(r->cluster, u->host, OUTCOME_CONNECT_FAILED, 0);
        failed(u, TRY_CONNECT_FAILED, arena_str(s->arena, detail));
        return;
    case POOL_CONNECT_TIMEOUT:
        cluster_count_outcome(r->cluster, u->host, OUTCOME_CONNECT_TIMEOUT, 0);
        failed(u, TRY_CONNECT_TIMEOUT, arena_str(s->arena, detail));
        return;
    case POOL_READY:
        break;
    }
    u->pc = pc;
    u->started_us = now_us(u);
    u->bytes_read = pc->conn.bytes_read;
    u->bytes_written = pc->conn.bytes_written;
    upstream_request_describe(u);
    if (r->max_try_ms)
        timer_arm(&u->max_duration, r->max_try_ms);
    hold_body(u);
    const struct route_upgrade *connect = connect_here(s);
    if (connect)
        u->cs = open_tunnel(u, connect);
    else
        u->cs = upstream_open(pc, r->cluster, s->arena, &events, u);
    u->wire = u->cs;
    u->cs = upstream_filters_wrap(u->cs, s, filters_of(u), &events, u);
    for (uint32_t i = 0; i < u->pauses; i++)
        u->cs->ops->pause(u->cs);
    bool trailers = s->request_trailers && upstream_request_takes_trailers(u);
    bool end = s->request_end && u->body.len == 0 && !trailers;
    u->sent_end = end;
    if (end)
        s->info.upstream_last_tx_us = now_us(u);
    u->cs->ops->headers(u->cs, s->request, end);
    test_fault(r, u, end ? FAULT_AWAITED : FAULT_HEAD_SENT);
    if (!u->over && !end)
        router_on_writable(r, u);
    if (!u->over)
        arm_per_try(u);
}

struct upstream_request *upstream_request_new(struct router *r, struct host *h, bool fresh)
{
    struct stream *s = r->stream;
    struct upstream_request *u = ARENA_NEW(s->arena, struct upstream_request);
    u->magic = UPSTREAM_MAGIC;
    u->router = r;
    u->host = h;
    u->begun_us = now_us(u);
    u->attempt = r->tries;
    if (r->per_try_ms)
        timer_init(&u->per_try, s->worker->loop, on_per_try, u);
    if (r->per_try_idle_ms)
        timer_init(&u->per_try_idle, s->worker->loop, on_per_try_idle, u);
    if (r->max_try_ms)
        timer_init(&u->max_duration, s->worker->loop, on_max_duration, u);
    s->info.upstream_host = arena_str(s->arena, h->address_text);
    struct pool_options room; /* large, and mostly not needed */
    const struct pool_options *options = downstream_pool_options(s->info.conn, r->cluster->config,
                                                                 s->info.conn->tlvs, &room);
    if (fresh) {
        if (!options)
            room = (struct pool_options){0};
        room.fresh = true;
        options = &room;
    }
    const struct pool_protocol *protocol = upstream_protocol(r->cluster, s->info.protocol);
    pool_acquire(r->cluster, h, connect_here(s) ? &pool_protocol_tcp : protocol, options,
                 s->route->priority, &u->slot, on_slot, u);
    return u;
}

/* --- what the router asks --- */

bool upstream_request_takes_trailers(const struct upstream_request *u)
{
    return u->http2 || u->router->cluster->config->http1.trailers;
}

bool upstream_request_ready(const struct upstream_request *u)
{
    return u->cs && !u->over && !u->above;
}

void upstream_request_body(struct upstream_request *u, struct buffer *b, bool end)
{
    struct stream_info *si = &u->router->stream->info;
    if (end) {
        u->sent_end = true;
        si->upstream_last_tx_us = now_us(u);
    }
    u->body_sent += b->len;
    u->cs->ops->data(u->cs, b, end);
    test_fault(u->router, u, end ? FAULT_AWAITED : FAULT_BODY_SENT);
    if (end && !u->over)
        arm_per_try(u);
}

void upstream_request_trailers(struct upstream_request *u, const struct headers *h)
{
    u->sent_end = true;
    u->router->stream->info.upstream_last_tx_us = now_us(u);
    u->cs->ops->trailers(u->cs, h);
    test_fault(u->router, u, FAULT_AWAITED);
    if (!u->over)
        arm_per_try(u);
}

void upstream_request_pause(struct upstream_request *u)
{
    u->pauses++;
    if (u->cs)
        u->cs->ops->pause(u->cs);
}

void upstream_request_resume(struct upstream_request *u)
{
    CHECK(u->pauses > 0);
    u->pauses--;
    if (u->cs)
        u->cs->ops->resume(u->cs);
}

/* The line of one try (Router.upstream_log): what it alone came to. */
static void write_logs(struct upstream_request *u)
{
    struct stream *s = u->router->stream;
    const struct hcm_config *cfg = s->hc->config;
    struct stream_info si = s->info;
    si.response = u->response;
    si.response_code = u->response ? u->response->status : 0;
    si.response_trailers = u->got_headers ? si.response_trailers : NULL;
    si.flags = u->flags;
    si.code_details = STR_NULL;
    si.attempts = u->attempt;
    si.bytes_sent = u->body_sent;
    si.bytes_received = u->body_received;
    si.upstream_host = u->host->address_text;
    si.start_us = u->begun_us;
    si.end_us = now_us(u);
    for (size_t i = 0; i < cfg->num_upstream_logs; i++)
        access_log_write(cfg->upstream_logs[i], &si);
}

void upstream_request_drop(struct upstream_request **up)
{
    struct upstream_request *u = *up;
    if (!u)
        return;
    *up = NULL;
    struct codec_stream *cs = u->cs;
    if (!u->over && !cs)
        pool_cancel(&u->slot);
    let_go(u);
    if (u->router->stream->hc->config->num_upstream_logs)
        write_logs(u);
    if (cs && u->http2) /* in HTTP/1 the connection ends */
        count(u, CLUSTER_UPSTREAM_RQ_TX_RESET);
    if (cs)
        cs->ops->reset(cs, RESET_LOCAL);
    buffer_cleanup(&u->body);
    cluster_config_unref(u->pinned);
    u->pinned = NULL;
    host_unref(u->host);
    u->host = NULL;
    u->magic = 0;
}
