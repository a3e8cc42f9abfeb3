#include "proxy/http/h1_parse.h"

#include "proxy/http/h1_chunks.h"
#include "proxy/http/h1_scan.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define S(text) text, sizeof(text) - 1

static struct arena arena;
static struct buffer in;
static struct h1_scan scan;
static struct headers headers;
static struct h1_message message;
static struct h1_error error;
static const struct h1_rules strict = {.max_bytes = 61440, .max_count = 100};
static const struct h1_rules lax = {61440, 100, .accept_http_10 = true,
                                    .allow_chunked_length = true};

static void setup(void)
{
    arena_init(&arena, 0);
    buffer_init(&in);
    scan = (struct h1_scan){0};
}

static void teardown(void)
{
    buffer_cleanup(&in);
    h1_scan_cleanup(&scan);
    arena_cleanup(&arena);
    buffer_free_list_trim();
}

static void start(void)
{
    buffer_drain(&in, in.len);
    h1_scan_cleanup(&scan);
    arena_reset(&arena);
    headers_init(&headers, &arena);
    error = (struct h1_error){0};
}

/* Feeds `step` bytes at a time until the head is whole or refused. */
static enum h1_status feed(const char *p, size_t len, size_t step, const struct h1_rules *rules,
                           bool is_request)
{
    start();
    for (size_t at = 0; at < len; at += step) {
        buffer_add(&in, p + at, len - at < step ? len - at : step);
        enum h1_status r = h1_scan_head(&scan, &in, rules, false, &error);
        if (r != H1_MORE) {
            buffer_add(&in, p + at + step, at + step < len ? len - at - step : 0);
            return r;
        }
        if (!h1_scan_may_be(&scan, is_request ? H1_REQUEST : H1_RESPONSE)) {
            error = (struct h1_error){400, H1_CODEC_ERROR};
            return H1_BAD;
        }
    }
    return H1_MORE;
}

static bool request(const char *p, size_t len, size_t step, const struct h1_rules *rules)
{
    enum h1_status r = feed(p, len, step, rules, true);
    ck_assert_msg(r != H1_MORE, "incomplete: %.*s", (int)len, p);
    if (r == H1_BAD)
        return false;
    uint32_t lines = scan.lines;
    char *head = h1_scan_take(&scan, &in, &arena);
    return h1_parse_request(head, lines, rules, &headers, &message, &error);
}

static bool response(const char *p, size_t len, size_t step, bool to_head)
{
    enum h1_status r = feed(p, len, step, &strict, false);
    ck_assert_msg(r != H1_MORE, "incomplete: %.*s", (int)len, p);
    if (r != H1_DONE)
        return false;
    uint32_t lines = scan.lines;
    char *head = h1_scan_take(&scan, &in, &arena);
    return h1_parse_response(head, lines, &strict, to_head, &headers, &message, &error);
}

/* What the parser made, on one line. */
static struct str describe(void)
{
    static const char *const bodies[] = {"none", "length", "chunked", "close", "tunnel"};
    struct str s = headers.status ? arena_printf(&arena, "%u", headers.status)
                                  : arena_printf(&arena, "%.*s %.*s %.*s", STR_ARG(headers.method),
                                                 STR_ARG(headers.path), STR_ARG(headers.authority));
    HEADERS_FOREACH(f, &headers) {
        s = arena_printf(&arena, "%.*s|%.*s=%.*s", STR_ARG(s), STR_ARG(f->name), STR_ARG(f->value));
    }
    return arena_printf(&arena, "%.*s|%s%s", STR_ARG(s), bodies[message.body],
                        message.keep_alive ? "" : " close");
}

struct good {
    const char *raw;
    size_t len;
    const char *want;
};

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

static const struct good good_requests[] = {
    {S(GET "\r\n"), "GET / a|none"},
    {S("FOO / HTTP/1.1\r\nHost: a\r\n\r\n"), "FOO / a|none"},
    {S("!#$%&'*+-.^_`|~a1 / HTTP/1.1\r\nHost: a\r\n\r\n"), "!#$%&'*+-.^_`|~a1 / a|none"},
    {S("GET /\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /\"<>\\^`{|} a|none"},
    {S("GET /%zz%00?a=b HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /%zz%00?a=b a|none"},
    {S("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /x b|none"},
    {S("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "GET / b|none"},
    {S("GET http://u:p@b:81/x HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /x b:81|none"},
    {S("GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /?x b|none"},
    {S("GET HTTP://b:81/x HTTP/1.1\r\n\r\n"), "GET /x b:81|none"},
    {S("GET https://[::1]:443/x HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /x [::1]:443|none"},
    {S("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS * a|none"},
    {S("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS / b|none"},
    {S("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), "CONNECT  a:443|tunnel close"},
    {S("CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"),
     "CONNECT  [::1]:443|tunnel close"},
    {S(GET "A_b: \t c\td \t\r\nD:\r\ne:\xff\r\n\r\n"), "GET / a|a_b=c\td|d=|e=\xff|none"},
    {S("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), "GET / [::1]:80|none"},
    {S("GET / HTTP/1.1\r\nHost: a_b%41:\r\n\r\n"), "GET / a_b%41:|none"},
    {S(POST "Content-Length: 1\r\n\r\nx"), "POST / a|content-length=1|length"},
    {S(POST "Content-Length: 0\r\n\r\n"), "POST / a|content-length=0|none"},
    {S(POST "Content-Length: 0000000000000000000001\r\n\r\nx"),
     "POST / a|content-length=0000000000000000000001|length"},
    {S(POST "Content-Length: 18446744073709551615\r\n\r\nx"),
     "POST / a|content-length=18446744073709551615|length"},
    {S(POST "Transfer-Encoding: Chunked\r\n\r\n"), "POST / a|chunked"},
    {S(GET "Connection: foo, keep-alive,,\r\nFoo: 1\r\nKeep-Alive: x\r\nProxy-Connection: y\r\n"
           "TE: gzip, trailers\r\nUpgrade: z\r\nBar: 2\r\n\r\n"),
     "GET / a|te=trailers|bar=2|none"},
    {S(GET "TE: gzip\r\nConnection: TE\r\n\r\n"), "GET / a|none"},
    {S(GET "TE: trailers\r\nConnection: TE\r\n\r\n"), "GET / a|te=trailers|none"},
    {S(GET "Connection: foo, CLOSE\r\n\r\n"), "GET / a|none close"},
    {S(GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"),
     "GET / a|none"},
    {S(GET "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"),
     "GET / a|connection=upgrade|upgrade=websocket|tunnel"},
    {S(GET "Upgrade: websocket\r\n\r\n"), "GET / a|none"},
    {S(GET "Connection: upgrade\r\n\r\n"), "GET / a|none"},
    {S(POST "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\nx"),
     "POST / a|content-length=1|length"},
    {S(POST "Connection: content-length\r\nContent-Length: 1\r\n\r\n"), "POST / a|length"},
    {S(POST "Expect: foo\r\n\r\n"), "POST / a|expect=foo|none"},
};

static void check_good(const struct good *c, bool parsed)
{
    ck_assert_msg(parsed, "refused with %u %.*s: %s", error.status, STR_ARG(error.detail), c->raw);
    struct str got = describe();
    ck_assert_msg(str_eq(got, str_of(c->want)), "%s\n  got  %.*s\n  want %s", c->raw, STR_ARG(got),
                  c->want);
}

START_TEST(requests_are_read_at_every_split)
{
    for (size_t i = 0; i < sizeof(good_requests) / sizeof(good_requests[0]); i++)
        for (size_t step = 1; step <= good_requests[i].len; step++) {
            const struct good *c = &good_requests[i];
            check_good(c, request(c->raw, c->len, step, &strict));
        }
}
END_TEST

START_TEST(http_10_is_read_where_allowed)
{
    static const struct good cases[] = {
        {S("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), "GET / a|none close"},
        {S("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"), "GET / a|none"},
        {S("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
         "POST / a|content-length=1|length close"},
        {S(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
         "POST / a|chunked close"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_good(&cases[i], request(cases[i].raw, cases[i].len, 7, &lax));
    ck_assert(!request(S("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 100, &lax));
    ck_assert(!request(S("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 100, &lax));
    ck_assert(!request(S("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 100, &lax));
    ck_assert(!request(S("GET /\r\n\r\n"), 100, &lax));
    ck_assert_uint_eq(error.status, 400);
}
END_TEST

/* Status and detail are Envoy 1.40's for the same bytes, except in the second half. */
static const struct bad {
    const char *raw;
    size_t len;
    unsigned status;
    const char *detail;
} bad_requests[] = {
    {S(" GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("G@T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET  HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "path_normalization_failed"},
    {S("GET a HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_characters"},
    {S("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_characters"},
    {S("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_characters"},
    {S("GET ftp://b/x HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_scheme"},
    {S("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
    {S("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
    {S("CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
    {S("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
    {S("GET a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), 426, "low_version"},
    {S("GET / HTTP/1.0\r\n\r\n"), 426, "low_version"},
    {S("GET /\r\n\r\n"), 426, "low_version"},
    {S("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 426, "low_version"},
    {S("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 426, "low_version"},
    {S("GET / HTTP/0.9\r\nHost: a\r\n\r\n"), 426, "low_version"},
    {S("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 426, "low_version"},
    {S("GET / HTTP/1.32\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET / http/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET / HTTP/11\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET / XTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b : c\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b\t: c\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET ": c\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b(: c\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b\x80: c\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET ":path: /x\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b: c\0d\r\n\r\n"), 400, "http1.invalid_characters"},
    {S(GET "b: c\x01"
           "d\r\n\r\n"),
     400, "http1.invalid_characters"},
    {S(GET "b: c\x7f"
           "d\r\n\r\n"),
     400, "http1.invalid_characters"},
    {S("GET / HTTP/1.1\r\n\r\n"), 400, "missing_host_header"},
    {S("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a\"\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a\xe9\r\n\r\n"), 400, "http.invalid_authority"},
    {S(POST "Content-Length: +1\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: -1\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 0x1\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 1_0\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length:\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 1 1\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 1, 1\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 1, 2\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Content-Length: 18446744073709551616\r\n\r\nx"), 400, "http1.codec_error"},
    {S(POST "Transfer-Encoding: xchunked\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: gzip\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: chunked, identity\r\n\r\n"), 501,
     "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: identity\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 501,
     "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding:\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: \"chunked\"\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Transfer-Encoding: chunked;a=b\r\n\r\n"), 501, "http1.invalid_transfer_encoding"},
    {S(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400,
     "http1.content_length_and_chunked_not_allowed"},
    {S(GET "X-Forwarded-For: 1\r\nConnection: x-forwarded-for\r\n\r\n"), 400,
     "http1.connection_header_rejected"},
    {S(GET "Connection: 1,2,3,4,5,6,7,8,9,a,b\r\n\r\n"), 400, "http1.connection_header_rejected"},
    {S("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, "http1.codec_error"},
    /* Envoy forwards these. */
    {S("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET http://u@v@b/x HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
    {S("GET http://u@/x HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
    {S("GET / HTTP/1.1\nHost: a\n\n"), 400, "http1.codec_error"},
    {S("GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b: c\rd: e\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "b: c\r\r\n\r\n"), 400, "http1.codec_error"},
    {S(GET "\n"), 400, "http1.codec_error"},
    {S(GET "b: c\r\n d\r\n\r\n"), 400, "http1.codec_error"},
    {S("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET http://b/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: u@b\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), 400, "http.invalid_authority"},
    {S("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), 400, "http.invalid_authority"},
    {S(GET "Connection: host\r\n\r\n"), 400, "http1.connection_header_rejected"},
    {S(GET "Connection: a b\r\n\r\n"), 400, "http1.connection_header_rejected"},
    {S("CONNECT [::1] HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
    {S("CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "http1.invalid_url"},
};

START_TEST(malformed_requests_are_refused_at_every_split)
{
    for (size_t i = 0; i < sizeof(bad_requests) / sizeof(bad_requests[0]); i++)
        for (size_t step = 1; step <= bad_requests[i].len; step++) {
            const struct bad *c = &bad_requests[i];
            ck_assert_msg(!request(c->raw, c->len, step, &strict), "accepted: %s", c->raw);
            ck_assert_msg(error.status == c->status, "%u: %s", error.status, c->raw);
            ck_assert_msg(str_eq(error.detail, str_of(c->detail)), "%.*s: %s",
                          STR_ARG(error.detail), c->raw);
        }
}
END_TEST

/* A head with `fields` fields, one of them with a value of `value` bytes. */
static struct str big_request(size_t fields, size_t value)
{
    size_t cap = value + fields * 16 + 100;
    char *p = arena_bytes(&arena, cap);
    size_t n = (size_t)snprintf(p, cap, "%s", GET);
    for (size_t i = 2; i < fields; i++)
        n += (size_t)snprintf(p + n, cap - n, "h%zu: v\r\n", i);
    memcpy(p + n, "v: ", 3);
    memset(p + n + 3, 'x', value);
    memcpy(p + n + 3 + value, "\r\n\r\n", 4);
    return str_n(p, n + value + 7);
}

static bool request_copy(struct str s, size_t step)
{
    char *copy = mem_strndup(s.p, s.len); /* the arena is reset */
    bool good = request(copy, s.len, step, &strict);
    mem_free(copy);
    return good;
}

START_TEST(limits_hold)
{
    for (size_t step = 1; step < 200000; step *= 7) {
        ck_assert(request_copy(big_request(100, 10), step));
        ck_assert_uint_eq(headers.n, 100);
        ck_assert_uint_eq(headers.live, 99); /* without Host */
        ck_assert(!request_copy(big_request(101, 10), step));
        ck_assert_uint_eq(error.status, 431);
        ck_assert(str_eq(error.detail, STR("http1.too_many_headers")));
        /* GET / host a v: ten bytes */
        ck_assert(request_copy(big_request(2, 61440 - 10), step));
        ck_assert_uint_eq(headers.bytes, 61440);
        ck_assert(!request_copy(big_request(2, 61440 - 9), step));
        ck_assert_uint_eq(error.status, 431);
        ck_assert(str_eq(error.detail, STR("http1.headers_too_large")));
        ck_assert(!request_copy(big_request(2, 150000), step));
        ck_assert_uint_eq(error.status, 431);
    }
}
END_TEST

START_TEST(an_endless_line_is_refused_before_it_ends)
{
    char *line = mem_alloc(70000);
    memset(line, 'a', 70000);
    ck_assert_int_eq(feed(line, 70000, 1000, &strict, true), H1_BAD);
    ck_assert_uint_eq(error.status, 431);
    ck_assert_int_eq(feed(line, 60000, 1000, &strict, true), H1_MORE);
    mem_free(line);
}
END_TEST

START_TEST(what_follows_a_head_stays)
{
    const char raw[] = GET "\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nrest";
    for (size_t step = 1; step <= sizeof(raw) - 1; step++) {
        ck_assert(request(S(GET "\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\nrest"), step, &strict));
        ck_assert_uint_eq(in.len, sizeof(raw) - 1 - strlen(GET) - 2);
        ck_assert_int_eq(h1_scan_head(&scan, &in, &strict, false, &error), H1_DONE);
        headers_init(&headers, &arena);
        uint32_t lines = scan.lines;
        char *head = h1_scan_take(&scan, &in, &arena);
        ck_assert(h1_parse_request(head, lines, &strict, &headers, &message, &error));
        ck_assert(str_eq(headers.path, STR("/2")));
        ck_assert(str_eq(buffer_peek(&in), STR("rest")));
    }
}
END_TEST

START_TEST(empty_lines_before_a_request_are_bounded)
{
    uint32_t budget = 4;
    start();
    buffer_add_str(&in, STR("\r\n\r"));
    ck_assert(h1_scan_skip_empty_lines(&in, &budget));
    ck_assert_uint_eq(in.len, 1);
    buffer_add_str(&in, STR("\nG"));
    ck_assert(h1_scan_skip_empty_lines(&in, &budget));
    ck_assert_uint_eq(in.len, 1);
    buffer_drain(&in, 1);
    buffer_add_str(&in, STR("\r\n"));
    ck_assert(!h1_scan_skip_empty_lines(&in, &budget));
    budget = 4;
    buffer_drain(&in, in.len);
    buffer_add_str(&in, STR("\rG"));
    ck_assert(!h1_scan_skip_empty_lines(&in, &budget));
}
END_TEST

START_TEST(http_10_without_host_gets_the_default_one)
{
    struct h1_rules rules = lax;
    ck_assert(!request(S("GET / HTTP/1.0\r\n\r\n"), 100, &rules));
    ck_assert(str_eq(error.detail, STR("missing_host_header")));
    rules.default_host = STR("old.test");
    ck_assert(request(S("GET / HTTP/1.0\r\n\r\n"), 100, &rules));
    ck_assert(str_eq(headers.authority, STR("old.test")));
    ck_assert(request(S("GET / HTTP/1.0\r\nHost: own\r\n\r\n"), 100, &rules));
    ck_assert(str_eq(headers.authority, STR("own")));
    ck_assert(request(S("GET http://target/ HTTP/1.0\r\n\r\n"), 100, &rules));
    ck_assert(str_eq(headers.authority, STR("target")));
    ck_assert(!request(S("GET / HTTP/1.1\r\n\r\n"), 100, &rules));
    ck_assert(str_eq(error.detail, STR("missing_host_header")));
}
END_TEST

START_TEST(expect_continue_is_seen)
{
    ck_assert(request(S(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"), 100, &strict));
    ck_assert(message.expect_continue);
    ck_assert(request(S(POST "Expect: 100\r\nContent-Length: 1\r\n\r\n"), 100, &strict));
    ck_assert(!message.expect_continue);
    ck_assert(request(S("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"), 100, &lax));
    ck_assert(!message.expect_continue);
}
END_TEST

/* --- responses --- */

#define OK "HTTP/1.1 200 OK\r\n"
#define CL "content-length: 2\r\n"

START_TEST(responses_are_read_at_every_split)
{
    static const struct good cases[] = {
        {S(OK CL "\r\nok"), "200|content-length=2|length"},
        {S("HTTP/1.1 200\r\n" CL "\r\nok"), "200|content-length=2|length"},
        {S("HTTP/1.1 200 \r\n" CL "\r\nok"), "200|content-length=2|length"},
        {S("HTTP/1.1 299 \xe9 x\ty\r\n" CL "\r\nok"), "299|content-length=2|length"},
        {S("HTTP/1.0 200 OK\r\n" CL "\r\nok"), "200|content-length=2|length close"},
        {S("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" CL "\r\n"),
         "200|content-length=2|length"},
        {S("HTTP/1.1 999 OK\r\n" CL "\r\nok"), "999|content-length=2|length"},
        {S(OK "\r\n"), "200|close close"},
        {S(OK "content-length: 0\r\n\r\n"), "200|content-length=0|none"},
        {S(OK "transfer-encoding: chunked\r\n\r\n"), "200|chunked"},
        {S("HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n"), "204|none"},
        {S("HTTP/1.1 304 No\r\n" CL "\r\n"), "304|content-length=2|none"},
        {S("HTTP/1.1 304 No\r\ntransfer-encoding: chunked\r\n\r\n"), "304|none"},
        {S("HTTP/1.1 103 Hint\r\nlink: x\r\n\r\n"), "103|link=x|none"},
        {S("HTTP/1.1 101 Sw\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
         "101|connection=upgrade|upgrade=x|none"},
        {S(OK CL "Connection: foo, close\r\nfoo: 1\r\nkeep-alive: a\r\nX-Foo: B\r\n\r\n"),
         "200|content-length=2|x-foo=B|length close"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= cases[i].len; step++)
            check_good(&cases[i], response(cases[i].raw, cases[i].len, step, false));
}
END_TEST

START_TEST(a_response_to_head_has_no_body)
{
    static const struct good cases[] = {
        {S(OK CL "\r\n"), "200|content-length=2|none"},
        {S(OK "transfer-encoding: chunked\r\n\r\n"), "200|none"},
        {S(OK "\r\n"), "200|none"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_good(&cases[i], response(cases[i].raw, cases[i].len, 9, true));
}
END_TEST

START_TEST(malformed_responses_are_refused_at_every_split)
{
    static const struct bad cases[] = {
        {S("HTTP/1.1 20 OK\r\n" CL "\r\nok"), 0, ""},
        {S("HTTP/1.1 2000 OK\r\n" CL "\r\nok"), 0, ""}, /* Envoy forwards it */
        {S("HTTP/1.1 099 OK\r\n" CL "\r\nok"), 0, ""},
        {S("HTTP/1.1 +99 OK\r\n" CL "\r\nok"), 0, ""},
        {S("HTTP/1.1  200 OK\r\n" CL "\r\nok"), 0, ""},
        {S("HTTP/1.1 200OK\r\n" CL "\r\nok"), 0, ""},
        {S("HTTP/1.2 200 OK\r\n" CL "\r\nok"), 0, ""}, /* Envoy forwards it, and HTTP/2.0 */
        {S("HTTP/2.0 200 OK\r\n" CL "\r\nok"), 0, ""},
        {S("ICY 200 OK\r\n" CL "\r\nok"), 0, ""},
        {S("hello\r\n\r\n"), 0, ""},
        {S("\r\n" OK CL "\r\nok"), 0, ""},
        {S("HTTP/1.1 200 OK\ncontent-length: 2\n\nok"), 0, ""}, /* Envoy forwards it */
        {S(OK CL "a: b\r\n c\r\n\r\nok"), 0, ""},               /* Envoy forwards it */
        {S(OK CL "a : b\r\n\r\nok"), 0, ""},
        {S(OK CL "a: b\0\r\n\r\nok"), 0, ""},
        {S("HTTP/1.1 200 O\x01K\r\n" CL "\r\nok"), 0, ""},
        {S(OK CL "content-length: 3\r\n\r\nok"), 0, ""},
        {S(OK CL CL "\r\nok"), 0, ""},
        {S(OK CL "transfer-encoding: chunked\r\n\r\n"), 0, ""},
        {S(OK "transfer-encoding: gzip, chunked\r\n\r\n"), 0, ""},
        {S("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), 0, ""}, /* Envoy forwards it */
        {S("HTTP/1.1 204 No\r\n" CL "\r\n"), 0, ""},
        {S("HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n"), 0, ""},
        {S("HTTP/1.1 100 Continue\r\n" CL "\r\n"), 0, ""},
        {S(OK CL "connection: x-forwarded-for\r\n\r\n"), 0, ""}, /* Envoy forwards it */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= cases[i].len; step++)
            ck_assert_msg(!response(cases[i].raw, cases[i].len, step, false), "accepted: %s",
                          cases[i].raw);
}
END_TEST

/* --- chunked bodies --- */

static enum h1_status chunks(const char *p, size_t len, size_t step, size_t max, struct buffer *out)
{
    struct h1_chunks c = {0};
    enum h1_status r = H1_MORE;
    start();
    for (size_t at = 0; at < len && r == H1_MORE; at += step) {
        buffer_add(&in, p + at, len - at < step ? len - at : step);
        size_t before;
        do {
            before = in.len;
            r = h1_chunks_read(&c, &in, out, max);
        } while (r == H1_MORE && in.len < before);
    }
    return r;
}

START_TEST(chunked_bodies_are_read_at_every_split)
{
    static const struct good cases[] = {
        {S("1\r\nx\r\n0\r\n\r\n"), "x"},
        {S("0\r\n\r\n"), ""},
        {S("00\r\n\r\n"), ""},
        {S("0003\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789"},
        {S("A;x=y\r\n0123456789\r\n1 \t;z=\"q r\"\r\n.\r\n0;last\r\n\r\n"), "0123456789."},
    };
    struct buffer out;
    buffer_init(&out);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= cases[i].len; step++)
            for (size_t max = 1; max < 20; max += 6) {
                ck_assert_int_eq(chunks(cases[i].raw, cases[i].len, step, max, &out), H1_DONE);
                ck_assert_uint_eq(out.len, strlen(cases[i].want));
                char got[64];
                buffer_copy_out(&out, 0, got, out.len);
                ck_assert(memcmp(got, cases[i].want, out.len) == 0);
                ck_assert_uint_le(in.len, step + 2);
                buffer_drain(&out, out.len);
            }
    buffer_cleanup(&out);
}
END_TEST

START_TEST(malformed_chunks_are_refused_at_every_split)
{
    static const struct bad cases[] = {
        {S("0x1\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("+1\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("-1\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("1_0\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S(" 1\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S(";a\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("10000000000000001\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("1\nx\r\n0\r\n\r\n"), 0, ""},
        {S("1\rx\r\n0\r\n\r\n"), 0, ""},
        {S("1\r\nxy0\r\n\r\n"), 0, ""},
        {S("1\r\nx\r0\r\n\r\n"), 0, ""},
        {S("1;a\rb\r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("1;a\nx\r\n0\r\n\r\n"), 0, ""},
        {S("1g\r\nx\r\n0\r\n\r\n"), 0, ""},
        /* Envoy reads these. */
        {S("1 \r\nx\r\n0\r\n\r\n"), 0, ""},
        {S("1\r\nx\n0\r\n\r\n"), 0, ""},
        {S("1;a\x01\r\nx\r\n0\r\n\r\n"), 0, ""},
    };
    struct buffer out;
    buffer_init(&out);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= cases[i].len; step++)
            ck_assert_msg(chunks(cases[i].raw, cases[i].len, step, 100, &out) == H1_BAD, "%s",
                          cases[i].raw);
    buffer_cleanup(&out);
}
END_TEST

START_TEST(chunk_extensions_are_bounded)
{
    char raw[2100] = "1;";
    struct buffer out;
    buffer_init(&out);
    memset(raw + 2, 'e', 2000);
    memcpy(raw + 2 + 1024, "\r\nx\r\n", 6);
    ck_assert_int_eq(chunks(raw, strlen(raw), 50, 100, &out), H1_MORE);
    memset(raw + 2, 'e', 2000);
    ck_assert_int_eq(chunks(raw, 2002, 50, 100, &out), H1_BAD);
    memset(raw + 1, ' ', 2000);
    ck_assert_int_eq(chunks(raw, 2001, 50, 100, &out), H1_BAD);
    buffer_cleanup(&out);
}
END_TEST

START_TEST(trailers_are_read)
{
    static const struct {
        const char *raw;
        size_t len;
        const char *want; /* NULL: refused */
    } cases[] = {
        {S("\r\n"), ""},
        {S("Grpc-Status: 0\r\nx: y\r\n\r\n"), "|grpc-status=0|x=y"},
        {S("Content-Type: a\r\nz: 1\r\nconnection: z\r\nauthorization: x\r\nx-forwarded-for: 1\r\n"
           "x-forwarded-client-cert: 1\r\ncookie: a\r\n\r\n"),
         "|z=1"},
        {S("z: 1\r\nContent-Length: 5\r\n\r\n"), NULL}, /* Envoy drops all trailers by default */
        {S("Host: b\r\n\r\n"), NULL},
        {S("Transfer-Encoding: chunked\r\n\r\n"), NULL},
        {S("t v\r\n\r\n"), NULL},
        {S("t: v\r\n w\r\n\r\n"), NULL}, /* Envoy reads it */
        {S("t: v\n\n"), NULL},
        {S("t: \0\r\n\r\n"), NULL},
        {S("\n"), NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start();
        buffer_add(&in, cases[i].raw, cases[i].len);
        enum h1_status r = h1_scan_head(&scan, &in, &strict, true, &error);
        ck_assert_int_ne(r, H1_MORE);
        uint32_t lines = scan.lines;
        bool good = r == H1_DONE && h1_parse_trailers(h1_scan_take(&scan, &in, &arena), lines,
                                                      &strict, &headers, &error);
        ck_assert_msg(good == (cases[i].want != NULL), "%s", cases[i].raw);
        struct str s = STR("");
        HEADERS_FOREACH(f, &headers) {
            s = arena_printf(&arena, "%.*s|%.*s=%.*s", STR_ARG(s), STR_ARG(f->name),
                             STR_ARG(f->value));
        }
        ck_assert_msg(!good || str_eq(s, str_of(cases[i].want)), "%.*s", STR_ARG(s));
    }
}
END_TEST

START_TEST(trailers_are_bounded)
{
    start();
    for (int i = 0; i < 101; i++)
        buffer_add_str(&in, STR("t: v\r\n"));
    buffer_add_str(&in, STR("\r\n"));
    ck_assert_int_eq(h1_scan_head(&scan, &in, &strict, true, &error), H1_BAD);
    ck_assert_uint_eq(error.status, 431);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/http/h1_parse");
    TCase *t = tcase_create("h1_parse");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, requests_are_read_at_every_split);
    tcase_add_test(t, http_10_is_read_where_allowed);
    tcase_add_test(t, malformed_requests_are_refused_at_every_split);
    tcase_add_test(t, limits_hold);
    tcase_add_test(t, an_endless_line_is_refused_before_it_ends);
    tcase_add_test(t, what_follows_a_head_stays);
    tcase_add_test(t, empty_lines_before_a_request_are_bounded);
    tcase_add_test(t, http_10_without_host_gets_the_default_one);
    tcase_add_test(t, expect_continue_is_seen);
    tcase_add_test(t, responses_are_read_at_every_split);
    tcase_add_test(t, a_response_to_head_has_no_body);
    tcase_add_test(t, malformed_responses_are_refused_at_every_split);
    tcase_add_test(t, chunked_bodies_are_read_at_every_split);
    tcase_add_test(t, malformed_chunks_are_refused_at_every_split);
    tcase_add_test(t, chunk_extensions_are_bounded);
    tcase_add_test(t, trailers_are_read);
    tcase_add_test(t, trailers_are_bounded);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
