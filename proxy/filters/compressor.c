/* envoy.filters.http.compressor: bodies are compressed as they pass, each piece so that the
 * receiver can read all of it at once. A response is compressed when the request's accept-encoding
 * lets it (compressor_choice.h), a request when the configuration says so. */
#include "api-protos/wkt.h"
#include "envoy/extensions/filters/http/compressor/v3/compressor.pb-c.h"
#include "proxy/filters/body_codec.h"
#include "proxy/filters/compressor_choice.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/header_tokens.h"
#include "proxy/http/http_chain.h"

typedef Envoy__Extensions__Filters__Http__Compressor__V3__Compressor Compressor;
typedef Envoy__Extensions__Filters__Http__Compressor__V3__Compressor__CommonDirectionConfig Common;
typedef Envoy__Extensions__Filters__Http__Compressor__V3__Compressor__ResponseDirectionConfig
    ResponseConfig;
typedef Envoy__Extensions__Filters__Http__Compressor__V3__CompressorPerRoute PerRoute;
typedef Envoy__Extensions__Filters__Http__Compressor__V3__CompressorOverrides Overrides;

#define WAY_STATS(X)                                                                               \
    X(WAY_COMPRESSED, "compressed", COUNTER)                                                       \
    X(WAY_NOT_COMPRESSED, "not_compressed", COUNTER)                                               \
    X(WAY_UNCOMPRESSED_BYTES, "total_uncompressed_bytes", COUNTER)                                 \
    X(WAY_COMPRESSED_BYTES, "total_compressed_bytes", COUNTER)                                     \
    X(WAY_TOO_SMALL, "content_length_too_small", COUNTER)
enum { WAY_STATS(STATS_ENUM) };
static const struct stats_def way_defs[] = {WAY_STATS(STATS_DEF)};
static struct stats_table way_table = STATS_TABLE(way_defs);

/* The first five in the order of enum compressor_verdict. */
#define CHOICE_STATS(X)                                                                            \
    X(CHOICE_USED, "header_compressor_used", COUNTER)                                              \
    X(CHOICE_OVERSHADOWED, "header_compressor_overshadowed", COUNTER)                              \
    X(CHOICE_IDENTITY, "header_identity", COUNTER)                                                 \
    X(CHOICE_WILDCARD, "header_wildcard", COUNTER)                                                 \
    X(CHOICE_NOT_VALID, "header_not_valid", COUNTER)                                               \
    X(CHOICE_NO_HEADER, "no_accept_header", COUNTER)                                               \
    X(CHOICE_ETAG, "not_compressed_etag", COUNTER)
enum { CHOICE_STATS(STATS_ENUM) };
static const struct stats_def choice_defs[] = {CHOICE_STATS(STATS_DEF)};
static struct stats_table choice_table = STATS_TABLE(choice_defs);

enum { DEFAULT_MIN_LENGTH = 30 };

struct way_config {
    bool enabled;
    uint64_t min_length;
    struct compressor_types types;
    struct stats_scope *stats;
};

struct compressor_config {
    struct body_library *library;
    struct way_config ways[2]; /* by enum http_way */
    struct stats_scope *choice_stats;
    bool choose_first, disable_on_etag, remove_accept_encoding, status_header;
    uint32_t *codes; /* not compressed */
    size_t num_codes;
};

struct compressor_route {
    struct body_library *library; /* NULL: the filter's */
    bool has_enabled, enabled;    /* of responses */
    bool has_remove, remove_accept_encoding;
};

struct compressor_state {
    const struct compressor_route *route; /* or NULL */
    bool has_accept;
    struct str accept;
    bool decided; /* in the filter that decided first */
    struct compressor_decision decision;
    struct body_codec *codecs[2];
};

/* --- configuration --- */

static void compile_way(struct way_config *w, const Common *m, const struct http_filter_env *env)
{
    *w = (struct way_config){.enabled = true, .min_length = DEFAULT_MIN_LENGTH};
    if (m && m->enabled)
        w->enabled = wkt_bool(m->enabled->default_value, true);
    if (m && m->min_content_length && m->min_content_length->value)
        w->min_length = m->min_content_length->value;
    compressor_types_compile(&w->types, m ? m->content_type : NULL, m ? m->n_content_type : 0,
                             env->arena);
}

/* What the deprecated fields of the message itself say, where there is no response_direction. */
static ResponseConfig response_config(const Compressor *m, Common *common)
{
    if (m->response_direction_config)
        return *m->response_direction_config;
    envoy__extensions__filters__http__compressor__v3__compressor__common_direction_config__init(
        common);
    common->enabled = m->runtime_enabled;
    common->min_content_length = m->content_length;
    common->content_type = m->content_type;
    common->n_content_type = m->n_content_type;
    ResponseConfig r;
    envoy__extensions__filters__http__compressor__v3__compressor__response_direction_config__init(
        &r);
    r.common_config = common;
    r.disable_on_etag_header = m->disable_on_etag_header;
    r.remove_accept_encoding_header = m->remove_accept_encoding_header;
    return r;
}

static void make_stats(struct compressor_config *c, const struct http_filter_env *env,
                       const Compressor *m)
{
    struct str parts[] = {STR("compressor"), str_of(m->compressor_library->name),
                          str_of(c->library->ops->stat_name), STR("request")};
    c->ways[HTTP_REQUEST].stats = filter_stats_new(env, &way_table, parts, 4);
    parts[3] = m->response_direction_config ? STR("response") : STR_NULL;
    c->ways[HTTP_RESPONSE].stats = filter_stats_new(env, &way_table, parts, 4);
    c->choice_stats = filter_stats_new(env, &choice_table, parts, 3);
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Compressor *m = msg;
    struct compressor_config *c = ARENA_NEW(env->arena, struct compressor_config);
    Common common;
    if (!m) {
        errors_add(e, NULL, "a configuration is required");
        return NULL;
    }
    c->library = body_library_compile(env, m->compressor_library, true, "compressor_library", e);
    compile_way(&c->ways[HTTP_REQUEST],
                m->request_direction_config ? m->request_direction_config->common_config : NULL,
                env);
    if (!m->request_direction_config)
        c->ways[HTTP_REQUEST].enabled = false;
    ResponseConfig r = response_config(m, &common);
    compile_way(&c->ways[HTTP_RESPONSE], r.common_config, env);
    c->choose_first = m->choose_first;
    c->disable_on_etag = r.disable_on_etag_header;
    c->remove_accept_encoding = r.remove_accept_encoding_header;
    c->status_header = r.status_header_enabled;
    c->num_codes = r.n_uncompressible_response_codes;
    c->codes = arena_zalloc(env->arena, (c->num_codes + 1) * sizeof(*c->codes));
    for (size_t i = 0; i < c->num_codes; i++)
        c->codes[i] = r.uncompressible_response_codes[i];
    if (!c->library)
        return NULL;
    make_stats(c, env, m);
    return c;
}

static void free_config(void *config)
{
    struct compressor_config *c = config;
    body_library_free(c->library);
    stats_scope_free(&c->ways[HTTP_REQUEST].stats);
    stats_scope_free(&c->ways[HTTP_RESPONSE].stats);
    stats_scope_free(&c->choice_stats);
}

static void compile_overrides(const struct http_filter_env *env, struct compressor_route *r,
                              const Overrides *o, struct errors *e)
{
    if (o->response_direction_config) {
        const Google__Protobuf__BoolValue *remove =
            o->response_direction_config->remove_accept_encoding_header;
        r->has_enabled = r->enabled = true;
        r->has_remove = remove != NULL;
        r->remove_accept_encoding = wkt_bool(remove, false);
    }
    if (o->compressor_library)
        r->library = body_library_compile(env, o->compressor_library, true, "compressor_library",
                                          e);
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const PerRoute *m = msg;
    struct compressor_route *r = ARENA_NEW(env->arena, struct compressor_route);
    size_t mark;
    switch (m->override_case) {
    case ENVOY__EXTENSIONS__FILTERS__HTTP__COMPRESSOR__V3__COMPRESSOR_PER_ROUTE__OVERRIDE_DISABLED:
        if (!m->disabled)
            errors_add(e, "disabled", "must be true");
        r->has_enabled = true;
        return r;
    case ENVOY__EXTENSIONS__FILTERS__HTTP__COMPRESSOR__V3__COMPRESSOR_PER_ROUTE__OVERRIDE_OVERRIDES:
        mark = errors_push(e, "overrides");
        compile_overrides(env, r, m->overrides, e);
        errors_pop(e, mark);
        return r;
    default:
        errors_add(e, NULL, "disabled or overrides is required");
        return NULL;
    }
}

static void free_route(void *config)
{
    struct compressor_route *r = config;
    body_library_free(r->library);
}

/* --- what both ways ask --- */

static const struct body_library *library_of(const struct http_filter *f)
{
    const struct compressor_config *c = f->config;
    const struct compressor_state *s = f->state;
    return s->route && s->route->library ? s->route->library : c->library;
}

static bool responses_enabled(const struct http_filter *f)
{
    const struct compressor_config *c = f->config;
    const struct compressor_state *s = f->state;
    return s->route && s->route->has_enabled ? s->route->enabled : c->ways[HTTP_RESPONSE].enabled;
}

static bool long_enough(const struct http_filter *f, enum http_way way, const struct headers *h)
{
    const struct way_config *w = &((const struct compressor_config *)f->config)->ways[way];
    const struct header *length = headers_known(h, HDR_CONTENT_LENGTH);
    uint64_t n;
    if (!length || (str_to_u64(length->value, &n) && n >= w->min_length))
        return true;
    filter_stats_inc(f, w->stats, WAY_TOO_SMALL);
    return false;
}

static bool type_allowed(const struct http_filter *f, enum http_way way, const struct headers *h)
{
    const struct compressor_config *c = f->config;
    const struct header *type = headers_known(h, HDR_CONTENT_TYPE);
    return !type || compressor_type_allowed(&c->ways[way].types, type->value);
}

/* A transfer coding that compresses already. */
static bool transfer_allowed(const struct http_filter *f, const struct headers *h)
{
    static const char *const codings[] = {"gzip", "br", "deflate", "compress", "zstd"};
    const struct header *te = headers_known(h, HDR_TRANSFER_ENCODING);
    for (size_t i = 0; te && i < ARRAY_LEN(codings); i++) {
        if (header_has_token(te->value, str_of(codings[i]), true))
            return false;
    }
    return true;
}

static void count(const struct http_filter *f, enum http_way way, uint32_t stat)
{
    const struct compressor_config *c = f->config;
    filter_stats_inc(f, c->ways[way].stats, stat);
}

/* The head says what the body will be. False: the library would not start. */
static bool begin(struct http_filter *f, enum http_way way, struct headers *h)
{
    struct compressor_state *s = f->state;
    const struct body_library *l = library_of(f);
    s->codecs[way] = l->ops->open(l);
    if (!s->codecs[way])
        return false;
    headers_remove_known(h, HDR_CONTENT_LENGTH);
    headers_set_known(h, HDR_CONTENT_ENCODING, str_of(l->ops->encoding));
    return true;
}

static void compress(struct http_filter *f, enum http_way way, struct buffer *b, bool end)
{
    const struct compressor_config *c = f->config;
    struct compressor_state *s = f->state;
    struct buffer out;
    buffer_init(&out);
    filter_stats_add(f, c->ways[way].stats, WAY_UNCOMPRESSED_BYTES, b->len);
    enum body_result r = s->codecs[way]->library->ops->run(s->codecs[way], b, &out, end, 0);
    CHECK(r == BODY_OK); /* any bytes can be compressed */
    filter_stats_add(f, c->ways[way].stats, WAY_COMPRESSED_BYTES, out.len);
    buffer_move(b, &out, out.len);
}

/* --- the request's way --- */

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct compressor_config *c = f->config;
    struct compressor_state *s = ARENA_NEW(h->arena, struct compressor_state);
    f->state = s;
    s->route = http_filter_route_config(f);
    s->has_accept = headers_value(h, STR("accept-encoding"), h->arena, &s->accept);
    bool remove = s->route && s->route->has_remove ? s->route->remove_accept_encoding
                                                   : c->remove_accept_encoding;
    if (responses_enabled(f) && remove)
        headers_remove_known(h, HDR_ACCEPT_ENCODING);
    bool compressed = !end && c->ways[HTTP_REQUEST].enabled && !h->upgrade &&
                      long_enough(f, HTTP_REQUEST, h) && type_allowed(f, HTTP_REQUEST, h) &&
                      !headers_known(h, HDR_CONTENT_ENCODING) && transfer_allowed(f, h) &&
                      begin(f, HTTP_REQUEST, h);
    count(f, HTTP_REQUEST, compressed ? WAY_COMPRESSED : WAY_NOT_COMPRESSED);
    return FILTER_CONTINUE;
}

static enum filter_status on_data(struct http_filter *f, enum http_way way, struct buffer *b,
                                  bool end)
{
    struct compressor_state *s = f->state;
    if (s && s->codecs[way])
        compress(f, way, b, end);
    return FILTER_CONTINUE;
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    return on_data(f, HTTP_REQUEST, b, end);
}

/* The body has ended with its last data, which did not know that it was. */
static void finish_before_trailers(struct http_filter *f, enum http_way way)
{
    struct compressor_state *s = f->state;
    struct buffer last;
    if (!s || !s->codecs[way])
        return;
    buffer_init(&last);
    compress(f, way, &last, true);
    if (way == HTTP_REQUEST)
        http_filter_inject_request(f, &last, false);
    else
        http_filter_inject_response(f, &last, false);
    buffer_cleanup(&last);
}

static enum filter_status on_request_trailers(struct http_filter *f, struct headers *h)
{
    finish_before_trailers(f, HTTP_REQUEST);
    return FILTER_CONTINUE;
}

/* --- the response's way --- */

/* Chooses once among all compressors of the chain; the filter that asks first stands for them. */
static struct compressor_decision decide(struct http_filter *f, const struct headers *h)
{
    struct compressor_offer offers[COMPRESSOR_OFFERS];
    const struct header *type = headers_known(h, HDR_CONTENT_TYPE);
    struct compressor_state *s = f->state;
    size_t n = 0;
    for (int i = 0; i < f->chain->num; i++) {
        const struct http_filter *other = &f->chain->filters[i];
        const struct compressor_state *os = other->state;
        const struct compressor_config *oc = other->config;
        if (other->ops != f->ops)
            continue;
        if (os && os->decided)
            return os->decision;
        if (n == COMPRESSOR_OFFERS ||
            (type && !compressor_type_allowed(&oc->ways[HTTP_RESPONSE].types, type->value)))
            continue;
        offers[n++] = (struct compressor_offer){
            str_of((other == f ? library_of(f) : oc->library)->ops->encoding), oc->choose_first};
    }
    s->decided = true;
    s->decision = compressor_choose(s->accept, offers, n);
    return s->decision;
}

static bool accepted(struct http_filter *f, const struct headers *h)
{
    const struct compressor_config *c = f->config;
    const struct compressor_state *s = f->state;
    if (!s->has_accept) {
        filter_stats_inc(f, c->choice_stats, CHOICE_NO_HEADER);
        return false;
    }
    struct compressor_decision d = decide(f, h);
    bool ours = str_ieq(d.encoding, str_of(library_of(f)->ops->encoding));
    uint32_t stat = (uint32_t)d.verdict;
    if (d.verdict == COMPRESSOR_CHOSEN && !ours)
        stat = CHOICE_OVERSHADOWED;
    filter_stats_inc(f, c->choice_stats, stat);
    return ours;
}

static bool no_transform(const struct headers *h)
{
    const struct header *cc = headers_find(h, STR("cache-control"));
    return cc && header_has_token(cc->value, STR("no-transform"), true);
}

static bool etag_forbids(const struct http_filter *f, const struct headers *h)
{
    const struct compressor_config *c = f->config;
    return c->disable_on_etag && headers_find(h, STR("etag"));
}

static bool status_forbids(const struct http_filter *f, const struct headers *h)
{
    const struct compressor_config *c = f->config;
    for (size_t i = 0; i < c->num_codes; i++) {
        if (c->codes[i] == h->status)
            return true;
    }
    return false;
}

/* A strong validator is of other bytes now (RFC 9110 section 8.8.1). */
static void drop_strong_etag(struct headers *h)
{
    const struct header *etag = headers_find(h, STR("etag"));
    if (etag && !str_istarts(etag->value, STR("w/")))
        headers_remove(h, STR("etag"));
}

static void add_vary(struct headers *h)
{
    struct header *vary = headers_find(h, STR("vary"));
    if (!vary)
        headers_add(h, STR("vary"), STR("Accept-Encoding"));
    else if (!header_has_token(vary->value, STR("Accept-Encoding"), false))
        vary->value = arena_printf(h->arena, "%.*s, Accept-Encoding", STR_ARG(vary->value));
}

static bool start_response(struct http_filter *f, struct headers *h)
{
    if (!begin(f, HTTP_RESPONSE, h))
        return false;
    drop_strong_etag(h);
    return true;
}

static bool plain_decision(struct http_filter *f, struct headers *h, bool end)
{
    const struct compressor_config *c = f->config;
    bool wanted = responses_enabled(f) && long_enough(f, HTTP_RESPONSE, h);
    bool possible = wanted && !h->upgrade && type_allowed(f, HTTP_RESPONSE, h) && !no_transform(h);
    if (possible && etag_forbids(f, h)) {
        filter_stats_inc(f, c->choice_stats, CHOICE_ETAG);
        possible = false;
    }
    possible = possible && !headers_known(h, HDR_CONTENT_ENCODING) && !status_forbids(f, h);
    /* The stats of accept-encoding also count what cannot be compressed for other reasons. */
    bool compressed = !end && wanted && accepted(f, h) && possible && transfer_allowed(f, h) &&
                      start_response(f, h);
    if (possible)
        add_vary(h);
    return compressed;
}

static void say_status(struct http_filter *f, struct headers *h, const char *status)
{
    headers_add(h, STR("x-envoy-compression-status"),
                arena_printf(h->arena, "%s;%s", library_of(f)->ops->encoding, status));
}

/* With status_header_enabled: the order of the checks is another one, and the first that fails is
 * told. */
static bool told_decision(struct http_filter *f, struct headers *h, bool end)
{
    const struct compressor_config *c = f->config;
    const struct header *length = headers_known(h, HDR_CONTENT_LENGTH);
    struct str was = length ? length->value : STR_NULL;
    bool basic = responses_enabled(f) && !h->upgrade && !no_transform(h) &&
                 !headers_known(h, HDR_CONTENT_ENCODING);
    bool enough = basic && long_enough(f, HTTP_RESPONSE, h);
    if (enough && type_allowed(f, HTTP_RESPONSE, h) && !etag_forbids(f, h) && !status_forbids(f, h))
        add_vary(h);
    if (end || !basic || !transfer_allowed(f, h))
        return false;
    const char *why = !enough                              ? "ContentLengthTooSmall"
                      : !type_allowed(f, HTTP_RESPONSE, h) ? "ContentTypeNotAllowed"
                      : etag_forbids(f, h)                 ? "EtagNotAllowed"
                      : status_forbids(f, h)               ? "StatusCodeNotAllowed"
                                                           : NULL;
    if (enough && why && etag_forbids(f, h) && type_allowed(f, HTTP_RESPONSE, h))
        filter_stats_inc(f, c->choice_stats, CHOICE_ETAG);
    if (why) {
        say_status(f, h, why);
        return false;
    }
    if (!accepted(f, h) || !start_response(f, h))
        return false;
    headers_add(h, STR("x-envoy-compression-status"),
                arena_printf(h->arena, "%s;Compressed;OriginalLength=%.*s",
                             library_of(f)->ops->encoding, STR_ARG(was)));
    return true;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct compressor_config *c = f->config;
    if (!f->state) /* answered before the request came by */
        f->state = ARENA_NEW(h->arena, struct compressor_state);
    bool compressed = c->status_header ? told_decision(f, h, end) : plain_decision(f, h, end);
    count(f, HTTP_RESPONSE, compressed ? WAY_COMPRESSED : WAY_NOT_COMPRESSED);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_data(struct http_filter *f, struct buffer *b, bool end)
{
    return on_data(f, HTTP_RESPONSE, b, end);
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    finish_before_trailers(f, HTTP_RESPONSE);
    return FILTER_CONTINUE;
}

static void on_complete(struct http_filter *f)
{
    struct compressor_state *s = f->state;
    if (!s)
        return;
    body_codec_close(&s->codecs[HTTP_REQUEST]);
    body_codec_close(&s->codecs[HTTP_RESPONSE]);
}

const struct http_filter_ops compressor_filter = {
    .name = "envoy.filters.http.compressor",
    .type_name = "envoy.extensions.filters.http.compressor.v3.Compressor",
    .route_type_name = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
    .upstream = true,
    .compile = compile,
    .compile_route = compile_route,
    .free = free_config,
    .free_route = free_route,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_complete = on_complete,
};
