/* Route tables: which route a request gets, what is done to it, where a redirect leads, and what is
 * refused. Envoy 1.40's answers (observed) unless said otherwise. */
#include "proxy/router/route_private.h"

#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct route_table *table;
static struct stream_info info;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    info = (struct stream_info){0};
}

static void teardown(void)
{
    route_table_unref(table);
    table = NULL;
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static bool load(const char *yaml)
{
    const void *m = yaml_message("envoy.config.route.v3.RouteConfiguration", yaml, &arena);
    route_table_unref(table);
    table = route_table_compile(m, NULL, &errors);
    return table != NULL;
}

/* Routes of one virtual host for all domains. */
static void load_routes(const char *routes)
{
    struct str yaml = arena_printf(
        &arena, "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [%s]}]}", routes);
    ck_assert_msg(load(yaml.p), "%.*s", STR_ARG(errors_text(&errors, &arena)));
}

static struct headers head(const char *authority, const char *path)
{
    struct headers h;
    headers_init(&h, &arena);
    h.method = STR("GET");
    h.scheme = STR("http");
    h.authority = str_of(authority);
    h.path = str_of(path);
    headers_add_known(&h, HDR_HOST, h.authority);
    return h;
}

static const struct route *find(const struct headers *h, uint64_t random)
{
    struct route_match_input in = {.headers = h, .random = random};
    return route_match(table, &in, &arena);
}

static void expect_route(const char *authority, const char *path, const char *name)
{
    struct headers h = head(authority, path);
    const struct route *r = find(&h, 0);
    ck_assert_msg((r != NULL) == (name != NULL), "%s%s: %s", authority, path,
                  r ? "found" : "not found");
    if (r)
        ck_assert_msg(str_eq(r->name, str_of(name)), "%s%s: got %.*s, want %s", authority, path,
                      STR_ARG(r->name), name);
}

/* --- domains -----------------------------------------------------------------------------------
 */

static const char domains[] =
    "virtual_hosts:\n"
    "- {name: any, domains: ['*'], routes: [&r {name: any, match: {prefix: /}, route: {cluster: "
    "c}}]}\n"
    "- {name: a, domains: [a.com], routes: [{name: a, match: {prefix: /}, route: {cluster: c}}]}\n"
    "- {name: sa, domains: ['*.a.com'], routes: [{name: sa, match: {prefix: /}, route: {cluster: "
    "c}}]}\n"
    "- {name: sba, domains: ['*.b.a.com', '*-x.com'], routes: [{name: sba, match: {prefix: /}, "
    "route: {cluster: c}}]}\n"
    "- {name: p, domains: ['a.*'], routes: [{name: p, match: {prefix: /}, route: {cluster: c}}]}\n"
    "- {name: pb, domains: ['a.b.*'], routes: [{name: pb, match: {prefix: /}, route: {cluster: "
    "c}}]}\n"
    "- {name: up, domains: ['A.Upper.com'], routes: [{name: up, match: {prefix: /}, route: "
    "{cluster: c}}]}\n"
    "- {name: port, domains: ['p.com:80', '*.c.com:81'], routes: [{name: port, match: {prefix: /}, "
    "route: {cluster: c}}]}\n"
    "- {name: q, domains: [q.com, '[::1]'], routes: [{name: q, match: {prefix: /}, route: "
    "{cluster: c}}]}\n"
    "- {name: none, domains: [none.com], routes: []}\n";

START_TEST(domain_order)
{
    ck_assert(load(domains));
    expect_route("a.com", "/", "a"); /* exact before all others */
    expect_route("A.COM", "/", "a");
    expect_route("x.a.com", "/", "sa");
    expect_route("x.b.a.com", "/", "sba"); /* the longer suffix */
    expect_route("b.a.com", "/", "sa");
    expect_route(".a.com", "/", "any"); /* the wildcard stands for something */
    expect_route("y-x.com", "/", "sba");
    expect_route("-x.com", "/", "any");
    expect_route("a.org", "/", "p");
    expect_route("a.b.org", "/", "pb");
    expect_route("a.", "/", "any");
    expect_route("a.com.", "/", "p");
    expect_route("a.upper.com", "/", "up");
    expect_route("a.com:80", "/", "p"); /* ports count */
    expect_route("p.com:80", "/", "port");
    expect_route("p.com", "/", "any");
    expect_route("x.c.com:81", "/", "port");
    expect_route("q.com:99", "/", "any");
    expect_route("[::1]", "/", "q");
    expect_route("[::1]:80", "/", "any");
    expect_route("", "/", "any");
    expect_route("none.com", "/", NULL); /* no way back to "*" */
}
END_TEST

START_TEST(domain_without_port)
{
    ck_assert(load(arena_printf(&arena, "ignore_port_in_host_matching: true\n%s", domains).p));
    expect_route("a.com:80", "/", "a");
    expect_route("q.com:99", "/", "q");
    expect_route("[::1]:80", "/", "q");
    expect_route("[::1]", "/", "q");
    expect_route("Q.com:", "/", "q");
}
END_TEST

START_TEST(no_host_matches)
{
    ck_assert(load("virtual_hosts: [{name: v, domains: [a.com], routes: [{name: r, match: {prefix: "
                   "/}, route: {cluster: c}}]}]"));
    expect_route("a.com", "/", "r");
    expect_route("b.com", "/", NULL);
}
END_TEST

/* --- paths and conditions ------------------------------------------------------------------------
 */

START_TEST(paths)
{
    load_routes("{name: exact, match: {path: /exact}, route: {cluster: c}},"
                "{name: iexact, match: {path: /CI, case_sensitive: false}, route: {cluster: c}},"
                "{name: ipre, match: {prefix: /Pre, case_sensitive: false}, route: {cluster: c}},"
                "{name: sep, match: {path_separated_prefix: /sep}, route: {cluster: c}},"
                "{name: re, match: {safe_regex: {regex: '/re/[a-z]+'}}, route: {cluster: c}},"
                "{name: pp, match: {prefix: /pp}, route: {cluster: c}}");
    expect_route("h", "/exact", "exact");
    expect_route("h", "/exact?x", "exact");
    expect_route("h", "/exact/", NULL);
    expect_route("h", "/Exact", NULL);
    expect_route("h", "/ci?q", "iexact");
    expect_route("h", "/PREfix", "ipre");
    expect_route("h", "/sep", "sep");
    expect_route("h", "/sep/", "sep");
    expect_route("h", "/sep?x", "sep");
    expect_route("h", "/sepx", NULL);
    expect_route("h", "/re/abc?D", "re");
    expect_route("h", "/re/abcD", NULL);
    expect_route("h", "/x/re/abc", NULL);
    expect_route("h", "/pp?", "pp");
    expect_route("h", "/", NULL);
    expect_route("h", "*", NULL);
}
END_TEST

static const struct {
    const char *match, *query;
    bool fits;
} queries[] = {
    {"{name: a}", "?a", true},
    {"{name: a}", "?a=", true},
    {"{name: a}", "?b=1&a=1", true},
    {"{name: a}", "?A=1", false},
    {"{name: a}", "?aa=1", false},
    {"{name: a}", "", false},
    {"{name: a}", "?&&a=1", true},
    {"{name: a, present_match: true}", "?a", true},
    {"{name: a, present_match: false}", "?a", false},
    {"{name: a, present_match: false}", "?b", true},
    {"{name: a, string_match: {exact: '1'}}", "?a=1&a=2", true},
    {"{name: a, string_match: {exact: '1'}}", "?a=2&a=1", false}, /* the first counts */
    {"{name: a, string_match: {exact: '1'}}", "", false},
    {"{name: a, string_match: {exact: ''}}", "?a", true},
    {"{name: a, string_match: {exact: '=1'}}", "?a==1", true},
    {"{name: a, string_match: {safe_regex: {regex: '[0-9]*'}}}", "?a=12", true},
    {"{name: a, string_match: {safe_regex: {regex: '[0-9]*'}}}", "?a=1x", false},
};

START_TEST(query)
{
    load_routes(arena_printf(&arena,
                             "{name: r, match: {prefix: /, query_parameters: [%s]}, route: "
                             "{cluster: c}}",
                             queries[_i].match)
                    .p);
    expect_route("h", arena_printf(&arena, "/p%s", queries[_i].query).p,
                 queries[_i].fits ? "r" : NULL);
}
END_TEST

START_TEST(grpc_and_headers)
{
    load_routes("{name: g, match: {prefix: /, grpc: {}}, route: {cluster: c}},"
                "{name: both, match: {prefix: /, headers: [{name: a, string_match: {exact: x}}, "
                "{name: b, present_match: true}]}, route: {cluster: c}}");
    static const struct {
        const char *type;
        bool grpc;
    } types[] = {{"application/grpc", true},      {"application/grpc+proto", true},
                 {"application/grpc-web", false}, {"application/grpcx", false},
                 {"application/grpc;a=b", false}, {"application/json", false}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct headers h = head("h", "/");
        headers_add_known(&h, HDR_CONTENT_TYPE, str_of(types[i].type));
        ck_assert_msg((find(&h, 0) != NULL) == types[i].grpc, "%s", types[i].type);
    }
    struct headers h = head("h", "/");
    headers_add(&h, STR("a"), STR("x"));
    ck_assert_ptr_null(find(&h, 0)); /* every condition must hold */
    headers_add(&h, STR("b"), STR(""));
    ck_assert(str_eq(find(&h, 0)->name, STR("both")));
}
END_TEST

START_TEST(fraction)
{
    load_routes(
        "{name: some, match: {prefix: /, runtime_fraction: {default_value: {numerator: 30}}}, "
        "route: {cluster: c}}, {name: rest, match: {prefix: /}, route: {cluster: c}}");
    struct headers h = head("h", "/");
    unsigned some = 0;
    for (uint64_t i = 0; i < 100000; i++)
        some += str_eq(find(&h, i * 10)->name, STR("some"));
    ck_assert_uint_eq(some, 30000);
    load_routes(
        "{name: never, match: {prefix: /, runtime_fraction: {default_value: {numerator: 0}}}, "
        "route: {cluster: c}}, {name: all, match: {prefix: /, runtime_fraction: "
        "{default_value: {numerator: 10000, denominator: TEN_THOUSAND}}}, route: {cluster: "
        "c}}");
    for (uint64_t i = 0; i < 1000000; i += 1009)
        ck_assert(str_eq(find(&h, i)->name, STR("all")));
}
END_TEST

/* --- clusters ------------------------------------------------------------------------------------
 */

START_TEST(weighted)
{
    load_routes("{name: w, match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: none, "
                "weight: 0}, {name: ten, weight: 10}, {name: ninety, weight: 90}]}}}");
    struct headers h = head("h", "/");
    const struct route *r = find(&h, 0);
    unsigned ten = 0, ninety = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        struct route_match_input in = {.headers = &h, .random = i << 24 | (i * 7919) % 1000000};
        const struct weighted_cluster *w;
        struct str name = route_cluster_name(r, &in, &w);
        ck_assert(str_eq(name, w->name));
        ten += str_eq(name, STR("ten"));
        ninety += str_eq(name, STR("ninety"));
    }
    ck_assert_uint_eq(ten, 1000);
    ck_assert_uint_eq(ninety, 9000);
}
END_TEST

START_TEST(cluster_by_header)
{
    load_routes("{match: {prefix: /}, route: {cluster_header: X-Cluster, "
                "cluster_not_found_response_code: NOT_FOUND}}");
    struct headers h = head("h", "/");
    struct route_match_input in = {.headers = &h};
    const struct weighted_cluster *w;
    const struct route *r = find(&h, 0);
    ck_assert_uint_eq(route_cluster_name(r, &in, &w).len, 0);
    headers_add(&h, STR("x-cluster"), STR("c7"));
    ck_assert(str_eq(route_cluster_name(r, &in, &w), STR("c7")));
    ck_assert_ptr_null(w);
    ck_assert_uint_eq(r->cluster_not_found_code, 404);
}
END_TEST

/* --- what is done to a request
 * -------------------------------------------------------------------- */

static struct str value_of(const struct headers *h, const char *name)
{
    struct str v;
    return headers_value(h, str_of(name), &arena, &v) ? v : STR("(none)");
}

static void expect_value(const struct headers *h, const char *name, const char *value)
{
    struct str v = value_of(h, name);
    ck_assert_msg(str_eq(v, str_of(value)), "%s: got %.*s, want %s", name, STR_ARG(v), value);
}

#define LEVEL(n)                                                                                   \
    "request_headers_to_add: ["                                                                    \
    "{header: {key: x-r, value: " n "}, append_action: OVERWRITE_IF_EXISTS_OR_ADD},"               \
    "{header: {key: x-app, value: " n "}},"                                                        \
    "{header: {key: x-abs, value: " n "}, append_action: ADD_IF_ABSENT}],"                         \
    "request_headers_to_remove: [x-rm-" n "]"

static void check_levels(const char *wins, const char *app, const char *r, const char *abs)
{
    ck_assert_msg(
        load(
            arena_printf(
                &arena,
                "{name: r, %s " LEVEL("table") ", virtual_hosts: [{name: v, domains: ['*'], " LEVEL(
                    "vhost") ", routes: [{match: {prefix: /}, " LEVEL("route") ", route: "
                                                                               "{weighted_clusters:"
                                                                               " {clusters: "
                                                                               "[{name: c, weight: "
                                                                               "1, " LEVEL(
                                                                                   "wc") "}]}}}]}]"
                                                                                         "}",
                wins)
                .p),
        "%.*s", STR_ARG(errors_text(&errors, &arena)));
    struct headers h = head("h", "/");
    headers_add(&h, STR("x-rm-table"), STR("1"));
    headers_add(&h, STR("x-rm-route"), STR("1"));
    headers_add(&h, STR("x-app"), STR("orig"));
    const struct route *route = find(&h, 0);
    route_rewrite_request(table, route, route->weighted, true, &h, &info);
    expect_value(&h, "x-app", app);
    expect_value(&h, "x-r", r);
    expect_value(&h, "x-abs", abs);
    expect_value(&h, "x-rm-table", "(none)");
    expect_value(&h, "x-rm-route", "(none)");
}

START_TEST(header_levels)
{
    check_levels("", "orig,wc,route,vhost,table", "table", "wc");
    check_levels("most_specific_header_mutations_wins: true,", "orig,wc,table,vhost,route", "route",
                 "wc");
}
END_TEST

#define ADD(key, value, action)                                                                    \
    "{header: {key: " key ", value: '" value "'}, append_action: " action "}"

/* Every action, on a request that has "x-a: orig" (twice) and one that has not. */
static const struct {
    const char *add, *name, *with, *without;
} actions[] = {
    {ADD("x-a", "1", "APPEND_IF_EXISTS_OR_ADD"), "x-a", "orig,orig2,1", "1"},
    {ADD("X-A", "1", "OVERWRITE_IF_EXISTS_OR_ADD"), "x-a", "1", "1"},
    {ADD("x-a", "1", "ADD_IF_ABSENT"), "x-a", "orig,orig2", "1"},
    {ADD("x-a", "1", "OVERWRITE_IF_EXISTS"), "x-a", "1", "(none)"},
    {"{header: {key: x-a, value: '1'}, append: false}", "x-a", "1", "1"},
    {"{header: {key: x-a, value: '1'}, append: true}", "x-a", "orig,orig2,1", "1"},
    {"{header: {key: x-a, value: ''}}", "x-a", "orig,orig2", "(none)"},
    {"{header: {key: x-a, value: ''}, keep_empty_value: true}", "x-a", "orig,orig2,", ""},
    /* all values are made first, then what replaces is done, then what adds */
    {ADD("x-a", "1", "APPEND_IF_EXISTS_OR_ADD") "," ADD("x-a", "2", "OVERWRITE_IF_EXISTS_OR_ADD"),
     "x-a", "2,1", "2,1"},
    {ADD("x-a", "1", "ADD_IF_ABSENT") "," ADD("x-a", "2", "ADD_IF_ABSENT"), "x-a", "orig,orig2",
     "1,2"},
    {ADD("x-a", "new", "OVERWRITE_IF_EXISTS_OR_ADD") "," ADD("x-b", "%REQ(X-A)%",
                                                             "APPEND_IF_EXISTS_OR_ADD"),
     "x-b", "orig", "(none)"},
};

START_TEST(add_actions)
{
    load_routes(arena_printf(&arena,
                             "{match: {prefix: /}, route: {cluster: c}, request_headers_to_add: "
                             "[%s]}",
                             actions[_i].add)
                    .p);
    for (int with = 0; with < 2; with++) {
        struct headers h = head("h", "/");
        if (with) {
            headers_add(&h, STR("x-a"), STR("orig"));
            headers_add(&h, STR("x-a"), STR("orig2"));
        }
        info.request = &h;
        route_rewrite_request(table, find(&h, 0), NULL, true, &h, &info);
        if (with && str_eq(str_of(actions[_i].name), STR("x-b")))
            continue; /* %REQ% of a field that is there twice: the format's own test */
        expect_value(&h, actions[_i].name, with ? actions[_i].with : actions[_i].without);
    }
}
END_TEST

START_TEST(removes_before_adding)
{
    load_routes("{match: {prefix: /}, route: {cluster: c}, request_headers_to_remove: [X-A], "
                "request_headers_to_add: [{header: {key: x-a, value: new}}]}");
    struct headers h = head("h", "/");
    headers_add(&h, STR("x-a"), STR("old"));
    route_rewrite_request(table, find(&h, 0), NULL, true, &h, &info);
    expect_value(&h, "x-a", "new");
}
END_TEST

static const struct {
    const char *route, *from, *to;
    bool told; /* x-envoy-original-path is set */
} rewrites[] = {
    {"match: {prefix: /p/}, route: {cluster: c, prefix_rewrite: /}", "/p/x?q", "/x?q", true},
    {"match: {prefix: /q}, route: {cluster: c, prefix_rewrite: /new}", "/q/y", "/new/y", true},
    {"match: {prefix: /q}, route: {cluster: c, prefix_rewrite: /q}", "/q/y", "/q/y", true},
    {"match: {path: /e}, route: {cluster: c, prefix_rewrite: /x}", "/e?z=/e", "/x?z=/e", true},
    {"match: {path_separated_prefix: /s}, route: {cluster: c, prefix_rewrite: /t}", "/s/a", "/t/a",
     true},
    {"match: {prefix: /PC, case_sensitive: false}, route: {cluster: c, prefix_rewrite: /x}",
     "/pc/Y", "/x/Y", true},
    {"match: {safe_regex: {regex: '/re/.*'}}, route: {cluster: c, prefix_rewrite: /w}", "/re/a?d",
     "/w?d", true},
    {"match: {prefix: /}, route: {cluster: c, regex_rewrite: {pattern: {regex: "
     "'^/r/([^/]+)/(.*)$'}, substitution: '/\\2/of/\\1'}}",
     "/r/a/b?c=1/2", "/b/of/a?c=1/2", true},
    {"match: {prefix: /}, route: {cluster: c, regex_rewrite: {pattern: {regex: a}, substitution: "
     "bb}}",
     "/aa?a", "/bbbb?a", true},
    {"match: {prefix: /}, route: {cluster: c, regex_rewrite: {pattern: {regex: x}, substitution: "
     "z}}",
     "/a?x", "/a?x", true},
    {"match: {prefix: /}, route: {cluster: c, regex_rewrite: {pattern: {regex: '.*'}, "
     "substitution: "
     "''}}",
     "/a", "/a", false}, /* no empty path */
    {"match: {prefix: /}, route: {cluster: c}", "/a", "/a", false},
};

START_TEST(path_rewrites)
{
    load_routes(arena_printf(&arena, "{%s}", rewrites[_i].route).p);
    for (int tell = 0; tell < 2; tell++) {
        struct headers h = head("h", rewrites[_i].from);
        route_rewrite_request(table, find(&h, 0), NULL, tell, &h, &info);
        ck_assert_msg(str_eq(h.path, str_of(rewrites[_i].to)), "%s: %.*s", rewrites[_i].from,
                      STR_ARG(h.path));
        expect_value(&h, "x-envoy-original-path",
                     tell && rewrites[_i].told ? rewrites[_i].from : "(none)");
    }
}
END_TEST

START_TEST(host_rewrites)
{
    load_routes(
        "{match: {prefix: /w}, route: {weighted_clusters: {clusters: [{name: c, weight: 1, "
        "host_rewrite_literal: wc.host}]}}}, {match: {prefix: /b}, route: {weighted_clusters: "
        "{clusters: [{name: c, weight: 1, host_rewrite_literal: wc.host}]}, "
        "host_rewrite_literal: route.host}}");
    struct headers h = head("h", "/w");
    const struct route *r = find(&h, 0);
    route_rewrite_request(table, r, r->weighted, true, &h, &info);
    expect_value(&h, "host", "wc.host");
    expect_value(&h, ":authority", "wc.host");
    expect_value(&h, "x-envoy-original-host", "(none)");
    h = head("h", "/b");
    r = find(&h, 0);
    route_rewrite_request(table, r, r->weighted, true, &h, &info);
    expect_value(&h, ":authority", "route.host");
    expect_value(&h, "x-envoy-original-host", "wc.host");
}
END_TEST

/* --- redirects
 * ------------------------------------------------------------------------------------- */

static const struct {
    const char *redirect, *host, *path, *location;
} redirects[] = {
    {"https_redirect: true", "h.com", "/r/x?q=1", "https://h.com/r/x?q=1"},
    {"https_redirect: true", "h.com:80", "/r", "https://h.com/r"},
    {"https_redirect: true", "h.com:443", "/r", "https://h.com:443/r"},
    {"https_redirect: true", "[::1]:80", "/r", "https://[::1]/r"},
    {"https_redirect: true, port_redirect: 8443", "h.com:80", "/r", "https://h.com:8443/r"},
    {"port_redirect: 81", "[::1]", "/r", "http://[::1]:81/r"},
    {"scheme_redirect: ftp", "h.com:80", "/r", "ftp://h.com/r"},
    {"host_redirect: 'n.com:81'", "h.com", "/r?a", "http://n.com:81/r?a"},
    {"https_redirect: true, host_redirect: 'n.com:80'", "h.com", "/r", "https://n.com:80/r"},
    {"path_redirect: /np", "h.com", "/r?a=b", "http://h.com/np?a=b"},
    {"path_redirect: /np, strip_query: true", "h.com", "/r?a=b", "http://h.com/np"},
    {"path_redirect: '/np?c=d'", "h.com", "/r?a=b", "http://h.com/np?c=d"},
    {"path_redirect: '/np?c=d', strip_query: true", "h.com", "/r?a", "http://h.com/np?c=d"},
    {"prefix_rewrite: /np", "h.com", "/r/x?a", "http://h.com/np/x?a"},
    {"prefix_rewrite: /np, strip_query: true", "h.com", "/r/x?a", "http://h.com/np/x"},
    {"regex_rewrite: {pattern: {regex: '^/r(.*)'}, substitution: '/X\\1'}", "h.com", "/r/x?a",
     "http://h.com/X/x?a"},
    {"strip_query: true, host_redirect: z", "h.com", "/r?a", "http://z/r"},
    /* ours: Envoy writes "n.com:81:82" */
    {"host_redirect: 'n.com:81', port_redirect: 82", "h.com", "/r", "http://n.com:82/r"},
};

START_TEST(redirect)
{
    load_routes(
        arena_printf(&arena, "{match: {prefix: /r}, redirect: {%s}}", redirects[_i].redirect).p);
    struct headers h = head(redirects[_i].host, redirects[_i].path);
    unsigned status;
    struct str to = route_redirect_location(find(&h, 0), &h, false, &arena, &status);
    ck_assert_msg(str_eq(to, str_of(redirects[_i].location)), "%s: %.*s", redirects[_i].redirect,
                  STR_ARG(to));
    ck_assert_uint_eq(status, 301);
}
END_TEST

START_TEST(require_tls)
{
    ck_assert(load("virtual_hosts: [{name: v, domains: ['*'], require_tls: ALL, routes: [{name: r, "
                   "match: {prefix: /}, route: {cluster: c}}]}]"));
    struct headers h = head("a.com", "/x?y");
    const struct route *r = find(&h, 0);
    unsigned status;
    ck_assert_int_eq(r->action, ROUTE_REDIRECT);
    struct str to = route_redirect_location(r, &h, false, &arena, &status);
    ck_assert(str_eq(to, STR("https://a.com/x?y")));
    h.scheme = STR("https");
    ck_assert(str_eq(find(&h, 0)->name, STR("r")));
}
END_TEST

/* --- what is refused
 * ---------------------------------------------------------------------------------- */

#define ROUTE(x) "virtual_hosts: [{name: v, domains: ['*'], routes: [" x "]}]"
#define VHOSTS(x) "virtual_hosts: [" x "]"

static const struct {
    const char *yaml, *path, *text;
} bad[] = {
    {VHOSTS("{name: v, domains: ['a*b']}"), "virtual_hosts[0].domains[0]", "wildcard"},
    {VHOSTS("{name: v, domains: ['*a*']}"), "virtual_hosts[0].domains[0]", "wildcard"},
    {VHOSTS("{name: v, domains: [a, A]}"), "virtual_hosts[0].domains[1]", "duplicate"},
    {VHOSTS("{name: v, domains: ['*']}, {name: w, domains: ['*']}"), "virtual_hosts[1].domains[0]",
     "duplicate"},
    {ROUTE("{match: {safe_regex: {regex: '('}}, route: {cluster: c}}"),
     "virtual_hosts[0].routes[0].match.safe_regex.regex", ""},
    {ROUTE("{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: c, weight: 0}]}}}"),
     "virtual_hosts[0].routes[0].route.weighted_clusters", "sum"},
    {ROUTE("{match: {prefix: /}, route: {weighted_clusters: {clusters: [{weight: 1}]}}}"),
     "virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0]", "required"},
    {ROUTE("{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: c}]}}}"),
     "virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0].weight", "required"},
    {ROUTE("{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: c, weight: 1, "
           "cluster_header: x}]}}}"),
     "virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0]", "only one"},
    {ROUTE("{match: {prefix: /}, route: {cluster_specifier_plugin: x}}"),
     "virtual_hosts[0].routes[0].route.cluster_specifier_plugin", "no plugin"},
    {ROUTE("{match: {prefix: /}, route: {cluster: c, path_rewrite: '%NOPE%'}}"),
     "virtual_hosts[0].routes[0].route.path_rewrite", ""},
    {ROUTE("{match: {prefix: /}, route: {cluster: c, host_rewrite: '%NOPE%'}}"),
     "virtual_hosts[0].routes[0].route.host_rewrite", ""},
    {ROUTE("{match: {prefix: /}, route: {cluster: c, upgrade_configs: [{upgrade_type: websocket}, "
           "{upgrade_type: WebSocket}]}}"),
     "virtual_hosts[0].routes[0].route.upgrade_configs[1].upgrade_type", "before"},
    {ROUTE("{match: {prefix: /}, route: {cluster: c, upgrade_configs: [{upgrade_type: websocket, "
           "connect_config: {}}]}}"),
     "virtual_hosts[0].routes[0].route.upgrade_configs[0].connect_config", "CONNECT only"},
    {VHOSTS("{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: c}}], "
            "matcher: {}}"),
     "virtual_hosts[0].matcher", "cannot both"},
    {ROUTE(
         "{match: {prefix: /}, route: {cluster: c, retry_policy: {retry_back_off: {base_interval: "
         "2s, max_interval: 1s}}}}"),
     "virtual_hosts[0].routes[0].route.retry_policy.retry_back_off.max_interval", "shorter"},
    {ROUTE("{match: {prefix: /}, route: {cluster: c, regex_rewrite: {pattern: {regex: a}, "
           "substitution: '\\3'}}}"),
     "virtual_hosts[0].routes[0].route.regex_rewrite.substitution", ""},
    {ROUTE("{match: {prefix: /}, route: {cluster: c, prefix_rewrite: /, regex_rewrite: {pattern: "
           "{regex: a}, substitution: b}}}"),
     "virtual_hosts[0].routes[0].route", "only one"},
    {ROUTE("{match: {prefix: /}, direct_response: {status: 200, body: {filename: /x}}}"),
     "virtual_hosts[0].routes[0].direct_response.body", "cannot open"},
    {ROUTE("{match: {prefix: /}, route: {cluster: c}, request_headers_to_add: [{header: {key: "
           "':path', value: x}}]}"),
     "virtual_hosts[0].routes[0].request_headers_to_add[0].header.key", "may not"},
    {ROUTE("{match: {prefix: /}, route: {cluster: c}, response_headers_to_remove: [Host]}"),
     "virtual_hosts[0].routes[0].response_headers_to_remove[0]", "may not"},
    {ROUTE("{match: {prefix: /}, route: {cluster: c}, request_headers_to_add: [{header: {key: a, "
           "value: '%NOPE%'}}]}"),
     "virtual_hosts[0].routes[0].request_headers_to_add[0].header.value", ""},
};

START_TEST(refused)
{
    ck_assert_msg(!load(bad[_i].yaml), "%s", bad[_i].yaml);
    expect_error(&errors, bad[_i].path, bad[_i].text);
}
END_TEST

START_TEST(body_limit)
{
    static const char yaml[] = "{%s virtual_hosts: [{name: v, domains: ['*'], routes: [{match: "
                               "{prefix: /}, direct_response: {status: 200, body: {inline_string: "
                               "'%.*s'}}}]}]}";
    char body[5000];
    memset(body, 'x', sizeof(body));
    ck_assert(load(arena_printf(&arena, yaml, "", 4096, body).p));
    ck_assert(load(
        arena_printf(&arena, yaml, "max_direct_response_body_size_bytes: 5000,", 5000, body).p));
    ck_assert(!load(arena_printf(&arena, yaml, "", 4097, body).p));
    expect_error(&errors, "virtual_hosts[0].routes[0].direct_response.body", "4097 bytes");
}
END_TEST

static bool known(void *arg, struct str name)
{
    return str_eq(name, STR("c"));
}

START_TEST(validate_clusters)
{
    const struct route_compile_options opts = {.cluster_known = known};
    static const char yaml[] =
        "{validate_clusters: %s, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: "
        "{prefix: "
        "/a}, route: {cluster: c}}, {match: {prefix: /b}, route: {cluster: d}}, {match: {prefix: "
        "/w}, route: {weighted_clusters: {clusters: [{name: e, weight: 1}]}}}]}]}";
    for (int on = 0; on < 2; on++) {
        const void *m = yaml_message("envoy.config.route.v3.RouteConfiguration",
                                     arena_printf(&arena, yaml, on ? "true" : "false").p, &arena);
        table = route_table_compile(m, &opts, &errors);
        ck_assert((table != NULL) == !on);
        route_table_unref(table);
        table = NULL;
    }
    expect_error(&errors, "virtual_hosts[0].routes[1].route.cluster", "unknown cluster 'd'");
    expect_error(&errors, "virtual_hosts[0].routes[2].route.weighted_clusters", "'e'");
}
END_TEST

int main(void)
{
    const struct {
        const TTest *test;
        int n;
    } tests[] = {
        {domain_order, 1},
        {domain_without_port, 1},
        {no_host_matches, 1},
        {paths, 1},
        {query, ARRAY_LEN(queries)},
        {grpc_and_headers, 1},
        {fraction, 1},
        {weighted, 1},
        {cluster_by_header, 1},
        {header_levels, 1},
        {add_actions, ARRAY_LEN(actions)},
        {removes_before_adding, 1},
        {path_rewrites, ARRAY_LEN(rewrites)},
        {host_rewrites, 1},
        {redirect, ARRAY_LEN(redirects)},
        {require_tls, 1},
        {refused, ARRAY_LEN(bad)},
        {body_limit, 1},
        {validate_clusters, 1},
    };
    Suite *s = suite_create("route");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < ARRAY_LEN(tests); i++)
        tcase_add_loop_test(t, tests[i].test, 0, tests[i].n);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
