#include "proxy/router/router_config.h"

#include "api-protos/wkt.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"

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
    if (m)
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
