/* envoy.filters.http.bandwidth_limit: bodies pass at no more than so many KiB a second, over all
 * streams and workers that share the configuration; a route's own has a bucket of its own. */
#include "api-protos/wkt.h"
#include "base/shared_rate.h"
#include "envoy/extensions/filters/http/bandwidth_limit/v3/bandwidth_limit.pb-c.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/http/http_chain.h"
#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"
#include "proxy/worker.h"

typedef Envoy__Extensions__Filters__Http__BandwidthLimit__V3__BandwidthLimit BandwidthLimit;

/* Each for both ways: that of the response follows that of the request. */
#define BANDWIDTH_STATS(X)                                                                         \
    X(BW_ENABLED, "request_enabled", COUNTER)                                                      \
    X(BW_ENABLED_RS, "response_enabled", COUNTER)                                                  \
    X(BW_ENFORCED, "request_enforced", COUNTER)                                                    \
    X(BW_ENFORCED_RS, "response_enforced", COUNTER)                                                \
    X(BW_PENDING, "request_pending", GAUGE)                                                        \
    X(BW_PENDING_RS, "response_pending", GAUGE)                                                    \
    X(BW_INCOMING, "request_incoming_size", GAUGE)                                                 \
    X(BW_INCOMING_RS, "response_incoming_size", GAUGE)                                             \
    X(BW_INCOMING_TOTAL, "request_incoming_total_size", COUNTER)                                   \
    X(BW_INCOMING_TOTAL_RS, "response_incoming_total_size", COUNTER)                               \
    X(BW_ALLOWED, "request_allowed_size", GAUGE)                                                   \
    X(BW_ALLOWED_RS, "response_allowed_size", GAUGE)                                               \
    X(BW_ALLOWED_TOTAL, "request_allowed_total_size", COUNTER)                                     \
    X(BW_ALLOWED_TOTAL_RS, "response_allowed_total_size", COUNTER)                                 \
    X(BW_DURATION, "request_transfer_duration", HISTOGRAM)                                         \
    X(BW_DURATION_RS, "response_transfer_duration", HISTOGRAM)
enum { BANDWIDTH_STATS(STATS_ENUM) };
static const struct stats_def defs[] = {BANDWIDTH_STATS(STATS_DEF)};
static struct stats_table table = STATS_TABLE(defs);

enum { DEFAULT_FILL_MS = 50, REQUEST = 1, RESPONSE = 2 };

struct bandwidth_config {
    bool enabled;
    unsigned ways; /* REQUEST, RESPONSE */
    uint64_t fill_ms;
    bool trailers;
    struct str prefix; /* of trailers, with its '-' */
    struct shared_rate rate;
    struct stats_scope *stats;
};

struct way_state {
    struct http_filter *filter;
    const struct bandwidth_config *c; /* NULL: passes as it is */
    enum http_way way;
    struct buffer body;
    size_t limit;
    bool end;                 /* after `body` */
    struct headers *trailers; /* then these, which the chain holds; or NULL */
    bool begun, source_paused;
    struct timer tick;
    uint64_t start_ms, took_ms, waited_ms;
};

struct bandwidth_state {
    struct way_state ways[2];
};

/* --- configuration --- */

static struct bandwidth_config *config_of(const struct http_filter_env *env,
                                          const BandwidthLimit *m, bool route, struct errors *e)
{
    struct bandwidth_config *c = ARENA_NEW(env->arena, struct bandwidth_config);
    if (!m) {
        errors_add(e, "stat_prefix", "is required");
        return NULL;
    }
    size_t before = e->num_errors;
    c->enabled = !m->runtime_enabled || wkt_bool(m->runtime_enabled->default_value, true);
    c->ways = (unsigned)m->enable_mode;
    if (c->ways > (REQUEST | RESPONSE))
        errors_add(e, "enable_mode", "value %u is not known", c->ways);
    if (!m->limit_kbps && (route || c->ways))
        errors_add(e, "limit_kbps", "is required");
    c->fill_ms = wkt_duration_ms(m->fill_interval, DEFAULT_FILL_MS, e, "fill_interval");
    c->trailers = m->enable_response_trailers;
    if (m->response_trailer_prefix && *m->response_trailer_prefix)
        c->prefix = arena_printf(env->arena, "%s-", m->response_trailer_prefix);
    uint64_t kib = wkt_u64(m->limit_kbps, 1);
    shared_rate_init(&c->rate, kib > SHARED_RATE_MAX / 1024 ? SHARED_RATE_MAX : kib * 1024);
    if (e->num_errors > before || env->compile->validate)
        return c;
    struct stats_part parts[] = {{str_of(m->stat_prefix), NULL},
                                 {STR("http_bandwidth_limit"), NULL}};
    c->stats = stats_scope_new(&table, parts, ARRAY_LEN(parts));
    return c;
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    return config_of(env, msg, false, e);
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    return config_of(env, msg, true, e);
}

static void free_config(void *config)
{
    struct bandwidth_config *c = config;
    stats_scope_free(&c->stats);
}

/* --- counting --- */

static void add(const struct way_state *w, uint32_t stat, uint64_t n)
{
    if (w->c->stats)
        stats_add(w->c->stats, filter_thread(w->filter), stat + w->way, n);
}

static void set(const struct way_state *w, uint32_t stat, uint64_t n)
{
    if (w->c->stats)
        stats_gauge_set(w->c->stats, filter_thread(w->filter), stat + w->way, n);
}

static void pending(const struct way_state *w, int64_t n)
{
    if (w->c->stats)
        stats_gauge_add(w->c->stats, filter_thread(w->filter), BW_PENDING + w->way, n);
}

static uint64_t now_ms(const struct way_state *w)
{
    return loop_now_ms(w->filter->stream->worker->loop);
}

static void finished(struct way_state *w)
{
    w->begun = false;
    w->took_ms = now_ms(w) - w->start_ms;
    pending(w, -1);
    if (w->c->stats)
        stats_record(w->c->stats, filter_thread(w->filter), BW_DURATION + w->way, w->took_ms);
}

/* --- passing --- */

static void tell(const struct way_state *w, struct headers *h, const char *name, uint64_t ms)
{
    if (ms)
        headers_add(h,
                    arena_printf(h->arena, "%.*sbandwidth-%s-%s-ms", STR_ARG(w->c->prefix),
                                 w->way == HTTP_REQUEST ? "request" : "response", name),
                    arena_printf(h->arena, "%llu", (unsigned long long)ms));
}

static void tell_both(const struct bandwidth_state *s, struct headers *trailers)
{
    for (int way = 0; way < 2; way++) {
        if (!s->ways[way].c)
            continue;
        tell(&s->ways[way], trailers, "delay", s->ways[way].took_ms);
        tell(&s->ways[way], trailers, "filter-delay", s->ways[way].waited_ms);
    }
}

static void pause_source(struct way_state *w, bool pause)
{
    if (w->source_paused == pause)
        return;
    w->source_paused = pause;
    if (w->way == HTTP_REQUEST)
        pause ? http_filter_pause_request_source(w->filter)
              : http_filter_resume_request_source(w->filter);
    else
        pause ? http_filter_pause_response_source(w->filter)
              : http_filter_resume_response_source(w->filter);
}

/* All is gone: the end follows. */
static void give_end(struct way_state *w, struct buffer *out)
{
    struct http_filter *f = w->filter;
    bool told = w->c->trailers && w->way == HTTP_RESPONSE;
    finished(w);
    if (told)
        tell_both(f->state, w->trailers ? w->trailers : http_filter_add_response_trailers(f));
    if (w->way == HTTP_REQUEST)
        http_filter_inject_request(f, out, w->end && !w->trailers);
    else
        http_filter_inject_response(f, out, w->end && !w->trailers);
    if (!w->trailers || !w->c)
        return;
    if (w->way == HTTP_REQUEST)
        http_filter_continue_request(f);
    else
        http_filter_continue_response(f);
}

static void on_tick(void *arg)
{
    struct way_state *w = arg;
    struct buffer out;
    uint64_t us = loop_now_us(w->filter->stream->worker->loop);
    uint64_t n = shared_rate_take((struct shared_rate *)&w->c->rate, w->body.len, us);
    buffer_init(&out);
    buffer_move(&out, &w->body, n);
    set(w, BW_ALLOWED, n);
    add(w, BW_ALLOWED_TOTAL, n);
    if (w->body.len) {
        add(w, BW_ENFORCED, 1);
        w->waited_ms += w->c->fill_ms;
        timer_arm(&w->tick, w->c->fill_ms);
    }
    pause_source(w, w->body.len > w->limit);
    if (w->body.len == 0 && w->end)
        give_end(w, &out);
    else if (w->way == HTTP_REQUEST)
        http_filter_inject_request(w->filter, &out, false);
    else
        http_filter_inject_response(w->filter, &out, false);
    buffer_cleanup(&out);
}

static void begin(struct http_filter *f, enum http_way way, struct headers *h)
{
    const struct bandwidth_config *own = http_filter_route_config(f);
    const struct bandwidth_config *c = own ? own : f->config;
    if (!c->enabled || !(c->ways & (way == HTTP_REQUEST ? REQUEST : RESPONSE)))
        return;
    if (!f->state)
        f->state = ARENA_NEW(h->arena, struct bandwidth_state);
    struct way_state *w = &((struct bandwidth_state *)f->state)->ways[way];
    w->filter = f;
    w->c = c;
    w->way = way;
    w->limit = downstream_buffer_limit(f->stream->hc->down);
    buffer_init(&w->body);
    timer_init(&w->tick, f->stream->worker->loop, on_tick, w);
    shared_rate_start((struct shared_rate *)&c->rate, c->fill_ms,
                      loop_now_us(f->stream->worker->loop));
    add(w, BW_ENABLED, 1);
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    begin(f, HTTP_REQUEST, h);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    begin(f, HTTP_RESPONSE, h);
    return FILTER_CONTINUE;
}

static enum filter_status on_data(struct http_filter *f, enum http_way way, struct buffer *b,
                                  bool end)
{
    struct bandwidth_state *s = f->state;
    struct way_state *w = s ? &s->ways[way] : NULL;
    if (!w || !w->c)
        return FILTER_CONTINUE;
    if (!w->begun) {
        w->begun = true;
        w->start_ms = now_ms(w);
        pending(w, 1);
    }
    set(w, BW_INCOMING, b->len);
    add(w, BW_INCOMING_TOTAL, b->len);
    w->end = end;
    buffer_move(&w->body, b, b->len);
    if (!timer_armed(&w->tick))
        on_tick(w);
    else
        pause_source(w, w->body.len > w->limit);
    return FILTER_CONSUMED;
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    return on_data(f, HTTP_REQUEST, b, end);
}

static enum filter_status on_response_data(struct http_filter *f, struct buffer *b, bool end)
{
    return on_data(f, HTTP_RESPONSE, b, end);
}

static enum filter_status on_trailers(struct http_filter *f, enum http_way way, struct headers *h)
{
    struct bandwidth_state *s = f->state;
    struct way_state *w = s ? &s->ways[way] : NULL;
    if (!w || !w->c || !w->begun)
        return FILTER_CONTINUE;
    if (w->body.len) {
        w->end = true;
        w->trailers = h;
        return FILTER_PAUSE;
    }
    finished(w);
    if (w->c->trailers && way == HTTP_RESPONSE)
        tell_both(s, h);
    return FILTER_CONTINUE;
}

static enum filter_status on_request_trailers(struct http_filter *f, struct headers *h)
{
    return on_trailers(f, HTTP_REQUEST, h);
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    return on_trailers(f, HTTP_RESPONSE, h);
}

static void on_complete(struct http_filter *f)
{
    struct bandwidth_state *s = f->state;
    for (int way = 0; s && way < 2; way++) {
        struct way_state *w = &s->ways[way];
        if (!w->c)
            continue;
        if (w->begun)
            pending(w, -1);
        w->c = NULL;
        timer_disarm(&w->tick);
        buffer_cleanup(&w->body);
    }
}

const struct http_filter_ops bandwidth_limit_filter = {
    .name = "envoy.filters.http.bandwidth_limit",
    .type_name = "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
    .route_type_name = "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
    .compile = compile,
    .compile_route = compile_route,
    .free = free_config,
    .free_route = free_config,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_complete = on_complete,
};
