/* envoy.filters.http.header_to_metadata: leaves what headers and cookies say as dynamic metadata,
 * for the routes and filters behind it. A route's configuration takes the place of the filter's. */
#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "base/base64.h"
#include "envoy/extensions/filters/http/header_to_metadata/v3/header_to_metadata.pb-c.h"
#include "proxy/filters/filter_common.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"
#include "proxy/router/matchers.h"

#include <math.h>

typedef Envoy__Extensions__Filters__Http__HeaderToMetadata__V3__Config Config;
typedef Envoy__Extensions__Filters__Http__HeaderToMetadata__V3__Config__Rule Rule;
typedef Envoy__Extensions__Filters__Http__HeaderToMetadata__V3__Config__KeyValuePair KeyValue;
#define H2M(x) ENVOY__EXTENSIONS__FILTERS__HTTP__HEADER_TO_METADATA__V3__CONFIG__##x

#define H2M_STATS(X)                                                                               \
    X(H2M_BASE64, "base64_decode_failed", COUNTER)                                                 \
    X(H2M_TOO_LONG, "header_value_too_long", COUNTER)                                              \
    X(H2M_REGEX, "regex_substitution_failed", COUNTER)                                             \
    X(H2M_RQ_MISSING, "request_header_not_found", COUNTER)                                         \
    X(H2M_RQ_ADDED, "request_metadata_added", COUNTER)                                             \
    X(H2M_RQ_RULES, "request_rules_processed", COUNTER)                                            \
    X(H2M_RS_MISSING, "response_header_not_found", COUNTER)                                        \
    X(H2M_RS_ADDED, "response_metadata_added", COUNTER)                                            \
    X(H2M_RS_RULES, "response_rules_processed", COUNTER)
enum { H2M_STATS(STATS_ENUM) H2M_NUM_STATS };
static const struct stats_def stat_defs[] = {H2M_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

struct pair {
    struct str ns, key;
    struct str value; /* empty: what the header says */
    const struct regex *regex;
    struct str substitution;
    enum { PAIR_STRING, PAIR_NUMBER, PAIR_PROTOBUF } type;
    bool base64;
};

struct rule {
    struct str name; /* lower case of a header */
    bool cookie, remove;
    struct pair *present, *missing; /* NULL: nothing is set then */
};

struct rules {
    struct rule *v;
    size_t n;
};

struct h2m_config {
    struct stats_scope *stats; /* NULL without stat_prefix, and per route */
    struct regex_list regexes;
    struct rules request, response;
};

/* --- configuration --- */

static void compile_rewrite(struct pair *p, struct h2m_config *c, struct arena *a,
                            const Envoy__Type__Matcher__V3__RegexMatchAndSubstitute *m,
                            struct errors *e)
{
    struct str why;
    size_t mark = errors_push(e, "regex_value_rewrite");
    if (m->pattern)
        p->regex = regex_list_add(&c->regexes, a, m->pattern, e);
    else
        errors_add(e, "pattern", "is required");
    p->substitution = arena_str(a, str_of(m->substitution));
    if (p->regex && !regex_check_rewrite(p->regex, p->substitution, a, &why))
        errors_add(e, "substitution", "%.*s", STR_ARG(why));
    errors_pop(e, mark);
}

static struct pair *compile_pair(struct h2m_config *c, struct arena *a, const KeyValue *m,
                                 const char *field, bool needs_value, struct errors *e)
{
    if (!m)
        return NULL;
    size_t mark = errors_push(e, field);
    struct pair *p = ARENA_NEW(a, struct pair);
    p->ns = m->metadata_namespace[0] ? arena_str(a, str_of(m->metadata_namespace))
                                     : STR("envoy.filters.http.header_to_metadata");
    p->key = arena_str(a, str_of(m->key));
    p->value = arena_str(a, str_of(m->value));
    if (!p->key.len)
        errors_add(e, "key", "must not be empty");
    if (needs_value && !p->value.len)
        errors_add(e, "value", "must not be empty");
    if (p->value.len && m->regex_value_rewrite)
        errors_add(e, "regex_value_rewrite", "and value cannot both be set");
    else if (m->regex_value_rewrite)
        compile_rewrite(p, c, a, m->regex_value_rewrite, e);
    p->base64 = m->encode == H2M(VALUE_ENCODE__BASE64);
    switch (m->type) {
    case H2M(VALUE_TYPE__NUMBER):
        p->type = PAIR_NUMBER;
        break;
    case H2M(VALUE_TYPE__PROTOBUF_VALUE):
        p->type = PAIR_PROTOBUF;
        break;
    default:
        p->type = PAIR_STRING;
        break;
    }
    errors_pop(e, mark);
    return p;
}

static void compile_rule(struct rule *out, struct h2m_config *c, struct arena *a, const Rule *m,
                         struct errors *e)
{
    if (!m->header[0] == !m->cookie[0]) {
        errors_add(e, NULL, "one of header and cookie is required");
        return;
    }
    out->cookie = m->cookie[0] != '\0';
    out->name = out->cookie ? arena_str(a, str_of(m->cookie)) : filter_lower(a, str_of(m->header));
    out->remove = m->remove;
    bool fixed = out->name.p[0] == ':' || str_eq(out->name, STR("host"));
    if (m->remove && (out->cookie || fixed))
        errors_add(e, "remove", "is for headers, and not for host or those that begin with ':'");
    if (!m->on_header_present && !m->on_header_missing)
        errors_add(e, NULL, "on_header_present or on_header_missing is required");
    out->present = compile_pair(c, a, m->on_header_present, "on_header_present", false, e);
    out->missing = compile_pair(c, a, m->on_header_missing, "on_header_missing", true, e);
}

static void compile_rules(struct rules *out, struct h2m_config *c, struct arena *a, Rule **msgs,
                          size_t n, const char *field, struct errors *e)
{
    out->n = n;
    out->v = arena_zalloc(a, (n + 1) * sizeof(*out->v));
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, field, i);
        compile_rule(&out->v[i], c, a, msgs[i], e);
        errors_pop(e, mark);
    }
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Config *m = msg;
    struct h2m_config *c = ARENA_NEW(env->arena, struct h2m_config);
    if (!m)
        return c;
    compile_rules(&c->request, c, env->arena, m->request_rules, m->n_request_rules, "request_rules",
                  e);
    compile_rules(&c->response, c, env->arena, m->response_rules, m->n_response_rules,
                  "response_rules", e);
    return c;
}

/* Envoy's prefix has this literal in the place of the filter's name. */
static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Config *m = msg;
    struct h2m_config *c = compile_route(env, msg, e);
    if (m && m->stat_prefix[0] && !env->compile->validate)
        c->stats = stats_scope_named(
            &stat_table, arena_printf(env->arena, "http_filter_name.%s", m->stat_prefix));
    return c;
}

static void free_config(void *config)
{
    struct h2m_config *c = config;
    regex_list_free(&c->regexes);
    stats_scope_free(&c->stats);
}

/* --- values --- */

/* A serialised google.protobuf.Value; NULL: it is none. */
static struct json *protobuf_value(struct arena *a, struct str bytes)
{
    struct errors e;
    errors_init(&e);
    const Google__Protobuf__Value *v = PB_UNPACK(Google__Protobuf__Value, google__protobuf__value,
                                                 bytes, a, &e, NULL);
    struct json *j = v ? metadata_from_value(a, v) : NULL;
    errors_cleanup(&e);
    return j;
}

static void count(struct http_filter *f, uint32_t stat)
{
    filter_stats_inc(f, ((const struct h2m_config *)f->config)->stats, stat);
}

static struct json *value_of(struct http_filter *f, const struct pair *p, struct str text)
{
    struct arena *a = f->stream->arena;
    double number;
    if (p->base64 && !base64_decode(a, text, &text)) {
        count(f, H2M_BASE64);
        return NULL;
    }
    switch (p->type) {
    case PAIR_STRING:
        return metadata_string(a, text);
    case PAIR_NUMBER:
        return str_to_double(text, &number) && isfinite(number) ? metadata_number(a, number) : NULL;
    case PAIR_PROTOBUF:
        return protobuf_value(a, text);
    }
    return NULL;
}

static bool set(struct http_filter *f, const struct pair *p, struct str text)
{
    struct arena *a = f->stream->arena;
    bool had = text.len > 0;
    if (p->value.len)
        text = p->value;
    else if (p->regex)
        text = regex_replace_all(p->regex, text, p->substitution, a);
    if (had && !text.len)
        count(f, H2M_REGEX);
    if (text.len > METADATA_VALUE_MAX)
        count(f, H2M_TOO_LONG);
    if (!text.len || text.len > METADATA_VALUE_MAX)
        return false;
    struct json *j = value_of(f, p, text);
    if (j)
        metadata_set(&f->stream->info.metadata, a, p->ns, p->key, j);
    return j != NULL;
}

/* `first` is the first of a way's three counters. */
static void apply(struct http_filter *f, const struct rules *rules, struct headers *h,
                  uint32_t first)
{
    enum { MISSING, ADDED, RULES };
    for (size_t i = 0; i < rules->n; i++) {
        const struct rule *r = &rules->v[i];
        struct str text = STR_NULL;
        bool there = r->cookie ? filter_cookie(h, r->name, &text) && text.len
                               : headers_value(h, r->name, f->stream->arena, &text);
        const struct pair *p = there ? r->present : r->missing;
        count(f, first + RULES);
        if (p && !there)
            count(f, first + MISSING);
        if (p && set(f, p, text))
            count(f, first + ADDED);
        if (there && r->remove)
            headers_remove(h, r->name);
    }
}

static const struct h2m_config *config_of(const struct http_filter *f)
{
    const struct h2m_config *own = http_filter_route_config(f);
    return own ? own : f->config;
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    apply(f, &config_of(f)->request, h, H2M_RQ_MISSING);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    apply(f, &config_of(f)->response, h, H2M_RS_MISSING);
    return FILTER_CONTINUE;
}

const struct http_filter_ops header_to_metadata_filter = {
    .name = "envoy.filters.http.header_to_metadata",
    .type_name = "envoy.extensions.filters.http.header_to_metadata.v3.Config",
    .route_type_name = "envoy.extensions.filters.http.header_to_metadata.v3.Config",
    .compile = compile,
    .compile_route = compile_route,
    .free = free_config,
    .free_route = free_config,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
};
