#include "proxy/http/codec.h"

#include "cluster/http2_options.h"
#include "proxy/http/h2_guard.h"
#include "test/support/far_end.h"
#include "test/support/h2_wire.h"
#include "tls/conn.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* The server's user: several exchanges, numbered as they come; it writes down what it is told. */
enum { MAX_EXCHANGES = 16, LIMIT = 32768 };
struct exchange {
    int number;
    struct codec_stream *cs; /* NULL: over */
    struct arena *arena;
    int above, below;
};

static struct far_end far;
static struct h2_wire wire;
static struct conn conn;
static struct http_server *server;
static struct exchange exchanges[MAX_EXCHANGES];
static int num_exchanges, arenas;
static struct http_limits limits;
static struct http2_options options;
static struct arena arena;
static struct buffer notes;
static bool closed, quiet;
static int pause_at_headers;

static void note(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void note(const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!quiet)
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

static void expect_frames(const char *want, bool windows)
{
    far_end_spin(&far, true);
    char *got = h2_wire_text(&wire, windows);
    ck_assert_str_eq(got, want);
    mem_free(got);
}

static void expect_wire(const char *want)
{
    expect_frames(want, false);
}

static void over(struct exchange *x)
{
    if (x->arena)
        arenas--;
    arena_free(&x->arena);
    x->cs = NULL;
}

static void respond(int i, uint16_t status, bool end)
{
    struct headers *h = ARENA_NEW(&arena, struct headers);
    struct exchange *x = &exchanges[i];
    headers_init(h, &arena);
    h->status = status;
    if (h->status / 100 == 1 && h->status != 101) {
        x->cs->ops->informational(x->cs, h);
        return;
    }
    x->cs->ops->headers(x->cs, h, end);
    if (end)
        over(x);
}

static void send_bytes(int i, size_t len, bool end)
{
    struct buffer b;
    struct exchange *x = &exchanges[i];
    char *bytes = mem_zalloc(len + 1);
    buffer_init(&b);
    buffer_add(&b, bytes, len);
    x->cs->ops->data(x->cs, &b, end);
    ck_assert_uint_eq(b.len, 0);
    buffer_cleanup(&b);
    mem_free(bytes);
    if (end)
        over(x);
}

static void reset(int i)
{
    exchanges[i].cs->ops->reset(exchanges[i].cs, RESET_LOCAL);
    over(&exchanges[i]);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct exchange *x = user;
    note("%d: %.*s %.*s", x->number, STR_ARG(h->method), STR_ARG(h->path));
    HEADERS_FOREACH(f, h) {
        note(" %.*s=%.*s", STR_ARG(f->name), STR_ARG(f->value));
    }
    note("%s%s;", h->upgrade ? " upgrade" : "", end ? " end" : "");
    if (pause_at_headers > 0) {
        pause_at_headers--;
        x->cs->ops->pause(x->cs);
    }
}

static void on_data(void *user, struct buffer *b, bool end)
{
    struct exchange *x = user;
    note("%d: data %zu%s;", x->number, b->len, end ? " end" : "");
    buffer_drain(b, b->len);
}

static void on_trailers(void *user, struct headers *h)
{
    struct exchange *x = user;
    note("%d: trailers", x->number);
    HEADERS_FOREACH(f, h) {
        note(" %.*s=%.*s", STR_ARG(f->name), STR_ARG(f->value));
    }
    note(";");
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct exchange *x = user;
    note("%d: reset %.*s;", x->number, STR_ARG(detail));
    over(x);
}

static void on_above(void *user)
{
    struct exchange *x = user;
    x->above++;
}

static void on_below(void *user)
{
    struct exchange *x = user;
    x->below++;
    note("%d: below;", x->number);
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
    ck_assert_int_lt(num_exchanges, MAX_EXCHANGES);
    struct exchange *x = &exchanges[num_exchanges];
    *x = (struct exchange){.number = num_exchanges++, .cs = cs, .arena = cs->arena};
    cs->events = &stream_events;
    cs->user = x;
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
}

static void on_idle(void *user)
{
    note("idle;");
}

static void on_too_many(void *user)
{
    note("too many resets;");
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
    .on_too_many_resets = on_too_many,
    .on_idle = on_idle,
    .on_closed = on_closed,
};

/* --- opening and closing --- */

static void connected(void *owner, struct conn *c)
{
    server = h2_server_new(c, &limits, &server_events, NULL);
}

static const struct conn_ops before = {.on_connected = connected};

/* The client gives each stream a window of so many bytes. */
static void open_server(uint32_t window)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct addr nobody = {0};
    far_end_open(&far, far.loop);
    h2_wire_init(&wire, &far);
    conn_init_accepted(&conn, far.loop, far.near_fd, NULL, &nobody, &nobody, 0, &before, NULL);
    conn_set_limits(&conn, LIMIT);
    far_end_send(&far, preface, sizeof(preface) - 1);
    h2_wire_setting(&wire, 4, window);
    h2_wire_frame(&wire, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    far_end_spin(&far, true);
    ck_assert_ptr_nonnull(server);
    expect_wire("");
}

static void setup(void)
{
    http2_options_default(&options);
    options.reset_on_malformed = true;
    options.allow_connect = true;
    limits = (struct http_limits){
        .max_headers_bytes = 61440,
        .max_headers_count = 100,
        .headers_timeout_ms = 10000,
        .idle_timeout_ms = 3600000,
        .delayed_close_ms = 1000,
        .drain_ms = 5000,
        .h2 = &options,
    };
    num_exchanges = pause_at_headers = 0;
    closed = quiet = false;
    arena_init(&arena, 0);
    buffer_init(&notes);
    far.loop = NULL;
}

static void teardown(void)
{
    if (!closed) {
        if (far.fd >= 0)
            far_end_hang_up(&far);
        far_end_spin(&far, false);
        loop_advance(far.loop, 2000);
        far_end_spin(&far, false);
    }
    ck_assert(closed);
    ck_assert_int_eq(arenas, 0);
    h2_wire_free(&wire);
    far_end_close(&far);
    loop_free(&far.loop);
    arena_cleanup(&arena);
    buffer_cleanup(&notes);
    buffer_free_list_trim();
}

#define GET ":method=GET :scheme=http :path=/ :authority=a"
#define POST ":method=POST :scheme=http :path=/ :authority=a"

static void request(int id, const char *fields, bool end)
{
    h2_wire_head(&wire, end ? H2_FLAG_END_STREAM : 0, id, fields);
    far_end_spin(&far, true);
}

static void body(int id, size_t len, bool end)
{
    static const char bytes[16384];
    h2_wire_frame(&wire, H2_DATA, end ? H2_FLAG_END_STREAM : 0, id, bytes, len);
    far_end_spin(&far, true);
}

/* --- messages --- */

START_TEST(requests_and_responses_cross)
{
    open_server(65535);
    request(1, POST " x=1", false);
    request(3, GET, true);
    body(1, 3, false);
    h2_wire_head(&wire, H2_FLAG_END_STREAM, 1, "t=u");
    far_end_spin(&far, true);
    expect_notes("0: POST / x=1;1: GET / end;0: data 3;0: trailers t=u;");
    respond(1, 200, true);
    respond(0, 200, false);
    send_bytes(0, 2, false);
    expect_wire("HEADERS 3 :status=200 end;HEADERS 1 :status=200;DATA 1 2;");
    struct headers t;
    headers_init(&t, &arena);
    headers_add(&t, STR("grpc-status"), STR("0"));
    exchanges[0].cs->ops->trailers(exchanges[0].cs, &t);
    over(&exchanges[0]);
    expect_wire("HEADERS 1 grpc-status=0 end;");
    expect_notes("");
}
END_TEST

START_TEST(informational_responses_come_first)
{
    open_server(65535);
    request(1, POST " expect=100-continue", false);
    expect_wire("HEADERS 1 :status=100;");
    respond(0, 103, false);
    respond(0, 204, true);
    /* the response is whole: the rest of the request is not wanted (RFC 9113 8.1) */
    expect_wire("HEADERS 1 :status=103;HEADERS 1 :status=204 end;RST 1 0;");
    body(1, 10, true); /* was under way */
    expect_wire("");
    request(3, GET, true);
    expect_notes("0: POST /;1: GET / end;");
    respond(1, 200, true);
}
END_TEST

START_TEST(extended_connect_is_an_upgrade)
{
    open_server(65535);
    request(1, ":method=CONNECT :protocol=websocket :scheme=http :path=/c :authority=a", false);
    expect_notes("0: GET /c connection=upgrade upgrade=websocket upgrade;");
    respond(0, 101, false);
    send_bytes(0, 5, false);
    body(1, 7, false);
    expect_wire("HEADERS 1 :status=200;DATA 1 5;");
    body(1, 0, true);
    expect_notes("0: data 7;0: data 0 end;");
    send_bytes(0, 0, true);
    expect_wire("DATA 1 0 end;");
}
END_TEST

/* --- resets --- */

START_TEST(the_client_may_reset_at_any_time)
{
    open_server(100);
    request(1, POST, false); /* in the request */
    request(3, GET, true);   /* before the response */
    request(5, GET, true);   /* in the response */
    request(7, GET, true);   /* when the response only waits for window */
    respond(2, 200, false);
    send_bytes(2, 10, false);
    respond(3, 200, false);
    send_bytes(3, 1000, true);
    expect_wire("HEADERS 5 :status=200;HEADERS 7 :status=200;DATA 5 10;DATA 7 100;");
    buffer_drain(&notes, notes.len);
    for (int id = 1; id <= 7; id += 2)
        h2_wire_number(&wire, H2_RST_STREAM, id, H2_CANCEL);
    far_end_spin(&far, true);
    expect_notes("0: reset http2.remote_reset;1: reset http2.remote_reset;"
                 "2: reset http2.remote_reset;");
    request(9, GET, true);
    respond(4, 200, true);
    expect_wire("HEADERS 9 :status=200 end;");
}
END_TEST

START_TEST(the_user_may_reset_at_any_time)
{
    open_server(100);
    for (int id = 1; id <= 7; id += 2)
        request(id, id == 1 ? POST : GET, id != 1);
    reset(0);
    reset(1);
    respond(2, 200, false);
    reset(2); /* the head is not overtaken by its reset */
    respond(3, 200, false);
    send_bytes(3, 1000, false);
    far_end_spin(&far, true);
    reset(3);
    expect_wire("RST 1 2;RST 3 2;HEADERS 5 :status=200;RST 5 2;HEADERS 7 :status=200;DATA 7 100;"
                "RST 7 2;");
    body(1, 10, false); /* crossed */
    expect_wire("");
}
END_TEST

/* "x=12345" without tables, as h2_wire_head sends it, in two frames. */
static const char field[] = "\x00\x01x\x05"
                            "12345";

START_TEST(the_user_may_end_amid_a_block)
{
    open_server(65535);
    request(1, POST, false);
    request(3, POST, false);
    expect_notes("0: POST /;1: POST /;");
    h2_wire_frame(&wire, H2_HEADERS, H2_FLAG_END_STREAM, 1, field, 9);
    far_end_spin(&far, true);
    reset(0); /* its memory is gone when the rest comes */
    h2_wire_frame(&wire, H2_CONTINUATION, H2_FLAG_END_HEADERS, 1, field, 9);
    far_end_spin(&far, true);
    h2_wire_frame(&wire, H2_HEADERS, H2_FLAG_END_STREAM, 3, field, 9);
    far_end_spin(&far, true);
    respond(1, 200, true);
    h2_wire_frame(&wire, H2_CONTINUATION, H2_FLAG_END_HEADERS, 3, field, 9);
    expect_wire("RST 1 2;HEADERS 3 :status=200 end;");
    expect_notes("");
}
END_TEST

START_TEST(a_user_may_answer_or_reset_within_its_events)
{
    open_server(65535);
    request(1, GET " content-length=5", true); /* malformed */
    request(3, POST " content-length=5", false);
    body(3, 6, false);
    expect_notes("malformed 0 http2.violation.of.messaging.rule;0: POST / content-length=5;"
                 "0: reset http2.violation.of.messaging.rule;");
    expect_wire("RST 1 1;RST 3 1;");
}
END_TEST

START_TEST(too_many_resets_end_the_connection)
{
    open_server(65535);
    quiet = true;
    for (int i = 0; i < 1001 && server; i++) {
        num_exchanges = 0;
        request(2 * i + 1, GET, true);
        h2_wire_number(&wire, H2_RST_STREAM, 2 * i + 1, H2_CANCEL);
        quiet = i < 999;
        far_end_spin(&far, true);
    }
    char *got = h2_wire_text(&wire, false);
    ck_assert_ptr_nonnull(strstr(got, "GOAWAY 2001 11;"));
    mem_free(got);
    quiet = true;
}
END_TEST

/* --- flow control --- */

START_TEST(a_response_waits_for_window)
{
    open_server(10);
    request(1, GET, true);
    respond(0, 200, false);
    send_bytes(0, 25, true);
    expect_wire("HEADERS 1 :status=200;DATA 1 10;");
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 1, 10);
    expect_wire("DATA 1 10;");
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 1, 10);
    expect_wire("DATA 1 5 end;");
}
END_TEST

START_TEST(a_paused_request_gets_no_window_back)
{
    open_server(65535);
    pause_at_headers = 1;
    request(1, POST, false);
    far_end_spin(&far, true);
    expect_frames("", true);
    for (int i = 0; i < 4; i++)
        body(1, 16384, false);
    expect_notes("0: POST /;");
    expect_frames("", true);
    exchanges[0].cs->ops->resume(exchanges[0].cs);
    expect_frames("WINDOW 1 65536;", true);
    expect_notes("0: data 65536;");
    reset(0);
}
END_TEST

START_TEST(paused_requests_together_get_the_connections_window)
{
    options.connection_window = 100000;
    open_server(65535);
    pause_at_headers = 2;
    request(1, POST, false);
    request(3, POST, false);
    for (int i = 0; i < 6; i++)
        body(i % 2 ? 3 : 1, 16384, false);
    expect_wire("");
    body(1, 16384, false); /* 114688: more than it may */
    char *got = h2_wire_text(&wire, false);
    ck_assert_str_eq(got, "GOAWAY 3 3;");
    mem_free(got);
    quiet = true;
}
END_TEST

START_TEST(one_stream_is_stopped_at_the_watermark)
{
    open_server(0);
    request(1, GET, true);
    respond(0, 200, false);
    send_bytes(0, LIMIT, false);
    ck_assert_int_eq(exchanges[0].above, 0);
    send_bytes(0, 1, false);
    ck_assert_int_eq(exchanges[0].above, 1);
    buffer_drain(&notes, notes.len);
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 1, 1000);
    far_end_spin(&far, true);
    expect_notes("");
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 1, LIMIT);
    far_end_spin(&far, true);
    expect_notes("0: below;");
    reset(0);
}
END_TEST

START_TEST(many_streams_share_the_connections_limit)
{
    open_server(0);
    size_t sent = 0;
    for (int i = 0; i < 8; i++) {
        request(2 * i + 1, GET, true);
        respond(i, 200, false);
    }
    buffer_drain(&notes, notes.len);
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 8; i++) {
            if (exchanges[i].above)
                continue;
            send_bytes(i, 100, false);
            sent += 100;
        }
    }
    ck_assert_uint_gt(sent, LIMIT);
    ck_assert_uint_le(sent, 2 * LIMIT);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(exchanges[i].above, 1);
    /* who comes then has its share all the same */
    request(17, GET, true);
    respond(8, 200, false);
    send_bytes(8, 1000, false);
    ck_assert_int_eq(exchanges[8].above, 0);
    for (int i = 0; i < 9; i++)
        reset(i);
}
END_TEST

START_TEST(at_the_limit_all_are_told_and_go_on_in_turn)
{
    open_server(0);
    for (int i = 0; i < 4; i++) {
        request(2 * i + 1, GET, true);
        respond(i, 200, false);
    }
    buffer_drain(&notes, notes.len);
    quiet = true;
    send_bytes(0, LIMIT, false);
    send_bytes(1, LIMIT + 1, false); /* at once: nobody could stop it */
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(exchanges[i].above, 1);
    request(9, GET, true);
    respond(4, 200, false); /* from its head on */
    ck_assert_int_eq(exchanges[4].above, 1);
    quiet = false;
    far_end_spin(&far, true);
    mem_free(h2_wire_text(&wire, false));
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 0, 1 << 20);
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 3, 1 << 20);
    far_end_spin(&far, true);
    /* who sent, or came, longest ago is first; 0 has still too much itself */
    expect_notes("2: below;3: below;1: below;4: below;");
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 1, 1 << 20);
    far_end_spin(&far, true);
    expect_notes("0: below;");
    for (int i = 0; i < 5; i++)
        reset(i);
}
END_TEST

START_TEST(streams_that_are_left_lying_do_not_stop_the_rest)
{
    open_server(0);
    for (int i = 0; i < 3; i++) {
        request(2 * i + 1, GET, true);
        respond(i, 200, false);
    }
    send_bytes(0, LIMIT, false);
    send_bytes(1, LIMIT + 1, false);
    far_end_spin(&far, true);
    mem_free(h2_wire_text(&wire, false));
    buffer_drain(&notes, notes.len);
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 5, 50000);
    for (int i = 0; i < 3; i++) {
        far_end_spin(&far, true);
        expect_notes("2: below;");
        ck_assert_int_eq(exchanges[2].above, i + 1);
        send_bytes(2, 10000, false);
        ck_assert_int_eq(exchanges[2].above, i + 2);
        expect_wire("DATA 5 10000;");
    }
    expect_notes("2: below;");
    for (int i = 0; i < 3; i++)
        reset(i);
}
END_TEST

START_TEST(requests_are_refused_when_responses_cannot_be_stopped)
{
    open_server(0);
    quiet = true;
    for (int i = 0; i < 6; i++) {
        request(2 * i + 1, GET, true);
        if (num_exchanges == i)
            break;
        respond(i, 200, false);
        send_bytes(i, 300000, true);
    }
    ck_assert_int_eq(num_exchanges, 4);
    char *got = h2_wire_text(&wire, false);
    ck_assert_ptr_nonnull(strstr(got, "RST 9 7;"));
    mem_free(got);
}
END_TEST

/* --- the end --- */

START_TEST(a_drain_has_two_phases)
{
    open_server(65535);
    request(1, GET, true);
    server->ops->drain(server);
    expect_wire("GOAWAY 2147483647 0;PING;");
    request(3, GET, true); /* was under way */
    expect_notes("0: GET / end;1: GET / end;");
    loop_advance(far.loop, 5000);
    expect_wire("GOAWAY 3 0;");
    request(5, GET, true);
    expect_notes("");
    respond(0, 200, true);
    expect_wire("HEADERS 1 :status=200 end;");
    ck_assert(!far.ended);
    respond(1, 200, true);
    expect_wire("HEADERS 3 :status=200 end;");
    ck_assert(far.ended);
}
END_TEST

START_TEST(the_answer_to_a_ping_ends_the_first_phase)
{
    open_server(65535);
    request(1, GET, true);
    server->ops->drain(server);
    far_end_spin(&far, true);
    struct str all = buffer_pullup(&far.got, far.got.len);
    ck_assert_uint_ge(all.len, 8);
    char opaque[8]; /* the PING is last */
    memcpy(opaque, all.p + far.got.len - 8, 8);
    expect_wire("GOAWAY 2147483647 0;PING;");
    h2_wire_frame(&wire, H2_PING, H2_FLAG_ACK, 0, opaque, 8);
    expect_wire("GOAWAY 1 0;");
    respond(0, 200, true);
    expect_wire("HEADERS 1 :status=200 end;");
    ck_assert(far.ended);
    expect_notes("0: GET / end;");
}
END_TEST

START_TEST(an_idle_connection_is_told_of_and_drained)
{
    limits.idle_timeout_ms = 1000;
    open_server(65535);
    request(1, GET, true);
    loop_advance(far.loop, 1500);
    expect_wire("");
    respond(0, 200, true);
    expect_wire("HEADERS 1 :status=200 end;");
    expect_notes("0: GET / end;");
    loop_advance(far.loop, 1001);
    expect_wire("GOAWAY 2147483647 0;PING;");
    expect_notes("idle;");
    loop_advance(far.loop, 5001);
    expect_wire("GOAWAY 1 0;");
    expect_notes("");
    ck_assert(far.ended);
}
END_TEST

START_TEST(a_quiet_connection_still_works)
{
    open_server(65535);
    for (int i = 0; i < 3; i++) {
        request(2 * i + 1, GET " x=1", true);
        respond(i, 200, false);
        send_bytes(i, 100, true);
        far_end_spin(&far, true);
        loop_advance(far.loop, 3000); /* memory is given back */
        far_end_spin(&far, true);
    }
    expect_wire("HEADERS 1 :status=200;DATA 1 100 end;HEADERS 3 :status=200;DATA 3 100 end;"
                "HEADERS 5 :status=200;DATA 5 100 end;");
}
END_TEST

START_TEST(the_end_of_the_connection_resets_all)
{
    open_server(65535);
    request(1, GET, true);
    request(3, POST, false);
    far_end_hang_up(&far);
    far_end_spin(&far, false);
    expect_notes("0: GET / end;1: POST /;0: reset downstream_remote_disconnect;"
                 "1: reset downstream_remote_disconnect;closed;");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("h2_server");
    TCase *t = tcase_create("h2_server");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, requests_and_responses_cross);
    tcase_add_test(t, informational_responses_come_first);
    tcase_add_test(t, extended_connect_is_an_upgrade);
    tcase_add_test(t, the_client_may_reset_at_any_time);
    tcase_add_test(t, the_user_may_reset_at_any_time);
    tcase_add_test(t, the_user_may_end_amid_a_block);
    tcase_add_test(t, a_user_may_answer_or_reset_within_its_events);
    tcase_add_test(t, too_many_resets_end_the_connection);
    tcase_add_test(t, a_response_waits_for_window);
    tcase_add_test(t, a_paused_request_gets_no_window_back);
    tcase_add_test(t, paused_requests_together_get_the_connections_window);
    tcase_add_test(t, one_stream_is_stopped_at_the_watermark);
    tcase_add_test(t, many_streams_share_the_connections_limit);
    tcase_add_test(t, at_the_limit_all_are_told_and_go_on_in_turn);
    tcase_add_test(t, streams_that_are_left_lying_do_not_stop_the_rest);
    tcase_add_test(t, requests_are_refused_when_responses_cannot_be_stopped);
    tcase_add_test(t, a_drain_has_two_phases);
    tcase_add_test(t, the_answer_to_a_ping_ends_the_first_phase);
    tcase_add_test(t, an_idle_connection_is_told_of_and_drained);
    tcase_add_test(t, a_quiet_connection_still_works);
    tcase_add_test(t, the_end_of_the_connection_resets_all);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
