#include "proxy/http/codec.h"

#include "proxy/http/h2_guard.h"
#include "test/support/cluster_fixture.h"
#include "test/support/far_end.h"
#include "test/support/h2_wire.h"
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A cluster of one host, whose server is the test itself; several exchanges, numbered as they
 * come, whose user writes down what it is told. */
enum { MAX_EXCHANGES = 8, LIMIT = 32768 };
struct exchange {
    int number;
    struct pool_request slot;
    struct codec_stream *cs; /* NULL: over */
    bool sent_all;
    int above;
};

static struct cluster_fixture f;
static int listener;
static struct host *host;
static struct far_end far; /* the server's end of the connection accepted last */
static struct h2_wire wire;
static struct exchange exchanges[MAX_EXCHANGES];
static int num_exchanges, slots;
static bool pause_at_headers, reset_at_headers;
static struct arena arena;
static struct buffer notes;
static struct http_client_limits limits = {61440, 100};

static void note(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void note(const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buffer_add(&notes, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void expect_notes(const char *want)
{
    far_end_spin(&far, true);
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
    char *got = h2_wire_text(&wire, false);
    ck_assert_str_eq(got, want);
    mem_free(got);
}

static void note_head(struct exchange *x, const char *what, struct headers *h)
{
    note("%d: %s", x->number, what);
    HEADERS_FOREACH(hf, h) {
        note(" %.*s=%.*s", STR_ARG(hf->name), STR_ARG(hf->value));
    }
}

static void ended(struct exchange *x)
{
    if (x->sent_all)
        x->cs = NULL;
}

static void reset(struct exchange *x)
{
    x->cs->ops->reset(x->cs, RESET_LOCAL);
    x->cs = NULL;
}

static void on_informational(void *user, struct headers *h)
{
    struct exchange *x = user;
    note("%d: info %u;", x->number, h->status);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct exchange *x = user;
    char status[8];
    snprintf(status, sizeof(status), "%u", h->status);
    note_head(x, status, h);
    note("%s%s;", h->upgrade ? " upgrade" : "", end ? " end" : "");
    if (reset_at_headers)
        reset(x);
    else if (end)
        ended(x);
    else if (pause_at_headers)
        x->cs->ops->pause(x->cs);
}

static void on_data(void *user, struct buffer *b, bool end)
{
    struct exchange *x = user;
    note("%d: data %zu%s;", x->number, b->len, end ? " end" : "");
    buffer_drain(b, b->len);
    if (end)
        ended(x);
}

static void on_trailers(void *user, struct headers *h)
{
    struct exchange *x = user;
    note_head(x, "trailers", h);
    note(";");
    ended(x);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    static const char *const names[] = {"local",    "remote",  "terminated", "protocol",
                                        "overflow", "refused", "large"};
    struct exchange *x = user;
    note("%d: reset %s;", x->number, names[why]);
    x->cs = NULL;
}

static void on_above(void *user)
{
    struct exchange *x = user;
    x->above++;
}

static void on_below(void *user)
{
    struct exchange *x = user;
    note("%d: below;", x->number);
}

static const struct codec_events events = {
    .on_informational = on_informational,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_above,
    .on_below = on_below,
};

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result r, struct str detail)
{
    struct exchange *x = arg;
    ck_assert_int_eq(r, POOL_READY);
    slots = 1;
    x->cs = h2_client_stream(pc, &arena, &limits, &events, x);
}

/* An exchange on a slot; a connection of its own if there is none that takes it. */
static struct exchange *ask(void)
{
    struct cluster *c = worker_clusters_find(f.worker, STR("c"));
    ck_assert_int_lt(num_exchanges, MAX_EXCHANGES);
    struct exchange *x = &exchanges[num_exchanges];
    *x = (struct exchange){.number = num_exchanges++};
    slots = 0;
    pool_acquire(c, host, &h2_client_protocol, NULL, PRIORITY_DEFAULT, &x->slot, on_slot, x);
    fixture_spin(&f, &slots);
    return x;
}

static void send_head(struct exchange *x, const char *method, const char *upgrade, bool end)
{
    struct headers *h = ARENA_NEW(&arena, struct headers);
    headers_init(h, &arena);
    h->method = str_of(method);
    h->path = STR("/p");
    h->authority = STR("a");
    if (upgrade) {
        h->upgrade = true;
        headers_add(h, STR("connection"), STR("upgrade"));
        headers_add(h, STR("upgrade"), str_of(upgrade));
    }
    x->sent_all = end;
    x->cs->ops->headers(x->cs, h, end);
}

static void send_bytes(struct exchange *x, size_t len, bool end)
{
    struct buffer b;
    char *bytes = mem_zalloc(len + 1);
    buffer_init(&b);
    buffer_add(&b, bytes, len);
    x->sent_all = end;
    x->cs->ops->data(x->cs, &b, end);
    buffer_cleanup(&b);
    mem_free(bytes);
}

static void accept_far(void)
{
    far_end_close(&far);
    far = (struct far_end){.loop = f.loop, .fd = accept(listener, NULL, NULL)};
    buffer_init(&far.got);
    ck_assert_int_ge(far.fd, 0);
    int on = 1;
    fcntl(far.fd, F_SETFL, O_NONBLOCK);
    setsockopt(far.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* The first exchange and its connection; the server gives streams such a window. */
static struct exchange *begin(uint32_t window)
{
    struct exchange *x = ask();
    accept_far();
    h2_wire_setting(&wire, 4, window);
    h2_wire_frame(&wire, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    expect_wire("");
    return x;
}

static struct exchange *get(struct exchange *x)
{
    send_head(x, "GET", NULL, true);
    far_end_spin(&far, true);
    return x;
}

static void respond(int id, const char *fields, bool end)
{
    h2_wire_head(&wire, end ? H2_FLAG_END_STREAM : 0, id, fields);
}

static void body(int id, size_t len, bool end)
{
    static const char bytes[16384];
    h2_wire_frame(&wire, H2_DATA, end ? H2_FLAG_END_STREAM : 0, id, bytes, len);
}

static void goaway(uint32_t last)
{
    uint8_t p[8] = {(uint8_t)(last >> 24), (uint8_t)(last >> 16), (uint8_t)(last >> 8),
                    (uint8_t)last};
    h2_wire_frame(&wire, H2_GOAWAY, 0, 0, p, sizeof(p));
    far_end_spin(&far, true);
}

static void setup(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    char address[32];
    fixture_start(&f);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
    ck_assert_int_eq(listen(listener, 16), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(sin.sin_port));
    host = fixture_host(&f, address);
    struct cluster_config *config = cluster_config_new(&f.home, STR("c"));
    config->connect_timeout_ms = 1000;
    config->buffer_limit = LIMIT;
    http2_options_default(&config->http2_options);
    config->http2_options.allow_connect = true;
    config->http2_options.reset_on_malformed = true;
    struct host *h = host_ref(host);
    fixture_publish(&f, config, &h, 1);
    far = (struct far_end){.loop = f.loop, .fd = -1};
    h2_wire_init(&wire, &far);
    num_exchanges = 0;
    pause_at_headers = reset_at_headers = false;
    arena_init(&arena, 0);
    buffer_init(&notes);
}

static void teardown(void)
{
    for (int i = 0; i < num_exchanges; i++)
        ck_assert_ptr_null(exchanges[i].cs);
    far_end_spin(&far, true);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE), 0);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_HTTP2_STREAMS_ACTIVE), 0);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_HTTP2_PENDING_SEND_BYTES), 0);
    far_end_close(&far);
    h2_wire_free(&wire);
    host_unref(host);
    close(listener);
    fixture_stop(&f);
    arena_cleanup(&arena);
    buffer_cleanup(&notes);
    buffer_free_list_trim();
}

#define GET ":method=GET :scheme=http :path=/p :authority=a"
#define POST ":method=POST :scheme=http :path=/p :authority=a"

/* --- messages --- */

START_TEST(exchanges_share_a_connection)
{
    struct exchange *a = begin(65535), *b = ask();
    send_head(a, "POST", NULL, false);
    get(b);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_HTTP2_STREAMS_ACTIVE), 2);
    send_bytes(a, 5, true);
    expect_wire("HEADERS 1 " POST ";HEADERS 3 " GET " end;DATA 1 5 end;");
    respond(3, ":status=103", false);
    respond(3, ":status=200 x=y", false);
    body(3, 2, false);
    respond(3, "t=u", true);
    respond(1, ":status=204", true);
    expect_notes("1: info 103;1: 200 x=y;1: data 2;1: trailers t=u;0: 204 end;");
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 1);
    expect_wire("");
}
END_TEST

START_TEST(request_trailers_follow_the_body)
{
    struct exchange *x = begin(10);
    struct headers t;
    send_head(x, "POST", NULL, false);
    send_bytes(x, 15, false);
    headers_init(&t, &arena);
    headers_add(&t, STR("t"), STR("u"));
    x->sent_all = true;
    x->cs->ops->trailers(x->cs, &t);
    expect_wire("HEADERS 1 " POST ";DATA 1 10;");
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 1, 10);
    expect_wire("DATA 1 5;HEADERS 1 t=u end;");
    respond(1, ":status=200", true);
    expect_notes("0: 200 end;");
}
END_TEST

START_TEST(a_response_may_come_before_the_requests_end)
{
    struct exchange *x = begin(65535);
    send_head(x, "POST", NULL, false);
    send_bytes(x, 5, false);
    expect_wire("HEADERS 1 " POST ";DATA 1 5;");
    respond(1, ":status=413", true);
    expect_notes("0: 413 end;");
    reset(x); /* what is left of the request is not wanted */
    expect_wire("RST 1 0;");
}
END_TEST

START_TEST(a_reset_after_the_whole_response_is_nothing)
{
    struct exchange *x = begin(65535);
    send_head(x, "POST", NULL, false);
    expect_wire("HEADERS 1 " POST ";");
    respond(1, ":status=200", false);
    body(1, 3, true);
    h2_wire_number(&wire, H2_RST_STREAM, 1, H2_NO_ERROR);
    expect_notes("0: 200;0: data 3 end;");
    if (x->cs)
        reset(x);
}
END_TEST

START_TEST(tunnels_ask_by_extended_connect)
{
    struct exchange *x = begin(65535);
    h2_wire_setting(&wire, 8, 1);
    far_end_spin(&far, true);
    send_head(x, "GET", "websocket", false);
    expect_wire("HEADERS 1 :method=CONNECT :protocol=websocket :scheme=http :path=/p "
                ":authority=a;");
    respond(1, ":status=200", false);
    body(1, 4, false);
    expect_notes("0: 101 connection=upgrade upgrade=websocket upgrade;0: data 4;");
    send_bytes(x, 3, true); /* not lost although the other direction ends first */
    body(1, 0, true);
    expect_notes("0: data 0 end;");
    expect_wire("DATA 1 3 end;");
}
END_TEST

START_TEST(tunnels_are_refused_where_they_are_not_offered)
{
    struct exchange *x = begin(65535);
    send_head(x, "GET", "websocket", false);
    expect_notes("0: reset refused;");
    expect_wire("");
}
END_TEST

/* --- resets --- */

START_TEST(the_server_may_reset_at_any_time)
{
    struct exchange *x = begin(65535);
    send_head(x, "POST", NULL, false); /* in the request */
    get(ask());                        /* before the response */
    get(ask());                        /* in it */
    get(ask());                        /* certainly not processed */
    respond(5, ":status=200", false);
    for (int id = 1; id <= 5; id += 2)
        h2_wire_number(&wire, H2_RST_STREAM, id, H2_CANCEL);
    h2_wire_number(&wire, H2_RST_STREAM, 7, H2_REFUSED_STREAM);
    expect_notes("2: 200;0: reset remote;1: reset remote;2: reset remote;3: reset refused;");
    get(ask());
    respond(9, ":status=200", true);
    expect_notes("4: 200 end;");
}
END_TEST

START_TEST(the_user_may_reset_at_any_time)
{
    struct exchange *x = begin(100);
    reset(x); /* before its head: nothing is sent */
    expect_wire("");
    send_head(x = ask(), "POST", NULL, false);
    send_bytes(x, 1000, false);
    expect_wire("HEADERS 1 " POST ";DATA 1 100;");
    reset(x);
    expect_wire("RST 1 8;");
    get(ask());
    reset_at_headers = true;
    respond(3, ":status=200", false);
    expect_notes("2: 200;");
    expect_wire("HEADERS 3 " GET " end;RST 3 8;");
    body(3, 10, true); /* crossed */
    expect_notes("");
    expect_wire("");
}
END_TEST

START_TEST(wrong_responses_are_reset)
{
    static const char *const wrong[] = {"x=y", ":status=20", ":status=101",
                                        ":status=200 connection=close"};
    struct exchange *x = begin(65535);
    char want[64];
    for (int i = 0; i < (int)ARRAY_LEN(wrong); i++) {
        get(i ? ask() : x);
        mem_free(h2_wire_text(&wire, false));
        respond(2 * i + 1, wrong[i], true);
        snprintf(want, sizeof(want), "%d: reset protocol;", i);
        expect_notes(want);
        snprintf(want, sizeof(want), "RST %d 1;", 2 * i + 1);
        expect_wire(want);
    }
}
END_TEST

/* --- the end of a connection --- */

START_TEST(goaway_refuses_what_is_beyond_it)
{
    struct exchange *a = begin(65535), *b = ask();
    get(a);
    get(b);
    goaway(0x7fffffff); /* a notice: both go on, the next takes another connection */
    expect_notes("");
    goaway(1);
    expect_notes("1: reset refused;");
    respond(1, ":status=200", true);
    expect_notes("0: 200 end;");
    ck_assert(far.ended);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CLOSE_NOTIFY), 1);
    get(ask());
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 2);
    reset(&exchanges[2]);
}
END_TEST

START_TEST(the_end_of_the_connection_resets_all)
{
    struct exchange *a = begin(65535), *b = ask();
    send_head(a, "POST", NULL, false);
    get(b);
    far_end_hang_up(&far);
    expect_notes("0: reset terminated;1: reset terminated;");
}
END_TEST

/* --- flow control --- */

START_TEST(a_paused_response_gets_no_window_back)
{
    struct exchange *x = begin(65535);
    get(x);
    expect_wire("HEADERS 1 " GET " end;");
    pause_at_headers = true;
    respond(1, ":status=200", false);
    for (int i = 0; i < 4; i++)
        body(1, 16384, false);
    far_end_spin(&far, true);
    char *got = h2_wire_text(&wire, true);
    ck_assert_str_eq(got, "");
    mem_free(got);
    expect_notes("0: 200;");
    x->cs->ops->resume(x->cs);
    expect_notes("0: data 65536;");
    got = h2_wire_text(&wire, true);
    ck_assert_str_eq(got, "WINDOW 1 65536;");
    mem_free(got);
    body(1, 1, true);
    expect_notes("0: data 1 end;");
}
END_TEST

START_TEST(many_requests_share_the_connections_limit)
{
    struct exchange *x = begin(0);
    size_t sent = 0;
    for (int i = 0; i < 4; i++)
        send_head(i ? ask() : x, "POST", NULL, false);
    for (int round = 0; round < 1000; round++) {
        for (int i = 0; i < 4; i++) {
            if (exchanges[i].above)
                continue;
            send_bytes(&exchanges[i], 100, false);
            sent += 100;
        }
    }
    ck_assert_uint_gt(sent, LIMIT);
    ck_assert_uint_le(sent, 2 * LIMIT);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_HTTP2_PENDING_SEND_BYTES), sent);
    h2_wire_number(&wire, H2_WINDOW_UPDATE, 5, LIMIT);
    expect_notes("2: below;");
    send_bytes(&exchanges[3], 2 * LIMIT, false); /* who does not stop: all the others do */
    ck_assert_int_eq(exchanges[2].above, 2);
    for (int i = 0; i < 4; i++)
        reset(&exchanges[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("h2_client");
    TCase *t = tcase_create("h2_client");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, exchanges_share_a_connection);
    tcase_add_test(t, request_trailers_follow_the_body);
    tcase_add_test(t, a_response_may_come_before_the_requests_end);
    tcase_add_test(t, a_reset_after_the_whole_response_is_nothing);
    tcase_add_test(t, tunnels_ask_by_extended_connect);
    tcase_add_test(t, tunnels_are_refused_where_they_are_not_offered);
    tcase_add_test(t, the_server_may_reset_at_any_time);
    tcase_add_test(t, the_user_may_reset_at_any_time);
    tcase_add_test(t, wrong_responses_are_reset);
    tcase_add_test(t, goaway_refuses_what_is_beyond_it);
    tcase_add_test(t, the_end_of_the_connection_resets_all);
    tcase_add_test(t, a_paused_response_gets_no_window_back);
    tcase_add_test(t, many_requests_share_the_connections_limit);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
