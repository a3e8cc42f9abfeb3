/* What the connection manager makes of a request's head, by its configuration: forwarding headers,
 * request id, client certificate. Envoy 1.40's answers (observed). */
#include "proxy/http/mutate.h"

#include "proxy/http/stream.h"
#include "proxy/network/hcm_config.h"
#include "proxy/server.h"
#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

#define HCM "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

static struct arena arena;
static struct errors errors;
static struct server server;
static struct worker worker;
static struct downstream down;
static struct hcm_conn hc;
static struct stream stream;
static struct headers head;
static struct tls_peer peer;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    server = (struct server){0};
    worker = (struct worker){.server = &server, .loop = loop_new(true)};
    down = (struct downstream){.worker = &worker};
    hc = (struct hcm_conn){.down = &down};
    stream = (struct stream){
        .hc = &hc, .worker = &worker, .arena = &arena, .request = &head, .info.conn = &down.info};
    peer = (struct tls_peer){0};
    ck_assert(addr_parse_ip(STR("192.0.2.2"), 0, &server.local_ip));
    ck_assert(addr_parse_ip(STR("203.0.113.9"), 5000, &down.info.remote));
    ck_assert(addr_parse_ip(STR("192.0.2.2"), 8080, &down.info.local));
    down.info.direct_local = down.info.local;
}

static void teardown(void)
{
    hcm_config_free((void *)(uintptr_t)hc.config);
    hc.config = NULL;
    loop_free(&worker.loop);
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static void configure(const char *fields)
{
    struct compile_env env = {.validate = true};
    struct str yaml = arena_printf(
        &arena,
        "{stat_prefix: t, rds: {route_config_name: r, config_source: {ads: {}}}, http_filters: "
        "[{name: envoy.filters.http.router, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}], %s}",
        fields);
    hcm_config_free((void *)(uintptr_t)hc.config);
    hc.config = hcm_config_compile(&env, yaml_message(HCM, yaml.p, &arena), &errors);
    ck_assert_msg(hc.config != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
}

/* `fields`: "name: value" lines. */
static void request(const char *fields)
{
    struct str rest = str_of(fields), line;
    headers_init(&head, &arena);
    head.method = STR("GET");
    head.path = STR("/");
    head.minor = 1;
    head.authority = STR("h.example");
    headers_add_known(&head, HDR_HOST, head.authority);
    while (str_next(&rest, '\n', &line)) {
        ptrdiff_t colon = str_chr(line, ':');
        ck_assert(colon > 0);
        headers_add(&head, str_n(line.p, (size_t)colon),
                    str_trim(str_n(line.p + colon + 1, line.len - (size_t)colon - 1)));
    }
    stream.info.downstream_remote = down.info.remote; /* as stream_new_from does */
    ck_assert(mutate_request(&stream));
}

static struct str value_of(const char *name)
{
    struct str v;
    return headers_value(&head, str_of(name), &arena, &v) ? v : STR("(none)");
}

static void expect_value(const char *name, const char *value)
{
    struct str v = value_of(name);
    ck_assert_msg(str_eq(v, str_of(value)), "%s: got %.*s, want %s", name, STR_ARG(v), value);
}

#define INTERNAL                                                                                   \
    ", internal_address_config: {unix_sockets: true, cidr_ranges: [{address_prefix: 10.0.0.0, "    \
    "prefix_len: 8}, {address_prefix: 127.0.0.0, prefix_len: 8}]}"
#define REMOTE "use_remote_address: true"
#define HOPS1 REMOTE ", xff_num_trusted_hops: 1"
#define HOPS2 REMOTE ", xff_num_trusted_hops: 2"

/* remote: the socket's; client: what logs call the downstream's address. */
static const struct {
    const char *config, *remote, *xff, *out_xff, *client, *internal, *external;
} clients[] = {
    {"", "203.0.113.9", NULL, "(none)", "203.0.113.9", "(none)", "(none)"},
    {"", "203.0.113.9", "1.2.3.4", "1.2.3.4", "1.2.3.4", "(none)", "(none)"},
    {"", "203.0.113.9", "1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8", "5.6.7.8", "(none)", "(none)"},
    {"", "203.0.113.9", "bogus", "bogus", "203.0.113.9", "(none)", "(none)"},
    {"", "203.0.113.9", "1.2.3.4:80", "1.2.3.4:80", "203.0.113.9", "(none)", "(none)"},
    {"", "203.0.113.9", "2001:db8::1", "2001:db8::1", "2001:db8::1", "(none)", "(none)"},
    {"xff_num_trusted_hops: 1", "203.0.113.9", "1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8", "1.2.3.4",
     "(none)", "(none)"},
    {"xff_num_trusted_hops: 2", "203.0.113.9", "1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8",
     "203.0.113.9", "(none)", "(none)"},
    {REMOTE, "203.0.113.9", NULL, "203.0.113.9", "203.0.113.9", "(none)", "203.0.113.9"},
    {REMOTE, "203.0.113.9", "1.2.3.4", "1.2.3.4,203.0.113.9", "203.0.113.9", "(none)",
     "203.0.113.9"},
    {REMOTE, "203.0.113.9", "", "203.0.113.9", "203.0.113.9", "(none)", "203.0.113.9"},
    {REMOTE, "127.0.0.1", NULL, "192.0.2.2", "127.0.0.1", "(none)", "127.0.0.1"},
    {REMOTE ", skip_xff_append: true", "203.0.113.9", "1.2.3.4", "1.2.3.4", "203.0.113.9", "(none)",
     "203.0.113.9"},
    {HOPS1, "203.0.113.9", "1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8,203.0.113.9", "5.6.7.8", "(none)",
     "5.6.7.8"},
    {HOPS2, "203.0.113.9", "1.2.3.4, 5.6.7.8", "1.2.3.4, 5.6.7.8,203.0.113.9", "1.2.3.4", "(none)",
     "1.2.3.4"},
    {HOPS2, "203.0.113.9", "5.6.7.8", "5.6.7.8,203.0.113.9", "203.0.113.9", "(none)",
     "203.0.113.9"},
    /* who is one of us, when the configuration says so */
    {REMOTE INTERNAL, "10.1.1.1", NULL, "10.1.1.1", "10.1.1.1", "true", "(none)"},
    {REMOTE INTERNAL, "127.0.0.1", NULL, "192.0.2.2", "127.0.0.1", "true", "(none)"},
    {REMOTE INTERNAL, "10.1.1.1", "1.2.3.4", "1.2.3.4,10.1.1.1", "10.1.1.1", "(none)", "10.1.1.1"},
    {REMOTE INTERNAL, "203.0.113.9", NULL, "203.0.113.9", "203.0.113.9", "(none)", "203.0.113.9"},
    {"xff_num_trusted_hops: 0" INTERNAL, "203.0.113.9", "10.2.2.2", "10.2.2.2", "10.2.2.2", "true",
     "(none)"},
    {"xff_num_trusted_hops: 0" INTERNAL, "10.1.1.1", NULL, "(none)", "10.1.1.1", "(none)",
     "(none)"},
    {"xff_num_trusted_hops: 0" INTERNAL, "203.0.113.9", "10.2.2.2,10.3.3.3", "10.2.2.2,10.3.3.3",
     "10.3.3.3", "(none)", "(none)"},
};

START_TEST(client)
{
    char text[ADDR_TEXT_MAX];
    configure(clients[_i].config);
    ck_assert(addr_parse_ip(str_of(clients[_i].remote), 5000, &down.info.remote));
    request(
        clients[_i].xff
            ? arena_printf(&arena, "x-envoy-internal: true\nx-forwarded-for: %s", clients[_i].xff).p
            : "x-envoy-internal: true");
    expect_value("x-forwarded-for", clients[_i].out_xff);
    expect_value("x-envoy-internal", clients[_i].internal);
    expect_value("x-envoy-external-address", clients[_i].external);
    struct str ip = addr_format_ip(&stream.info.downstream_remote, text);
    ck_assert_msg(str_eq(ip, str_of(clients[_i].client)), "%.*s", STR_ARG(ip));
}
END_TEST

static const char *const internal_only[] = {"x-envoy-retry-on",
                                            "x-envoy-retry-grpc-on",
                                            "x-envoy-max-retries",
                                            "x-envoy-upstream-rq-timeout-ms",
                                            "x-envoy-force-trace",
                                            "x-envoy-upstream-rq-per-try-timeout-ms",
                                            "x-envoy-original-url",
                                            "x-envoy-hedge-on-per-try-timeout",
                                            "x-envoy-ip-tags",
                                            "x-envoy-upstream-alt-stat-name",
                                            "x-envoy-expected-rq-timeout-ms",
                                            "x-envoy-upstream-rq-timeout-alt-response",
                                            "x-envoy-upstream-stream-duration-ms",
                                            "x-envoy-retriable-status-codes",
                                            "x-envoy-retriable-header-names"};
static const char *const edge_only[] = {
    "x-envoy-decorator-operation", "x-envoy-original-path", "x-envoy-original-host",
    "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node"};
static const char *const kept[] = {"x-envoy-attempt-count",
                                   "x-envoy-peer-metadata",
                                   "x-envoy-is-timeout-retry",
                                   "x-envoy",
                                   "x-envoy-",
                                   "x-other"};

static void check_names(const char *const *names, size_t n, const char *config, bool stay)
{
    configure(config);
    for (size_t i = 0; i < n; i++) {
        request(arena_printf(&arena, "a: 1\n%s: v\nz: 2\n%s: w", names[i], names[i]).p);
        expect_value(names[i], stay ? "v,w" : "(none)");
        expect_value("a", "1");
        expect_value("z", "2");
    }
}

START_TEST(what_others_may_not_ask)
{
    static const char *const configs[] = {"", REMOTE, REMOTE INTERNAL};
    for (size_t c = 0; c < ARRAY_LEN(configs); c++) {
        bool internal = c == 2;
        if (internal)
            ck_assert(addr_parse_ip(STR("10.1.1.1"), 1, &down.info.remote));
        check_names(internal_only, ARRAY_LEN(internal_only), configs[c], internal);
        check_names(edge_only, ARRAY_LEN(edge_only), configs[c], c != 1);
        check_names(kept, ARRAY_LEN(kept), configs[c], true);
    }
}
END_TEST

static const struct {
    const char *config, *xfp, *out, *scheme;
    bool tls;
} protos[] = {
    {"", NULL, "http", "http", false},         {"", NULL, "https", "https", true},
    {"", "https", "https", "https", false},    {"", "HTTPS", "HTTPS", "https", false},
    {"", "ftp", "ftp", "http", false},         {"", "", "http", "http", false},
    {REMOTE, "https", "http", "http", false},  {REMOTE, "http", "https", "https", true},
    {HOPS1, "https", "https", "https", false}, {HOPS1, NULL, "http", "http", false},
};

START_TEST(forwarded_proto)
{
    configure(protos[_i].config);
    down.info.tls = protos[_i].tls ? &peer : NULL;
    request(protos[_i].xfp ? arena_printf(&arena, "x-forwarded-proto: %s", protos[_i].xfp).p
                           : NULL);
    expect_value("x-forwarded-proto", protos[_i].out);
    ck_assert(str_eq(head.scheme, str_of(protos[_i].scheme)));
}
END_TEST

START_TEST(forwarded_port)
{
    configure("");
    request(NULL);
    expect_value("x-forwarded-port", "(none)");
    configure("append_x_forwarded_port: true");
    request(NULL);
    expect_value("x-forwarded-port", "8080");
    request("x-forwarded-port: 99");
    expect_value("x-forwarded-port", "99");
    configure("append_x_forwarded_port: true, " REMOTE);
    request("x-forwarded-port: 99");
    expect_value("x-forwarded-port", "8080");
}
END_TEST

START_TEST(request_id)
{
    configure("");
    request(NULL);
    struct str first = value_of("x-request-id");
    ck_assert_uint_eq(first.len, 36);
    ck_assert(str_eq(stream.info.request_id, first));
    request(NULL);
    ck_assert(!str_eq(value_of("x-request-id"), first));
    request("x-request-id: mine");
    expect_value("x-request-id", "mine");
    ck_assert(str_eq(stream.info.request_id, STR("mine")));
    request("x-request-id:");
    ck_assert_uint_eq(value_of("x-request-id").len, 36);
    configure(REMOTE); /* from outside: a new one */
    request("x-request-id: mine");
    ck_assert_uint_eq(value_of("x-request-id").len, 36);
    configure(REMOTE ", preserve_external_request_id: true");
    request("x-request-id: mine");
    expect_value("x-request-id", "mine");
    configure("generate_request_id: false");
    stream.info.request_id = STR_NULL;
    request(NULL);
    expect_value("x-request-id", "(none)");
}
END_TEST

/* --- x-forwarded-client-cert ---------------------------------------------------------------------
 */

#define SET_ALL                                                                                    \
    ", set_current_client_cert_details: {subject: true, uri: true, dns: true, cert: true}"
#define OWN "By=spiffe://td/srv;Hash=abcd"

static const struct {
    const char *config, *had, *out;
    bool mutual;
} certs[] = {
    {"SANITIZE", "old", "(none)", true},
    {"SANITIZE", "old", "(none)", false},
    {"FORWARD_ONLY", "old", "old", true},
    {"FORWARD_ONLY", NULL, "(none)", true},
    {"FORWARD_ONLY", "old", "(none)", false},
    {"APPEND_FORWARD", "old", "old," OWN, true},
    {"APPEND_FORWARD", NULL, OWN, true},
    {"APPEND_FORWARD", "", OWN, true},
    {"APPEND_FORWARD", "old", "(none)", false},
    {"SANITIZE_SET", "old", OWN, true},
    {"SANITIZE_SET", "old", "(none)", false},
    {"ALWAYS_FORWARD_ONLY", "old", "old", false},
    {"ALWAYS_FORWARD_ONLY", "old", "old", true},
    {"SANITIZE_SET" SET_ALL, NULL,
     OWN ";Cert=\"-----BEGIN\";Subject=\"CN=c,O=A\\, B\";URI=spiffe://td/a;URI=spiffe://td/b;"
         "DNS=a.example;DNS=*.w.example",
     true},
    {"SANITIZE_SET, set_current_client_cert_details: {uri: true}", NULL,
     OWN ";URI=spiffe://td/a;URI=spiffe://td/b", true},
    {"SANITIZE_SET, set_current_client_cert_details: {subject: true}", NULL,
     OWN ";Subject=\"CN=c,O=A\\, B\"", true},
};

START_TEST(client_cert)
{
    const struct str uris[] = {STR("spiffe://td/a"), STR("spiffe://td/b")};
    const struct str dns[] = {STR("a.example"), STR("*.w.example")};
    const struct str local[] = {STR("spiffe://td/srv")};
    configure(arena_printf(&arena, "forward_client_cert_details: %s", certs[_i].config).p);
    peer = (struct tls_peer){.verified = certs[_i].mutual,
                             .uri_sans = uris,
                             .num_uri_sans = 2,
                             .dns_sans = dns,
                             .num_dns_sans = 2,
                             .local_uri_sans = local,
                             .num_local_uri_sans = 1,
                             .subject = STR("CN=c,O=A\\, B"),
                             .fingerprint_sha256 = STR("abcd"),
                             .cert_pem_urlencoded = STR("-----BEGIN")};
    down.info.tls = &peer;
    request(certs[_i].had ? arena_printf(&arena, "x-forwarded-client-cert: %s", certs[_i].had).p
                          : NULL);
    expect_value("x-forwarded-client-cert", certs[_i].out);
    down.info.tls = NULL; /* never without TLS */
    request("x-forwarded-client-cert: forged");
    expect_value("x-forwarded-client-cert",
                 str_starts(str_of(certs[_i].config), STR("ALWAYS")) ? "forged" : "(none)");
}
END_TEST

START_TEST(no_uri_san)
{
    configure("forward_client_cert_details: SANITIZE_SET, set_current_client_cert_details: {uri: "
              "true, dns: true}");
    peer = (struct tls_peer){.verified = true, .fingerprint_sha256 = STR("abcd")};
    down.info.tls = &peer;
    request(NULL);
    expect_value("x-forwarded-client-cert", "Hash=abcd;URI=");
}
END_TEST

/* --- host, via, names, response
 * -------------------------------------------------------------------- */

static const struct {
    const char *config, *host, *out;
} hosts[] = {
    {"strip_any_host_port: true", "a.com:81", "a.com"},
    {"strip_any_host_port: true", "[::1]:81", "[::1]"},
    {"strip_any_host_port: true", "[::1]", "[::1]"},
    {"strip_any_host_port: true", "a.com.:81", "a.com."},
    {"strip_matching_host_port: true", "a.com:8080", "a.com"},
    {"strip_matching_host_port: true", "a.com:81", "a.com:81"},
    {"strip_trailing_host_dot: true", "a.com.", "a.com"},
    {"strip_trailing_host_dot: true", "a.com.:81", "a.com:81"},
    {"strip_trailing_host_dot: true, strip_any_host_port: true", "a.com.:81", "a.com"},
    {"", "a.com.:81", "a.com.:81"},
};

START_TEST(host)
{
    configure(hosts[_i].config);
    request(NULL);
    head.authority = str_of(hosts[_i].host);
    headers_set_known(&head, HDR_HOST, head.authority);
    stream.info.downstream_remote = down.info.remote; /* as stream_new_from does */
    ck_assert(mutate_request(&stream));
    expect_value(":authority", hosts[_i].out);
    expect_value("host", hosts[_i].out);
}
END_TEST

START_TEST(via_and_underscores)
{
    configure("via: 1.1 me");
    request(NULL);
    expect_value("via", "1.1 me");
    request("via: 1.0 other");
    expect_value("via", "1.0 other, 1.1 me");
    configure("common_http_protocol_options: {headers_with_underscores_action: DROP_HEADER}");
    request("a_b: 1\nx-ok: 2\nc_d: 3");
    expect_value("a_b", "(none)");
    expect_value("c_d", "(none)");
    expect_value("x-ok", "2");
    configure("common_http_protocol_options: {headers_with_underscores_action: ALLOW}");
    request("a_b: 1");
    expect_value("a_b", "1");
}
END_TEST

static void response(const char *from)
{
    headers_init(&head, &arena);
    head.status = 200;
    if (from)
        headers_add_known(&head, HDR_SERVER, str_of(from));
    mutate_response(&stream, &head);
}

START_TEST(response_head)
{
    configure("");
    response("up");
    expect_value("server", "envoy");
    ck_assert_uint_eq(value_of("date").len, 29); /* RFC 9110 5.6.7 */
    expect_value("x-request-id", "(none)");
    configure("server_name: me, server_header_transformation: APPEND_IF_ABSENT, via: v, "
              "always_set_request_id_in_response: true");
    stream.info.request_id = STR("id");
    response("up");
    expect_value("server", "up");
    expect_value("via", "v");
    expect_value("x-request-id", "id");
    response(NULL);
    expect_value("server", "me");
    configure("server_header_transformation: PASS_THROUGH");
    response(NULL);
    expect_value("server", "(none)");
    headers_add_known(&head, HDR_DATE, STR("then"));
    headers_remove_known(&head, HDR_DATE);
    headers_set_known(&head, HDR_DATE, STR("then"));
    mutate_response(&stream, &head);
    expect_value("date", "then");
}
END_TEST

int main(void)
{
    const struct {
        const TTest *test;
        int n;
    } tests[] = {
        {client, ARRAY_LEN(clients)},
        {what_others_may_not_ask, 1},
        {forwarded_proto, ARRAY_LEN(protos)},
        {forwarded_port, 1},
        {request_id, 1},
        {client_cert, ARRAY_LEN(certs)},
        {no_uri_san, 1},
        {host, ARRAY_LEN(hosts)},
        {via_and_underscores, 1},
        {response_head, 1},
    };
    Suite *s = suite_create("mutate");
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
