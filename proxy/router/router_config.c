#include "proxy/router/router_config.h"

#include "api-protos/wkt.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"
#include "proxy/network/network_filter.h"
#include "proxy/observe/access_log.h"

typedef Envoy__Extensions__Filters__Http__Router__V3__Router Router;

/* The filters of each try. */
static void compile_upstream(const struct http_filter_env *env, struct router_config *c,
                             const Router *m, struct errors *e)
{
    const struct http_filter_env upstream = {
        .compile = env->compile,
        .arena = env->arena,
        .upstream = true,
    };
    if (!m->n_upstream_http_filters)
        return;
    size_t before = e->num_errors;
    http_filter_list_compile(&upstream, (void *const *)m->upstream_http_filters,
                             m->n_upstream_http_filters, "upstream_http_filters",
                             &c->upstream_filters, e);
    if (!c->upstream_filters.terminated && e->num_errors == before)
        errors_add(e, "upstream_http_filters",
                   "the last filter must be envoy.filters.http.upstream_codec");
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Router *m = msg;
    struct router_config *c = ARENA_NEW(env->arena, struct router_config);
    c->suppress_envoy_headers = m && m->suppress_envoy_headers;
    c->dynamic_stats = !m || wkt_bool(m->dynamic_stats, true);
    if (!m)
        return c;
    struct arena *a = env->arena;
    c->respect_expected_timeout = m->respect_expected_rq_timeout;
    c->suppress_grpc_codes = m->suppress_grpc_request_failure_code_stats;
    struct str *strict = arena_zalloc(a, (m->n_strict_check_headers + 1) * sizeof(*strict));
    for (size_t i = 0; i < m->n_strict_check_headers; i++)
        strict[i] = arena_str(a, str_of(m->strict_check_headers[i]));
    c->strict_headers = strict;
    c->num_strict = m->n_strict_check_headers;
    c->upstream_logs = arena_zalloc(a, (m->n_upstream_log + 1) * sizeof(*c->upstream_logs));
    for (size_t i = 0; i < m->n_upstream_log; i++) {
        size_t mark = errors_push_index(e, "upstream_log", i);
        struct access_log *l = access_log_compile(a, m->upstream_log[i], env->compile->files,
                                                  env->compile->pb, e);
        if (l)
            c->upstream_logs[c->num_upstream_logs++] = l;
        errors_pop(e, mark);
    }
    compile_upstream(env, c, m, e);
    return c;
}

static void free_config(void *config)
{
    struct router_config *c = config;
    http_filter_list_free(&c->upstream_filters);
}

const struct http_filter_ops router_filter = {
    .name = "envoy.filters.http.router",
    .type_name = "envoy.extensions.filters.http.router.v3.Router",
    .terminal = true,
    .compile = compile,
    .free = free_config,
};
