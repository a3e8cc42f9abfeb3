#include "proxy/http/codec.h"

#include "test/support/cluster_fixture.h"
#include "test/support/far_end.h"
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A cluster of one host, whose server is the test itself. */
static struct cluster_fixture f;
static int listener;
static struct host *host;
static struct far_end far; /* the server's end of the connection accepted last */

/* The user of one exchange: writes down what it is told. */
static struct pool_request slot;
static struct pool_conn *pool_conn;
static int got_slot;
static struct codec_stream *stream; /* NULL: the exchange is over */
static struct arena arena;
static struct buffer notes;
static bool sent_all;
static int pause_at_data;
static bool reset_at_headers;
static const char *early;
static struct http_client_limits limits = {61440, 100};

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

static void note_fields(struct headers *h)
{
    HEADERS_FOREACH(hf, h) {
        note(" %.*s=%.*s", STR_ARG(hf->name), STR_ARG(hf->value));
    }
}

static void ended(void)
{
    if (sent_all)
        stream = NULL;
}

static void on_informational(void *user, struct headers *h)
{
    note("info %u", h->status);
    note_fields(h);
    note(";");
}

static void on_headers(void *user, struct headers *h, bool end)
{
    note("%u", h->status);
    note_fields(h);
    note("%s;", end ? " end" : "");
    if (reset_at_headers) {
        stream->ops->reset(stream, RESET_LOCAL);
        stream = NULL;
    } else if (end) {
        ended();
    }
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
    buffer_drain(b, b->len);
    if (pause_at_data > 0 && !end) {
        pause_at_data--;
        stream->ops->pause(stream);
    }
    if (end)
        ended();
}

static void on_trailers(void *user, struct headers *h)
{
    note("trailers");
    note_fields(h);
    note(";");
    ended();
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    static const char *const names[] = {"local",    "remote",  "terminated", "protocol",
                                        "overflow", "refused", "large"};
    note("reset %s;", names[why]);
    stream = NULL;
}

static void on_above(void *user)
{
    note("above;");
}

static void on_below(void *user)
{
    note("below;");
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
    ck_assert_int_eq(r, POOL_READY);
    pool_conn = pc;
    got_slot = 1;
    if (early) { /* the server spoke before it was asked */
        buffer_add_str(&pc->conn.in, str_of(early));
        conn_read_again(&pc->conn);
    }
    stream = h1_client_stream(pc, &arena, &limits, &events, NULL);
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

static void ask(void)
{
    struct cluster *c = worker_clusters_find(f.worker, STR("c"));
    got_slot = 0;
    ck_assert_ptr_null(stream);
    arena_reset(&arena);
    pool_acquire(c, host, &h1_client_protocol, NULL, PRIORITY_DEFAULT, &slot, on_slot, NULL);
    fixture_spin(&f, &got_slot);
}

static void send_headers(const char *method, const char *length, bool end)
{
    struct headers *h = ARENA_NEW(&arena, struct headers);
    headers_init(h, &arena);
    h->method = str_of(method);
    h->path = STR("/p?q");
    h->authority = STR("a:1");
    headers_add(h, STR("x-a"), STR("b"));
    if (length)
        headers_add_known(h, HDR_CONTENT_LENGTH, str_of(length));
    headers_add(h, STR("connection"), STR("x-a"));
    sent_all = end;
    stream->ops->headers(stream, h, end);
}

static void send_data(const char *text, bool end)
{
    struct buffer b;
    buffer_init(&b);
    buffer_add_str(&b, str_of(text));
    sent_all = end;
    stream->ops->data(stream, &b, end);
    ck_assert_uint_eq(b.len, 0);
    buffer_cleanup(&b);
}

#define GET "GET /p?q HTTP/1.1\r\nhost: a:1\r\nx-a: b\r\n\r\n"
#define OK2 "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

/* A GET that is on its way to a server that has accepted it. `fresh`: on a new connection. */
static void get(bool fresh)
{
    ask();
    send_headers("GET", NULL, true);
    if (fresh)
        accept_far();
    expect_wire(GET);
}

static void answer(const char *p, size_t len)
{
    far_end_send(&far, p, len);
    far_end_spin(&far, true);
}

static void answer_text(const char *text)
{
    answer(text, strlen(text));
}

/* The server closes after this. */
static void answer_and_leave(const char *text)
{
    far_end_send(&far, text, strlen(text));
    far_end_shut(&far);
    far_end_spin(&far, true);
}

static void expect_reused(bool want)
{
    far_end_spin(&far, true);
    ck_assert_ptr_null(stream);
    bool gone = far.ended || far.reset;
    ck_assert_msg(gone == !want, "connection %s", gone ? "closed" : "kept");
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE), 0);
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
    config->buffer_limit = 32768;
    struct host *h = host_ref(host);
    fixture_publish(&f, config, &h, 1);
    far = (struct far_end){.loop = f.loop, .fd = -1};
    stream = NULL;
    pause_at_data = 0;
    reset_at_headers = false;
    early = NULL;
    arena_init(&arena, 0);
    buffer_init(&notes);
}

static void teardown(void)
{
    ck_assert_ptr_null(stream);
    far_end_spin(&far, true);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE), 0);
    far_end_close(&far);
    host_unref(host);
    close(listener);
    fixture_stop(&f);
    arena_cleanup(&arena);
    buffer_cleanup(&notes);
    buffer_free_list_trim();
}

/* --- requests --- */

START_TEST(a_connection_is_used_again)
{
    for (int i = 0; i < 3; i++) {
        get(i == 0);
        answer_text(OK2);
        expect_notes("200 content-length=2;data ok end;");
        expect_reused(true);
    }
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 1);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_HTTP1_TOTAL), 1);
}
END_TEST

START_TEST(requests_are_framed_by_what_they_announce)
{
    static const struct {
        const char *method, *length;
        bool end;
        const char *data, *wire;
    } cases[] = {
        {"POST", NULL, true, NULL, "content-length: 0\r\n\r\n"},
        {"DELETE", NULL, true, NULL, "\r\n"},
        {"POST", "0", true, NULL, "content-length: 0\r\n\r\n"},
        {"PUT", "5", true, NULL, "content-length: 0\r\n\r\n"}, /* cannot be true */
        {"POST", "3", false, "abc", "content-length: 3\r\n\r\nabc"},
        {"GET", NULL, false, "abc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
        {"POST", NULL, false, "", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char want[300];
        ask();
        send_headers(cases[i].method, cases[i].length, cases[i].end);
        if (i == 0)
            accept_far();
        if (cases[i].data)
            send_data(cases[i].data, true);
        snprintf(want, sizeof(want), "%s /p?q HTTP/1.1\r\nhost: a:1\r\nx-a: b\r\n%s",
                 cases[i].method, cases[i].wire);
        expect_wire(want);
        answer_text(OK2);
        expect_notes("200 content-length=2;data ok end;");
        expect_reused(true);
    }
}
END_TEST

START_TEST(a_request_unlike_its_length_is_the_connections_last)
{
    ask();
    send_headers("POST", "3", false);
    accept_far();
    send_data("abcd", true);
    expect_wire("POST /p?q HTTP/1.1\r\nhost: a:1\r\nx-a: b\r\ncontent-length: 3\r\n\r\nabc");
    answer_text(OK2);
    expect_notes("200 content-length=2;data ok end;");
    expect_reused(false);
}
END_TEST

START_TEST(request_trailers_are_sent)
{
    ask();
    send_headers("POST", NULL, false);
    accept_far();
    send_data("x", false);
    struct headers trailers;
    headers_init(&trailers, &arena);
    headers_add(&trailers, STR("t"), STR("u"));
    stream->ops->trailers(stream, &trailers);
    sent_all = true;
    expect_wire("POST /p?q HTTP/1.1\r\nhost: a:1\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n"
                "1\r\nx\r\n0\r\nt: u\r\n\r\n");
    answer_text(OK2);
    expect_notes("200 content-length=2;data ok end;");
    expect_reused(true);
}
END_TEST

START_TEST(a_request_body_is_held_back)
{
    ask();
    send_headers("POST", NULL, false);
    accept_far();
    expect_wire("POST /p?q HTTP/1.1\r\nhost: a:1\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n");
    char *body = mem_alloc(8000001);
    memset(body, 'x', 8000000);
    body[8000000] = '\0';
    send_data(body, false);
    expect_notes("above;");
    far_end_spin(&far, true);
    expect_notes("below;");
    send_data("", true);
    far_end_spin(&far, true);
    buffer_drain(&far.got, far.got.len);
    answer_text(OK2);
    expect_notes("200 content-length=2;data ok end;");
    expect_reused(true);
    mem_free(body);
}
END_TEST

/* --- responses --- */

START_TEST(responses_arrive_the_same_at_every_split)
{
    static const char raw[] =
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
        "chunked\r\nA: b\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: u\r\n\r\n";
    for (size_t step = 1; step < sizeof(raw); step++) {
        get(step == 1);
        for (size_t at = 0; at < sizeof(raw) - 1; at += step)
            answer(raw + at, sizeof(raw) - 1 - at < step ? sizeof(raw) - 1 - at : step);
        char got[1000], body[100] = "";
        size_t kept = 0;
        got[buffer_copy_out(&notes, 0, got, sizeof(got) - 1)] = '\0';
        buffer_drain(&notes, notes.len);
        for (char *p = got; (p = strstr(p, "data ")); p += 5) {
            size_t len = strcspn(p + 5, ";");
            memcpy(body + kept, p + 5, len);
            kept += len;
        }
        ck_assert_str_eq(body, "abcdefg");
        ck_assert_ptr_eq(strstr(got, "info 103 link=x;200 a=b;data "), got);
        ck_assert_ptr_nonnull(strstr(got, "trailers t=u;"));
        expect_reused(true);
    }
}
END_TEST

START_TEST(responses_end_where_they_should)
{
    static const struct {
        const char *raw, *notes;
        bool reused;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "200 content-length=0 end;", true},
        {"HTTP/1.1 204 No\r\n\r\n", "204 end;", true},
        {"HTTP/1.1 304 No\r\ncontent-length: 9\r\n\r\n", "304 content-length=9 end;", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
         "200;data ok end;", true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200;data  end;", true},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
         "info 100;200 content-length=0 end;", true},
        {"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
         "200 content-length=2;data ok end;", false},
        {"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "200 content-length=2;data ok end;",
         false},
        {"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok",
         "200 content-length=2;data ok end;", true},
        /* more than a response: nothing that follows can be trusted */
        {OK2 "XXX", "200 content-length=2;data ok end;", false},
        {OK2 OK2, "200 content-length=2;data ok end;", false},
        {"HTTP/1.1 204 No\r\n\r\nbody", "204 end;", false},
    };
    bool fresh = true;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        get(fresh);
        answer_text(cases[i].raw);
        expect_notes(cases[i].notes);
        expect_reused(cases[i].reused);
        fresh = !cases[i].reused;
    }
}
END_TEST

START_TEST(a_response_to_head_ends_with_its_head)
{
    ask();
    send_headers("HEAD", NULL, true);
    accept_far();
    expect_wire("HEAD /p?q HTTP/1.1\r\nhost: a:1\r\nx-a: b\r\n\r\n");
    answer_text("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    expect_notes("200 content-length=5 end;");
    expect_reused(true);
}
END_TEST

START_TEST(a_body_may_last_until_the_end_of_the_connection)
{
    get(true);
    answer_text("HTTP/1.1 200 OK\r\n\r\nabc");
    expect_notes("200;data abc;");
    answer_and_leave("def");
    char got[100];
    got[buffer_copy_out(&notes, 0, got, sizeof(got) - 1)] = '\0';
    buffer_drain(&notes, notes.len);
    ck_assert(strcmp(got, "data def end;") == 0 || strcmp(got, "data def;data  end;") == 0);
    expect_reused(false);
}
END_TEST

START_TEST(a_paused_response_waits)
{
    char *body = mem_alloc(300001);
    memset(body, 'x', 300000);
    body[300000] = '\0';
    pause_at_data = 1;
    get(true);
    answer_text("HTTP/1.1 200 OK\r\ncontent-length: 300003\r\n\r\nabc");
    expect_notes("200 content-length=300003;data abc;");
    answer_text(body);
    expect_notes("");
    ck_assert_uint_lt(pool_conn->conn.in.len, 40000);
    stream->ops->pause(stream);
    stream->ops->resume(stream);
    far_end_spin(&far, true);
    expect_notes("");
    stream->ops->resume(stream);
    far_end_spin(&far, true);
    ck_assert_ptr_null(stream);
    buffer_drain(&notes, notes.len);
    expect_reused(true);
    mem_free(body);
}
END_TEST

/* --- tunnels --- */

static void ask_upgrade(const char *method)
{
    ask();
    struct headers *h = ARENA_NEW(&arena, struct headers);
    headers_init(h, &arena);
    h->method = str_of(method);
    h->authority = STR("a:1");
    h->upgrade = true;
    if (strcmp(method, "GET") == 0) {
        h->path = STR("/");
        headers_add_known(h, HDR_UPGRADE, STR("x"));
        headers_add_known(h, HDR_CONNECTION, STR("upgrade"));
    }
    sent_all = false;
    stream->ops->headers(stream, h, false);
    accept_far();
}

static void give_up(void)
{
    stream->ops->reset(stream, RESET_LOCAL);
    stream = NULL;
}

START_TEST(an_upgrade_that_is_granted)
{
    ask_upgrade("GET");
    expect_wire("GET / HTTP/1.1\r\nhost: a:1\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    answer_text("HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nHTTP/1.1 no");
    expect_notes("101 upgrade=x connection=upgrade;data HTTP/1.1 no;");
    send_data("raw", false);
    expect_wire("raw");
    send_data("last", true);
    expect_wire("last");
    ck_assert(far.ended);
    far_end_shut(&far);
    far_end_spin(&far, true);
    expect_notes("data  end;");
    expect_reused(false);
}
END_TEST

START_TEST(a_connect_that_is_granted)
{
    ask_upgrade("CONNECT");
    expect_wire("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    answer_text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nmore than two");
    expect_notes("200;data more than two;");
    give_up();
}
END_TEST

START_TEST(an_upgrade_that_is_refused)
{
    ask_upgrade("GET");
    sent_all = true; /* there is nothing but the head */
    answer_text(OK2);
    expect_notes("200 content-length=2;data ok end;");
    expect_reused(true);
}
END_TEST

START_TEST(an_upgrade_that_is_not_what_was_asked)
{
    ask_upgrade("CONNECT");
    answer_text("HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    expect_notes("reset protocol;");
    ask_upgrade("GET");
    answer_text("HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n");
    expect_notes("reset protocol;");
}
END_TEST

/* --- what goes wrong --- */

START_TEST(what_is_not_a_response_resets)
{
    static const struct {
        const char *raw, *notes;
    } cases[] = {
        {"hello", "reset protocol;"},
        {"\r\nHTTP/1.1 200 OK\r\n\r\n", "reset protocol;"},
        {"HTTP/1.1 20 OK\r\n\r\n", "reset protocol;"},
        {"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "reset protocol;"},
        {"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", "reset protocol;"},
        {"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
         "reset protocol;"},
        {"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", "reset protocol;"},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", "200;reset protocol;"},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokX",
         "200;data ok;reset protocol;"},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nbad trailer\r\n\r\n",
         "200;reset protocol;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        get(true);
        answer_text(cases[i].raw);
        expect_notes(cases[i].notes);
        expect_reused(false);
    }
}
END_TEST

START_TEST(large_response_heads_reset)
{
    char *head = mem_alloc(70100);
    get(true);
    memset(head, 'x', 70000);
    memcpy(head, "HTTP/1.1 200 OK\r\na: ", 20);
    memcpy(head + 69990, "\r\n\r\n", 5);
    answer_text(head);
    expect_notes("reset large;");
    expect_reused(false);
    get(true);
    int n = snprintf(head, 70000, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 101; i++)
        n += snprintf(head + n, 70000 - (size_t)n, "h%d: v\r\n", i);
    memcpy(head + n, "\r\n", 3);
    answer_text(head);
    expect_notes("reset large;");
    expect_reused(false);
    mem_free(head);
}
END_TEST

START_TEST(endless_informational_responses_reset)
{
    char all[17 * 40] = "";
    size_t n = 0;
    for (int i = 0; i < 17; i++)
        n += (size_t)snprintf(all + n, sizeof(all) - n, "HTTP/1.1 100 Continue\r\n\r\n");
    get(true);
    answer(all, n);
    expect_notes("info 100;info 100;info 100;info 100;info 100;info 100;info 100;info 100;"
                 "info 100;info 100;info 100;info 100;info 100;info 100;info 100;info 100;"
                 "reset protocol;");
    expect_reused(false);
}
END_TEST

START_TEST(a_connection_that_ends_early_resets)
{
    static const struct {
        const char *raw, *notes;
    } cases[] = {
        {"", "reset terminated;"},
        {"HTTP/1.1 200 O", "reset protocol;"},
        {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "200 content-length=5;reset protocol;"},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "200;reset protocol;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        get(true);
        answer_and_leave(cases[i].raw);
        expect_notes(cases[i].notes);
        expect_reused(false);
    }
    get(true);
    struct linger cut = {.l_onoff = 1};
    setsockopt(far.fd, SOL_SOCKET, SO_LINGER, &cut, sizeof(cut));
    far_end_hang_up(&far);
    far_end_spin(&far, true);
    expect_notes("reset terminated;");
}
END_TEST

START_TEST(a_reset_closes_the_connection)
{
    get(true);
    stream->ops->reset(stream, RESET_LOCAL);
    stream = NULL;
    expect_reused(false);
    get(true);
    reset_at_headers = true;
    answer_text(OK2);
    expect_notes("200 content-length=2;");
    expect_reused(false);
}
END_TEST

START_TEST(a_response_before_the_requests_end_is_not_followed_by_another)
{
    ask();
    send_headers("POST", "10", false);
    accept_far();
    answer_text(OK2);
    expect_notes("200 content-length=2;data ok end;");
    ck_assert_ptr_nonnull(stream);
    far_end_hang_up(&far); /* nothing more is told, whatever becomes of the connection */
    far_end_spin(&far, true);
    expect_notes("");
    send_data("x", false);
    far_end_spin(&far, true);
    expect_notes("");
    stream->ops->reset(stream, RESET_LOCAL);
    stream = NULL;
    far_end_spin(&far, true);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE), 0);
}
END_TEST

START_TEST(bytes_before_the_request_are_no_response)
{
    early = OK2;
    ask(); /* the event may have come already: there is nothing to send on */
    accept_far();
    far_end_spin(&far, true);
    expect_notes("reset protocol;");
    buffer_drain(&far.got, far.got.len);
    expect_reused(false);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/http/h1_client");
    TCase *t = tcase_create("h1_client");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_connection_is_used_again);
    tcase_add_test(t, requests_are_framed_by_what_they_announce);
    tcase_add_test(t, a_request_unlike_its_length_is_the_connections_last);
    tcase_add_test(t, request_trailers_are_sent);
    tcase_add_test(t, a_request_body_is_held_back);
    tcase_add_test(t, responses_arrive_the_same_at_every_split);
    tcase_add_test(t, responses_end_where_they_should);
    tcase_add_test(t, a_response_to_head_ends_with_its_head);
    tcase_add_test(t, a_body_may_last_until_the_end_of_the_connection);
    tcase_add_test(t, a_paused_response_waits);
    tcase_add_test(t, an_upgrade_that_is_granted);
    tcase_add_test(t, a_connect_that_is_granted);
    tcase_add_test(t, an_upgrade_that_is_refused);
    tcase_add_test(t, an_upgrade_that_is_not_what_was_asked);
    tcase_add_test(t, what_is_not_a_response_resets);
    tcase_add_test(t, large_response_heads_reset);
    tcase_add_test(t, endless_informational_responses_reset);
    tcase_add_test(t, a_connection_that_ends_early_resets);
    tcase_add_test(t, a_reset_closes_the_connection);
    tcase_add_test(t, a_response_before_the_requests_end_is_not_followed_by_another);
    tcase_add_test(t, bytes_before_the_request_are_no_response);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
