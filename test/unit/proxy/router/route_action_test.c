/* What a route does beyond the plain case: conditions on the connection and on what filters left,
 * choice of clusters, hashes, hosts, durations, matcher trees. Envoy 1.40's answers (observed). */
#include "proxy/router/route_private.h"

#include "base/hash.h"
#include "test/support/route_fixture.h"
#include "test/support/yaml_message.h"
#include "tls/transport.h"
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

static void load(const char *routes)
{
    route_table_unref(table);
    table = route_fixture_routes(routes, &arena, &errors);
}

static void load_table(const char *yaml)
{
    route_table_unref(table);
    table = route_fixture_table(yaml, &arena, &errors);
    ck_assert_msg(table != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
}

static struct headers get(const char *path)
{
    return route_fixture_head("h", path, &arena);
}

static const struct route *match(const struct route_match_input *in)
{
    return route_match(table, in, &arena);
}

/* --- conditions --- */

START_TEST(tls_context)
{
    const struct tls_peer none = {.version = STR("TLSv1.3")};
    const struct tls_peer unverified = {.fingerprint_sha256 = STR("ab")};
    const struct tls_peer verified = {.fingerprint_sha256 = STR("ab"), .verified = true};
    static const struct {
        const char *context;
        bool plain, without, presented, verified;
    } want[] = {
        {"presented: true", false, false, true, true},
        {"presented: false", true, true, false, false},
        {"validated: true", false, false, false, true},
        {"validated: false", true, true, true, false},
        {"presented: true, validated: false", false, false, true, false},
        {"", true, true, true, true},
    };
    struct headers h = get("/");
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        load(arena_printf(&arena, "{match: {prefix: /, tls_context: {%s}}, route: {cluster: c}}",
                          want[i].context)
                 .p);
        struct route_match_input in = {.headers = &h};
        ck_assert((match(&in) != NULL) == want[i].plain);
        in.peer = &none;
        ck_assert((match(&in) != NULL) == want[i].without);
        in.peer = &unverified;
        ck_assert((match(&in) != NULL) == want[i].presented);
        in.peer = &verified;
        ck_assert((match(&in) != NULL) == want[i].verified);
    }
}
END_TEST

START_TEST(connect_only)
{
    load("{name: c, match: {connect_matcher: {}}, route: {cluster: c}},"
         "{name: rest, match: {prefix: ''}, route: {cluster: c}}");
    struct headers h = get("/");
    struct route_match_input in = {.headers = &h};
    ck_assert(str_eq(match(&in)->name, STR("rest")));
    h.method = STR("CONNECT");
    ck_assert(str_eq(match(&in)->name, STR("c")));
    h.path = STR_NULL;
    ck_assert(str_eq(match(&in)->name, STR("c")));
    load("{match: {prefix: ''}, route: {cluster: c}}"); /* needs a path, be it an empty one */
    ck_assert_ptr_null(match(&in));
}
END_TEST

static const struct {
    const char *matcher, *value; /* JSON of the value, NULL: there is none */
    bool fits;
} values[] = {
    {"string_match: {exact: b}", "\"b\"", true},
    {"string_match: {exact: b}", "\"c\"", false},
    {"string_match: {exact: '1'}", "1", false},
    {"string_match: {exact: b}", NULL, false},
    {"bool_match: true", "true", true},
    {"bool_match: true", "false", false},
    {"bool_match: false", "false", true},
    {"bool_match: false", NULL, false},
    {"null_match: {}", "null", true},
    {"null_match: {}", NULL, false},
    {"null_match: {}", "0", false},
    {"double_match: {exact: 1.5}", "1.5", true},
    {"double_match: {exact: 1.5}", "1", false},
    {"double_match: {range: {start: 1, end: 2}}", "1", true},
    {"double_match: {range: {start: 1, end: 2}}", "2", false},
    {"double_match: {range: {start: 1, end: 2}}", "\"1\"", false},
    {"present_match: true", "\"\"", true},
    {"present_match: true", NULL, false},
    {"present_match: false", "1", false},
    {"present_match: false", NULL, false},
    {"list_match: {one_of: {string_match: {prefix: b}}}", "[\"a\", \"bc\"]", true},
    {"list_match: {one_of: {string_match: {prefix: b}}}", "[\"a\", 1]", false},
    {"list_match: {one_of: {string_match: {prefix: b}}}", "\"b\"", false},
    {"or_match: {value_matchers: [{bool_match: true}, {string_match: {exact: x}}]}", "\"x\"", true},
    {"or_match: {value_matchers: [{bool_match: true}, {string_match: {exact: x}}]}", "1", false},
};

START_TEST(dynamic_metadata)
{
    struct json_error err;
    struct metadata md = {.first = NULL};
    if (values[_i].value) {
        struct str text = arena_printf(&arena, "{\"k\": {\"x\": %s}}", values[_i].value);
        metadata_merge(&md, &arena, STR("f"), json_parse(text, 0, &arena, &err));
    }
    struct headers h = get("/");
    struct route_match_input in = {.headers = &h, .metadata = &md};
    for (int invert = 0; invert < 2; invert++) {
        load(arena_printf(&arena,
                          "{match: {prefix: /, dynamic_metadata: [{filter: f, path: [{key: k}, "
                          "{key: x}], value: {%s}, invert: %s}]}, route: {cluster: c}}",
                          values[_i].matcher, invert ? "true" : "false")
                 .p);
        ck_assert((match(&in) != NULL) == (values[_i].fits != invert));
    }
    in.metadata = NULL;
    ck_assert_ptr_nonnull(match(&in)); /* inverted, of nothing */
}
END_TEST

START_TEST(filter_state)
{
    static const struct {
        const char *matcher, *value;
        bool fits;
    } want[] = {
        {"string_match: {prefix: a}", "ab", true},
        {"string_match: {prefix: a}", "b", false},
        {"address_match: {ranges: [{address_prefix: 10.0.0.0, prefix_len: 9}]}", "10.127.0.1",
         true},
        {"address_match: {ranges: [{address_prefix: 10.0.0.0, prefix_len: 9}]}", "10.128.0.1:80",
         false},
        {"address_match: {ranges: [{address_prefix: '::', prefix_len: 0}]}", "10.0.0.1", false},
        {"address_match: {ranges: [{address_prefix: 1.1.1.1}, {address_prefix: '2001:db8::', "
         "prefix_len: 32}]}",
         "2001:db8::7", true},
        {"address_match: {ranges: [{address_prefix: 10.0.0.1, prefix_len: 32}]}", "text", false},
    };
    struct headers h = get("/");
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct filter_state fs = {.first = NULL};
        load(arena_printf(&arena,
                          "{match: {prefix: /, filter_state: [{key: k, %s}]}, route: {cluster: c}}",
                          want[i].matcher)
                 .p);
        struct route_match_input in = {.headers = &h, .filter_state = &fs};
        ck_assert_ptr_null(match(&in));
        filter_state_set(&fs, &arena, STR("k"), str_of(want[i].value));
        ck_assert_msg((match(&in) != NULL) == want[i].fits, "%s", want[i].value);
    }
}
END_TEST

START_TEST(path_parameters)
{
    load_table(
        "{ignore_path_parameters_in_path_matching: true, virtual_hosts: [{name: v, domains: "
        "['*'], routes: [{match: {prefix: /a/b}, route: {cluster: c, prefix_rewrite: /n}}]}]}");
    static const struct {
        const char *path, *sent;
    } want[] = {{"/a/b", "/n"},
                {"/a/b;x/c?y;z", "/n;x/c?y;z"},
                {"/a;x/b", "/a;x/b"},
                {"/a;x;y/b;/c", "/a;x;y/b;/c"},
                {"/a/;b", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct headers h = get(want[i].path);
        struct route_match_input in = {.headers = &h};
        const struct route *r = match(&in);
        ck_assert_msg((r != NULL) == (want[i].sent != NULL), "%s", want[i].path);
        if (!r)
            continue;
        route_rewrite_request(table, r, NULL, true, &h, &info);
        ck_assert_msg(str_eq(h.path, str_of(want[i].sent)), "%.*s", STR_ARG(h.path));
    }
}
END_TEST

START_TEST(vhost_by_header)
{
    load_table("{vhost_header: X-V, virtual_hosts: [{name: v, domains: [one], routes: [&r {match: "
               "{prefix: /}, route: {cluster: c}}]}]}");
    struct headers h = get("/");
    struct route_match_input in = {.headers = &h};
    ck_assert_ptr_null(match(&in));
    h.authority = STR("one");
    ck_assert_ptr_null(match(&in));
    headers_add(&h, STR("x-v"), STR("ONE"));
    ck_assert_ptr_nonnull(match(&in));
}
END_TEST

START_TEST(tls_for_external_requests)
{
    load_table("{virtual_hosts: [{name: v, domains: ['*'], require_tls: EXTERNAL_ONLY, routes: "
               "[{match: {prefix: /}, route: {cluster: c}}]}]}");
    struct headers h = get("/x");
    struct route_match_input in = {.headers = &h};
    ck_assert_int_eq(match(&in)->action, ROUTE_REDIRECT);
    headers_add_known(&h, HDR_X_ENVOY_INTERNAL, STR("true"));
    ck_assert_int_eq(match(&in)->action, ROUTE_FORWARD);
}
END_TEST

/* --- clusters --- */

START_TEST(weights_by_header)
{
    load("{match: {prefix: /}, route: {weighted_clusters: {header_name: X-R, clusters: [{name: a, "
         "weight: 10}, {cluster_header: X-C, weight: 20}, {name: z, weight: 0}]}}}");
    static const struct {
        const char *value, *cluster;
    } want[] = {{"0", "a"},
                {"9", "a"},
                {"10", "named"},
                {"29", "named"},
                {"30", "a"},
                {"+5", "a"},
                {"18446744073709551615", "named"},
                {"x", "named"},
                {"-1", "named"}};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct headers h = get("/");
        const struct weighted_cluster *w;
        headers_add(&h, STR("x-r"), str_of(want[i].value));
        headers_add(&h, STR("x-c"), STR("named"));
        /* what the random number gives where the header says nothing */
        struct route_match_input in = {.headers = &h, .random = 12ULL << 24};
        struct str name = route_cluster_name(match(&in), &in, &w);
        ck_assert_msg(str_eq(name, str_of(want[i].cluster)), "%s: %.*s", want[i].value,
                      STR_ARG(name));
        ck_assert_ptr_nonnull(w);
    }
}
END_TEST

START_TEST(cluster_by_matcher)
{
    load_table(
        "{cluster_specifier_plugins: [{extension: {name: p, typed_config: {'@type': "
        "type.googleapis.com/"
        "envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier, "
        "cluster_matcher: {matcher_list: {matchers: [{predicate: {single_predicate: {input: {name: "
        "i, typed_config: {'@type': "
        "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: "
        "x-c}}, value_match: {exact: one}}}, on_match: {action: {name: a, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction, "
        "cluster: first}}}}]}}}}}], virtual_hosts: [{name: v, domains: ['*'], routes: [{match: "
        "{prefix: /}, route: {cluster_specifier_plugin: p}}]}]}");
    struct headers h = get("/");
    const struct weighted_cluster *w;
    struct route_match_input in = {.headers = &h};
    const struct route *r = match(&in);
    ck_assert_uint_eq(route_cluster_name(r, &in, &w).len, 0);
    headers_add(&h, STR("x-c"), STR("one"));
    ck_assert(str_eq(route_cluster_name(r, &in, &w), STR("first")));
}
END_TEST

START_TEST(non_forwarding)
{
    load("{match: {prefix: /}, non_forwarding_action: {}}");
    struct headers h = get("/");
    const struct weighted_cluster *w;
    struct route_match_input in = {.headers = &h};
    const struct route *r = match(&in);
    ck_assert_int_eq(r->action, ROUTE_FORWARD);
    ck_assert_uint_eq(r->cluster_not_found_code, 503);
    ck_assert_uint_eq(route_cluster_name(r, &in, &w).len, 0);
}
END_TEST

/* --- hashes --- */

/* Envoy's cluster of four equal ones by use_hash_policy: the hash modulo 4. */
static const struct {
    const char *policies, *path, *header, *second;
    unsigned mod;
} hashes[] = {
    {"{header: {header_name: X-H}}", "/", "0", NULL, 0},
    {"{header: {header_name: X-H}}", "/", "2", NULL, 3},
    {"{header: {header_name: X-H}}", "/", "4", NULL, 1},
    {"{header: {header_name: X-H}}", "/", "9", NULL, 2},
    {"{header: {header_name: X-H}}", "/", "b0", "a0", 2},
    {"{header: {header_name: X-H}}", "/", "b1", "a1", 0},
    {"{header: {header_name: X-H}}", "/", "b3", "a3", 1},
    {"{header: {header_name: X-H}}", "/", "b2", "a2", 3},
    {"{header: {header_name: x-h}}, {query_parameter: {name: q}}", "/?q=0", "v", NULL, 3},
    {"{header: {header_name: x-h}}, {query_parameter: {name: q}}", "/?q=2", "v", NULL, 0},
    {"{header: {header_name: x-h}}, {query_parameter: {name: q}}", "/?q=4", "v", NULL, 2},
    {"{header: {header_name: x-h}}, {query_parameter: {name: q}}", "/?q=2", NULL, NULL, 3},
    {"{header: {header_name: x-h}}, {query_parameter: {name: q}}", "/?q=a%20b", NULL, NULL, 2},
    {"{header: {header_name: x-h}}, {query_parameter: {name: q}}", "/?q=", NULL, NULL, 1},
    {"{header: {header_name: x-h}, terminal: true}, {query_parameter: {name: q}}", "/?q=0", "v",
     NULL, 1},
    {"{header: {header_name: x-h}, terminal: true}, {query_parameter: {name: q}}", "/?q=2", NULL,
     NULL, 3},
    {"{header: {header_name: x-h, regex_rewrite: {pattern: {regex: b+}, substitution: X}}}", "/",
     "abbc0", NULL, 3},
    {"{header: {header_name: x-h, regex_rewrite: {pattern: {regex: b+}, substitution: X}}}", "/",
     "abbc1", NULL, 2},
    {"{cookie: {name: c}}", "/", "z=1; c=2", NULL, 3},
    {"{cookie: {name: c}}", "/", "c=\"5\"", NULL, 1},
};

START_TEST(hash_as_envoy)
{
    load(arena_printf(&arena, "{match: {prefix: /}, route: {cluster: c, hash_policy: [%s]}}",
                      hashes[_i].policies)
             .p);
    struct headers h = get(hashes[_i].path);
    bool cookie = strstr(hashes[_i].policies, "cookie") != NULL;
    if (hashes[_i].header)
        headers_add(&h, cookie ? STR("cookie") : STR("x-h"), str_of(hashes[_i].header));
    if (hashes[_i].second)
        headers_add(&h, STR("x-h"), str_of(hashes[_i].second));
    struct route_match_input in = {.headers = &h};
    uint64_t hash;
    ck_assert(route_hash(match(&in), &in, &arena, NULL, &hash));
    ck_assert_uint_eq(hash % 4, hashes[_i].mod);
}
END_TEST

START_TEST(hash_of_other_things)
{
    load("{match: {prefix: /ip}, route: {cluster: c, hash_policy: [{connection_properties: "
         "{source_ip: true}}]}}, {match: {prefix: /fs}, route: {cluster: c, hash_policy: "
         "[{filter_state: {key: k}}]}}, {match: {prefix: /no}, route: {cluster: c, hash_policy: "
         "[{connection_properties: {source_ip: false}}, {header: {header_name: x}}]}}");
    struct addr remote;
    struct filter_state fs = {.first = NULL};
    uint64_t hash;
    ck_assert(addr_parse_ip_port(STR("1.2.3.4:5"), &remote));
    struct headers h = get("/ip");
    struct route_match_input in = {.headers = &h, .filter_state = &fs};
    ck_assert(!route_hash(match(&in), &in, &arena, NULL, &hash));
    in.remote = &remote;
    ck_assert(route_hash(match(&in), &in, &arena, NULL, &hash));
    ck_assert_uint_eq(hash, hash_xxh64("1.2.3.4", 7, 0)); /* without the port */
    ck_assert_uint_eq(hash % 4, 0);
    h = get("/fs");
    ck_assert(!route_hash(match(&in), &in, &arena, NULL, &hash));
    filter_state_set(&fs, &arena, STR("k"), STR("v"));
    ck_assert(route_hash(match(&in), &in, &arena, NULL, &hash));
    ck_assert_uint_eq(hash, hash_xxh64("v", 1, 0));
    h = get("/no");
    ck_assert(!route_hash(match(&in), &in, &arena, NULL, &hash));
}
END_TEST

START_TEST(cookie_that_is_made)
{
    load(
        "{match: {prefix: /}, route: {cluster: c, hash_policy: [{cookie: {name: c, ttl: 10s, path: "
        "/p, attributes: [{name: SameSite, value: None}, {name: Secure}]}}]}}");
    struct headers h = get("/");
    struct route_match_input in = {.headers = &h};
    struct route_cookie made, again;
    uint64_t hash, same;
    ck_assert(!route_hash(match(&in), &in, &arena, NULL, &hash));
    ck_assert(route_hash(match(&in), &in, &arena, &made, &hash));
    ck_assert_ptr_nonnull(made.policy);
    ck_assert(route_hash(match(&in), &in, &arena, &again, &same));
    ck_assert_uint_eq(hash, same);
    struct str set = route_cookie_header(&made, &arena);
    struct str want = arena_printf(
        &arena, "c=\"%.*s\"; Max-Age=10; Path=/p; HttpOnly; SameSite=None; Secure",
        STR_ARG(made.value));
    ck_assert_msg(str_eq(set, want), "%.*s", STR_ARG(set));
    headers_add(&h, STR("cookie"), arena_printf(&arena, "c=%.*s", STR_ARG(made.value)));
    ck_assert(route_hash(match(&in), &in, &arena, &again, &same));
    ck_assert_uint_eq(hash, same); /* the client comes back to where it was */
    ck_assert_ptr_null(again.policy);
}
END_TEST

/* --- rewriting --- */

static const struct {
    const char *route, *path, *header, *host, *original, *forwarded, *to;
} hosts[] = {
    {"host_rewrite_literal: new, append_x_forwarded_host: true", "/a", NULL, "new", "h", "h", "/a"},
    {"host_rewrite_header: X-H", "/a", "hh", "hh", "h", NULL, "/a"},
    {"host_rewrite_header: X-H", "/a", NULL, "h", NULL, NULL, "/a"},
    {"host_rewrite_header: X-H", "/a", "", "h", NULL, NULL, "/a"},
    {"host_rewrite_path_regex: {pattern: {regex: '^/(.+)/.+$'}, substitution: '\\1'}", "/a/b?x=/c",
     NULL, "a", "h", NULL, "/a/b?x=/c"},
    {"host_rewrite_path_regex: {pattern: {regex: '^/(.+)/.+$'}, substitution: '\\1'}, "
     "prefix_rewrite: /z/z",
     "/a/b", NULL, "a", "h", NULL, "/z/za/b"},
    {"host_rewrite: '%REQ(x-h)%.org'", "/a", "hh", "hh.org", "h", NULL, "/a"},
    {"host_rewrite: '%REQ(x-h)%.org'", "/a", NULL, "-.org", "h", NULL, "/a"},
    {"host_rewrite_literal: h", "/a", NULL, "h", "h", NULL, "/a"},
    {"path_rewrite: '%REQ(x-h)%'", "/a?b", "/c", "h", NULL, NULL, "/c?b"},
    {"path_rewrite: '%REQ(x-h)%'", "/a?b", NULL, "h", NULL, NULL, "/a?b"},
    /* Envoy makes "c?b" of it, which is no request target */
    {"path_rewrite: '%REQ(x-h)%'", "/a?b", "c", "h", NULL, NULL, "/a?b"},
    {"auto_host_rewrite: true", "/a", NULL, "h", NULL, NULL, "/a"},
};

static void expect_value(const struct headers *h, const char *name, const char *want)
{
    struct str got;
    bool there = headers_value(h, str_of(name), &arena, &got);
    ck_assert_msg(there == (want != NULL), "%s", name);
    if (want)
        ck_assert_msg(str_eq(got, str_of(want)), "%s: %.*s", name, STR_ARG(got));
}

START_TEST(hosts_and_paths)
{
    load(arena_printf(&arena, "{match: {prefix: /}, route: {cluster: c, %s}}", hosts[_i].route).p);
    struct headers h = get(hosts[_i].path);
    if (hosts[_i].header)
        headers_add(&h, STR("x-h"), str_of(hosts[_i].header));
    struct route_match_input in = {.headers = &h};
    const struct route *r = match(&in);
    info.request = &h;
    route_rewrite_request(table, r, NULL, true, &h, &info);
    expect_value(&h, ":authority", hosts[_i].host);
    expect_value(&h, "x-envoy-original-host", hosts[_i].original);
    expect_value(&h, "x-forwarded-host", hosts[_i].forwarded);
    ck_assert_msg(str_eq(h.path, str_of(hosts[_i].to)), "%.*s", STR_ARG(h.path));
    if (!r->auto_host_rewrite)
        return;
    route_rewrite_host_auto(r, STR_NULL, true, &h);
    expect_value(&h, ":authority", "h");
    route_rewrite_host_auto(r, STR("dns.name"), true, &h);
    expect_value(&h, ":authority", "dns.name");
    expect_value(&h, "x-envoy-original-host", "h");
}
END_TEST

START_TEST(internal_only)
{
    load_table("{internal_only_headers: [X-Int, x-other], virtual_hosts: []}");
    struct headers h = get("/");
    headers_add(&h, STR("x-int"), STR("1"));
    headers_add(&h, STR("x-int"), STR("2"));
    headers_add(&h, STR("x-kept"), STR("3"));
    route_remove_internal(table, &h);
    expect_value(&h, "x-int", NULL);
    expect_value(&h, "x-kept", "3");
}
END_TEST

START_TEST(direct_body_format)
{
    static const struct {
        const char *direct, *body, *type;
    } want[] = {
        {"body: {inline_string: hi}", "hi", ""},
        {"body: {inline_string: ''}", "", ""},
        {"body: {inline_string: hi}, body_format: {text_format_source: {inline_string: "
         "'[%LOCAL_REPLY_BODY%|%REQ(x-a)%]'}}",
         "[hi|-]", "text/plain"},
        {"body_format: {json_format: {b: '%LOCAL_REPLY_BODY%'}}", "{\"b\":\"\"}\n",
         "application/json"},
        {"body_format: {text_format_source: {inline_string: x}, content_type: text/html}", "x",
         "text/html"},
    };
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct headers h = get("/");
        struct str type;
        load(arena_printf(&arena, "{match: {prefix: /}, direct_response: {status: 200, %s}}",
                          want[i].direct)
                 .p);
        struct route_match_input in = {.headers = &h};
        info.request = &h;
        struct str body = route_direct_body(match(&in), &info, &arena, &type);
        ck_assert_msg(str_eq(body, str_of(want[i].body)), "%.*s", STR_ARG(body));
        ck_assert_msg(str_eq(type, str_of(want[i].type)), "%.*s", STR_ARG(type));
    }
}
END_TEST

/* --- durations --- */

static const struct {
    const char *route, *grpc_timeout;
    bool grpc;
    uint64_t timeout, longest; /* UINT64_MAX: for ever */
} durations[] = {
    {"timeout: 3s", NULL, false, 3000, 7000},
    {"priority: DEFAULT", NULL, false, 15000, 7000},
    {"timeout: 3s, max_stream_duration: {}", NULL, false, 0, 7000},
    {"max_stream_duration: {max_stream_duration: 2s}", "1S", true, 0, 2000},
    {"max_stream_duration: {max_stream_duration: 0s}", NULL, false, 0, UINT64_MAX},
    {"max_stream_duration: {grpc_timeout_header_max: 0.3s}", "400m", false, 0, 300},
    {"max_stream_duration: {grpc_timeout_header_max: 0.3s}", "200m", true, 0, 200},
    {"max_stream_duration: {grpc_timeout_header_max: 0.3s}", "0m", true, 0, 0},
    {"max_stream_duration: {grpc_timeout_header_max: 0.3s}", NULL, true, 0, 7000},
    {"max_stream_duration: {grpc_timeout_header_max: 0s, grpc_timeout_header_offset: 0.2s}", "1S",
     false, 0, 800},
    {"max_stream_duration: {grpc_timeout_header_max: 0s, grpc_timeout_header_offset: 0.2s}", "100m",
     false, 0, 0},
    {"timeout: 3s, max_grpc_timeout: 0.3s", "400m", false, 3000, 7000},
    {"timeout: 3s, max_grpc_timeout: 0.3s", "400m", true, 300, 7000},
    {"timeout: 3s, max_grpc_timeout: 0.3s", NULL, true, 300, 7000},
    {"timeout: 3s, max_grpc_timeout: 0s, grpc_timeout_offset: 0.3s", "400m", true, 100, 7000},
    {"timeout: 3s, max_grpc_timeout: 0s, grpc_timeout_offset: 0.3s", "200m", true, 200, 7000},
    {"timeout: 3s, max_grpc_timeout: 0s", NULL, true, 0, 7000},
    {"max_grpc_timeout: 0s", "2M", true, 120000, 7000},
    {"max_grpc_timeout: 0s", "1H", true, 3600000, 7000},
    {"max_grpc_timeout: 0s", "1u", true, 1, 7000},
    {"max_grpc_timeout: 0s", "1000001n", true, 2, 7000},
    {"max_grpc_timeout: 5s", "123456789S", true, 5000, 7000}, /* nine digits are none */
    {"max_grpc_timeout: 5s", "S", true, 5000, 7000},
    {"max_grpc_timeout: 5s", "-1S", true, 5000, 7000},
};

START_TEST(how_long)
{
    load(arena_printf(&arena, "{match: {prefix: /}, route: {cluster: c, %s}}", durations[_i].route)
             .p);
    struct headers h = get("/");
    if (durations[_i].grpc_timeout)
        headers_add(&h, STR("grpc-timeout"), str_of(durations[_i].grpc_timeout));
    if (durations[_i].grpc)
        headers_add_known(&h, HDR_CONTENT_TYPE, STR("application/grpc"));
    struct route_match_input in = {.headers = &h};
    const struct route *r = match(&in);
    uint64_t ms;
    ck_assert_uint_eq(route_timeout_ms(r, &h), durations[_i].timeout);
    bool limited = route_stream_duration_ms(r, &h, 7000, &ms);
    ck_assert_uint_eq(limited ? ms : UINT64_MAX, durations[_i].longest);
}
END_TEST

/* --- upgrades, metadata --- */

START_TEST(upgrades)
{
    load("{match: {prefix: /}, route: {cluster: c, upgrade_configs: [{upgrade_type: WebSocket, "
         "enabled: false}, {upgrade_type: CONNECT, connect_config: {allow_post: true, "
         "proxy_protocol_config: {version: V2}}}]}}");
    struct headers h = get("/");
    struct route_match_input in = {.headers = &h};
    const struct route *r = match(&in);
    ck_assert(!route_upgrade_find(r, STR("websocket"))->enabled);
    const struct route_upgrade *u = route_upgrade_find(r, STR("connect"));
    ck_assert(u->enabled && u->has_connect && u->allow_post);
    ck_assert_uint_eq(u->proxy_protocol, 2);
    ck_assert_ptr_null(route_upgrade_find(r, STR("other")));
}
END_TEST

static struct str lb_value(const struct metadata *m, const char *key)
{
    struct str path = str_of(key);
    const struct json *j = metadata_path(m, STR("envoy.lb"), &path, 1);
    return j ? j->text : STR_NULL;
}

START_TEST(metadata_to_match)
{
    load("{match: {prefix: /}, metadata: {filter_metadata: {istio: {k: v}}}, route: "
         "{metadata_match: {filter_metadata: {envoy.lb: {stage: prod, v: '1'}}}, "
         "weighted_clusters: {clusters: [{name: a, weight: 1, metadata_match: {filter_metadata: "
         "{envoy.lb: {v: '2', w: '3'}}}}, {name: b, weight: 1}]}}}");
    struct headers h = get("/");
    struct route_match_input in = {.headers = &h};
    const struct route *r = match(&in);
    ck_assert(str_eq(lb_value(r->metadata_match, "v"), STR("1")));
    ck_assert(str_eq(lb_value(r->weighted[0].metadata_match, "stage"), STR("prod")));
    ck_assert(str_eq(lb_value(r->weighted[0].metadata_match, "v"), STR("2")));
    ck_assert(str_eq(lb_value(r->weighted[0].metadata_match, "w"), STR("3")));
    ck_assert_ptr_eq(r->weighted[1].metadata_match, r->metadata_match);
    struct str key = STR("k");
    ck_assert(str_eq(metadata_path(r->metadata, STR("istio"), &key, 1)->text, STR("v")));
}
END_TEST

int main(void)
{
    const struct {
        const TTest *test;
        int n;
    } tests[] = {
        {tls_context, 1},
        {connect_only, 1},
        {dynamic_metadata, ARRAY_LEN(values)},
        {filter_state, 1},
        {path_parameters, 1},
        {vhost_by_header, 1},
        {tls_for_external_requests, 1},
        {weights_by_header, 1},
        {cluster_by_matcher, 1},
        {non_forwarding, 1},
        {hash_as_envoy, ARRAY_LEN(hashes)},
        {hash_of_other_things, 1},
        {cookie_that_is_made, 1},
        {hosts_and_paths, ARRAY_LEN(hosts)},
        {internal_only, 1},
        {direct_body_format, 1},
        {how_long, ARRAY_LEN(durations)},
        {upgrades, 1},
        {metadata_to_match, 1},
    };
    Suite *s = suite_create("route_action");
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
