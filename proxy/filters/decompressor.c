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
#include "proxy/observe/stream_info.h"

typedef Envoy__Extensions__Filters__Http__Decompressor__V3__Decompressor Decompressor;
typedef Envoy__Extensions__Filters__Http__Decompressor__V3__Decompressor__CommonDirectionConfig
    Common;

#define WAY_STATS(X)                                                                               \
    X(WAY_DECOMPRESSED, "decompressed", COUNTER)                                                   \
    X(WAY_NOT_DECOMPRESSED, "not_decompressed", COUNTER)                                           \
    X(WAY_UNCOMPRESSED_BYTES, "total_uncompressed_bytes", COUNTER)                                 \
    X(WAY_COMPRESSED_BYTES, "total_compressed_bytes", COUNTER)
enum { WAY_STATS(STATS_ENUM) };
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
    c->library =
        body_library_compile(env, m->decompressor_library, false, "decompressor_library", e);
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
    c->uncompressed_name = arena_printf(
        env->arena, "x-envoy-decompressor-%.*s-uncompressed-bytes", STR_ARG(name));
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

static bool begin(struct http_filter *f, enum http_way way, struct headers *h)
{
    const struct decompressor_config *c = f->config;
    struct decompressor_state *s = f->state;
    struct str others;
    s->ways[way].codec = c->library->ops->open(c->library);
    if (!s->ways[way].codec)
        return false;
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

/* False: the exchange is over. */
static bool decompress(struct http_filter *f, enum http_way way, struct buffer *b, bool end)
{
    const struct decompressor_config *c = f->config;
    struct decompressor_state *s = f->state;
    struct way_state *w = &s->ways[way];
    struct buffer out;
    buffer_init(&out);
    uint64_t in = b->len;
    w->in += in;
    uint64_t limit = w->in * c->library->max_ratio - w->out;
    enum body_result r = c->library->ops->run(w->codec, b, &out, end, limit);
    w->out += out.len;
    filter_stats_add(f, c->ways[way].stats, WAY_COMPRESSED_BYTES, in);
    filter_stats_add(f, c->ways[way].stats, WAY_UNCOMPRESSED_BYTES, out.len);
    if (r != BODY_OK) {
        buffer_cleanup(&out);
        filter_stats_inc(f, c->errors, w->codec->error);
        refuse(f, way, r == BODY_FULL);
        return false;
    }
    buffer_move(b, &out, out.len);
    return true;
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

static bool busy(const struct http_filter *f, enum http_way way)
{
    const struct decompressor_state *s = f->state;
    return s && s->ways[way].codec;
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    if (!busy(f, HTTP_REQUEST))
        return FILTER_CONTINUE;
    if (!decompress(f, HTTP_REQUEST, b, end))
        return FILTER_PAUSE;
    if (end)
        tell_totals(f, HTTP_REQUEST, http_filter_add_request_trailers(f));
    return FILTER_CONTINUE;
}

static enum filter_status on_response_data(struct http_filter *f, struct buffer *b, bool end)
{
    if (!busy(f, HTTP_RESPONSE))
        return FILTER_CONTINUE;
    if (!decompress(f, HTTP_RESPONSE, b, end))
        return FILTER_PAUSE;
    if (end)
        tell_totals(f, HTTP_RESPONSE, http_filter_add_response_trailers(f));
    return FILTER_CONTINUE;
}

/* The end of the body came without data: was it cut off? */
static enum filter_status on_trailers(struct http_filter *f, enum http_way way, struct headers *h)
{
    struct buffer none;
    buffer_init(&none);
    if (!busy(f, way))
        return FILTER_CONTINUE;
    if (!decompress(f, way, &none, true))
        return FILTER_PAUSE;
    tell_totals(f, way, h);
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
    struct decompressor_state *s = f->state;
    if (!s)
        return;
    body_codec_close(&s->ways[HTTP_REQUEST].codec);
    body_codec_close(&s->ways[HTTP_RESPONSE].codec);
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
    .on_complete = on_complete,
};
