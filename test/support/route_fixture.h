/* Route tables and requests for tests of proxy/router. */
#pragma once

#include "proxy/router/route.h"

/* route_fixture_table compiles a RouteConfiguration written as YAML; NULL after errors in e. The
 * caller's reference. */
struct route_table *route_fixture_table(const char *yaml, struct arena *a, struct errors *e);

/* route_fixture_routes the same of the Route messages of one virtual host "v" for all domains;
 * fails the test after errors. */
struct route_table *route_fixture_routes(const char *routes, struct arena *a, struct errors *e);

/* route_fixture_head is the head of a GET. */
struct headers route_fixture_head(const char *authority, const char *path, struct arena *a);
