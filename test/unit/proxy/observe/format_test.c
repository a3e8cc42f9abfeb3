#include "proxy/observe/format.h"

#include <check.h>
#include <stdlib.h>

/* --- helpers -------------------------------------------------------------------------------------
 */

static struct arena arena;
static struct errors errors;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
    buffer_free_list_trim();
}

static const char *text(const char *format, const struct stream_info *si, bool omit)
{
    struct format *f = format_compile(&arena, str_of(format), omit, &errors);
    ck_assert_msg(f != NULL, "%s does not compile: %.*s", format,
                  STR_ARG(errors_text(&errors, &arena)));
    return arena_str(&arena, format_str(f, si, &arena)).p;
}

/* What the error says, NULL if there is none. */
static const char *refused(const char *format)
{
    struct errors e;
    errors_init(&e);
    struct format *f = format_compile(&arena, str_of(format), false, &e);
    ck_assert_int_eq(f == NULL, e.num_errors > 0);
    const char *s = f ? NULL : arena_str(&arena, errors_text(&e, &arena)).p;
    errors_cleanup(&e);
    return s;
}

static void set(struct headers *h, const char *name, const char *value)
{
    headers_add(h, str_of(name), str_of(value));
}

/* A request as it is when its line is written. */
struct sample {
    struct tls_peer peer, up_peer;
    struct conn_info conn;
    struct headers request, response, trailers;
    struct stream_info si;
    struct str sans[2];
};

static void fill_conn(struct sample *s)
{
    s->sans[0] = STR("spiffe://td/ns/a/sa/x");
    s->sans[1] = STR("urn:b");
    s->peer = (struct tls_peer){
        .uri_sans = s->sans,
        .num_uri_sans = 2,
        .dns_sans = s->sans + 1,
        .num_dns_sans = 1,
        .subject = STR("CN=client"),
        .issuer = STR("CN=ca"),
        .serial = STR("01ab"),
        .fingerprint_sha256 = STR("ff00"),
        .cert_pem_urlencoded = STR("-----BEGIN%20"),
        .local_uri_sans = s->sans,
        .num_local_uri_sans = 1,
        .local_subject = STR("CN=server"),
        .version = STR("TLSv1.3"),
        .cipher = STR("TLS_AES_128_GCM_SHA256"),
        .sni = STR("up.example"),
    };
    ck_assert(addr_parse_ip_port(STR("10.1.2.3:1000"), &s->conn.remote));
    ck_assert(addr_parse_ip_port(STR("10.1.2.4:1001"), &s->conn.direct_remote));
    ck_assert(addr_parse_ip_port(STR("[2001:db8::1]:443"), &s->conn.local));
    ck_assert(addr_parse_ip_port(STR("127.0.0.1:15006"), &s->conn.direct_local));
    s->conn.tls = &s->peer;
    s->conn.sni = STR("a.example");
    s->conn.listener_name = STR("virtualInbound");
    s->conn.chain_name = STR("chain");
    s->conn.transport_failure = STR("TLS_error: bad");
    s->conn.id = 77;
}

static void fill_heads(struct sample *s)
{
    headers_init(&s->request, &arena);
    headers_init(&s->response, &arena);
    headers_init(&s->trailers, &arena);
    s->request.method = STR("GET");
    s->request.path = STR("/a/b?x=1%20z&y=%41&x=2&flag");
    s->request.authority = STR("ex.com:80");
    s->request.scheme = STR("http");
    set(&s->request, "x-b", "one");
    set(&s->request, "x-b", "two");
    set(&s->request, "x-empty", "");
    s->response.status = 200;
    set(&s->response, "x-a", "resp");
    set(&s->trailers, "x-t", "trail");
}

static void fill(struct sample *s)
{
    memset(s, 0, sizeof(*s));
    fill_conn(s);
    fill_heads(s);
    s->up_peer = s->peer;
    s->si = (struct stream_info){
        .conn = &s->conn,
        .start_wall_us = 1795402874588123,
        .start_us = 1000000,
        .downstream_last_rx_us = 1001500,
        .upstream_first_tx_us = 1002000,
        .upstream_last_tx_us = 1003000,
        .upstream_first_rx_us = 1010000,
        .upstream_last_rx_us = 1020999,
        .downstream_first_tx_us = 1021000,
        .downstream_last_tx_us = 1030000,
        .end_us = 1031999,
        .bytes_received = 11,
        .bytes_sent = 22,
        .upstream_wire_bytes_sent = 33,
        .upstream_wire_bytes_received = 44,
        .flags = FLAG(UPSTREAM_OVERFLOW) | FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED),
        .response_code = 200,
        .protocol = PROTOCOL_HTTP11,
        .upstream_protocol = PROTOCOL_HTTP2,
        .code_details = STR("via upstream"),
        .termination_details = STR("why it ended"),
        .route_name = STR("r1"),
        .vhost_name = STR("vh"),
        .upstream_cluster = STR("outbound|80||x"),
        .upstream_host = STR("10.0.0.1:8080"),
        .upstream_failure = STR("delayed connect error: 111"),
        .upstream_tls = &s->up_peer,
        .attempts = 2,
        .request_id = STR("b581bee2-0c60-4bd9-8668-51f42bf7499c"),
        .request = &s->request,
        .response = &s->response,
        .response_trailers = &s->trailers,
    };
    ck_assert(addr_parse_ip_port(STR("10.9.9.9:5000"), &s->si.downstream_remote));
    ck_assert(addr_parse_ip_port(STR("10.0.0.7:40000"), &s->si.upstream_local));
    ck_assert(addr_parse_ip_port(STR("10.0.0.1:8080"), &s->si.upstream_remote));
}

/* What each operator gives for the sample, and for a stream_info of zeros. The values are what
 * Envoy 1.40 writes for such a request; its "-" for what is missing, too. */
static const struct {
    const char *format, *value, *empty;
} operators[] = {
    {"%REQ(X-B)%", "one", "-"},
    {"%REQ(:METHOD)%", "GET", "-"},
    {"%REQ(:PATH)%", "/a/b?x=1%20z&y=%41&x=2&flag", "-"},
    {"%REQ(:AUTHORITY)%", "ex.com:80", "-"},
    {"%REQ(HOST)%", "ex.com:80", "-"},
    {"%REQ(:SCHEME)%", "http", "-"},
    {"%REQ(:STATUS)%", "-", "-"},
    {"%REQ(X-EMPTY)%", "", "-"},
    {"%REQ(NONE)%", "-", "-"},
    {"%REQ(NONE?X-B)%", "one", "-"},
    {"%REQ(X-EMPTY?X-B)%", "", "-"},
    {"%REQ(?X-B)%", "one", "-"},
    {"%REQ(X-B?)%", "one", "-"},
    {"%REQ(X-B):2%", "on", "-"},
    {"%REQ(X-B):0%", "", "-"},
    {"%REQ(X-B):99%", "one", "-"},
    {"%REQ(NONE):0%", "-", "-"},
    {"%RESP(X-A)%", "resp", "-"},
    {"%RESP(:STATUS)%", "200", "-"},
    {"%TRAILER(X-T)%", "trail", "-"},
    {"%REQ_WITHOUT_QUERY(:PATH)%", "/a/b", "-"},
    {"%REQ_WITHOUT_QUERY(X-NO?:PATH):3%", "/a/", "-"},
    {"%PATH%", "/a/b?x=1%20z&y=%41&x=2&flag", "-"},
    {"%PATH():2%", "/a", "-"},
    {"%PATH(WQ)%", "/a/b?x=1%20z&y=%41&x=2&flag", "-"},
    {"%PATH(NQ)%", "/a/b", "-"},
    {"%PATH(NQ:PATH)%", "/a/b", "-"},
    {"%PATH(NQ:ORIG)%", "-", "-"},
    {"%PATH(NQ:ORIG_OR_PATH)%", "/a/b", "-"},
    {"%QUERY_PARAM(x)%", "1 z", "-"},
    {"%QUERY_PARAM(x):1%", "1", "-"},
    {"%QUERY_PARAM(y)%", "A", "-"},
    {"%QUERY_PARAM(flag)%", "", "-"},
    {"%QUERY_PARAM(X)%", "-", "-"},
    {"%QUERY_PARAMS%", "x=1%20z&y=%41&x=2&flag", "-"},
    {"%QUERY_PARAMS(ORIG):3%", "x=1", "-"},
    /* names and values: :method 10, :path 33, :authority 19, :scheme 11, x-b 6 + 6, x-empty 7 */
    {"%REQUEST_HEADERS_BYTES%", "91", "0"},
    {"%RESPONSE_HEADERS_BYTES%", "17", "0"},
    {"%RESPONSE_TRAILERS_BYTES%", "8", "0"},
    {"%REQUESTED_SERVER_NAME%", "a.example", "-"},
    {"%REQUESTED_SERVER_NAME(SNI_ONLY)%", "a.example", "-"},
    {"%REQUESTED_SERVER_NAME(SNI_FIRST)%", "a.example", "-"},
    {"%REQUESTED_SERVER_NAME(HOST_FIRST)%", "ex.com:80", "-"},
    {"%GRPC_STATUS%", "-", "-"},
    {"%GRPC_STATUS(NUMBER)%", "-", "-"},
    {"%GRPC_STATUS_NUMBER%", "-", "-"},
    {"%START_TIME%", "2026-11-23T03:01:14.588Z", "1970-01-01T00:00:00.000Z"},
    {"%START_TIME(%s)%", "1795402874", "0"},
    {"%START_TIME(%s%3f)%", "1795402874588", "0000"},
    {"%START_TIME_LOCAL(%Y)%", "2026", "1970"},
    {"%EMIT_TIME(x)%", "x", "x"},
    {"%EMIT_TIME_LOCAL(x)%", "x", "x"},
    {"%DURATION%", "31", "-"},
    {"%REQUEST_DURATION%", "1", "-"},
    {"%REQUEST_TX_DURATION%", "3", "-"},
    {"%RESPONSE_DURATION%", "10", "-"},
    {"%RESPONSE_TX_DURATION%", "20", "-"},
    {"%COMMON_DURATION(DS_RX_BEG:US_RX_END:ms)%", "20", "-"},
    {"%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%", "18999", "-"},
    {"%COMMON_DURATION(DS_TX_BEG:DS_TX_END:ns)%", "9000000", "-"},
    {"%COMMON_DURATION(DS_TX_END:DS_TX_BEG:ns)%", "-", "-"},
    {"%PROTOCOL%", "HTTP/1.1", "-"},
    {"%RESPONSE_CODE%", "200", "0"},
    {"%RESPONSE_CODE_DETAILS%", "via_upstream", "-"},
    {"%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "via upstream", "-"},
    {"%CONNECTION_TERMINATION_DETAILS%", "why it ended", "-"},
    {"%RESPONSE_FLAGS%", "URX,UO", "-"},
    {"%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamOverflow", "-"},
    {"%CUSTOM_FLAGS%", "", ""},
    {"%BYTES_RECEIVED%", "11", "0"},
    {"%BYTES_SENT%", "22", "0"},
    {"%BYTES_RETRANSMITTED%", "0", "0"},
    {"%PACKETS_RETRANSMITTED%", "0", "0"},
    {"%ROUTE_NAME%", "r1", "-"},
    {"%VIRTUAL_CLUSTER_NAME%", "-", "-"},
    {"%TRACE_ID%", "-", "-"},
    {"%SPAN_ID%", "-", "-"},
    {"%UPSTREAM_HOST%", "10.0.0.1:8080", "-"},
    {"%UPSTREAM_HOST_NAME%", "10.0.0.1:8080", "-"},
    {"%UPSTREAM_HOST_NAME_WITHOUT_PORT%", "10.0.0.1", "-"},
    {"%UPSTREAM_CLUSTER%", "outbound|80||x", "-"},
    {"%UPSTREAM_CLUSTER_RAW%", "outbound|80||x", "-"},
    {"%UPSTREAM_LOCAL_ADDRESS%", "10.0.0.7:40000", "-"},
    {"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.0.0.7", "-"},
    {"%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(X)%", "10.0.0.7", "-"},
    {"%UPSTREAM_LOCAL_PORT%", "40000", "-"},
    {"%UPSTREAM_REMOTE_ADDRESS%", "10.0.0.1:8080", "-"},
    {"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1", "-"},
    {"%UPSTREAM_REMOTE_PORT%", "8080", "-"},
    {"%UPSTREAM_TRANSPORT_FAILURE_REASON%", "delayed_connect_error:_111", "-"},
    {"%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2", "0"},
    {"%UPSTREAM_PROTOCOL%", "HTTP/2", "-"},
    {"%UPSTREAM_WIRE_BYTES_SENT%", "33", "0"},
    {"%UPSTREAM_WIRE_BYTES_RECEIVED%", "44", "0"},
    {"%UPSTREAM_TLS_VERSION%", "TLSv1.3", "-"},
    {"%UPSTREAM_TLS_CIPHER%", "TLS_AES_128_GCM_SHA256", "-"},
    {"%UPSTREAM_SERVER_NAME%", "up.example", "-"},
    {"%UPSTREAM_PEER_SUBJECT%", "CN=client", "-"},
    {"%UPSTREAM_PEER_ISSUER%", "CN=ca", "-"},
    {"%UPSTREAM_PEER_URI_SAN%", "spiffe://td/ns/a/sa/x,urn:b", "-"},
    {"%UPSTREAM_PEER_DNS_SAN%", "urn:b", "-"},
    {"%UPSTREAM_LOCAL_URI_SAN%", "spiffe://td/ns/a/sa/x", "-"},
    {"%DOWNSTREAM_REMOTE_ADDRESS%", "10.9.9.9:5000", "-"},
    {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.9.9.9", "-"},
    {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%", "10.9.0.0/16", "-"},
    {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(0)%", "0.0.0.0/0", "-"},
    {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(31)%", "10.9.9.8/31", "-"},
    {"%DOWNSTREAM_REMOTE_PORT%", "5000", "-"},
    {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.1.2.4:1001", "-"},
    {"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "10.1.2.4", "-"},
    {"%DOWNSTREAM_DIRECT_REMOTE_PORT%", "1001", "-"},
    {"%DOWNSTREAM_LOCAL_ADDRESS%", "[2001:db8::1]:443", "-"},
    {"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "2001:db8::1", "-"},
    {"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(20)%", "2001::/20", "-"},
    {"%DOWNSTREAM_LOCAL_PORT%", "443", "-"},
    {"%DOWNSTREAM_DIRECT_LOCAL_ADDRESS%", "127.0.0.1:15006", "-"},
    {"%DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT%", "127.0.0.1", "-"},
    {"%DOWNSTREAM_DIRECT_LOCAL_PORT%", "15006", "-"},
    {"%DOWNSTREAM_PEER_URI_SAN%", "spiffe://td/ns/a/sa/x,urn:b", "-"},
    {"%DOWNSTREAM_PEER_DNS_SAN%", "urn:b", "-"},
    {"%DOWNSTREAM_LOCAL_URI_SAN%", "spiffe://td/ns/a/sa/x", "-"},
    {"%DOWNSTREAM_PEER_SUBJECT%", "CN=client", "-"},
    {"%DOWNSTREAM_PEER_ISSUER%", "CN=ca", "-"},
    {"%DOWNSTREAM_PEER_SERIAL%", "01ab", "-"},
    {"%DOWNSTREAM_PEER_FINGERPRINT_256%", "ff00", "-"},
    {"%DOWNSTREAM_PEER_CERT%", "-----BEGIN%20", "-"},
    {"%DOWNSTREAM_LOCAL_SUBJECT%", "CN=server", "-"},
    {"%DOWNSTREAM_TLS_VERSION%", "TLSv1.3", "-"},
    {"%DOWNSTREAM_TLS_CIPHER%", "TLS_AES_128_GCM_SHA256", "-"},
    {"%DOWNSTREAM_TRANSPORT_FAILURE_REASON%", "TLS_error:_bad", "-"},
    {"%CONNECTION_ID%", "77", "0"},
    {"%FILTER_CHAIN_NAME%", "chain", "-"},
    {"%LISTENER_NAME%", "virtualInbound", "-"},
    {"%ENVIRONMENT(FORMAT_TEST)%", "from the environment", "from the environment"},
    {"%ENVIRONMENT(FORMAT_TEST):4%", "from", "from"},
    {"%ENVIRONMENT(FORMAT_TEST_NONE)%", "-", "-"},
};

START_TEST(test_operator)
{
    struct sample s;
    struct stream_info none = {0};
    fill(&s);
    ck_assert_str_eq(text(operators[_i].format, &s.si, false), operators[_i].value);
    ck_assert_str_eq(text(operators[_i].format, &none, false), operators[_i].empty);
    bool missing = strcmp(operators[_i].empty, "-") == 0 &&
                   strncmp(operators[_i].format, "%RESPONSE_FLAGS", 15) != 0;
    ck_assert_str_eq(text(operators[_i].format, &none, true), missing ? "" : operators[_i].empty);
}
END_TEST

START_TEST(test_unique)
{
    struct stream_info none = {0};
    const char *a = text("%UNIQUE_ID%", &none, false), *b = text("%UNIQUE_ID%", &none, false);
    ck_assert_uint_eq(strlen(a), 36);
    ck_assert_str_ne(a, b);
    ck_assert_str_ne(text("%HOSTNAME%", &none, false), "");
    ck_assert_uint_eq(strlen(text("%START_TIME_LOCAL%", &none, false)), 28);
    ck_assert_uint_eq(strlen(text("%EMIT_TIME%", &none, false)), 24);
}
END_TEST

START_TEST(test_stream_id)
{
    struct sample s;
    fill(&s);
    ck_assert_str_eq(text("%STREAM_ID%", &s.si, false), "b581bee2-0c60-4bd9-8668-51f42bf7499c");
    s.si.request_id = STR_NULL;
    const char *id = text("%STREAM_ID%", &s.si, false);
    ck_assert_uint_eq(strlen(id), 36);
    ck_assert_uint_eq(strspn(id, "0123456789abcdef-"), 36);
    ck_assert(id[8] == '-' && id[13] == '-' && id[14] == '4' && id[18] == '-' && id[23] == '-');
    ck_assert_ptr_nonnull(strchr("89ab", id[19]));
    ck_assert_str_eq(text("%STREAM_ID%", &s.si, false), id); /* as long as it is the same stream */
    s.si.start_us++;
    ck_assert_str_ne(text("%STREAM_ID%", &s.si, false), id);
}
END_TEST

/* The log of a request is written when its connection may be gone. */
START_TEST(test_upstream_tls_is_a_copy)
{
    struct sample s;
    struct str *sans = mem_alloc(sizeof(*sans));
    char *name = mem_strdup("spiffe://gone"), *subject = mem_strdup("CN=gone");
    fill(&s);
    *sans = str_of(name);
    struct tls_peer peer = {.uri_sans = sans, .num_uri_sans = 1, .subject = str_of(subject)};
    stream_info_set_upstream_tls(&s.si, &peer, &arena);
    memset(name, 'x', strlen(name));
    mem_free(name);
    mem_free(subject);
    mem_free(sans);
    memset(&peer, 0, sizeof(peer));
    ck_assert_str_eq(text("%UPSTREAM_PEER_URI_SAN% %UPSTREAM_PEER_SUBJECT%", &s.si, false),
                     "spiffe://gone CN=gone");
    ck_assert(str_eq(s.si.upstream_uri_san, STR("spiffe://gone")));
    stream_info_set_upstream_tls(&s.si, NULL, &arena);
    ck_assert_str_eq(text("%UPSTREAM_PEER_URI_SAN% %UPSTREAM_TLS_VERSION%", &s.si, false), "- -");
}
END_TEST

START_TEST(test_text_between)
{
    struct stream_info none = {0};
    ck_assert_str_eq(text("", &none, false), "");
    ck_assert_str_eq(text("plain\n", &none, false), "plain\n");
    ck_assert_str_eq(text("100%% %%REQ%%", &none, false), "100% %REQ%");
    ck_assert_str_eq(text("a%REQ(x)%b%REQ(y)%", &none, false), "a-b-");
    ck_assert_str_eq(text("a%REQ(x)%b%REQ(y)%", &none, true), "ab");
    ck_assert_str_eq(text("%RESPONSE_CODE%%DURATION%", &none, false), "0-");
    ck_assert_str_eq(text("%REQ(a%b)%", &none, false), "-"); /* a token may hold '%' */
    ck_assert_str_eq(text("%START_TIME(%%)%", &none, false), "%");
    ck_assert_str_eq(text("%START_TIME((a))%", &none, false), "(a)");
}
END_TEST

START_TEST(test_plain)
{
    struct str t;
    struct format *f = format_compile(&arena, STR("a%%b"), false, &errors);
    ck_assert(format_is_plain(f, &t));
    ck_assert(str_eq(t, STR("a%b")));
    f = format_compile(&arena, STR(""), false, &errors);
    ck_assert(format_is_plain(f, &t));
    ck_assert_uint_eq(t.len, 0);
    f = format_compile(&arena, STR("a%PROTOCOL%"), false, &errors);
    ck_assert(!format_is_plain(f, &t));
}
END_TEST

/* Each of these Envoy 1.40 refuses too, but for the last group. */
static const struct {
    const char *format, *says;
} bad[] = {
    {"%", "position 0"},
    {"100%", "position 3"},
    {"%A", "position 0"},
    {"a %REQ(% b", "position 2"},
    {"%REQ(X):%", "position 0"},
    {"%REQ(X):a%", "position 0"},
    {"%REQ(X):99999999999999999999%", "position 0"},
    {"%REQ(A)x%", "position 0"},
    {"%req(X)%", "position 0"},
    {"%(X)%", "position 0"},
    {"%REQ%", "REQ requires parameters"},
    {"%REQ()%", "REQ requires parameters"},
    {"%REQ(X?Y?Z)%", "more than one alternative"},
    {"%REQ(X Y)%", "not a header name"},
    {"%REQ(A)(B)%", "not a header name"},
    {"%REQ(a))%", "not a header name"},
    {"%FOO%", "there is no operator FOO"},
    {"%FOO(X)%", "there is no operator FOO"},
    {"%PROTOCOL:3%", "PROTOCOL does not take any parameters or length"},
    {"%PROTOCOL(X)%", "PROTOCOL does not take any parameters or length"},
    {"%START_TIME:5%", "START_TIME does not allow length"},
    {"%START_TIME(%n)%", "line break"},
    {"%START_TIME(\n)%", "line break"},
    {"%GRPC_STATUS(X)%", "GRPC_STATUS: CAMEL_STRING"},
    {"%GRPC_STATUS:1%", "GRPC_STATUS does not allow length"},
    {"%PATH(X)%", "PATH: WQ or NQ"},
    {"%PATH(WQ:X)%", "PATH: PATH, ORIG"},
    {"%QUERY_PARAM%", "QUERY_PARAM requires parameters"},
    {"%REQUESTED_SERVER_NAME(X)%", "SNI_ONLY"},
    {"%COMMON_DURATION(X)%", "COMMON_DURATION(X)"},
    {"%COMMON_DURATION(DS_RX_BEG:DS_RX_END:h)%", "COMMON_DURATION(DS_RX_BEG"},
    {"%COMMON_DURATION(DS_RX_BEG:DS_RX_END:ms:ms)%", "COMMON_DURATION(DS_RX_BEG"},
    {"%ENVIRONMENT%", "ENVIRONMENT requires parameters"},
    /* not here yet */
    {"%QUERY_PARAMS(DECODED)%", "QUERY_PARAMS(DECODED)"},
    {"%CEL(request.path)%", "CEL is not supported"},
    {"%UPSTREAM_METADATA(a:b)%", "UPSTREAM_METADATA is not supported"},
};

START_TEST(test_refused)
{
    const char *says = refused(bad[_i].format);
    ck_assert_msg(says != NULL, "%s compiles", bad[_i].format);
    ck_assert_msg(strstr(says, bad[_i].says) != NULL, "%s: %s", bad[_i].format, says);
}
END_TEST

/* --- single operators, closer
 * ---------------------------------------------------------------------- */

START_TEST(test_flags)
{
    struct stream_info si = {.flags = (1ULL << NUM_RESPONSE_FLAGS) - 1,
                             .protocol = PROTOCOL_HTTP11};
    uint64_t bit, all = 0;
    char *name, *rest;
    char *list = arena_strdup(&arena, text("%RESPONSE_FLAGS%", &si, false));
    ck_assert(str_eq(response_flags_text(si.flags, &arena), str_of(list)));
    for (name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        ck_assert(response_flag_find(str_of(name), &bit));
        all |= bit;
    }
    ck_assert_uint_eq(all, si.flags);
    ck_assert(str_eq(response_flags_text(0, &arena), STR("-")));
    ck_assert(str_eq(response_flags_text(FLAG(NO_ROUTE_FOUND), &arena), STR("NR")));
    ck_assert(!response_flag_find(STR("XX"), &bit));
    ck_assert(!response_flag_find(STR(""), &bit));
    si.flags = FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED) | FLAG(UPSTREAM_CONNECTION_FAILURE);
    ck_assert_str_eq(text("%RESPONSE_FLAGS%", &si, false), "URX,UF");
    si.protocol = PROTOCOL_NONE; /* of a connection: in the order in which tcp_proxy sets them */
    ck_assert_str_eq(text("%RESPONSE_FLAGS%", &si, false), "UF,URX");
    si.protocol = PROTOCOL_HTTP11;
    si.flags = ~0ULL; /* bits that mean nothing are not read past the table */
    ck_assert(
        str_eq(response_flags_text(~0ULL, &arena), str_of(text("%RESPONSE_FLAGS%", &si, false))));
}
END_TEST

static const struct {
    const char *status, *trailer;
    unsigned code;
    const char *camel, *snake, *number;
} grpc[] = {
    {"0", NULL, 200, "OK", "OK", "0"},
    {"5", NULL, 200, "NotFound", "NOT_FOUND", "5"},
    {"1", NULL, 200, "Canceled", "CANCELLED", "1"},
    {"3", "16", 200, "Unauthenticated", "UNAUTHENTICATED", "16"},
    {NULL, "0", 200, "OK", "OK", "0"},
    {"99", NULL, 200, "99", "99", "99"},
    {"abc", NULL, 200, "-1", "-1", "-1"},
    {"-1", NULL, 200, "-1", "-1", "-1"},
    {"18446744073709551615", NULL, 200, "-1", "-1", "-1"},
    {NULL, NULL, 200, "Unknown", "UNKNOWN", "2"},
    {NULL, NULL, 400, "Internal", "INTERNAL", "13"},
    {NULL, NULL, 401, "Unauthenticated", "UNAUTHENTICATED", "16"},
    {NULL, NULL, 403, "PermissionDenied", "PERMISSION_DENIED", "7"},
    {NULL, NULL, 404, "Unimplemented", "UNIMPLEMENTED", "12"},
    {NULL, NULL, 418, "Unknown", "UNKNOWN", "2"},
    {NULL, NULL, 429, "Unavailable", "UNAVAILABLE", "14"},
    {NULL, NULL, 503, "Unavailable", "UNAVAILABLE", "14"},
    {NULL, NULL, 0, "-", "-", "-"},
};

START_TEST(test_grpc)
{
    struct sample s;
    fill(&s);
    s.si.response_code = grpc[_i].code;
    if (grpc[_i].status)
        set(&s.response, "grpc-status", grpc[_i].status);
    if (grpc[_i].trailer)
        set(&s.trailers, "grpc-status", grpc[_i].trailer);
    ck_assert_str_eq(text("%GRPC_STATUS%", &s.si, false), "-"); /* not asked for as gRPC */
    set(&s.request, "content-type", "application/grpc+proto");
    ck_assert_str_eq(text("%GRPC_STATUS%", &s.si, false), grpc[_i].camel);
    ck_assert_str_eq(text("%GRPC_STATUS(CAMEL_STRING)%", &s.si, false), grpc[_i].camel);
    ck_assert_str_eq(text("%GRPC_STATUS(SNAKE_STRING)%", &s.si, false), grpc[_i].snake);
    ck_assert_str_eq(text("%GRPC_STATUS(NUMBER)%", &s.si, false), grpc[_i].number);
    ck_assert_str_eq(text("%GRPC_STATUS_NUMBER%", &s.si, false), grpc[_i].number);
    headers_set(&s.request, STR("content-type"), STR("application/grpcx"));
    ck_assert_str_eq(text("%GRPC_STATUS%", &s.si, false), "-");
}
END_TEST

static const struct {
    const char *path, *value;
} queries[] = {
    {"/?x=a+b%2B%zz%4", "a+b+%zz%4"},
    {"/?a&x", ""},
    {"/?x=", ""},
    {"/?X=1", "-"},
    {"/?a=1?x=2", "-"},
    {"/?y=1&&x=2", "2"},
    {"/?%78=enc", "enc"},
    {"/a?", "-"},
    {"/a", "-"},
    {"/?xx=1&x=2=3", "2=3"},
    {"/?=1&x=%", "%"},
    {"", "-"},
};

START_TEST(test_query_param)
{
    struct sample s;
    fill(&s);
    s.request.path = str_of(queries[_i].path);
    ck_assert_str_eq(text("%QUERY_PARAM(x)%", &s.si, false), queries[_i].value);
}
END_TEST

START_TEST(test_query_param_long)
{
    struct sample s;
    char path[2000] = "/?x=", want[600] = "";
    size_t n = 4, w = 0;
    fill(&s);
    for (int i = 0; i < 200; i++) {
        memcpy(path + n, "%C3%A9", 6); /* at every phase of the pieces */
        n += 6;
        memcpy(want + w, "\xc3\xa9", 2);
        w += 2;
        if (i % 7 == 0)
            path[n++] = want[w++] = 'a';
    }
    s.request.path = str_n(path, n);
    struct format *f = format_compile(&arena, STR("%QUERY_PARAM(x)%"), false, &errors);
    ck_assert(str_eq(format_str(f, &s.si, &arena), str_n(want, w)));
}
END_TEST

START_TEST(test_original_path)
{
    struct sample s;
    fill(&s);
    set(&s.request, "x-envoy-original-path", "/before?x=old");
    ck_assert_str_eq(text("%PATH%", &s.si, false), "/before?x=old");
    ck_assert_str_eq(text("%PATH(NQ:ORIG)%", &s.si, false), "/before");
    ck_assert_str_eq(text("%PATH(NQ:PATH)%", &s.si, false), "/a/b");
    ck_assert_str_eq(text("%QUERY_PARAM(x)%", &s.si, false), "old");
    ck_assert_str_eq(text("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", &s.si, false), "/before?x=old");
}
END_TEST

/* CVE-2024-45808 in its kind: who connects writes a line of his own into the log. */
START_TEST(test_server_name_forged)
{
    struct sample s;
    fill(&s);
    s.conn.sni = STR("a\" 200 -\n[2026] \"GET /x\xff");
    ck_assert_str_eq(text("%REQUESTED_SERVER_NAME%", &s.si, false), "a__200_-__2026___GET__x_");
    s.conn.sni = STR_NULL;
    ck_assert_str_eq(text("%REQUESTED_SERVER_NAME%", &s.si, false), "-");
    ck_assert_str_eq(text("%REQUESTED_SERVER_NAME(SNI_FIRST)%", &s.si, false), "ex.com:80");
}
END_TEST

START_TEST(test_pipe_addresses)
{
    struct sample s;
    fill(&s);
    ck_assert(addr_parse_pipe(STR("/run/x.sock"), &s.si.upstream_remote));
    ck_assert_str_eq(text("%UPSTREAM_REMOTE_ADDRESS%", &s.si, false), "/run/x.sock");
    ck_assert_str_eq(text("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", &s.si, false), "/run/x.sock");
    ck_assert_str_eq(text("%UPSTREAM_REMOTE_PORT%", &s.si, false), "-");
    s.si.upstream_hostname = STR("db.example:5432");
    ck_assert_str_eq(text("%UPSTREAM_HOST_NAME%", &s.si, false), "db.example:5432");
    ck_assert_str_eq(text("%UPSTREAM_HOST_NAME_WITHOUT_PORT%", &s.si, false), "db.example");
    s.si.upstream_hostname = STR("db.example");
    ck_assert_str_eq(text("%UPSTREAM_HOST_NAME_WITHOUT_PORT%", &s.si, false), "db.example");
    memset(&s.si.downstream_remote, 0, sizeof(s.si.downstream_remote));
    ck_assert_str_eq(text("%DOWNSTREAM_REMOTE_ADDRESS%", &s.si, false), "10.1.2.3:1000");
    ck_assert_str_eq(text("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(129)%", &s.si, false),
                     "2001:db8::1");
    ck_assert_str_eq(text("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(64)%", &s.si, false), "-");
}
END_TEST

START_TEST(test_upstream_san_copy)
{
    struct sample s;
    fill(&s);
    s.si.upstream_tls = NULL;
    s.si.upstream_uri_san = STR("spiffe://copy");
    ck_assert_str_eq(text("%UPSTREAM_PEER_URI_SAN%", &s.si, false), "spiffe://copy");
}
END_TEST

/* Cut after so many bytes of the value, however many pieces it is written in. */
START_TEST(test_truncation_over_pieces)
{
    struct sample s;
    fill(&s);
    s.request.path = STR("/?x=ab%20%20cd");
    ck_assert_str_eq(text("%QUERY_PARAM(x):3%|%REQ(x-b)%", &s.si, false), "ab |one");
    ck_assert_str_eq(text("%QUERY_PARAM(x):0%|%REQ(none):1%|", &s.si, false), "|-|");
}
END_TEST

/* A value longer than a block of the buffer, with text before and after it. */
START_TEST(test_long_value)
{
    struct sample s;
    size_t len = 3 * BUFFER_BLOCK + 7;
    char *big = arena_bytes(&arena, len);
    fill(&s);
    memset(big, 'q', len);
    headers_add(&s.request, STR("x-big"), str_n(big, len));
    struct buffer b;
    buffer_init(&b);
    buffer_add_str(&b, STR("before "));
    struct format *f = format_compile(&arena, STR("<%REQ(x-big)%>"), false, &errors);
    format_append(f, &s.si, &b);
    ck_assert_uint_eq(b.len, len + 9);
    struct str all = buffer_pullup(&b, b.len);
    ck_assert(str_starts(all, STR("before <qqq")));
    ck_assert(str_ends(all, STR("qqq>")));
    ck_assert(memmem(all.p + 8, all.len - 8, "<", 1) == NULL);
    buffer_cleanup(&b);
}
END_TEST

int main(void)
{
    setenv("FORMAT_TEST", "from the environment", 1);
    setenv("TZ", "UTC", 1);
    TCase *t = tcase_create("format");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_operator, 0, ARRAY_LEN(operators));
    tcase_add_loop_test(t, test_refused, 0, ARRAY_LEN(bad));
    tcase_add_loop_test(t, test_grpc, 0, ARRAY_LEN(grpc));
    tcase_add_loop_test(t, test_query_param, 0, ARRAY_LEN(queries));
    tcase_add_test(t, test_unique);
    tcase_add_test(t, test_stream_id);
    tcase_add_test(t, test_upstream_tls_is_a_copy);
    tcase_add_test(t, test_text_between);
    tcase_add_test(t, test_plain);
    tcase_add_test(t, test_flags);
    tcase_add_test(t, test_query_param_long);
    tcase_add_test(t, test_original_path);
    tcase_add_test(t, test_server_name_forged);
    tcase_add_test(t, test_pipe_addresses);
    tcase_add_test(t, test_upstream_san_copy);
    tcase_add_test(t, test_truncation_over_pieces);
    tcase_add_test(t, test_long_value);
    Suite *s = suite_create("observe/format");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
