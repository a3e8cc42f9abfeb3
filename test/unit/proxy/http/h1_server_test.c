#include "proxy/http/codec.h"

#include "test/support/far_end.h"
#include "tls/conn.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* The server's user: writes down what it is told, answers if it was told how. */
static struct far_end far;
static struct conn conn;
static struct http_server *server;
static struct codec_stream *stream; /* the exchange under way */
static struct arena arena, *stream_arena;
static struct headers response;
static struct buffer notes;
static bool closed;
static int arenas; /* given out and not back */

static struct http_limits limits;

/* What the user does by itself. */
static enum { BY_HAND, AT_HEADERS, AT_END, STREAMED } answer;
static bool keep_bytes; /* leave what on_data gives */
static int pause_at_data;

static void note(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void note(const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buffer_add(&notes, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void expect_notes(const char *want)
{
    char *got = mem_alloc(notes.len + 1);
    size_t n = buffer_copy_out(&notes, 0, got, notes.len);
    got[n] = '\0';
    buffer_drain(&notes, n);
    ck_assert_str_eq(got, want);
    mem_free(got);
}

static void expect_wire(const char *want)
{
    far_end_spin(&far, true);
    char *got = far_end_text(&far);
    ck_assert_str_eq(got, want);
    mem_free(got);
}

static void give_back_arena(void)
{
    if (stream_arena)
        arenas--;
    arena_free(&stream_arena);
    stream = NULL;
}

static void begin_response(unsigned status, const char *length, bool end)
{
    headers_init(&response, &arena);
    response.status = (uint16_t)status;
    if (length)
        headers_add_known(&response, HDR_CONTENT_LENGTH, str_of(length));
    stream->ops->headers(stream, &response, end);
    if (end)
        give_back_arena();
}

static void send_data(const char *text, bool end)
{
    struct buffer b;
    buffer_init(&b);
    buffer_add_str(&b, str_of(text));
    stream->ops->data(stream, &b, end);
    ck_assert_uint_eq(b.len, 0);
    buffer_cleanup(&b);
    if (end)
        give_back_arena();
}

static void respond(void)
{
    begin_response(200, "2", false);
    send_data("ok", true);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    note("%.*s %.*s %.*s", STR_ARG(h->method), STR_ARG(h->path), STR_ARG(h->authority));
    HEADERS_FOREACH(f, h) {
        note(" %.*s=%.*s", STR_ARG(f->name), STR_ARG(f->value));
    }
    note("%s;", end ? " end" : "");
    if (answer == AT_HEADERS || (answer == AT_END && end))
        respond();
}

static void on_data(void *user, struct buffer *b, bool end)
{
    char text[64];
    size_t n = buffer_copy_out(b, 0, text, sizeof(text) - 1);
    text[n] = '\0';
    if (b->len > 60)
        note("data %zu%s;", b->len, end ? " end" : "");
    else
        note("data %s%s;", text, end ? " end" : "");
    if (!keep_bytes)
        buffer_drain(b, b->len);
    if (pause_at_data > 0 && !end) {
        pause_at_data--;
        stream->ops->pause(stream);
    }
    if (end && answer == AT_END)
        respond();
}

static void on_trailers(void *user, struct headers *h)
{
    note("trailers");
    HEADERS_FOREACH(f, h) {
        note(" %.*s=%.*s", STR_ARG(f->name), STR_ARG(f->value));
    }
    note(";");
    if (answer == AT_END)
        respond();
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    static const char *const names[] = {"local", "remote", "terminated", "protocol", "overflow"};
    note("reset %s %.*s;", names[why], STR_ARG(detail));
    give_back_arena();
}

static void on_above(void *user)
{
    note("above;");
}

static void on_below(void *user)
{
    note("below;");
}

static const struct codec_events stream_events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_above,
    .on_below = on_below,
};

static void new_stream(void *user, struct codec_stream *cs)
{
    ck_assert_ptr_null(stream);
    stream = cs;
    stream_arena = cs->arena;
    cs->events = &stream_events;
}

static struct arena *arena_for(void *user)
{
    arenas++;
    return arena_new(0);
}

static void arena_unused(void *user, struct arena *a)
{
    arenas--;
    arena_free(&a);
}

static void on_malformed(void *user, unsigned status, struct str detail, const struct headers *head)
{
    note("malformed %u %.*s;", status, STR_ARG(detail));
    if (head)
        note("of %.*s;", STR_ARG(head->path));
}

static void on_closed(void *user)
{
    note("closed;");
    closed = true;
    server->ops->free(server);
    server = NULL;
    conn_cleanup(&conn);
}

static const struct http_server_events server_events = {
    .new_stream = new_stream,
    .arena_for = arena_for,
    .arena_unused = arena_unused,
    .on_malformed = on_malformed,
    .on_closed = on_closed,
};

/* --- opening and closing --- */

static void connected(void *owner, struct conn *c)
{
    server = h1_server_new(c, &limits, &server_events, NULL);
}

static const struct conn_ops before = {.on_connected = connected};

static void open_server(void)
{
    far_end_open(&far, far.loop);
    struct addr nobody = {0};
    closed = false;
    conn_init_accepted(&conn, far.loop, far.near_fd, NULL, &nobody, &nobody, 0, &before, NULL);
    conn_set_limits(&conn, 32768);
    far_end_spin(&far, false);
    ck_assert_ptr_nonnull(server);
}

static void close_server(void)
{
    if (far.fd >= 0)
        far_end_hang_up(&far);
    far_end_spin(&far, false);
    loop_advance(far.loop, 2000); /* a close that is delayed */
    far_end_spin(&far, false);
    ck_assert(closed);
    ck_assert_int_eq(arenas, 0);
    far_end_close(&far);
    buffer_drain(&notes, notes.len);
}

static void setup(void)
{
    limits = (struct http_limits){
        .max_headers_bytes = 61440,
        .max_headers_count = 100,
        .headers_timeout_ms = 10000,
        .idle_timeout_ms = 3600000,
        .delayed_close_ms = 1000,
    };
    answer = BY_HAND;
    keep_bytes = false;
    pause_at_data = 0;
    arena_init(&arena, 0);
    buffer_init(&notes);
    far.loop = NULL;
    open_server();
}

static void teardown(void)
{
    if (!closed)
        close_server();
    far_end_close(&far);
    loop_free(&far.loop);
    arena_cleanup(&arena);
    buffer_cleanup(&notes);
    buffer_free_list_trim();
}

static void reopen(void)
{
    close_server();
    open_server();
}

static void send_text(const char *text)
{
    far_end_send(&far, text, strlen(text));
    far_end_spin(&far, true);
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK2 "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
#define OK2_CLOSE "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
#define BAD_REQUEST                                                                                \
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\ncontent-type: text/plain\r\n"               \
    "connection: close\r\n\r\nBad Request"

/* --- requests --- */

START_TEST(a_connection_is_kept_for_the_next_request)
{
    answer = AT_HEADERS;
    for (int i = 0; i < 3; i++) {
        send_text(GET);
        expect_notes("GET / a end;");
        expect_wire(OK2);
    }
    ck_assert(!far.ended);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    send_text("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: "
              "3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_notes("GET /1 a end;");
    expect_wire("");
    respond();
    expect_wire(OK2);
    expect_notes("POST /2 a content-length=3;data abc end;");
    begin_response(204, NULL, true);
    expect_wire("HTTP/1.1 204 No Content\r\n\r\n");
    expect_notes("GET /3 a end;");
    respond();
    expect_wire(OK2);
    expect_notes("");
}
END_TEST

START_TEST(many_pipelined_requests_are_all_answered)
{
    char *all = mem_alloc(1000 * sizeof(GET));
    for (int i = 0; i < 1000; i++)
        memcpy(all + (size_t)i * (sizeof(GET) - 1), GET, sizeof(GET) - 1);
    answer = AT_HEADERS;
    far_end_send(&far, all, 1000 * (sizeof(GET) - 1));
    far_end_spin(&far, true);
    ck_assert_uint_eq(far.got.len, 1000 * (sizeof(OK2) - 1));
    mem_free(all);
}
END_TEST

START_TEST(messages_arrive_the_same_at_every_split)
{
    static const char raw[] =
        "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
        "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nt: u\r\n\r\n" GET;
    answer = AT_END;
    for (size_t step = 1; step < sizeof(raw); step++) {
        for (size_t at = 0; at < sizeof(raw) - 1; at += step) {
            size_t n = sizeof(raw) - 1 - at < step ? sizeof(raw) - 1 - at : step;
            far_end_send(&far, raw + at, n);
            far_end_spin(&far, true);
        }
        expect_wire(OK2 OK2);
        char got[1000];
        size_t n = buffer_copy_out(&notes, 0, got, sizeof(got) - 1), kept = 0;
        got[n] = '\0';
        buffer_drain(&notes, n);
        /* however it was cut: the same bytes */
        char body[100] = "";
        for (char *p = got; (p = strstr(p, "data ")); p += 5) {
            size_t len = strcspn(p + 5, ";");
            memcpy(body + kept, p + 5, len);
            kept += len;
        }
        body[kept] = '\0';
        ck_assert_str_eq(body, "abcdefg");
        ck_assert_ptr_nonnull(strstr(got, "POST /x a a=b;"));
        ck_assert_ptr_nonnull(strstr(got, "trailers t=u;GET / a end;"));
    }
}
END_TEST

START_TEST(a_chunked_body_without_trailers_ends_with_its_data)
{
    send_text(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    expect_notes("POST / a;data abc end;");
    respond();
    send_text("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
              "content-type: x\r\n\r\n");
    expect_notes("POST / a;data abc end;"); /* nothing is left of those trailers */
    respond();
    expect_wire(OK2 OK2);
}
END_TEST

START_TEST(bytes_the_user_leaves_are_dropped)
{
    keep_bytes = true;
    send_text("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    send_text("def" GET);
    expect_notes("POST / a content-length=6;data abc;data def end;");
    respond();
    expect_wire(OK2);
    expect_notes("GET / a end;");
    respond();
}
END_TEST

START_TEST(a_paused_body_waits_and_stops_the_sender)
{
    char *body = mem_alloc(100000);
    memset(body, 'x', 100000);
    pause_at_data = 1;
    send_text("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100003\r\n\r\nabc");
    expect_notes("POST / a content-length=100003;data abc;");
    far_end_send(&far, body, 100000);
    far_end_spin(&far, true);
    expect_notes("");
    stream->ops->pause(stream);
    stream->ops->resume(stream);
    far_end_spin(&far, true);
    expect_notes("");
    ck_assert_uint_eq(conn.in.len, 0); /* all is still in the socket */
    stream->ops->resume(stream);
    far_end_spin(&far, true);
    char got[2000];
    got[buffer_copy_out(&notes, 0, got, sizeof(got) - 1)] = '\0';
    ck_assert_ptr_nonnull(strstr(got, " end;"));
    buffer_drain(&notes, notes.len);
    respond();
    expect_wire(OK2);
    mem_free(body);
}
END_TEST

START_TEST(a_pause_inside_a_chunked_body_holds_the_next_event)
{
    pause_at_data = 1;
    send_text("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    expect_notes("POST / a;data abc;");
    send_text("3\r\ndef\r\n0\r\nx: y\r\n\r\n");
    expect_notes("");
    stream->ops->resume(stream);
    far_end_spin(&far, true);
    expect_notes("data def;trailers x=y;");
    respond();
    expect_wire(OK2);
}
END_TEST

START_TEST(expect_continue_is_answered_by_the_codec)
{
    send_text("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    expect_wire("HTTP/1.1 100 Continue\r\n\r\n");
    expect_notes("POST / a content-length=1;");
    send_text("x");
    expect_notes("data x end;");
    respond();
    expect_wire(OK2);
    /* not for who does not wait, and not when the answer is there already */
    send_text("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
    respond();
    expect_wire(OK2);
    answer = AT_HEADERS;
    send_text("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    expect_wire(OK2_CLOSE);
    ck_assert(far.ended);
}
END_TEST

START_TEST(expect_continue_is_left_to_the_user_if_so_configured)
{
    limits.proxy_100_continue = true;
    reopen();
    send_text("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    expect_notes("POST / a expect=100-continue content-length=1;");
    expect_wire("");
    headers_init(&response, &arena);
    response.status = 100;
    stream->ops->informational(stream, &response);
    expect_wire("HTTP/1.1 100 Continue\r\n\r\n");
    send_text("x");
    respond();
    expect_wire(OK2);
}
END_TEST

/* --- responses --- */

START_TEST(a_response_without_length_is_chunked)
{
    send_text(GET);
    headers_init(&response, &arena);
    response.status = 299;
    headers_add(&response, STR("x-a"), STR("b"));
    headers_add(&response, STR("connection"), STR("x-a"));
    headers_add(&response, STR("keep-alive"), STR("x"));
    headers_add(&response, STR("transfer-encoding"), STR("gzip"));
    stream->ops->headers(stream, &response, false);
    send_data("abc", false);
    send_data("", false);
    send_data("0123456789abcdefg", false);
    send_data("", true);
    expect_wire(
        "HTTP/1.1 299 Unknown\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n11\r\n"
        "0123456789abcdefg\r\n0\r\n\r\n");
    send_text(GET);
    begin_response(200, NULL, false);
    struct headers trailers;
    headers_init(&trailers, &arena);
    headers_add(&trailers, STR("grpc-status"), STR("0"));
    headers_add(&trailers, STR("content-length"), STR("5"));
    send_data("x", false);
    stream->ops->trailers(stream, &trailers);
    give_back_arena();
    expect_wire("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\ngrpc-status: "
                "0\r\n\r\n");
    send_text(GET);
    respond();
    expect_wire(OK2);
}
END_TEST

START_TEST(responses_that_have_no_body_say_so_rightly)
{
    send_text(GET);
    begin_response(200, NULL, true);
    expect_wire("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    send_text(GET);
    begin_response(200, "5", true); /* cannot be true */
    expect_wire("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    send_text(GET);
    begin_response(304, "5", true);
    expect_wire("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n");
    send_text(GET);
    begin_response(204, "0", false);
    send_data("dropped", true);
    expect_wire("HTTP/1.1 204 No Content\r\n\r\n");
    send_text("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    begin_response(200, "5", true);
    expect_wire("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    send_text("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    begin_response(200, NULL, false);
    send_data("dropped", true);
    expect_wire("HTTP/1.1 200 OK\r\n\r\n");
}
END_TEST

START_TEST(a_body_unlike_its_length_ends_the_connection)
{
    send_text(GET GET);
    begin_response(200, "2", false);
    send_data("okX", true);
    expect_wire(OK2);
    ck_assert(far.ended);
    reopen();
    send_text(GET GET);
    begin_response(200, "5", false);
    send_data("ok", true);
    expect_wire("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok");
    ck_assert(far.ended);
}
END_TEST

START_TEST(http_10_gets_what_it_understands)
{
    limits.accept_http_10 = true;
    reopen();
    send_text("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    respond();
    expect_wire("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok");
    send_text("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    begin_response(200, NULL, false);
    send_data("ok", false);
    expect_wire("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok");
    ck_assert(!far.ended);
    send_data("ok", true);
    expect_wire("ok");
    ck_assert(far.ended);
    reopen();
    send_text("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    respond();
    expect_wire(OK2_CLOSE);
    ck_assert(far.ended);
}
END_TEST

START_TEST(who_asks_for_a_close_gets_it)
{
    send_text("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    respond();
    expect_wire(OK2_CLOSE);
    ck_assert(far.ended);
    reopen();
    send_text(GET);
    stream->ops->close_after(stream);
    respond();
    expect_wire(OK2_CLOSE);
    ck_assert(far.ended);
}
END_TEST

START_TEST(an_answer_before_the_requests_end_closes)
{
    answer = AT_HEADERS;
    send_text("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nGET / HTTP/1.1\r\n");
    expect_wire(OK2_CLOSE);
    expect_notes("POST / a content-length=10;");
    ck_assert(far.ended);
    ck_assert(!closed); /* reads on, so that the answer is not lost to a reset */
    send_text("0123456789" GET);
    ck_assert(!closed);
    far_end_shut(&far);
    far_end_spin(&far, true);
    ck_assert(closed);
    expect_notes("closed;");
    answer = BY_HAND;
    open_server();
    send_text("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    begin_response(403, NULL, true);
    expect_wire("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    loop_advance(far.loop, 1001);
    far_end_spin(&far, true);
    ck_assert(closed);
}
END_TEST

START_TEST(a_reset_cuts_the_response_off)
{
    send_text(GET);
    begin_response(200, "5", false);
    send_data("ok", false);
    stream->ops->reset(stream, RESET_LOCAL);
    give_back_arena();
    expect_wire("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok");
    ck_assert(far.ended);
    expect_notes("GET / a end;closed;");
}
END_TEST

START_TEST(watermarks_are_told)
{
    send_text(GET);
    begin_response(200, NULL, false);
    char *body = mem_alloc(1000001);
    memset(body, 'x', 1000000);
    body[1000000] = '\0';
    send_data(body, false);
    expect_notes("GET / a end;above;");
    far_end_spin(&far, true);
    expect_notes("below;");
    send_data("", true);
    far_end_spin(&far, true);
    ck_assert_uint_gt(far.got.len, 1000000);
    mem_free(body);
}
END_TEST

START_TEST(who_does_not_read_gets_no_further_responses)
{
    char *body = mem_alloc(1000001);
    memset(body, 'x', 1000000);
    body[1000000] = '\0';
    far_end_send(&far, GET GET GET, 3 * (sizeof(GET) - 1));
    far_end_spin(&far, false);
    begin_response(200, NULL, false);
    send_data(body, true);
    far_end_spin(&far, false);
    ck_assert_ptr_null(stream); /* the second is not begun */
    far_end_spin(&far, true);
    ck_assert_ptr_nonnull(stream);
    respond();
    far_end_spin(&far, true);
    respond();
    mem_free(body);
}
END_TEST

/* --- what goes wrong --- */

START_TEST(malformed_requests_are_answered_and_closed)
{
    send_text(GET);
    respond();
    expect_wire(OK2);
    send_text("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" GET);
    expect_wire(BAD_REQUEST);
    expect_notes("GET / a end;malformed 400 http.invalid_authority;");
    ck_assert(far.ended);
    far_end_shut(&far);
    far_end_spin(&far, true);
    expect_notes("closed;");
    static const struct {
        const char *raw, *notes;
    } cases[] = {
        {"\x16\x03\x01", "malformed 400 http1.codec_error;"},
        {"\r\n\r\n\r\n\r\n\r\n", "malformed 400 http1.codec_error;"},
        {"GET / HTTP/1.1\n\n", "malformed 400 http1.codec_error;"},
        {"GET / HTTP/1.0\r\n\r\n", "malformed 426 low_version;"},
        {"GET /p HTTP/1.1\r\n\r\n", "malformed 400 missing_host_header;of /p;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        open_server();
        send_text(cases[i].raw);
        expect_notes(cases[i].notes);
        ck_assert(far.ended);
        close_server();
    }
}
END_TEST

START_TEST(malformed_bodies_reset_the_exchange)
{
    send_text("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx");
    expect_notes("POST / a;reset protocol http1.codec_error;");
    expect_wire(BAD_REQUEST);
    ck_assert(far.ended);
    reopen();
    send_text("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    begin_response(200, NULL, false);
    send_text("0\r\nno colon\r\n\r\n");
    expect_notes("POST / a;data abc;reset protocol http1.codec_error;");
    expect_wire("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    ck_assert(far.ended);
}
END_TEST

START_TEST(a_request_head_has_ten_seconds)
{
    send_text("GET / HT");
    loop_advance(far.loop, 9900);
    far_end_spin(&far, true);
    ck_assert(!far.ended);
    send_text("TP/1.1\r\n"); /* a dripping client gets no more time */
    loop_advance(far.loop, 200);
    far_end_spin(&far, true);
    expect_notes("malformed 408 request_header_timeout;");
    expect_wire("HTTP/1.1 408 Request Timeout\r\ncontent-length: 15\r\ncontent-type: text/plain\r\n"
                "connection: close\r\n\r\nRequest Timeout");
    ck_assert(far.ended);
    reopen();
    send_text("GET / HTTP/1.1\r\n");
    loop_advance(far.loop, 9000);
    send_text("Host: a\r\n\r\n");
    loop_advance(far.loop, 9000); /* the exchange itself is not limited here */
    far_end_spin(&far, true);
    respond();
    expect_wire(OK2);
}
END_TEST

START_TEST(an_idle_connection_is_closed)
{
    limits.idle_timeout_ms = 5000;
    reopen();
    loop_advance(far.loop, 4000);
    answer = AT_HEADERS;
    send_text(GET);
    expect_wire(OK2);
    loop_advance(far.loop, 4000);
    far_end_spin(&far, true);
    ck_assert(!far.ended);
    loop_advance(far.loop, 1001);
    far_end_spin(&far, true);
    ck_assert(far.ended);
    expect_notes("GET / a end;closed;");
}
END_TEST

START_TEST(a_client_that_leaves_ends_the_exchange)
{
    send_text(GET);
    far_end_shut(&far);
    far_end_spin(&far, true);
    expect_notes("GET / a end;reset terminated downstream_remote_disconnect;closed;");
    open_server();
    send_text("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    far_end_hang_up(&far);
    far_end_spin(&far, true);
    expect_notes("POST / a content-length=10;data abc;reset terminated "
                 "downstream_remote_disconnect;closed;");
    far_end_close(&far);
    open_server();
    send_text("GET / HT");
    far_end_hang_up(&far);
    far_end_spin(&far, true);
    expect_notes("malformed 0 downstream_remote_disconnect;closed;");
}
END_TEST

START_TEST(a_request_that_comes_with_the_end_is_answered)
{
    answer = AT_HEADERS;
    far_end_send(&far, GET, sizeof(GET) - 1);
    far_end_shut(&far);
    far_end_spin(&far, true);
    expect_wire(OK2_CLOSE);
    expect_notes("GET / a end;closed;");
}
END_TEST

START_TEST(draining_finishes_what_is_under_way)
{
    server->ops->drain(server);
    far_end_spin(&far, true);
    ck_assert(far.ended);
    reopen();
    send_text(GET GET);
    server->ops->drain(server);
    respond();
    expect_wire(OK2_CLOSE);
    ck_assert(far.ended);
    reopen();
    send_text(GET);
    begin_response(200, "2", false);
    server->ops->drain(server);
    send_data("ok", true);
    expect_wire(OK2);
    ck_assert(far.ended);
    reopen();
    send_text("GET / HTTP/1.1\r\n");
    server->ops->drain(server);
    answer = AT_HEADERS;
    send_text("Host: a\r\n\r\n");
    expect_wire(OK2_CLOSE);
    ck_assert(far.ended);
}
END_TEST

START_TEST(a_connection_has_so_many_requests)
{
    limits.max_requests = 2;
    answer = AT_HEADERS;
    reopen();
    send_text(GET GET GET);
    expect_wire(OK2 OK2_CLOSE);
    ck_assert(far.ended);
}
END_TEST

START_TEST(what_follows_connect_is_not_read)
{
    send_text("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" GET);
    expect_notes("CONNECT  a:443;");
    begin_response(404, NULL, true);
    expect_wire("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    ck_assert(far.ended);
    expect_notes("");
}
END_TEST

#define UPGRADE "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

static void grant(unsigned status)
{
    headers_init(&response, &arena);
    response.status = (uint16_t)status;
    headers_add_known(&response, HDR_UPGRADE, STR("x"));
    headers_add_known(&response, HDR_CONNECTION, STR("upgrade"));
    headers_add_known(&response, HDR_CONTENT_LENGTH, STR("7"));
    stream->ops->headers(stream, &response, false);
}

START_TEST(an_upgrade_becomes_a_tunnel)
{
    send_text(UPGRADE "early");
    expect_notes("GET / a connection=upgrade upgrade=x;");
    grant(101);
    conn_read_again(&conn);
    expect_wire("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    expect_notes("data early;");
    send_data("down", false);
    expect_wire("down");
    send_text(GET);
    expect_notes("data " GET ";");
    far_end_shut(&far);
    far_end_spin(&far, true);
    expect_notes("data  end;");
    send_data("last", true);
    expect_wire("last");
    ck_assert(far.ended);
}
END_TEST

START_TEST(an_upgrade_that_is_refused_is_a_request)
{
    send_text(UPGRADE);
    expect_notes("GET / a connection=upgrade upgrade=x;");
    begin_response(400, NULL, true);
    expect_wire("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    answer = AT_END;
    send_text(GET);
    expect_notes("GET / a end;");
    expect_wire(OK2);
    send_text(UPGRADE "early");
    expect_notes("GET / a connection=upgrade upgrade=x;");
    begin_response(200, NULL, true);
    expect_wire("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    ck_assert(far.ended);
    expect_notes("");
}
END_TEST

START_TEST(large_heads_pass_a_small_buffer)
{
    char *head = mem_alloc(60000);
    int n = snprintf(head, 60000, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 90; i++)
        n += snprintf(head + n, 60000 - (size_t)n, "h%02d: %0600d\r\n", i, i);
    memcpy(head + n, "\r\n", 2);
    answer = AT_HEADERS;
    far_end_send(&far, head, (size_t)n + 2);
    expect_wire(OK2);
    mem_free(head);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/http/h1_server");
    TCase *t = tcase_create("h1_server");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_connection_is_kept_for_the_next_request);
    tcase_add_test(t, pipelined_requests_are_answered_in_order);
    tcase_add_test(t, many_pipelined_requests_are_all_answered);
    tcase_add_test(t, messages_arrive_the_same_at_every_split);
    tcase_add_test(t, a_chunked_body_without_trailers_ends_with_its_data);
    tcase_add_test(t, bytes_the_user_leaves_are_dropped);
    tcase_add_test(t, a_paused_body_waits_and_stops_the_sender);
    tcase_add_test(t, a_pause_inside_a_chunked_body_holds_the_next_event);
    tcase_add_test(t, expect_continue_is_answered_by_the_codec);
    tcase_add_test(t, expect_continue_is_left_to_the_user_if_so_configured);
    tcase_add_test(t, a_response_without_length_is_chunked);
    tcase_add_test(t, responses_that_have_no_body_say_so_rightly);
    tcase_add_test(t, a_body_unlike_its_length_ends_the_connection);
    tcase_add_test(t, http_10_gets_what_it_understands);
    tcase_add_test(t, who_asks_for_a_close_gets_it);
    tcase_add_test(t, an_answer_before_the_requests_end_closes);
    tcase_add_test(t, a_reset_cuts_the_response_off);
    tcase_add_test(t, watermarks_are_told);
    tcase_add_test(t, who_does_not_read_gets_no_further_responses);
    tcase_add_test(t, malformed_requests_are_answered_and_closed);
    tcase_add_test(t, malformed_bodies_reset_the_exchange);
    tcase_add_test(t, a_request_head_has_ten_seconds);
    tcase_add_test(t, an_idle_connection_is_closed);
    tcase_add_test(t, a_client_that_leaves_ends_the_exchange);
    tcase_add_test(t, a_request_that_comes_with_the_end_is_answered);
    tcase_add_test(t, draining_finishes_what_is_under_way);
    tcase_add_test(t, a_connection_has_so_many_requests);
    tcase_add_test(t, what_follows_connect_is_not_read);
    tcase_add_test(t, an_upgrade_becomes_a_tunnel);
    tcase_add_test(t, an_upgrade_that_is_refused_is_a_request);
    tcase_add_test(t, large_heads_pass_a_small_buffer);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
