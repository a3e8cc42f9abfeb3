#include "test/support/route_fixture.h"

#include "test/support/yaml_message.h"
#include <check.h>

struct route_table *route_fixture_table(const char *yaml, struct arena *a, struct errors *e)
{
    const void *m = yaml_message("envoy.config.route.v3.RouteConfiguration", yaml, a);
    return route_table_compile(m, NULL, e);
}

struct route_table *route_fixture_routes(const char *routes, struct arena *a, struct errors *e)
{
    struct str yaml = arena_printf(
        a, "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [%s]}]}", routes);
    struct route_table *t = route_fixture_table(yaml.p, a, e);
    ck_assert_msg(t != NULL, "%.*s", STR_ARG(errors_text(e, a)));
    return t;
}

struct headers route_fixture_head(const char *authority, const char *path, struct arena *a)
{
    struct headers h;
    headers_init(&h, a);
    h.method = STR("GET");
    h.scheme = STR("http");
    h.authority = str_of(authority);
    h.path = str_of(path);
    headers_add_known(&h, HDR_HOST, h.authority);
    return h;
}
