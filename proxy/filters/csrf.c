/* envoy.filters.http.csrf: a request that changes something must come from the host it goes to, or
 * from one that the policy names. The source is the Origin header's host and port, or the
 * Referer's; the target the request's authority. */
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/filters/http/csrf/v3/csrf.pb-c.h"
#include "proxy/filters/filter_common.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/router/matchers.h"

typedef Envoy__Extensions__Filters__Http__Csrf__V3__CsrfPolicy CsrfPolicy;

#define CSRF_STATS(X)                                                                              \
    X(CSRF_MISSING, "missing_source_origin", COUNTER)                                              \
    X(CSRF_INVALID, "request_invalid", COUNTER)                                                    \
    X(CSRF_VALID, "request_valid", COUNTER)
enum { CSRF_STATS(STATS_ENUM) CSRF_NUM_STATS };
static const struct stats_def stat_defs[] = {CSRF_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

struct csrf_policy {
    struct stats_scope *stats; /* of the filter; NULL per route */
    struct regex_list regexes;
    struct string_match *origins;
    size_t num_origins;
    uint32_t enabled_ppm, shadow_ppm;
};

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const CsrfPolicy *m = msg;
    struct csrf_policy *p = ARENA_NEW(env->arena, struct csrf_policy);
    if (!m || !m->filter_enabled) {
        errors_add(e, "filter_enabled", "is required");
        return p;
    }
    p->enabled_ppm = filter_fraction_ppm(m->filter_enabled, 0);
    p->shadow_ppm = filter_fraction_ppm(m->shadow_enabled, 0);
    p->num_origins = m->n_additional_origins;
    p->origins = arena_zalloc(env->arena, (p->num_origins + 1) * sizeof(*p->origins));
    for (size_t i = 0; i < p->num_origins; i++) {
        size_t mark = errors_push_index(e, "additional_origins", i);
        (void)string_match_compile(&p->origins[i], &p->regexes, env->arena,
                                   m->additional_origins[i], e);
        errors_pop(e, mark);
    }
    return p;
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    struct csrf_policy *p = compile_route(env, msg, e);
    p->stats = filter_stats_named(env, &stat_table, STR("csrf"));
    return p;
}

static void free_policy(void *config)
{
    struct csrf_policy *p = config;
    regex_list_free(&p->regexes);
    stats_scope_free(&p->stats);
}

static bool changes_something(struct str method)
{
    return str_eq(method, STR("POST")) || str_eq(method, STR("PUT")) ||
           str_eq(method, STR("DELETE")) || str_eq(method, STR("PATCH"));
}

/* Host and port of a URL; a text that is none stands for itself. */
static struct str host_and_port(struct str url)
{
    ptrdiff_t at = str_find(url, STR("://"));
    if (at <= 0)
        return url;
    struct str rest = str_n(url.p + at + 3, url.len - (size_t)at - 3);
    size_t n = 0;
    while (n < rest.len && rest.p[n] != '/' && rest.p[n] != '?' && rest.p[n] != '#')
        n++;
    struct str host = str_n(rest.p, n);
    if (!n)
        return url;
    at = str_chr(host, '@');
    return at < 0 ? host : str_n(host.p + at + 1, host.len - (size_t)at - 1);
}

/* Empty: unknown. An opaque origin is "null" (RFC 6454 section 6.1): its Referer is not asked. */
static struct str source_of(const struct headers *h)
{
    static const struct str names[] = {{"origin", 6}, {"referer", 7}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct header *f = headers_find(h, names[i]);
        if (f && str_eq(f->value, STR("null")))
            return STR_NULL;
        if (f && f->value.len)
            return host_and_port(f->value);
    }
    return STR_NULL;
}

static bool is_valid(const struct csrf_policy *p, struct str source, const struct headers *h)
{
    if (str_eq(source, host_and_port(h->authority)))
        return true;
    for (size_t i = 0; i < p->num_origins; i++) {
        if (string_match(&p->origins[i], source))
            return true;
    }
    return false;
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct csrf_policy *config = f->config, *own = http_filter_route_config(f);
    const struct csrf_policy *p = own ? own : config;
    if (!changes_something(h->method))
        return FILTER_CONTINUE;
    bool enabled = filter_chance(p->enabled_ppm);
    if (!enabled && !filter_chance(p->shadow_ppm))
        return FILTER_CONTINUE;
    struct str source = source_of(h);
    if (source.len && is_valid(p, source, h)) {
        filter_stats_inc(f, config->stats, CSRF_VALID);
        return FILTER_CONTINUE;
    }
    filter_stats_inc(f, config->stats, source.len ? CSRF_INVALID : CSRF_MISSING);
    if (!enabled)
        return FILTER_CONTINUE;
    http_filter_reply(f, 403, 0, STR("csrf_origin_mismatch"), STR("Invalid origin"), NULL, NULL);
    return FILTER_PAUSE;
}

const struct http_filter_ops csrf_filter = {
    .name = "envoy.filters.http.csrf",
    .type_name = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
    .route_type_name = "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
    .compile = compile,
    .compile_route = compile_route,
    .free = free_policy,
    .free_route = free_policy,
    .on_request_headers = on_request_headers,
};
