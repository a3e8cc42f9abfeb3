#include "proxy/router/upstream_request.h"

#include "base/obj.h"
#include "cluster/cluster_stats.h"
#include "proxy/http/stream.h"
#include "proxy/router/router.h"
#include "proxy/router/router_config.h"
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
    if (u->pc && !(u->cs && http_client_wire(u->pc, u->cs, &si->upstream_wire_bytes_received,
                                             &si->upstream_wire_bytes_sent))) {
        si->upstream_wire_bytes_received = u->pc->conn.bytes_read - u->bytes_read;
        si->upstream_wire_bytes_sent = u->pc->conn.bytes_written - u->bytes_written;
    }
    u->over = true;
    u->cs = NULL;
    u->pc = NULL;
    timer_disarm(&u->per_try);
    timer_disarm(&u->per_try_idle);
}

static void failed(struct upstream_request *u, enum try_failure f, struct str transport)
{
    bool started = u->started_us != 0;
    let_go(u);
    router_on_failed(u->router, f, transport, started);
}

/* --- events of the upstream codec --- */

static void touch(struct upstream_request *u)
{
    uint64_t idle = u->router->retry.per_try_idle_timeout_ms;
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
    r->stream->info.upstream_first_rx_us = now_us(u);
    cluster_count_outcome(r->cluster, u->host, OUTCOME_STATUS, h->status);
    timer_disarm(&u->per_try);
    touch(u);
    if (end)
        response_ended(u);
    router_on_headers(r, h, end);
}

static void on_data(void *user, struct buffer *data, bool end)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    touch(u);
    if (end)
        response_ended(u);
    router_on_data(u->router, data, end);
}

static void on_trailers(void *user, struct headers *h)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    response_ended(u);
    router_on_trailers(u->router, h);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct upstream_request *u = OBJ_CAST(user, struct upstream_request, UPSTREAM_MAGIC);
    enum try_failure f = TRY_CONN_TERMINATED;
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
    if (!u->got_headers)
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
    router_on_writable(u->router);
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

static void timed_out(struct upstream_request *u, enum try_failure why, uint32_t stat)
{
    struct codec_stream *cs = u->cs;
    count(u, stat);
    if (!u->got_headers)
        cluster_count_outcome(u->router->cluster, u->host, OUTCOME_TIMEOUT, 0);
    if (cs && u->http2)
        count(u, CLUSTER_UPSTREAM_RQ_TX_RESET);
    if (cs)
        cs->ops->reset(cs, RESET_LOCAL);
    failed(u, why, STR_NULL);
}

static void on_per_try(void *arg)
{
    struct upstream_request *u = OBJ_CAST(arg, struct upstream_request, UPSTREAM_MAGIC);
    timed_out(u, TRY_TIMEOUT, CLUSTER_UPSTREAM_RQ_PER_TRY_TIMEOUT);
}

static void on_per_try_idle(void *arg)
{
    struct upstream_request *u = OBJ_CAST(arg, struct upstream_request, UPSTREAM_MAGIC);
    timed_out(u, TRY_IDLE_TIMEOUT, CLUSTER_UPSTREAM_RQ_PER_TRY_IDLE_TIMEOUT);
}

/* The per-try timeout runs from the moment the whole request was there to be sent. */
static void arm_per_try(struct upstream_request *u)
{
    struct router *r = u->router;
    if (r->per_try_ms && u->sent_end && !u->got_headers)
        timer_arm(&u->per_try, r->per_try_ms);
    touch(u);
}

/* --- the slot --- */

static void describe(struct upstream_request *u)
{
    struct stream *s = u->router->stream;
    struct stream_info *si = &s->info;
    u->bytes_read = u->pc->conn.bytes_read;
    u->bytes_written = u->pc->conn.bytes_written;
    si->upstream_local = u->pc->conn.local;
    si->upstream_remote = u->host->addr;
    u->http2 = u->pc->proto == &h2_client_protocol;
    si->upstream_protocol = u->http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP11;
    si->upstream_first_tx_us = now_us(u);
    stream_info_set_upstream_tls(si, conn_peer(&u->pc->conn), s->arena);
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
        failed(u, TRY_CONNECT_FAILED, arena_str(s->arena, detail));
        return;
    case POOL_CONNECT_TIMEOUT:
        failed(u, TRY_CONNECT_TIMEOUT, arena_str(s->arena, detail));
        return;
    case POOL_READY:
        break;
    }
    u->pc = pc;
    u->started_us = now_us(u);
    describe(u);
    struct http_client_limits limits = response_limits(r->cluster->config);
    u->cs = http_client_stream(pc, s->arena, &limits, &events, u);
    u->cs = upstream_filters_wrap(
        u->cs, s, router_upstream_filters(s->hc->config->filters.terminal), &events, u);
    for (uint32_t i = 0; i < u->pauses; i++)
        u->cs->ops->pause(u->cs);
    bool trailers = s->request_trailers && upstream_request_takes_trailers(u);
    bool end = s->request_end && r->body.len == 0 && !trailers;
    u->sent_end = end;
    if (end)
        s->info.upstream_last_tx_us = now_us(u);
    u->cs->ops->headers(u->cs, s->request, end);
    if (!u->over && !end)
        router_on_writable(r);
    if (!u->over)
        arm_per_try(u);
}

static const struct pool_protocol *protocol_for(const struct router *r)
{
    switch (r->cluster->config->http) {
    case UPSTREAM_HTTP1:
        return &h1_client_protocol;
    case UPSTREAM_HTTP2:
        return &h2_client_protocol;
    case UPSTREAM_DOWNSTREAM:
        return r->stream->info.protocol == PROTOCOL_HTTP2 ? &h2_client_protocol
                                                          : &h1_client_protocol;
    case UPSTREAM_AUTO:
        return &http_auto_protocol;
    }
    return &h1_client_protocol;
}

struct upstream_request *upstream_request_new(struct router *r, struct host *h)
{
    struct stream *s = r->stream;
    struct upstream_request *u = ARENA_NEW(s->arena, struct upstream_request);
    u->magic = UPSTREAM_MAGIC;
    u->router = r;
    u->host = h;
    timer_init(&u->per_try, s->worker->loop, on_per_try, u);
    timer_init(&u->per_try_idle, s->worker->loop, on_per_try_idle, u);
    s->info.upstream_host = arena_str(s->arena, h->address_text);
    pool_acquire(r->cluster, h, protocol_for(r), NULL, s->route->priority, &u->slot, on_slot, u);
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
    u->cs->ops->data(u->cs, b, end);
    if (end && !u->over)
        arm_per_try(u);
}

void upstream_request_trailers(struct upstream_request *u, const struct headers *h)
{
    u->sent_end = true;
    u->router->stream->info.upstream_last_tx_us = now_us(u);
    u->cs->ops->trailers(u->cs, h);
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
    if (cs && u->http2) /* in HTTP/1 the connection ends */
        count(u, CLUSTER_UPSTREAM_RQ_TX_RESET);
    if (cs)
        cs->ops->reset(cs, RESET_LOCAL);
    host_unref(u->host);
    u->host = NULL;
    u->magic = 0;
}
