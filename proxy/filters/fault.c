/* envoy.filters.http.fault: delays and aborts requests and slows responses down, for a share of
 * those that fit, to see what clients make of it. A route's configuration takes the place of the
 * filter's. */
#include "proxy/filters/fault.h"

#include "base/arena.h"
#include "proxy/filters/filter_common.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/http/stream.h"
#include "proxy/worker.h"

static struct str header_value(const struct headers *h, const char *name)
{
    const struct header *f = headers_find(h, str_of(name));
    return f ? f->value : STR_NULL;
}

/* The share, which a header may make smaller but not larger. */
static bool hit(const struct fault_share *s, const struct headers *h)
{
    uint64_t n = s->numerator, wanted;
    if (s->header && str_to_u64(header_value(h, s->header), &wanted) && wanted < n)
        n = wanted;
    return n >= s->denominator ||
           (n && filter_chance((uint32_t)(n * FILTER_ALWAYS_PPM / s->denominator)));
}

/* --- whether there may be one more fault --- */

static bool begin(struct http_filter *f, struct fault_state *s)
{
    const struct fault_config *own = f->config;
    if (s->active)
        return true;
    if (s->c->has_max_active &&
        (own->stats ? stats_gauge_now(own->stats, FAULT_ACTIVE) : 0) >= s->c->max_active) {
        filter_stats_inc(f, own->stats, FAULT_OVERFLOW);
        return false;
    }
    s->active = true;
    if (own->stats)
        stats_gauge_inc(own->stats, filter_thread(f), FAULT_ACTIVE);
    return true;
}

/* In general, and of the cluster the request says it comes from; and leaves the metadata. */
static void count_fault(struct http_filter *f, const struct fault_state *s, uint32_t idx,
                        const char *name)
{
    const struct fault_config *own = f->config;
    struct stream *st = f->stream;
    if (s->c->metadata)
        metadata_merge(&st->info.metadata, st->arena, f->name, s->c->metadata);
    filter_stats_inc(f, own->stats, idx);
    if (!s->from.len || s->c->no_cluster_stats || !own->stats)
        return;
    struct str full = arena_printf(st->arena, "%.*s.%s", STR_ARG(s->from), name);
    stats_count_name(own->stats, filter_thread(f), "", full);
}

/* --- abort --- */

static void add_grpc_status(void *arg, struct headers *h)
{
    const struct fault_state *s = arg;
    headers_set_known(h, HDR_GRPC_STATUS, arena_printf(h->arena, "%u", (unsigned)s->grpc_status));
}

/* With which status, 0: none. */
static unsigned abort_status(struct fault_state *s, const struct headers *h)
{
    const struct fault_config *c = s->c;
    uint64_t n;
    if (c->abort == FAULT_NONE || !hit(&c->abort_share, h))
        return 0;
    if (c->abort == FAULT_FIXED) {
        s->has_grpc_status = c->abort_grpc;
        s->grpc_status = c->grpc_status;
        return c->abort_grpc ? 200 : c->http_status;
    }
    if (str_to_u64(header_value(h, "x-envoy-fault-abort-grpc-request"), &n) && n <= UINT32_MAX) {
        s->has_grpc_status = true;
        s->grpc_status = (uint32_t)n;
    }
    if (str_to_u64(header_value(h, "x-envoy-fault-abort-request"), &n) && n >= 200 && n < 600)
        return (unsigned)n;
    return s->has_grpc_status ? 200 : 0;
}

/* True: the request has been answered. */
static bool abort_now(struct http_filter *f, struct fault_state *s)
{
    const struct headers *h = http_filter_request(f);
    unsigned status = abort_status(s, h);
    if (!status || !begin(f, s))
        return false;
    count_fault(f, s, FAULT_ABORTS, "aborts_injected");
    bool tell = s->has_grpc_status && headers_is_grpc(h);
    http_filter_reply(f, status, FLAG(FAULT_INJECTED), STR("fault_filter_abort"),
                      STR("fault filter abort"), tell ? add_grpc_status : NULL, s);
    return true;
}

/* --- delay --- */

static void on_delayed(void *arg)
{
    struct http_filter *f = arg;
    if (f->chain->stopped[HTTP_REQUEST] || abort_now(f, f->state))
        return;
    http_filter_continue_request(f);
}

static bool delay(struct http_filter *f, struct fault_state *s, const struct headers *h)
{
    const struct fault_config *c = s->c;
    uint64_t ms = c->delay_ms;
    if (c->delay == FAULT_NONE || !hit(&c->delay_share, h))
        return false;
    if (c->delay == FAULT_BY_HEADER &&
        !str_to_u64(header_value(h, "x-envoy-fault-delay-request"), &ms))
        return false;
    if (!ms || !begin(f, s))
        return false;
    count_fault(f, s, FAULT_DELAYS, "delays_injected");
    f->stream->info.flags |= FLAG(DELAY_INJECTED);
    timer_init(&s->delay, f->stream->worker->loop, on_delayed, f);
    timer_arm(&s->delay, ms);
    return true;
}

/* --- the rate of the response --- */

enum { TICK_MS = 50, TICKS_A_SECOND = 1000 / TICK_MS };

/* Gives on what the passed ticks allow; then waits for the next one if something is left. */
static void on_tick(void *arg)
{
    struct http_filter *f = arg;
    struct fault_state *s = f->state;
    struct buffer out;
    buffer_init(&out);
    buffer_move(&out, &s->body, s->bytes_a_tick);
    bool all = s->body.len == 0;
    if (!all)
        timer_arm(&s->tick, TICK_MS);
    else
        s->last_tick_ms = loop_now_ms(f->stream->worker->loop);
    if (s->source_paused && s->body.len <= s->limit / 2) {
        s->source_paused = false;
        http_filter_resume_response_source(f);
    }
    bool trailers = s->trailers;
    http_filter_inject_response(f, &out, all && s->end && !trailers);
    buffer_cleanup(&out);
    if (all && trailers && !s->done)
        http_filter_continue_response(f);
}

static void limit_response(struct http_filter *f, struct fault_state *s, const struct headers *h)
{
    const struct fault_config *own = f->config, *c = s->c;
    uint64_t kbps = c->limit_kbps;
    if (c->limit == FAULT_NONE || !hit(&c->limit_share, h))
        return;
    if (c->limit == FAULT_BY_HEADER &&
        (!str_to_u64(header_value(h, "x-envoy-fault-throughput-response"), &kbps) || !kbps))
        return;
    if (!begin(f, s))
        return;
    filter_stats_inc(f, own->stats, FAULT_RATE_LIMITED);
    if (kbps > SIZE_MAX / 1024)
        kbps = SIZE_MAX / 1024;
    s->bytes_a_tick = (size_t)(kbps * 1024 / TICKS_A_SECOND);
    s->limit = downstream_buffer_limit(f->stream->hc->down);
    buffer_init(&s->body);
    timer_init(&s->tick, f->stream->worker->loop, on_tick, f);
    http_filter_set_response_limit(f, SIZE_MAX); /* `body` has a limit of its own */
}

static enum filter_status on_response_data(struct http_filter *f, struct buffer *b, bool end)
{
    struct fault_state *s = f->state;
    if (!s || !s->bytes_a_tick)
        return FILTER_CONTINUE;
    s->end = end;
    if (b->len == 0 && s->body.len == 0)
        return FILTER_CONTINUE;
    buffer_move(&s->body, b, b->len);
    if (!timer_armed(&s->tick)) { /* the tick of bytes sent just now is not over yet */
        uint64_t since = loop_now_ms(s->tick.loop) - s->last_tick_ms;
        timer_arm(&s->tick, s->last_tick_ms && since < TICK_MS ? TICK_MS - since : 1);
    }
    if (s->body.len > s->limit && !s->source_paused) {
        s->source_paused = true;
        http_filter_pause_response_source(f);
    }
    return FILTER_COLLECT;
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    struct fault_state *s = f->state;
    if (!s || !s->bytes_a_tick || !s->body.len)
        return FILTER_CONTINUE;
    s->trailers = true;
    return FILTER_PAUSE;
}

/* --- the request --- */

static bool fits(const struct http_filter *f, const struct fault_config *c, const struct headers *h)
{
    if (c->upstream_cluster.len && !str_eq(c->upstream_cluster, f->stream->cluster_name))
        return false;
    struct str node = header_value(h, "x-envoy-downstream-service-node");
    bool known = c->num_nodes == 0;
    for (size_t i = 0; i < c->num_nodes && !known; i++)
        known = str_eq(node, c->nodes[i]);
    for (size_t i = 0; i < c->num_headers && known; i++)
        known = header_match(&c->headers[i], h, f->stream->arena);
    return known;
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct fault_config *own = http_filter_route_config(f);
    const struct fault_config *c = own ? own : f->config;
    if (!c->any || !fits(f, c, h))
        return FILTER_CONTINUE;
    struct fault_state *s = ARENA_NEW(h->arena, struct fault_state);
    f->state = s;
    s->c = c;
    s->from = header_value(h, "x-envoy-downstream-service-cluster");
    limit_response(f, s, h);
    return delay(f, s, h) || abort_now(f, s) ? FILTER_PAUSE : FILTER_CONTINUE;
}

static void on_complete(struct http_filter *f)
{
    const struct fault_config *own = f->config;
    struct fault_state *s = f->state;
    if (!s)
        return;
    s->done = true;
    timer_disarm(&s->delay);
    timer_disarm(&s->tick);
    buffer_cleanup(&s->body);
    if (s->active && own->stats)
        stats_gauge_dec(own->stats, filter_thread(f), FAULT_ACTIVE);
}

const struct http_filter_ops fault_filter = {
    .name = "envoy.filters.http.fault",
    .type_name = "envoy.extensions.filters.http.fault.v3.HTTPFault",
    .route_type_name = "envoy.extensions.filters.http.fault.v3.HTTPFault",
    .compile = fault_compile,
    .compile_route = fault_compile_route,
    .free = fault_free,
    .free_route = fault_free,
    .on_request_headers = on_request_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_complete = on_complete,
};
