#include "proxy/http/h2_head.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct arena arena;
static struct headers headers;
static struct h2_head head;
static struct h2_head_rules rules;

static void setup(void)
{
    arena_init(&arena, 0);
    rules = (struct h2_head_rules){.max_bytes = 1000, .max_count = 10};
}

static void teardown(void)
{
    arena_cleanup(&arena);
}

/* Fields as "name: value\n"; a name may begin with ':'. */
static enum h2_head_verdict take(enum h2_head_kind kind, const char *fields, bool end)
{
    struct str rest = str_of(fields), line;
    headers_init(&headers, &arena);
    h2_head_begin(&head, kind, &headers);
    while (str_next(&rest, '\n', &line)) {
        ptrdiff_t at = str_find(line, STR(": "));
        if (at >= 0)
            (void)h2_head_field(&head, &rules, str_n(line.p, (size_t)at),
                                str_n(line.p + at + 2, line.len - (size_t)at - 2));
    }
    return h2_head_end(&head, &rules, end);
}

static struct str value(const char *name)
{
    struct header *f = headers_find(&headers, str_of(name));
    return f ? f->value : STR_NULL;
}

#define GET ":method: GET\n:scheme: http\n:path: /x\n:authority: h\n"

START_TEST(request)
{
    ck_assert_int_eq(
        take(H2_HEAD_REQUEST, GET "a: 1\ncookie: x=1\nb: 2\ncookie: y=2\nte: trailers\n", true),
        H2_HEAD_OK);
    ck_assert(str_eq(headers.method, STR("GET")) && str_eq(headers.path, STR("/x")));
    ck_assert(str_eq(headers.authority, STR("h")) && str_eq(headers.scheme, STR("http")));
    ck_assert_int_eq(headers.minor, HEADERS_HTTP2);
    ck_assert(str_eq(value("cookie"), STR("x=1; y=2")) && str_eq(value("b"), STR("2")));
    ck_assert(!headers.upgrade && !head.extended);
}
END_TEST

START_TEST(host_stands_for_authority)
{
    ck_assert_int_eq(
        take(H2_HEAD_REQUEST, ":method: GET\n:scheme: HTTPS\n:path: /\nhost: a:1\n", true),
        H2_HEAD_OK);
    ck_assert(str_eq(headers.authority, STR("a:1")) && str_eq(headers.scheme, STR("https")));
    ck_assert_ptr_null(headers_known(&headers, HDR_HOST));
    ck_assert_int_eq(take(H2_HEAD_REQUEST, GET "host: H\n", true), H2_HEAD_OK);
}
END_TEST

START_TEST(connect)
{
    ck_assert_int_eq(take(H2_HEAD_REQUEST, ":method: CONNECT\n:authority: h:443\n", false),
                     H2_HEAD_OK);
    ck_assert(str_eq(headers.method, STR("CONNECT")) && !headers.path.p);
    rules.allow_connect = true;
    ck_assert_int_eq(take(H2_HEAD_REQUEST,
                          ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:path: /c\n"
                          ":authority: h\nsec-websocket-version: 13\n",
                          false),
                     H2_HEAD_OK);
    ck_assert(head.extended && headers.upgrade && str_eq(headers.method, STR("GET")));
    ck_assert(str_eq(value("upgrade"), STR("websocket")));
    ck_assert(str_eq(value("connection"), STR("upgrade")));
}
END_TEST

static const struct {
    enum h2_head_kind kind;
    const char *fields;
    bool end;
    enum h2_head_verdict verdict;
} wrong[] = {
    {H2_HEAD_REQUEST, "", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, ":scheme: http\n:path: /\n:authority: h\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET ":method: GET\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "a: b\n:x: y\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "A: b\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "a: b \n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "a: \tb\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "a: \x7f\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "upgrade: x\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "te: trailers, gzip\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "host: other\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "content-length: 1\ncontent-length: 1\n", false, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, GET "content-length: -1\n", false, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, ":method: G ET\n:scheme: http\n:path: /\n:authority: h\n", true,
     H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, ":method: GET\n:scheme: ftp\n:path: /\n:authority: h\n", true,
     H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, ":method: GET\n:scheme: http\n:path: *\n:authority: h\n", true,
     H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, ":method: GET\n:scheme: http\n:path: /a b\n:authority: h\n", true,
     H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, ":method: GET\n:scheme: http\n:path: /a#b\n:authority: h\n", true,
     H2_HEAD_REFUSED},
    {H2_HEAD_REQUEST, ":method: GET\n:scheme: http\n:path: /\xc3\xa4\n:authority: h\n", true,
     H2_HEAD_REFUSED},
    {H2_HEAD_REQUEST, ":method: GET\n:scheme: http\n:path: /\n", true, H2_HEAD_REFUSED},
    {H2_HEAD_REQUEST, ":method: GET\n:scheme: http\n:path: /\n:authority: a@b\n", true,
     H2_HEAD_REFUSED},
    {H2_HEAD_REQUEST, ":method: CONNECT\n:path: /\n:authority: h\n", false, H2_HEAD_MALFORMED},
    {H2_HEAD_REQUEST, ":method: CONNECT\n:protocol: x\n:scheme: http\n:path: /\n:authority: h\n",
     false, H2_HEAD_MALFORMED},
    {H2_HEAD_RESPONSE, "a: b\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_RESPONSE, ":status: 99\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_RESPONSE, ":status: 099\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_RESPONSE, ":status: 101\n", false, H2_HEAD_MALFORMED},
    {H2_HEAD_RESPONSE, ":status: 103\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_RESPONSE, ":status: 200\n:method: GET\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_TRAILERS, "a: b\n", false, H2_HEAD_MALFORMED},
    {H2_HEAD_TRAILERS, ":status: 200\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_TRAILERS, "content-length: 3\n", true, H2_HEAD_MALFORMED},
    {H2_HEAD_TRAILERS, "host: h\n", true, H2_HEAD_MALFORMED},
};

START_TEST(verdicts)
{
    ck_assert_int_eq(take(wrong[_i].kind, wrong[_i].fields, wrong[_i].end), wrong[_i].verdict);
    ck_assert_uint_gt(head.detail.len, 0);
}
END_TEST

START_TEST(responses_and_trailers)
{
    ck_assert_int_eq(take(H2_HEAD_RESPONSE, ":status: 204\nhost: h\n", true), H2_HEAD_OK);
    ck_assert_uint_eq(headers.status, 204);
    ck_assert_int_eq(take(H2_HEAD_TRAILERS, "grpc-status: 0\nauthorization: x\na: b\n", true),
                     H2_HEAD_OK);
    ck_assert_uint_eq(headers.live, 2);
}
END_TEST

START_TEST(limits)
{
    struct str x = STR("x");
    char text[600];
    headers_init(&headers, &arena);
    h2_head_begin(&head, H2_HEAD_TRAILERS, &headers);
    for (int i = 0; i < 10; i++)
        ck_assert(h2_head_field(&head, &rules, x, x));
    ck_assert_int_eq(head.verdict, H2_HEAD_OK);
    ck_assert(h2_head_field(&head, &rules, x, x));
    ck_assert_int_eq(h2_head_end(&head, &rules, true), H2_HEAD_TOO_LARGE);
    ck_assert(str_eq(head.detail, STR("http2.too_many_headers")));
    ck_assert_uint_eq(headers.n, 10); /* what is too much is not kept */

    memset(text, 'v', sizeof(text));
    h2_head_begin(&head, H2_HEAD_TRAILERS, &headers);
    headers_init(&headers, &arena);
    ck_assert(h2_head_field(&head, &rules, x, str_n(text, 600)));
    ck_assert_int_eq(head.verdict, H2_HEAD_OK);
    ck_assert(h2_head_field(&head, &rules, x, str_n(text, 600)));
    ck_assert_int_eq(head.verdict, H2_HEAD_TOO_LARGE);
    for (int i = 0; i < 11; i++)
        ck_assert(h2_head_field(&head, &rules, x, str_n(text, 600)));
    ck_assert(!h2_head_field(&head, &rules, x, str_n(text, 600))); /* eight times the limit */
}
END_TEST

START_TEST(crumbs_have_a_limit_of_their_own)
{
    rules.max_bytes = 100000;
    headers_init(&headers, &arena);
    h2_head_begin(&head, H2_HEAD_REQUEST, &headers);
    for (int i = 0; i < 1000; i++)
        ck_assert(h2_head_field(&head, &rules, STR("cookie"), STR("a=b")));
    ck_assert_int_eq(head.verdict, H2_HEAD_OK);
    ck_assert(h2_head_field(&head, &rules, STR("cookie"), STR("a=b")));
    ck_assert_int_eq(head.verdict, H2_HEAD_TOO_LARGE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("h2_head");
    TCase *t = tcase_create("h2_head");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, request);
    tcase_add_test(t, host_stands_for_authority);
    tcase_add_test(t, connect);
    tcase_add_loop_test(t, verdicts, 0, ARRAY_LEN(wrong));
    tcase_add_test(t, responses_and_trailers);
    tcase_add_test(t, limits);
    tcase_add_test(t, crumbs_have_a_limit_of_their_own);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
