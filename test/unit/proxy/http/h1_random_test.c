/* Whatever the bytes, the cuts and the user's doings: each exchange ends once, nothing is told
 * after its end, every arena comes back. Run under ASan; a failing seed is printed and can be given
 * in H1_SEED. */
#include "proxy/http/codec.h"

#include "test/support/cluster_fixture.h"
#include "test/support/far_end.h"
#include "tls/conn.h"
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t rng;

static unsigned roll(unsigned n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % n;
}

/* One end of an exchange, server or client. */
struct user {
    struct codec_stream *cs; /* NULL: over */
    struct arena *arena;
    bool is_server;
    bool sent_head, sent_end, received_end;
    unsigned pauses;
};

static unsigned exchanges, resets;

static void over(struct user *u)
{
    u->cs = NULL;
    u->pauses = 0;
}

static void send_something(struct user *u)
{
    struct codec_stream *cs = u->cs;
    bool end = roll(3) == 0;
    if (!u->sent_head) {
        struct headers *h = ARENA_NEW(u->arena, struct headers);
        headers_init(h, u->arena);
        h->status = roll(8) ? 200 : 204;
        h->method = roll(8) ? STR("POST") : STR("HEAD");
        h->path = STR("/");
        h->authority = STR("a");
        if (roll(3) == 0)
            headers_add_known(h, HDR_CONTENT_LENGTH, roll(2) ? STR("5") : STR("40000"));
        u->sent_head = true;
        u->sent_end = end;
        cs->ops->headers(cs, h, end);
    } else if (roll(8) == 0) {
        struct headers t;
        headers_init(&t, u->arena);
        headers_add(&t, STR("t"), STR("u"));
        u->sent_end = true;
        cs->ops->trailers(cs, &t);
    } else {
        struct buffer b;
        buffer_init(&b);
        static const char bytes[50000];
        buffer_add(&b, bytes, roll(4) ? roll(100) : roll(50000));
        u->sent_end = end;
        cs->ops->data(cs, &b, end);
        buffer_cleanup(&b);
    }
    if (u->sent_end && u->is_server)
        over(u);
}

static void do_something(struct user *u)
{
    if (!u->cs)
        return;
    switch (roll(10)) {
    case 0:
        u->pauses++;
        u->cs->ops->pause(u->cs);
        break;
    case 1:
    case 2:
        if (!u->pauses)
            break;
        u->pauses--;
        u->cs->ops->resume(u->cs);
        break;
    case 3:
        if (roll(6) == 0)
            u->cs->ops->close_after(u->cs);
        break;
    case 4:
        if (roll(10) == 0) {
            u->cs->ops->reset(u->cs, RESET_LOCAL);
            over(u);
        }
        break;
    default:
        if (!u->sent_end)
            send_something(u);
        break;
    }
}

/* --- events
 * ------------------------------------------------------------------------------------------------
 */

static struct user *alive(void *user)
{
    struct user *u = user;
    ck_assert_ptr_nonnull(u->cs);
    return u;
}

static void received(struct user *u, bool end)
{
    ck_assert(!u->received_end);
    u->received_end = end;
    if (end && u->sent_end) /* a client's; who has not sent all by now must reset */
        over(u);
    while (roll(3) == 0)
        do_something(u);
    if (u->cs && !u->is_server && u->received_end && !u->sent_end && roll(2)) {
        u->cs->ops->reset(u->cs, RESET_LOCAL);
        over(u);
    }
}

static void on_informational(void *user, struct headers *h)
{
    alive(user);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    received(alive(user), end);
}

static void on_data(void *user, struct buffer *b, bool end)
{
    struct user *u = alive(user);
    ck_assert_uint_eq(u->pauses, 0);
    buffer_drain(b, roll(2) ? b->len : roll(100));
    received(u, end);
}

static void on_trailers(void *user, struct headers *h)
{
    received(alive(user), true);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    resets++;
    over(alive(user));
}

static void on_watermark(void *user)
{
    alive(user);
}

static const struct codec_events events = {
    .on_informational = on_informational,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_watermark,
    .on_below = on_watermark,
};

/* --- what comes from the other side
 * ------------------------------------------------------------------------- */

static const char *const requests[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /2 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789",
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
    "chunked\r\n\r\n3\r\nabc\r\n5\r\nabcde\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: u\r\n\r\n",
    "\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX",
    "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
};

static const char *const responses[] = {
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 204 No\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: u\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokX",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcX",
    "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n",
};

/* Some bytes from `all`, of which *at are sent already. */
static void send_some(struct far_end *far, const struct buffer *all, size_t *at)
{
    char piece[200];
    size_t n = roll(3) ? 1 + roll(sizeof(piece)) : 1 + roll(5);
    n = buffer_copy_out(all, *at, piece, n < sizeof(piece) ? n : sizeof(piece));
    *at += n;
    if (n)
        far_end_send(far, piece, n);
}

/* --- the server
 * ------------------------------------------------------------------------------------------------
 */

static struct far_end far;
static struct conn conn;
static struct http_server *server;
static struct user one;
static int arenas;
static bool closed;
static struct http_limits limits = {
    .max_headers_bytes = 61440,
    .max_headers_count = 100,
    .headers_timeout_ms = 10000,
    .idle_timeout_ms = 60000,
    .delayed_close_ms = 1000,
};

static void new_stream(void *user, struct codec_stream *cs)
{
    ck_assert_ptr_null(one.cs);
    if (one.arena) {
        arena_free(&one.arena);
        arenas--;
    }
    one = (struct user){.cs = cs, .arena = cs->arena, .is_server = true};
    cs->events = &events;
    cs->user = &one;
    exchanges++;
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
    ck_assert_ptr_null(one.cs);
}

static void on_closed(void *user)
{
    ck_assert_ptr_null(one.cs);
    closed = true;
    server->ops->free(server);
    conn_cleanup(&conn);
    if (one.arena)
        arenas--;
    arena_free(&one.arena);
}

static const struct http_server_events server_events = {
    .new_stream = new_stream,
    .arena_for = arena_for,
    .arena_unused = arena_unused,
    .on_malformed = on_malformed,
    .on_closed = on_closed,
};

static void connected(void *owner, struct conn *c)
{
    server = h1_server_new(c, &limits, &server_events, NULL);
}

static const struct conn_ops before = {.on_connected = connected};

static void run_server(uint64_t seed)
{
    struct buffer all;
    struct addr nobody = {0};
    size_t at = 0;
    rng = seed;
    closed = false;
    one = (struct user){0};
    far_end_open(&far, NULL);
    conn_init_accepted(&conn, far.loop, far.near_fd, NULL, &nobody, &nobody, 0, &before, NULL);
    conn_set_limits(&conn, 1024);
    far_end_spin(&far, false);
    buffer_init(&all);
    for (unsigned n = 1 + roll(6); n; n--)
        buffer_add_str(&all, str_of(requests[roll(roll(3) ? 7 : ARRAY_LEN(requests))]));
    for (int i = 0; i < 300 && !closed; i++) {
        if (roll(2))
            send_some(&far, &all, &at);
        if (roll(40) == 0)
            loop_advance(far.loop, roll(2) ? 500 : 11000);
        if (roll(100) == 0 && !closed)
            server->ops->drain(server);
        far_end_spin(&far, roll(2));
        do_something(&one);
    }
    if (!closed && roll(2))
        far_end_shut(&far);
    far_end_spin(&far, true);
    if (roll(2) || far.fd >= 0)
        far_end_hang_up(&far);
    while (one.pauses && one.cs) {
        one.pauses--;
        one.cs->ops->resume(one.cs);
    }
    far_end_spin(&far, true);
    loop_advance(far.loop, 100000);
    far_end_spin(&far, true);
    if (one.cs) { /* its peer is gone, and it has not looked */
        one.cs->ops->reset(one.cs, RESET_LOCAL);
        over(&one);
        far_end_spin(&far, true);
    }
    ck_assert(closed);
    ck_assert_int_eq(arenas, 0);
    far_end_close(&far);
    loop_free(&far.loop);
    buffer_cleanup(&all);
}

static void each_seed(void (*run)(uint64_t seed))
{
    const char *given = getenv("H1_SEED");
    unsigned from = given ? (unsigned)strtoul(given, NULL, 10) : 1;
    for (unsigned seed = from; seed < from + (given ? 1 : 1500); seed++) {
        fprintf(stderr, "%s%u", seed == from ? "seeds " : "\rseeds ", seed);
        run(seed);
    }
    fprintf(stderr, ": %u exchanges, %u reset\n", exchanges, resets);
    if (!given) /* something did happen */
        ck_assert(exchanges >= 1500 && resets > 50);
    buffer_free_list_trim();
}

START_TEST(a_server_survives_everything)
{
    exchanges = resets = 0;
    each_seed(run_server);
}
END_TEST

/* --- the client
 * ------------------------------------------------------------------------------------------------
 */

static struct cluster_fixture f;
static int listener;
static struct host *host;
static struct pool_request slot;
static int got_slot;
static struct arena client_arena;
static const struct http_client_limits client_limits = {61440, 100};

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result r, struct str detail)
{
    got_slot = 1;
    if (r != POOL_READY)
        return;
    one = (struct user){.arena = &client_arena};
    one.cs = h1_client_stream(pc, &client_arena, &client_limits, &events, &one);
    exchanges++;
}

/* Takes the connection that was opened for the last exchange, if one was. */
static void accept_new(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int on = 1;
    if (fd < 0)
        return;
    far_end_close(&far);
    far = (struct far_end){.loop = f.loop, .fd = fd};
    buffer_init(&far.got);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void run_exchange(void)
{
    struct buffer all;
    size_t at = 0;
    struct cluster *c = worker_clusters_find(f.worker, STR("c"));
    got_slot = 0;
    arena_reset(&client_arena);
    pool_acquire(c, host, &h1_client_protocol, NULL, PRIORITY_DEFAULT, &slot, on_slot, NULL);
    fixture_spin(&f, &got_slot);
    accept_new();
    buffer_init(&all);
    buffer_add_str(&all, str_of(responses[roll(roll(3) ? 6 : ARRAY_LEN(responses))]));
    bool answered = false;
    for (int i = 0; i < 100 && one.cs; i++) {
        answered = answered || (one.sent_head && roll(4) == 0);
        if (answered)
            send_some(&far, &all, &at);
        if (at == all.len && roll(20) == 0 && far.fd >= 0)
            far_end_shut(&far);
        far_end_spin(&far, roll(2));
        do_something(&one);
    }
    if (one.cs) {
        one.cs->ops->reset(one.cs, RESET_LOCAL);
        over(&one);
    }
    far_end_spin(&far, true);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE), 0);
    buffer_cleanup(&all);
}

static void run_client(uint64_t seed)
{
    rng = seed;
    run_exchange();
}

START_TEST(a_client_survives_everything)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    char address[32];
    exchanges = resets = 0;
    fixture_start(&f);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
    ck_assert_int_eq(listen(listener, 16), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(sin.sin_port));
    host = fixture_host(&f, address);
    struct cluster_config *config = cluster_config_new(&f.home, STR("c"));
    config->connect_timeout_ms = 1000;
    config->buffer_limit = 1024;
    struct host *h = host_ref(host);
    fixture_publish(&f, config, &h, 1);
    far = (struct far_end){.loop = f.loop, .fd = -1};
    arena_init(&client_arena, 0);
    each_seed(run_client);
    far_end_close(&far);
    host_unref(host);
    close(listener);
    fixture_stop(&f);
    arena_cleanup(&client_arena);
    buffer_free_list_trim();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/http/h1_random");
    TCase *t = tcase_create("h1_random");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_server_survives_everything);
    tcase_add_test(t, a_client_survives_everything);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
