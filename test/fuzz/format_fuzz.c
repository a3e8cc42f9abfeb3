// covers: proxy/observe/format.c
// covers: proxy/observe/format_ops.c
// covers: proxy/observe/format_http.c
// covers: proxy/observe/format_grpc.c
// covers: proxy/observe/format_time.c
// covers: proxy/observe/format_out.c
// covers: proxy/observe/json_format.c
/* Format strings, compiled and evaluated. The input's first line is what a peer chooses (path, SNI,
 * header values, names of certificates); the rest is the format: JSON if it begins with '{', else
 * text. A line of a JSON format must be JSON, whatever the peer sends. */
#include "api-protos/mapping.h"
#include "base/json.h"
#include "google/protobuf/struct.pb-c.h"
#include "proxy/observe/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct request {
    struct tls_peer peer;
    struct conn_info conn;
    struct headers head, response, trailers;
    struct stream_info si;
    struct str names[2];
};

static void fill_conn(struct request *r, struct str text)
{
    r->names[0] = r->names[1] = text;
    r->peer = (struct tls_peer){
        .uri_sans = r->names,
        .num_uri_sans = 2,
        .dns_sans = r->names,
        .num_dns_sans = 1,
        .local_uri_sans = r->names,
        .num_local_uri_sans = 1,
        .subject = text,
        .issuer = text,
        .version = STR("TLSv1.3"),
    };
    r->conn.tls = &r->peer;
    r->conn.sni = text;
    r->conn.transport_failure = text;
    CHECK(addr_parse_ip_port(STR("10.1.2.3:4"), &r->conn.remote));
    CHECK(addr_parse_ip_port(STR("[2001:db8::1]:443"), &r->conn.local));
    CHECK(addr_parse_pipe(STR("/run/x"), &r->conn.direct_local));
}

static void fill(struct request *r, struct str text, struct arena *a)
{
    memset(r, 0, sizeof(*r));
    fill_conn(r, text);
    headers_init(&r->head, a);
    headers_init(&r->response, a);
    headers_init(&r->trailers, a);
    r->head.path = r->head.method = r->head.authority = text;
    headers_add(&r->head, STR("a"), text);
    headers_add(&r->head, STR("content-type"), STR("application/grpc"));
    if (text.len % 2)
        headers_add(&r->head, STR("x-envoy-original-path"), text);
    if (text.len % 3 == 0)
        headers_add(&r->response, STR("grpc-status"), text);
    r->response.status = 200;
    r->si = (struct stream_info){
        .conn = &r->conn,
        .start_wall_us = 1795402874588123 + text.len * 86400000000,
        .start_us = 1,
        .upstream_first_rx_us = 5,
        .upstream_last_rx_us = 60000,
        .end_us = 100000,
        .flags = text.len % 5 ? text.len * 0x9e3779b9 : 0,
        .response_code = 200 + (unsigned)text.len,
        .protocol = (enum http_protocol)(text.len % 4),
        .code_details = text,
        .upstream_host = text,
        .upstream_failure = text,
        .upstream_tls = text.len % 4 ? &r->peer : NULL,
        .request = &r->head,
        .response = &r->response,
        .response_trailers = &r->trailers,
    };
}

static void try_text(struct str text, bool omit, const struct stream_info *si, struct arena *a)
{
    struct errors e;
    struct str plain;
    static const struct stream_info none;
    errors_init(&e);
    struct format *f = format_compile(a, text, omit, &e);
    CHECK((f == NULL) == (e.num_errors > 0));
    if (f) {
        struct str s = format_str(f, si, a);
        (void)format_str(f, &none, a);
        if (format_is_plain(f, &plain))
            CHECK(str_eq(plain, s));
    }
    errors_cleanup(&e);
}

static void check_line(const struct json_format *f, const struct stream_info *si, struct arena *a)
{
    struct buffer b;
    struct json_error err;
    buffer_init(&b);
    json_format_append(f, si, &b);
    CHECK(json_parse(buffer_pullup(&b, b.len), 0, a, &err));
    buffer_cleanup(&b);
}

static void try_json(struct str text, bool omit, const struct stream_info *si, struct arena *a)
{
    const ProtobufCMessageDescriptor *type = &google__protobuf__struct__descriptor;
    static const struct stream_info none;
    struct errors e;
    struct json_error err;
    struct str bytes;
    errors_init(&e);
    const struct json *tree = json_parse(text, 0, a, &err);
    ProtobufCMessage *m = NULL;
    if (tree && pb_json_to_wire(type, tree, a, &e, NULL, &bytes))
        m = pb_unpack(type, bytes, a, &e, NULL);
    struct json_format *f = m ? json_format_compile(a, m, omit, true, &e) : NULL;
    if (f) {
        check_line(f, si, a);
        check_line(f, &none, a);
    }
    errors_cleanup(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct arena a;
    struct request r;
    struct str in = str_n((const char *)data, len), first = STR_NULL;
    arena_init(&a, 0);
    ptrdiff_t at = str_chr(in, '\n');
    if (at >= 0) {
        first = str_n(in.p, (size_t)at);
        in = str_n(in.p + at + 1, in.len - (size_t)at - 1);
    }
    fill(&r, first, &a);
    bool omit = in.len % 2;
    if (in.len && in.p[0] == '{')
        try_json(in, omit, &r.si, &a);
    else
        try_text(in, omit, &r.si, &a);
    arena_cleanup(&a);
    return 0;
}
