/* envoy.filters.http.cors: answers preflight requests and completes the responses to cross-origin
 * ones (the Fetch standard's CORS protocol), by the policies of the route, its virtual host and its
 * table: what the more specific one leaves open the next one says. */
#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/filters/http/cors/v3/cors.pb-c.h"
#include "proxy/filters/filter_common.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/router/matchers.h"

typedef Envoy__Extensions__Filters__Http__Cors__V3__CorsPolicy CorsPolicy;

#define CORS_STATS(X)                                                                              \
    X(CORS_ORIGIN_INVALID, "origin_invalid", COUNTER)                                              \
    X(CORS_ORIGIN_VALID, "origin_valid", COUNTER)
enum { CORS_STATS(STATS_ENUM) CORS_NUM_STATS };
static const struct stats_def stat_defs[] = {CORS_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

struct cors_config {
    struct stats_scope *stats;
};

enum cors_choice { CORS_UNSET, CORS_NO, CORS_YES };

struct cors_policy {
    struct regex_list regexes;
    struct string_match *origins;
    size_t num_origins;
    struct str methods, headers, expose, max_age; /* empty: left open */
    enum cors_choice credentials, private_network, forward;
    uint32_t enabled_ppm, shadow_ppm;
};

/* Of a request whose origin is allowed. */
struct cors_state {
    const void *policies[HTTP_FILTER_LEVELS]; /* the least specific first */
    size_t num;
    struct str origin;
    bool private_network; /* asked for */
};

/* --- configuration --- */

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    struct cors_config *c = ARENA_NEW(env->arena, struct cors_config);
    c->stats = filter_stats_named(env, &stat_table, STR("cors"));
    return c;
}

static void free_config(void *config)
{
    struct cors_config *c = config;
    stats_scope_free(&c->stats);
}

static enum cors_choice choice(const Google__Protobuf__BoolValue *v)
{
    return !v ? CORS_UNSET : v->value ? CORS_YES : CORS_NO;
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const CorsPolicy *m = msg;
    struct arena *a = env->arena;
    struct cors_policy *p = ARENA_NEW(a, struct cors_policy);
    p->origins = arena_zalloc(a, (m->n_allow_origin_string_match + 1) * sizeof(*p->origins));
    p->num_origins = m->n_allow_origin_string_match;
    for (size_t i = 0; i < p->num_origins; i++) {
        size_t mark = errors_push_index(e, "allow_origin_string_match", i);
        (void)string_match_compile(&p->origins[i], &p->regexes, a, m->allow_origin_string_match[i],
                                   e);
        errors_pop(e, mark);
    }
    p->methods = arena_str(a, str_of(m->allow_methods));
    p->headers = arena_str(a, str_of(m->allow_headers));
    p->expose = arena_str(a, str_of(m->expose_headers));
    p->max_age = arena_str(a, str_of(m->max_age));
    p->credentials = choice(m->allow_credentials);
    p->private_network = choice(m->allow_private_network_access);
    p->forward = choice(m->forward_not_matching_preflights);
    p->enabled_ppm = filter_fraction_ppm(m->filter_enabled, FILTER_ALWAYS_PPM);
    p->shadow_ppm = filter_fraction_ppm(m->shadow_enabled, 0);
    return p;
}

static void free_route(void *config)
{
    struct cors_policy *p = config;
    regex_list_free(&p->regexes);
}

/* --- what the policies say together --- */

#define FROM_MOST_SPECIFIC(p, s)                                                                   \
    for (size_t i_ = (s)->num; i_ > 0; i_--)                                                       \
        for (const struct cors_policy *p = (s)->policies[i_ - 1]; p; p = NULL)

static bool origin_allowed(const struct cors_state *s)
{
    FROM_MOST_SPECIFIC(p, s)
    {
        for (size_t i = 0; i < p->num_origins; i++) {
            if (string_match(&p->origins[i], s->origin))
                return true;
        }
        if (p->num_origins)
            return false;
    }
    return false;
}

static struct str text_of(const struct cors_state *s, size_t offset)
{
    FROM_MOST_SPECIFIC(p, s)
    {
        const struct str *text = (const struct str *)(const void *)((const char *)p + offset);
        if (text->len)
            return *text;
    }
    return STR_NULL;
}
#define TEXT_OF(s, field) text_of((s), offsetof(struct cors_policy, field))

static bool choice_of(const struct cors_state *s, size_t offset, bool def)
{
    FROM_MOST_SPECIFIC(p, s)
    {
        const enum cors_choice *c = (const void *)((const char *)p + offset);
        if (*c != CORS_UNSET)
            return *c == CORS_YES;
    }
    return def;
}
#define CHOICE_OF(s, field, def) choice_of((s), offsetof(struct cors_policy, field), (def))

/* --- the request --- */

static void add_text(struct headers *h, struct str name, struct str value)
{
    if (value.len)
        headers_set(h, name, value);
}

static void add_preflight(void *arg, struct headers *h)
{
    const struct cors_state *s = arg;
    if (CHOICE_OF(s, credentials, false))
        headers_set(h, STR("access-control-allow-credentials"), STR("true"));
    add_text(h, STR("access-control-allow-methods"), TEXT_OF(s, methods));
    add_text(h, STR("access-control-allow-headers"), TEXT_OF(s, headers));
    add_text(h, STR("access-control-max-age"), TEXT_OF(s, max_age));
    if (s->private_network && CHOICE_OF(s, private_network, false))
        headers_set(h, STR("access-control-allow-private-network"), STR("true"));
}

static bool is_preflight(const struct headers *h)
{
    const struct header *method = headers_find(h, STR("access-control-request-method"));
    return str_eq(h->method, STR("OPTIONS")) && method && method->value.len;
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct cors_config *c = f->config;
    struct cors_state found;
    found.num = http_filter_route_configs(f, found.policies);
    if (!found.num)
        return FILTER_CONTINUE;
    const struct cors_policy *own = found.policies[found.num - 1];
    bool enabled = filter_chance(own->enabled_ppm);
    const struct header *origin = headers_find(h, STR("origin"));
    if (!origin || !origin->value.len || (!enabled && !filter_chance(own->shadow_ppm)))
        return FILTER_CONTINUE;
    found.origin = origin->value;
    bool allowed = origin_allowed(&found);
    filter_stats_inc(f, c->stats, allowed ? CORS_ORIGIN_VALID : CORS_ORIGIN_INVALID);
    bool preflight = is_preflight(h);
    if (!enabled || (!allowed && (!preflight || CHOICE_OF(&found, forward, true))))
        return FILTER_CONTINUE;
    const struct header *pna = headers_find(h, STR("access-control-request-private-network"));
    found.private_network = pna && str_eq(pna->value, STR("true"));
    struct cors_state *s = ARENA_NEW(h->arena, struct cors_state);
    *s = found;
    f->state = allowed ? s : NULL; /* without it the response names no origin */
    if (!preflight)
        return FILTER_CONTINUE;
    http_filter_reply(f, 200, 0, STR("cors_response"), STR_NULL, add_preflight, s);
    return FILTER_PAUSE;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct cors_state *s = f->state;
    if (!s)
        return FILTER_CONTINUE;
    headers_set(h, STR("access-control-allow-origin"), s->origin);
    if (CHOICE_OF(s, credentials, false))
        headers_set(h, STR("access-control-allow-credentials"), STR("true"));
    add_text(h, STR("access-control-expose-headers"), TEXT_OF(s, expose));
    return FILTER_CONTINUE;
}

const struct http_filter_ops cors_filter = {
    .name = "envoy.filters.http.cors",
    .type_name = "envoy.extensions.filters.http.cors.v3.Cors",
    .route_type_name = "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    .compile = compile,
    .compile_route = compile_route,
    .free = free_config,
    .free_route = free_route,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
};
