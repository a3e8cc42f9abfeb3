/* Listeners and the filters of their chains, compiled: what is kept of the message, and what is
 * refused with which field path. */
#include "proxy/listener/listener.h"

#include "cluster/cluster_tls.h"
#include "cluster/clusters.h"
#include "proxy/network/hcm.h"
#include "proxy/server.h"
#include "test/support/yaml_message.h"
#include "tls/tls_config.h"
#include "tls/tls_secret.h"
#include "xds/xds.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct options options;
static struct server server;
static struct compile_env env;
static struct listener *made;

static void setup(void)
{
    static const struct pb_opts opts;
    struct xds_options xo = {.node = STR_NULL};
    arena_init(&arena, 0);
    errors_init(&errors);
    server = (struct server){.options = &options, .loop = loop_new(true)};
    mailbox_init(&server.box, server.loop);
    stats_init(1);
    tls_set_main(&server.box);
    server.xds = xds_new(server.loop, &xo);
    server.tls = tls_secrets_new(server.loop, server.xds);
    struct clusters_options co = {.loop = server.loop,
                                  .box = &server.box,
                                  .xds = server.xds,
                                  .pb_static = &opts,
                                  .pb_dynamic = &opts,
                                  .transport = &cluster_tls_transport,
                                  .transport_arg = server.tls,
                                  .validate = true};
    server.clusters = clusters_new(&co);
    env = (struct compile_env){.xds = server.xds,
                               .tls = server.tls,
                               .clusters = server.clusters,
                               .num_threads = 1,
                               .validate = true,
                               .pb = &opts};
}

static void turn(void)
{
    while (loop_run_once(server.loop, false))
        continue;
}

static void teardown(void)
{
    listener_unref(made);
    made = NULL;
    turn();
    clusters_free(&server.clusters);
    turn();
    tls_secrets_free(&server.tls);
    xds_free(&server.xds);
    turn();
    tls_set_main(NULL);
    mailbox_cleanup(&server.box);
    loop_free(&server.loop);
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static bool compile(const char *yaml)
{
    const void *m = yaml_message("envoy.config.listener.v3.Listener", yaml, &arena);
    listener_unref(made);
    made = listener_compile(&server, &env, m, &errors);
    return made != NULL;
}

#define TYPE(name) "'@type': type.googleapis.com/envoy.extensions." name
#define ADDRESS "address: {socket_address: {address: 127.0.0.1, port_value: 80}}"
#define TCP                                                                                        \
    "{name: t, typed_config: {" TYPE(                                                              \
        "filters.network.tcp_proxy.v3.TcpProxy") ", stat_prefix: t, cluster: c}}"
#define CHAIN "filter_chains: [{filters: [" TCP "]}]"
#define ROUTER "{name: r, typed_config: {" TYPE("filters.http.router.v3.Router") "}}"
#define HCM(fields)                                                                                \
    "{name: l, " ADDRESS ", filter_chains: [{filters: [{name: h, typed_config: {" TYPE(            \
        "filters.network.http_connection_manager.v3.HttpConnectionManager") ", stat_prefix: "      \
                                                                            "h, " fields "}}]}]}"
#define ROUTES                                                                                     \
    "route_config: {validate_clusters: false, virtual_hosts: [{name: v, domains: ['*'], routes: "  \
    "[{match: {prefix: /}, route: {cluster: c}}]}]}"
#define TCP_LISTENER(fields)                                                                       \
    "{name: l, " ADDRESS ", filter_chains: [{filters: [{name: t, typed_config: {" TYPE(            \
        "filters.network.tcp_proxy.v3.TcpProxy") ", stat_prefix: t, " fields "}}]}]}"
#define FILTER "filter_chains[0].filters[0].typed_config."

START_TEST(defaults)
{
    ck_assert(compile("{name: l, " ADDRESS ", " CHAIN "}"));
    ck_assert(made->bind_to_port && made->reuse_port && !made->use_original_dst);
    ck_assert(!made->inbound && !made->outbound && !made->tls_inspector && !made->original_dst);
    ck_assert_uint_eq(made->filters_timeout_ms, 10000); /* docs/differences.md */
    ck_assert_uint_eq(made->buffer_limit, 32768);       /* docs/differences.md */
    ck_assert_uint_eq(made->chains[0].handshake_ms, 10000);
    ck_assert_uint_eq(made->num_chains, 1);
    ck_assert_ptr_null(made->default_chain);
}
END_TEST

START_TEST(what_is_said_wins)
{
    ck_assert(compile(
        "{name: l, address: {pipe: {path: '@abs'}}, bind_to_port: false, use_original_dst: "
        "true, "
        "traffic_direction: INBOUND, per_connection_buffer_limit_bytes: 7, tcp_backlog_size: "
        "9, "
        "listener_filters_timeout: 0s, continue_on_listener_filters_timeout: true, "
        "enable_reuse_port: false, max_connections_to_accept_per_socket_event: 3, "
        "listener_filters: "
        "[{name: o, typed_config: {" TYPE(
            "filters.listener.original_dst.v3.OriginalDst") "}}, {name: t, typed_config: "
                                                            "{" TYPE("filters.listener.tls_"
                                                                     "inspector.v3."
                                                                     "TlsInspector") "}}], "
                                                                                     "default_"
                                                                                     "filter_"
                                                                                     "chain: "
                                                                                     "{name: "
                                                                                     "d, "
                                                                                     "transport"
                                                                                     "_socket_"
                                                                                     "connect_"
                                                                                     "timeout: "
                                                                                     "2s, "
                                                                                     "filters: "
                                                                                     "[" TCP
                                                                                     "]}}"));
    ck_assert_int_eq(addr_family(&made->addr), ADDR_PIPE);
    ck_assert(!made->bind_to_port && !made->reuse_port && made->use_original_dst);
    ck_assert(made->inbound && made->tls_inspector && made->original_dst);
    ck_assert_uint_eq(made->buffer_limit, 7);
    ck_assert_int_eq(made->backlog, 9);
    ck_assert_uint_eq(made->filters_timeout_ms, 0);
    ck_assert(made->continue_on_timeout);
    ck_assert_uint_eq(made->accepts_per_event, 3);
    ck_assert_uint_eq(made->default_chain->handshake_ms, 2000);
    ck_assert(str_eq(made->default_chain->name, STR("d")));
}
END_TEST

static const struct hcm_config *hcm(void)
{
    return made->chains[0].filter_config;
}

START_TEST(hcm_defaults)
{
    ck_assert_msg(compile(HCM(ROUTES ", http_filters: [" ROUTER "]")), "%.*s",
                  STR_ARG(errors_text(&errors, &arena)));
    const struct hcm_config *c = hcm();
    ck_assert_uint_eq(c->limits.max_headers_bytes, 60 * 1024);
    ck_assert_uint_eq(c->limits.max_headers_count, 100);
    ck_assert_uint_eq(c->limits.headers_timeout_ms, 10000); /* docs/differences.md */
    ck_assert_uint_eq(c->limits.idle_timeout_ms, 3600000);
    ck_assert_uint_eq(c->limits.delayed_close_ms, 1000);
    ck_assert_uint_eq(c->stream_idle_ms, 300000);
    ck_assert_uint_eq(c->request_ms + c->max_stream_ms + c->max_connection_ms, 0);
    ck_assert(c->normalize_path && c->generate_request_id && !c->use_remote_address);
    ck_assert(str_eq(c->server_name, STR("envoy")));
    ck_assert_int_eq(c->forward_cert, CERT_SANITIZE);
}
END_TEST

START_TEST(hcm_settings)
{
    ck_assert_msg(
        compile(HCM(ROUTES
                    ", http_filters: [{name: o, is_optional: true}, " ROUTER "], "
                    "max_request_headers_kb: 1, request_headers_timeout: 0s, request_timeout: 1s, "
                    "delayed_close_timeout: 0.5s, stream_idle_timeout: 0s, normalize_path: false, "
                    "common_http_protocol_options: {idle_timeout: 2s, max_headers_count: 5, "
                    "max_stream_duration: 3s, max_connection_duration: 4s, "
                    "max_requests_per_connection: 6, headers_with_underscores_action: "
                    "REJECT_REQUEST}, http_protocol_options: {accept_http_10: true, "
                    "default_host_for_http_10: old.test}")),
        "%.*s", STR_ARG(errors_text(&errors, &arena)));
    const struct hcm_config *c = hcm();
    ck_assert_uint_eq(c->limits.max_headers_bytes, 1024);
    ck_assert_uint_eq(c->limits.max_headers_count, 5);
    ck_assert_uint_eq(c->limits.headers_timeout_ms, 0);
    ck_assert_uint_eq(c->limits.idle_timeout_ms, 2000);
    ck_assert_uint_eq(c->limits.delayed_close_ms, 500);
    ck_assert_uint_eq(c->limits.max_requests, 6);
    ck_assert(c->limits.accept_http_10 && !c->normalize_path);
    ck_assert(str_eq(c->limits.default_host, STR("old.test")));
    ck_assert_uint_eq(c->stream_idle_ms, 0);
    ck_assert_uint_eq(c->request_ms, 1000);
    ck_assert_uint_eq(c->max_stream_ms, 3000);
    ck_assert_uint_eq(c->max_connection_ms, 4000);
    ck_assert_int_eq(c->underscores, UNDERSCORES_REJECT);
    ck_assert_uint_eq(errors.num_warnings, 1); /* the optional filter */
}
END_TEST

static const struct {
    const char *yaml, *path, *text;
} bad[] = {
    {"{name: l, " CHAIN "}", "address", "required"},
    {"{name: l, address: {socket_address: {address: nope, port_value: 80}}, " CHAIN "}",
     "address.socket_address.address", "malformed"},
    {"{name: l, address: {socket_address: {protocol: UDP, address: 1.1.1.1, port_value: "
     "80}}, " CHAIN "}",
     "address.socket_address.protocol", "UDP"},
    {"{name: l, " ADDRESS "}", "filter_chains", "no filter chains"},
    {"{name: l, " ADDRESS ", filter_chains: [{}]}", "filter_chains[0].filters", "exactly one"},
    {"{name: l, " ADDRESS ", filter_chains: [{filters: [" TCP ", " TCP "]}]}",
     "filter_chains[0].filters", "exactly one"},
    {"{name: l, " ADDRESS ", filter_chains: [{filters: [{name: x}]}]}",
     "filter_chains[0].filters[0].typed_config", "'x'"},
    {"{name: l, " ADDRESS ", default_filter_chain: {filters: [{name: x}]}}",
     "default_filter_chain.filters[0].typed_config", "'x'"},
    {"{name: l, " ADDRESS ", " CHAIN ", listener_filters: [{name: x}]}", "listener_filters[0]",
     "'x'"},
    {"{name: l, " ADDRESS ", " CHAIN ", listener_filters_timeout: -1s}", "listener_filters_timeout",
     ""},
    {"{name: l, " ADDRESS ", " CHAIN ", access_log: [{name: x}]}", "access_log[0].typed_config",
     "required"},
    {"{name: l, " ADDRESS ", filter_chains: [{transport_socket: {name: x}, filters: [" TCP "]}]}",
     "filter_chains[0].transport_socket.typed_config", "typed_config"},
    {"{name: l, " ADDRESS ", filter_chains: [{filters: [" TCP "]}, {filters: [" TCP "]}]}",
     "filter_chains[1].filter_chain_match", "overlapping"},
    {HCM(ROUTES), FILTER "http_filters", "router"},
    {HCM(ROUTES ", http_filters: [" ROUTER ", {name: x}]"), FILTER "http_filters[1]", "'x'"},
    {HCM(ROUTES ", http_filters: [" ROUTER ", " ROUTER "]"), FILTER "http_filters[0]",
     "must be the last"},
    {HCM(ROUTES ", codec_type: HTTP3, http_filters: [" ROUTER "]"), FILTER "codec_type", ""},
    {HCM(ROUTES
         ", strip_matching_host_port: true, strip_any_host_port: true, http_filters: [" ROUTER "]"),
     FILTER "strip_matching_host_port", "both"},
    {HCM(ROUTES ", internal_address_config: {cidr_ranges: [{address_prefix: x}]}, http_filters: "
                "[" ROUTER "]"),
     FILTER "internal_address_config.cidr_ranges[0]", "malformed"},
    {HCM("rds: {route_config_name: r}, http_filters: [" ROUTER "]"), FILTER "rds.config_source",
     ""},
    {HCM("rds: {config_source: {ads: {}}}, http_filters: [" ROUTER "]"),
     FILTER "rds.route_config_name", "empty"},
    {HCM("route_config: {virtual_hosts: [{name: v, domains: ['a*b']}]}, http_filters: [" ROUTER
         "]"),
     FILTER "route_config.virtual_hosts[0].domains[0]", "wildcard"},
    {HCM("route_config: {virtual_hosts: [{name: v, domains: [a], routes: [{match: {prefix: /}, "
         "route: {cluster: nobody}}]}]}, http_filters: [" ROUTER "]"),
     FILTER "route_config.virtual_hosts[0].routes[0].route.cluster", "unknown cluster 'nobody'"},
    {TCP_LISTENER("weighted_clusters: {clusters: [{name: c, weight: 1}]}, idle_timeout: -1s"),
     FILTER "idle_timeout", ""},
    {TCP_LISTENER("cluster: c, access_log: [{name: x}]"), FILTER "access_log[0].typed_config",
     "required"},
};

START_TEST(refused)
{
    ck_assert_msg(!compile(bad[_i].yaml), "%s", bad[_i].yaml);
    expect_error(&errors, bad[_i].path, bad[_i].text);
}
END_TEST

START_TEST(every_error_is_said)
{
    ck_assert(!compile("{name: l, address: {pipe: {path: x}}, listener_filters: [{name: a}, {name: "
                       "b}], filter_chains: [{filters: [{name: c}]}, {filter_chain_match: "
                       "{server_names: ['*']}, filters: []}]}"));
    expect_error(&errors, "listener_filters[0]", "'a'");
    expect_error(&errors, "listener_filters[1]", "'b'");
    expect_error(&errors, "filter_chains[0].filters[0].typed_config", "'c'");
    expect_error(&errors, "filter_chains[1].filters", "exactly one");
    expect_error(&errors, "filter_chains[1].filter_chain_match.server_names[0]", "wildcard");
    ck_assert_uint_eq(errors.num_errors, 5);
}
END_TEST

int main(void)
{
    const struct {
        const TTest *test;
        int n;
    } tests[] = {
        {defaults, 1},     {what_is_said_wins, 1},    {hcm_defaults, 1},
        {hcm_settings, 1}, {refused, ARRAY_LEN(bad)}, {every_error_is_said, 1},
    };
    Suite *s = suite_create("listener_config");
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
