/* envoy.filters.http.json_to_metadata: leaves values of a JSON body as dynamic metadata. The body
 * is collected, up to the buffer limit; after a request's the route is chosen once more. A route's
 * configuration takes the place of the filter's. */
#include "api-protos/wkt.h"
#include "envoy/extensions/filters/http/json_to_metadata/v3/json_to_metadata.pb-c.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/json_rules.h"
#include "proxy/http/http_chain.h"
#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"
#include "proxy/router/matchers.h"

typedef Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata Config;
typedef Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata__MatchRules MatchRules;

/* In the order of enum json_outcome, for both ways. */
#define J2M_STATS(X)                                                                               \
    X(J2M_RQ_SUCCESS, "rq.success", COUNTER)                                                       \
    X(J2M_RQ_TYPE, "rq.mismatched_content_type", COUNTER)                                          \
    X(J2M_RQ_NO_BODY, "rq.no_body", COUNTER)                                                       \
    X(J2M_RQ_INVALID, "rq.invalid_json_body", COUNTER)                                             \
    X(J2M_RS_SUCCESS, "resp.success", COUNTER)                                                     \
    X(J2M_RS_TYPE, "resp.mismatched_content_type", COUNTER)                                        \
    X(J2M_RS_NO_BODY, "resp.no_body", COUNTER)                                                     \
    X(J2M_RS_INVALID, "resp.invalid_json_body", COUNTER)
enum { J2M_STATS(STATS_ENUM) J2M_NUM_STATS };
static const struct stats_def stat_defs[] = {J2M_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

struct match_rules {
    bool on; /* there are rules for this way */
    struct json_rules rules;
    struct str *types; /* content types to look at */
    size_t num_types;
    const struct regex *types_regex;
    bool empty_type;
};

struct j2m_config {
    struct stats_scope *stats;
    struct regex_list regexes;
    struct match_rules way[2]; /* by enum http_way */
};

struct j2m_state {
    bool collecting[2];
    struct buffer body[2]; /* a copy: what is collected goes on as it came */
};

/* --- configuration --- */

static void compile_way(struct match_rules *out, struct j2m_config *c, struct arena *a,
                        const MatchRules *m, const char *field, struct errors *e)
{
    if (!m)
        return;
    size_t mark = errors_push(e, field);
    out->on = true;
    json_rules_compile(&out->rules, a, (void *const *)m->rules, m->n_rules, e);
    out->types = arena_zalloc(a, (m->n_allow_content_types + 1) * sizeof(*out->types));
    for (size_t i = 0; i < m->n_allow_content_types; i++)
        out->types[out->num_types++] = arena_str(a, str_of(m->allow_content_types[i]));
    if (m->allow_content_types_regex) {
        size_t inner = errors_push(e, "allow_content_types_regex");
        out->types_regex = regex_list_add(&c->regexes, a, m->allow_content_types_regex, e);
        errors_pop(e, inner);
    }
    if (!out->num_types)
        out->types[out->num_types++] = STR("application/json");
    out->empty_type = m->allow_empty_content_type;
    errors_pop(e, mark);
}

static struct stats_scope *own_scope(const struct http_filter_env *env)
{
    return env->compile->validate ? NULL : stats_scope_named(&stat_table, STR("json_to_metadata"));
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Config *m = msg;
    struct j2m_config *c = ARENA_NEW(env->arena, struct j2m_config);
    c->stats = own_scope(env);
    if (!m)
        return c;
    compile_way(&c->way[HTTP_REQUEST], c, env->arena, m->request_rules, "request_rules", e);
    compile_way(&c->way[HTTP_RESPONSE], c, env->arena, m->response_rules, "response_rules", e);
    return c;
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Config *m = msg;
    struct j2m_config *c = ARENA_NEW(env->arena, struct j2m_config);
    compile_way(&c->way[HTTP_REQUEST], c, env->arena, m->request_rules, "request_rules", e);
    compile_way(&c->way[HTTP_RESPONSE], c, env->arena, m->response_rules, "response_rules", e);
    return c;
}

static void free_config(void *config)
{
    struct j2m_config *c = config;
    regex_list_free(&c->regexes);
    stats_scope_free(&c->stats);
}

/* --- a message --- */

static const struct match_rules *rules_of(const struct http_filter *f, enum http_way way)
{
    const struct j2m_config *own = http_filter_route_config(f);
    return own ? &own->way[way] : &((const struct j2m_config *)f->config)->way[way];
}

static bool type_fits(const struct match_rules *m, const struct headers *h)
{
    const struct header *type = headers_known(h, HDR_CONTENT_TYPE);
    if (!type || !type->value.len)
        return m->empty_type;
    for (size_t i = 0; i < m->num_types; i++) {
        if (str_eq(type->value, m->types[i]))
            return true;
    }
    return m->types_regex && regex_full(m->types_regex, type->value);
}

static void leave(struct http_filter *f, enum http_way way, enum json_outcome outcome,
                  const struct json *root)
{
    const struct j2m_config *c = f->config;
    struct stream *s = f->stream;
    filter_stats_inc(f, c->stats,
                     (way == HTTP_REQUEST ? J2M_RQ_SUCCESS : J2M_RS_SUCCESS) + outcome);
    bool any = json_rules_apply(&rules_of(f, way)->rules, s->arena, outcome, root,
                                &s->info.metadata);
    if (any && way == HTTP_REQUEST)
        http_filter_clear_route(f);
}

static void read_body(struct http_filter *f, enum http_way way)
{
    struct j2m_state *s = f->state;
    struct buffer *b = &s->body[way];
    struct arena *a = f->stream->arena;
    struct json_error err;
    s->collecting[way] = false;
    if (!b->len) {
        leave(f, way, JSON_NO_BODY, NULL);
        return;
    }
    const struct json *root = json_parse(buffer_pullup(b, b->len), JSON_DUPLICATES_LAST, a, &err);
    leave(f, way, root ? JSON_SUCCESS : JSON_INVALID, root);
    buffer_cleanup(b);
}

static enum filter_status on_headers(struct http_filter *f, enum http_way way,
                                     const struct headers *h, bool end)
{
    const struct match_rules *m = rules_of(f, way);
    if (!m->on)
        return FILTER_CONTINUE;
    if (!type_fits(m, h)) {
        leave(f, way, JSON_WRONG_TYPE, NULL);
        return FILTER_CONTINUE;
    }
    if (end) {
        leave(f, way, JSON_NO_BODY, NULL);
        return FILTER_CONTINUE;
    }
    struct j2m_state *s = f->state;
    if (!s) {
        f->state = s = ARENA_NEW(f->stream->arena, struct j2m_state);
        buffer_init(&s->body[HTTP_REQUEST]);
        buffer_init(&s->body[HTTP_RESPONSE]);
    }
    s->collecting[way] = true;
    return FILTER_COLLECT;
}

static enum filter_status on_data(struct http_filter *f, enum http_way way, const struct buffer *b,
                                  bool end)
{
    struct j2m_state *s = f->state;
    char bytes[4096];
    if (!s || !s->collecting[way])
        return FILTER_CONTINUE;
    for (size_t off = 0, n; (n = buffer_copy_out(b, off, bytes, sizeof(bytes))) > 0; off += n)
        buffer_add(&s->body[way], bytes, n);
    if (!end)
        return FILTER_COLLECT;
    read_body(f, way);
    return FILTER_CONTINUE;
}

static enum filter_status on_trailers(struct http_filter *f, enum http_way way)
{
    struct j2m_state *s = f->state;
    if (s && s->collecting[way])
        read_body(f, way);
    return FILTER_CONTINUE;
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    return on_headers(f, HTTP_REQUEST, h, end);
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    return on_data(f, HTTP_REQUEST, b, end);
}

static enum filter_status on_request_trailers(struct http_filter *f, struct headers *h)
{
    return on_trailers(f, HTTP_REQUEST);
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    return on_headers(f, HTTP_RESPONSE, h, end);
}

static enum filter_status on_response_data(struct http_filter *f, struct buffer *b, bool end)
{
    return on_data(f, HTTP_RESPONSE, b, end);
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    return on_trailers(f, HTTP_RESPONSE);
}

static void on_complete(struct http_filter *f)
{
    struct j2m_state *s = f->state;
    for (int way = 0; s && way < 2; way++)
        buffer_cleanup(&s->body[way]);
}

const struct http_filter_ops json_to_metadata_filter = {
    .name = "envoy.filters.http.json_to_metadata",
    .type_name = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
    .route_type_name = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
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
