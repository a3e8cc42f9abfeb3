/* envoy.filters.http.decompressor: bodies whose content-encoding is the library's are decompressed
 * as they pass. How much may come out for what went in is checked at each chunk; a body that goes
 * beyond, is broken or is cut off is never passed on as a whole one: a request is answered with
 * 400 or 413, a response is cut off. */
#include "api-protos/wkt.h"
#include "envoy/extensions/filters/http/decompressor/v3/decompressor.pb-c.h"
#include "proxy/filters/body_codec.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/header_tokens.h"
#include "proxy/http/http_chain.h"
#include "proxy/http/stream.h"
#include "proxy/worker.h"

typedef Envoy__Extensions__Filters__Http__Decompressor__V3__Decompressor Decompressor;
typedef Envoy__Extensions__Filters__Http__Decompressor__V3__Decompressor__CommonDirectionConfig
    Common;

#define WAY_STATS(X)                                                                               \
    X(WAY_DECOMPRESSED, "decompressed", COUNTER)                                                   \
    X(WAY_NOT_DECOMPRESSED, "not_decompressed", COUNTER)                                           \
    X(WAY_UNCOMPRESSED_BYTES, "total_uncompressed_bytes", COUNTER)                                 \
    X(WAY_COMPRESSED_BYTES, "total_compressed_bytes", COUNTER)
enum { WAY_STATS(STATS_ENUM) };
/* What comes out at once, before it is asked whether what stands behind takes more. */
enum { SLICE = 16384 };

static const struct stats_def way_defs[] = {WAY_STATS(STATS_DEF)};
static struct stats_table way_table = STATS_TABLE(way_defs);

struct way_config {
    bool enabled, ignore_no_transform;
    struct stats_scope *stats;
};

struct decompressor_config {
    struct body_library *library;
    struct way_config ways[2]; /* by enum http_way */
    struct stats_scope *errors;
    bool advertise;
    struct str compressed_name, uncompressed_name; /* of trailers */
};

struct way_state {
    struct body_codec *codec; /* NULL: passes as it is */
    uint64_t in, out;
    struct buffer pending;    /* not decompressed yet: what stands behind is full */
    bool end;                 /* it ends after `pending` */
    struct headers *trailers; /* then these follow, which the chain holds; or NULL */
    bool waiting;             /* the task is to go on */
    bool source_paused;
    struct task task;
    struct http_filter *filter;
};

struct decompressor_state {
    struct way_state ways[2];
};

/* --- configuration --- */

static void compile_way(struct way_config *w, const Common *m)
{
    w->enabled = !m || !m->enabled || wkt_bool(m->enabled->default_value, true);
    w->ignore_no_transform = m && m->ignore_no_transform_header;
}

static void make_stats(struct decompressor_config *c, const struct http_filter_env *env,
                       struct str name)
{
    const struct body_library_ops *ops = c->library->ops;
    struct str parts[] = {STR("decompressor"), name, str_of(ops->stat_name), STR("request")};
    c->ways[HTTP_REQUEST].stats = filter_stats_new(env, &way_table, parts, 4);
    parts[3] = STR("response");
    c->ways[HTTP_RESPONSE].stats = filter_stats_new(env, &way_table, parts, 4);
    parts[3] = STR("decompressor_library");
    c->errors = filter_stats_new(env, ops->errors, parts, 4);
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Decompressor *m = msg;
    struct decompressor_config *c = ARENA_NEW(env->arena, struct decompressor_config);
    if (!m) {
        errors_add(e, NULL, "a configuration is required");
        return NULL;
    }
    c->library = body_library_compile(env, m->decompressor_library, false, "decompressor_library",
                                      e);
    compile_way(&c->ways[HTTP_REQUEST],
                m->request_direction_config ? m->request_direction_config->common_config : NULL);
    compile_way(&c->ways[HTTP_RESPONSE],
                m->response_direction_config ? m->response_direction_config->common_config : NULL);
    c->advertise = !m->request_direction_config ||
                   wkt_bool(m->request_direction_config->advertise_accept_encoding, true);
    if (!c->library)
        return NULL;
    struct str name = str_of(m->decompressor_library->name);
    make_stats(c, env, name);
    c->compressed_name = arena_printf(env->arena, "x-envoy-decompressor-%.*s-compressed-bytes",
                                      STR_ARG(name));
    c->uncompressed_name = arena_printf(env->arena, "x-envoy-decompressor-%.*s-uncompressed-bytes",
                                        STR_ARG(name));
    return c;
}

static void free_config(void *config)
{
    struct decompressor_config *c = config;
    body_library_free(c->library);
    stats_scope_free(&c->ways[HTTP_REQUEST].stats);
    stats_scope_free(&c->ways[HTTP_RESPONSE].stats);
    stats_scope_free(&c->errors);
}

/* --- heads --- */

/* The library's encoding is asked for once, and with no weight but 1. */
static struct str advertised(struct arena *a, struct str accept, struct str encoding)
{
    char *p = arena_bytes(a, accept.len + encoding.len + 1);
    struct str word;
    size_t n = 0;
    while (str_next(&accept, ',', &word)) {
        struct str w = str_trim(word);
        if (!w.len || str_eq(header_cut(w, ';', NULL), encoding))
            continue;
        memcpy(p + n, w.p, w.len);
        n += w.len;
        p[n++] = ',';
    }
    memcpy(p + n, encoding.p, encoding.len);
    return str_n(p, n + encoding.len);
}

static bool encoded(const struct http_filter *f, const struct headers *h)
{
    const struct decompressor_config *c = f->config;
    const struct header *ce = headers_known(h, HDR_CONTENT_ENCODING);
    return ce && str_ieq(header_cut(ce->value, ',', NULL), str_of(c->library->ops->encoding));
}

static bool no_transform(const struct headers *h)
{
    const struct header *cc = headers_find(h, STR("cache-control"));
    return cc && header_has_token(cc->value, STR("no-transform"), true);
}

static void run_request(void *arg);
static void run_response(void *arg);

static bool begin(struct http_filter *f, enum http_way way, struct headers *h)
{
    const struct decompressor_config *c = f->config;
    struct decompressor_state *s = f->state;
    struct str others;
    s->ways[way].codec = c->library->ops->open(c->library);
    if (!s->ways[way].codec)
        return false;
    buffer_init(&s->ways[way].pending);
    s->ways[way].filter = f;
    task_init(&s->ways[way].task, way == HTTP_REQUEST ? run_request : run_response, &s->ways[way]);
    headers_remove_known(h, HDR_CONTENT_LENGTH);
    (void)header_cut(headers_known(h, HDR_CONTENT_ENCODING)->value, ',', &others);
    if (others.p)
        headers_set_known(h, HDR_CONTENT_ENCODING, str_trim(others));
    else
        headers_remove_known(h, HDR_CONTENT_ENCODING);
    return true;
}

static void look_at(struct http_filter *f, enum http_way way, struct headers *h)
{
    const struct decompressor_config *c = f->config;
    const struct way_config *w = &c->ways[way];
    if (!f->state)
        f->state = ARENA_NEW(h->arena, struct decompressor_state);
    bool doing = w->enabled && (w->ignore_no_transform || !no_transform(h)) && encoded(f, h) &&
                 begin(f, way, h);
    filter_stats_inc(f, w->stats, doing ? WAY_DECOMPRESSED : WAY_NOT_DECOMPRESSED);
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct decompressor_config *c = f->config;
    struct str accept = STR_NULL;
    if (c->ways[HTTP_RESPONSE].enabled && c->advertise) {
        (void)headers_value(h, STR("accept-encoding"), h->arena, &accept);
        headers_set_known(h, HDR_ACCEPT_ENCODING,
                          advertised(h->arena, accept, str_of(c->library->ops->encoding)));
    }
    if (!end)
        look_at(f, HTTP_REQUEST, h);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    if (!end)
        look_at(f, HTTP_RESPONSE, h);
    return FILTER_CONTINUE;
}

/* --- bodies --- */

static void refuse(struct http_filter *f, enum http_way way, bool too_much)
{
    if (way == HTTP_RESPONSE)
        http_filter_reply(f, 502, FLAG(UPSTREAM_PROTOCOL_ERROR),
                          too_much ? STR("response_decompressed_too_large")
                                   : STR("response_decompression_failed"),
                          STR_NULL, NULL, NULL);
    else if (too_much)
        http_filter_reply(f, 413, 0, STR("request_decompressed_too_large"),
                          STR("Payload Too Large"), NULL, NULL);
    else
        http_filter_reply(f, 400, 0, STR("request_decompression_failed"), STR("Bad Request"), NULL,
                          NULL);
}

static void tell_totals(const struct http_filter *f, enum http_way way, struct headers *trailers)
{
    const struct decompressor_config *c = f->config;
    const struct decompressor_state *s = f->state;
    const struct way_state *w = &s->ways[way];
    headers_add(trailers, c->compressed_name,
                arena_printf(trailers->arena, "%llu", (unsigned long long)w->in));
    headers_add(trailers, c->uncompressed_name,
                arena_printf(trailers->arena, "%llu", (unsigned long long)w->out));
}

static void give(struct http_filter *f, enum http_way way, struct buffer *b, bool end)
{
    if (way == HTTP_REQUEST)
        http_filter_inject_request(f, b, end);
    else
        http_filter_inject_response(f, b, end);
}

static void finish(struct http_filter *f, enum http_way way)
{
    struct decompressor_state *s = f->state;
    struct buffer none;
    buffer_init(&none);
    body_codec_close(&s->ways[way].codec);
    if (s->ways[way].trailers) {
        tell_totals(f, way, s->ways[way].trailers);
        if (way == HTTP_REQUEST)
            http_filter_continue_request(f);
        else
            http_filter_continue_response(f);
        return;
    }
    tell_totals(f, way,
                way == HTTP_REQUEST ? http_filter_add_request_trailers(f)
                                    : http_filter_add_response_trailers(f));
    give(f, way, &none, true);
}

/* One slice. False: no more for now, or for ever. */
static bool slice(struct http_filter *f, enum http_way way, struct way_state *w)
{
    const struct decompressor_config *c = f->config;
    struct buffer out;
    buffer_init(&out);
    uint64_t in = w->pending.len;
    uint64_t limit = w->in * c->library->max_ratio;
    uint64_t left = limit > w->out ? limit - w->out : 0;
    enum body_result r = c->library->ops->run(w->codec, &w->pending, &out, w->end,
                                              left < SLICE ? left : SLICE);
    w->out += out.len;
    filter_stats_add(f, c->ways[way].stats, WAY_COMPRESSED_BYTES, in - w->pending.len);
    filter_stats_add(f, c->ways[way].stats, WAY_UNCOMPRESSED_BYTES, out.len);
    bool too_much = r == BODY_FULL && w->out > limit;
    if (r == BODY_ERROR || too_much) {
        buffer_cleanup(&out);
        filter_stats_inc(f, c->errors, w->codec->error);
        refuse(f, way, too_much);
        return false;
    }
    give(f, way, &out, false);
    buffer_cleanup(&out);              /* room that the library did not fill */
    return r == BODY_FULL && w->codec; /* without one the exchange is over */
}

static void pause_source(struct http_filter *f, enum http_way way, struct way_state *w, bool pause)
{
    if (w->source_paused == pause)
        return;
    w->source_paused = pause;
    if (way == HTTP_REQUEST)
        pause ? http_filter_pause_request_source(f) : http_filter_resume_request_source(f);
    else
        pause ? http_filter_pause_response_source(f) : http_filter_resume_response_source(f);
}

static void pump(struct http_filter *f, enum http_way way)
{
    struct decompressor_state *s = f->state;
    struct way_state *w = &s->ways[way];
    bool full;
    bool more = true;
    while (!(full = way == HTTP_REQUEST ? http_filter_request_blocked(f)
                                        : http_filter_response_blocked(f)) &&
           more)
        more = slice(f, way, w);
    if (!w->codec)
        return;
    w->waiting = full && more;
    pause_source(f, way, w, w->waiting);
    if (w->end && !w->waiting && w->codec)
        finish(f, way);
}

static void run_request(void *arg)
{
    struct way_state *w = arg;
    if (w->codec && w->waiting)
        pump(w->filter, HTTP_REQUEST);
}

static void run_response(void *arg)
{
    struct way_state *w = arg;
    if (w->codec && w->waiting)
        pump(w->filter, HTTP_RESPONSE);
}

static enum filter_status on_data(struct http_filter *f, enum http_way way, struct buffer *b,
                                  bool end)
{
    struct decompressor_state *s = f->state;
    struct way_state *w = s ? &s->ways[way] : NULL;
    if (!w || !w->codec)
        return FILTER_CONTINUE;
    w->in += b->len;
    w->end = end;
    buffer_move(&w->pending, b, b->len);
    pump(f, way);
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

/* The body ended with its last data, which did not know that it was: was it cut off? The trailers
 * wait until that is said. */
static enum filter_status on_trailers(struct http_filter *f, enum http_way way, struct headers *h)
{
    struct decompressor_state *s = f->state;
    struct way_state *w = s ? &s->ways[way] : NULL;
    if (!w || !w->codec)
        return FILTER_CONTINUE;
    w->end = true;
    w->trailers = h;
    w->waiting = true;
    loop_post(f->stream->worker->loop, &w->task);
    return FILTER_PAUSE;
}

static enum filter_status on_request_trailers(struct http_filter *f, struct headers *h)
{
    return on_trailers(f, HTTP_REQUEST, h);
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    return on_trailers(f, HTTP_RESPONSE, h);
}

static void on_writable(struct http_filter *f, enum http_way way)
{
    struct decompressor_state *s = f->state;
    if (s && s->ways[way].waiting)
        loop_post(f->stream->worker->loop, &s->ways[way].task);
}

static void on_request_writable(struct http_filter *f)
{
    on_writable(f, HTTP_REQUEST);
}

static void on_response_writable(struct http_filter *f)
{
    on_writable(f, HTTP_RESPONSE);
}

static void on_complete(struct http_filter *f)
{
    struct decompressor_state *s = f->state;
    for (int way = 0; s && way < 2; way++) {
        struct way_state *w = &s->ways[way];
        body_codec_close(&w->codec);
        buffer_cleanup(&w->pending);
        task_cancel(&w->task);
    }
}

const struct http_filter_ops decompressor_filter = {
    .name = "envoy.filters.http.decompressor",
    .type_name = "envoy.extensions.filters.http.decompressor.v3.Decompressor",
    .upstream = true,
    .compile = compile,
    .free = free_config,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_request_writable = on_request_writable,
    .on_response_writable = on_response_writable,
    .on_complete = on_complete,
};
