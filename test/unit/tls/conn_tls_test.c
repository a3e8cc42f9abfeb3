/* A connection with TLS below it, on a loop: bulk in both directions with pauses, ends, and
 * failures as its owner sees them. */
#include "tls/conn.h"

#include "test/support/tls_pair.h"
#include "tls/tls_transport.h"
#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct test_cert *root, *server, *client;

/* One end: sends `to_send` patterned bytes, expects the same of the other. */
struct end {
    struct conn conn;
    size_t to_send, sent, received, expect;
    unsigned pauses;
    bool connected, eof, closed, shut_when_done, bad;
    bool no_more; /* does not close at the peer's end */
    enum conn_close_reason why;
};

static char pattern(size_t i)
{
    return (char)(i * 31 + i / 65521);
}

static void feed(struct end *e)
{
    char block[7000];
    struct buffer b;
    buffer_init(&b);
    while (e->sent < e->to_send && !e->conn.out.above && !conn_closing(&e->conn)) {
        size_t n = e->to_send - e->sent < sizeof(block) ? e->to_send - e->sent : sizeof(block);
        for (size_t i = 0; i < n; i++)
            block[i] = pattern(e->sent + i);
        buffer_add(&b, block, n);
        conn_write(&e->conn, &b);
        e->sent += n;
    }
    if (e->sent == e->to_send && e->shut_when_done) {
        e->shut_when_done = false;
        conn_shut_write(&e->conn);
    }
}

static void on_connected(void *owner, struct conn *c)
{
    struct end *e = owner;
    (void)c;
    e->connected = true;
    feed(e);
}

static void on_read(void *owner, struct conn *c)
{
    struct end *e = owner;
    while (c->in.len) {
        struct str s = buffer_peek(&c->in);
        for (size_t i = 0; i < s.len; i++)
            e->bad |= s.p[i] != pattern(e->received + i);
        e->received += s.len;
        buffer_drain(&c->in, s.len);
    }
    if (c->eof) {
        e->eof = true;
        if (!e->no_more)
            conn_close(c, CONN_CLOSE_FLUSH, 1000);
    } else if (e->received % 3 == 0) {
        conn_pause_read(c);
        e->pauses++;
    }
}

static void on_below(void *owner, struct conn *c)
{
    (void)c;
    feed(owner);
}

static void on_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct end *e = owner;
    (void)c;
    e->closed = true;
    e->why = why;
}

static const struct conn_ops ops = {
    .on_connected = on_connected, .on_read = on_read, .on_below = on_below, .on_closed = on_closed};

static struct tls_side server_side(void)
{
    return (struct tls_side){.chain = server->chain_pem,
                             .key = server->key_pem,
                             .ca = root->pem,
                             .ask_client = true,
                             .require_client = true};
}

static struct tls_side client_side(void)
{
    return (struct tls_side){.chain = client->chain_pem,
                             .key = client->key_pem,
                             .ca = root->pem,
                             .uri_exact = "spiffe://td/server"};
}

static void setup(void)
{
    loop = loop_new(false);
    root = test_cert_new(&(struct test_cert_options){.cn = "root", .ca = true});
    server = test_cert_new(&(struct test_cert_options){
        .cn = "server", .issuer = root, .san = "URI:spiffe://td/server"});
    client = test_cert_new(&(struct test_cert_options){
        .cn = "client", .issuer = root, .san = "URI:spiffe://td/client"});
}

static void teardown(void)
{
    test_cert_free(&client);
    test_cert_free(&server);
    test_cert_free(&root);
    loop_free(&loop);
}

static void open_ends(struct end *c, struct end *s, const struct tls_side *cs,
                      const struct tls_side *ss)
{
    int fds[2];
    struct addr none = {0};
    struct tls_config *cc = tls_side_config(cs, false), *sc = tls_side_config(ss, true);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    conn_init_accepted(&c->conn, loop, fds[0], tls_transport_open(cc, fds[0], NULL), &none, &none,
                       5000, &ops, c);
    conn_init_accepted(&s->conn, loop, fds[1], tls_transport_open(sc, fds[1], NULL), &none, &none,
                       5000, &ops, s);
    conn_set_limits(&c->conn, 65536);
    conn_set_limits(&s->conn, 65536);
    tls_config_unref(cc);
    tls_config_unref(sc);
}

/* Runs until both are closed; undoes pauses between turns. */
static bool run(struct end *c, struct end *s)
{
    struct end *const ends[] = {c, s};
    for (int i = 0; i < 200000 && !(c->closed && s->closed); i++) {
        if (!loop_run_once(loop, false))
            usleep(100);
        for (size_t k = 0; k < 2; k++) {
            while (ends[k]->pauses && !ends[k]->closed) {
                ends[k]->pauses--;
                conn_resume_read(&ends[k]->conn);
            }
        }
    }
    return c->closed && s->closed;
}

static void cleanup(struct end *c, struct end *s)
{
    conn_cleanup(&c->conn);
    conn_cleanup(&s->conn);
}

START_TEST(bulk_both_ways)
{
    struct tls_side cs = client_side(), ss = server_side();
    const size_t sizes[] = {0, 1, 16384, 16385, 65536, 65537, 3000000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct end c = {.to_send = sizes[i], .shut_when_done = true, .no_more = true};
        struct end s = {.to_send = sizes[ARRAY_LEN(sizes) - 1 - i]};
        open_ends(&c, &s, &cs, &ss);
        /* The client ends its direction; the server sends all and closes; both see all. */
        ck_assert(!c.closed);
        s.shut_when_done = true;
        s.no_more = c.no_more = true;
        for (int n = 0; n < 200000 && !(c.eof && s.eof); n++) {
            if (!loop_run_once(loop, false))
                usleep(100);
            for (; c.pauses; c.pauses--)
                conn_resume_read(&c.conn);
            for (; s.pauses; s.pauses--)
                conn_resume_read(&s.conn);
        }
        ck_assert(c.eof && s.eof && !c.bad && !s.bad);
        ck_assert_uint_eq(s.received, c.to_send);
        ck_assert_uint_eq(c.received, s.to_send);
        conn_close(&c.conn, CONN_CLOSE_FLUSH, 1000);
        conn_close(&s.conn, CONN_CLOSE_FLUSH, 1000);
        ck_assert(run(&c, &s));
        ck_assert_int_eq(c.why, CONN_CLOSED_REMOTE); /* the peer's end came first */
        cleanup(&c, &s);
    }
}
END_TEST

START_TEST(close_flushes_all)
{
    struct tls_side cs = client_side(), ss = server_side();
    struct end c = {.to_send = 60000}, s = {.to_send = 0};
    open_ends(&c, &s, &cs, &ss);
    while (!c.connected)
        loop_run_once(loop, false);
    conn_close(&c.conn, CONN_CLOSE_FLUSH, 2000);
    ck_assert(run(&c, &s));
    ck_assert_uint_eq(s.received, 60000);
    ck_assert(s.eof && !s.bad);
    cleanup(&c, &s);
}
END_TEST

START_TEST(truncation_is_a_failure)
{
    struct tls_side cs = client_side(), ss = server_side();
    struct end c = {.to_send = 100}, s = {.to_send = 0};
    open_ends(&c, &s, &cs, &ss);
    while (s.received < 100)
        loop_run_once(loop, false);
    shutdown(c.conn.fd, SHUT_WR); /* a FIN without close_notify */
    while (!s.closed)
        loop_run_once(loop, false);
    ck_assert(!s.eof);
    ck_assert_int_eq(s.why, CONN_CLOSED_TLS);
    ck_assert(str_eq(conn_failure(&s.conn), STR("TLS_error:_closed_without_close_notify")));
    conn_close(&c.conn, CONN_CLOSE_NOW, 0);
    ck_assert(run(&c, &s));
    cleanup(&c, &s);
}
END_TEST

START_TEST(refused_peer)
{
    struct tls_side cs = client_side(), ss = server_side();
    cs.uri_exact = "spiffe://td/another";
    struct end c = {.to_send = 10}, s = {.to_send = 10};
    open_ends(&c, &s, &cs, &ss);
    ck_assert(run(&c, &s));
    ck_assert(!c.connected);
    ck_assert_int_eq(c.why, CONN_CLOSED_TLS);
    ck_assert_int_eq(s.why, CONN_CLOSED_TLS);
    ck_assert(str_find(conn_failure(&c.conn), STR("SAN_matcher")) > 0);
    ck_assert(str_find(conn_failure(&s.conn), STR("ALERT")) > 0);
    cleanup(&c, &s);
}
END_TEST

START_TEST(silent_peer)
{
    struct tls_side ss = server_side();
    struct tls_config *sc = tls_side_config(&ss, true);
    struct addr none = {0};
    struct end s = {.to_send = 0};
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    conn_init_accepted(&s.conn, loop, fds[1], tls_transport_open(sc, fds[1], NULL), &none, &none,
                       20, &ops, &s);
    while (!s.closed)
        loop_run_once(loop, true);
    ck_assert_int_eq(s.why, CONN_CLOSED_HANDSHAKE_TIMEOUT);
    conn_cleanup(&s.conn);
    close(fds[0]);
    tls_config_unref(sc);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("conn_tls");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, bulk_both_ways);
    tcase_add_test(t, close_flushes_all);
    tcase_add_test(t, truncation_is_a_failure);
    tcase_add_test(t, refused_peer);
    tcase_add_test(t, silent_peer);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
