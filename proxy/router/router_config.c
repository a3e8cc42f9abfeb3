#include "proxy/router/router_config.h"

#include "api-protos/wkt.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"

typedef Envoy__Extensions__Filters__Http__Router__V3__Router Router;

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Router *m = msg;
    struct router_config *c = ARENA_NEW(env->arena, struct router_config);
    c->suppress_envoy_headers = m && m->suppress_envoy_headers;
    c->dynamic_stats = !m || wkt_bool(m->dynamic_stats, true);
    return c;
}

const struct http_filter_ops router_filter = {
    .name = "envoy.filters.http.router",
    .type_name = "envoy.extensions.filters.http.router.v3.Router",
    .terminal = true,
    .compile = compile,
};
