/* A plain connection on a loop: how it opens, how bytes and pauses go, and every way it ends. */
#include "tls/conn.h"

#include "test/support/fake_transport.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the owner was told, and what it does when told. */
struct owner {
    struct conn conn;
    struct buffer got;
    int connected, reads, below, above, closed;
    bool eof;
    enum conn_close_reason why;
    bool leave;         /* leaves bytes in `in` */
    bool pause_on_read; /* pauses after every read */
    bool close_on_eof;
    const char *cleanup_in; /* the callback that frees the connection */
};

static struct loop *loop;
static int peer_fd; /* the far end */
static struct owner o;

static bool clean(struct owner *w, const char *where)
{
    if (!w->cleanup_in || strcmp(w->cleanup_in, where) != 0)
        return false;
    conn_cleanup(&w->conn);
    return true;
}

static void on_connected(void *owner, struct conn *c)
{
    struct owner *w = owner;
    w->connected++;
    (void)clean(w, "connected");
}

static void on_read(void *owner, struct conn *c)
{
    struct owner *w = owner;
    w->reads++;
    w->eof |= c->eof;
    if (!w->leave)
        buffer_move(&w->got, &c->in, c->in.len);
    if (w->pause_on_read)
        conn_pause_read(c);
    if (clean(w, "read"))
        return;
    if (c->eof && w->close_on_eof)
        conn_close(c, CONN_CLOSE_FLUSH, 1000);
}

static void on_below(void *owner, struct conn *c)
{
    struct owner *w = owner;
    w->below++;
    (void)clean(w, "below");
}

static void on_above(void *owner, struct conn *c)
{
    ((struct owner *)owner)->above++;
}

static void on_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct owner *w = owner;
    ck_assert_int_eq(c->fd, -1);
    w->closed++;
    w->why = why;
    (void)clean(w, "closed");
}

static const struct conn_ops ops = {on_connected, on_read, on_below, on_above, on_closed};

static void setup(void)
{
    loop = loop_new(true);
    o = (struct owner){0};
    buffer_init(&o.got);
    peer_fd = -1;
}

static void teardown(void)
{
    ck_assert_int_le(o.closed, 1);
    int closed = o.closed;
    conn_cleanup(&o.conn);
    for (int i = 0; i < 10; i++)
        loop_run_once(loop, false);
    ck_assert_int_eq(o.closed, closed);
    buffer_cleanup(&o.got);
    if (peer_fd >= 0)
        close(peer_fd);
    loop_free(&loop);
    buffer_free_list_trim();
}

static void turn(void)
{
    for (int idle = 0; idle < 3; idle++) {
        if (loop_run_once(loop, false))
            idle = 0;
    }
}

static void non_blocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Accepted over a socketpair. */
static void open_pair(void)
{
    int fds[2];
    struct addr none = {0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    peer_fd = fds[1];
    conn_init_accepted(&o.conn, loop, fds[0], NULL, &none, &none, 0, &ops, &o);
    ck_assert_int_eq(o.connected, 0);
    turn();
    ck_assert_int_eq(o.connected, 1);
}

static int listen_on(struct addr *a, int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert(addr_parse_ip(STR("127.0.0.1"), 0, a));
    ck_assert_int_eq(addr_bind(fd, a), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    ck_assert(addr_local(fd, a));
    return fd;
}

/* Connected over TCP; `accepted`: the connection under test is the server's. */
static void open_tcp(bool accepted)
{
    struct addr a;
    int lfd = listen_on(&a, 16);
    if (accepted) {
        peer_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(addr_connect(peer_fd, &a), 0);
        int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        conn_init_accepted(&o.conn, loop, fd, NULL, &a, &a, 0, &ops, &o);
        turn();
    } else {
        struct conn_connect how = {.peer = &a, .timeout_ms = 5000};
        conn_init_connecting(&o.conn, loop, &how, &ops, &o);
        ck_assert_int_eq(o.connected, 0);
        turn();
        peer_fd = accept(lfd, NULL, NULL);
    }
    non_blocking(peer_fd);
    close(lfd);
    ck_assert_int_eq(o.connected, 1);
    ck_assert(o.conn.connected_us > 0);
}

static void say(const char *text)
{
    ck_assert_int_eq(send(peer_fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void put(const char *text)
{
    struct buffer b;
    buffer_init(&b);
    buffer_add_str(&b, str_of(text));
    conn_write(&o.conn, &b);
    ck_assert_uint_eq(b.len, 0);
}

static void put_many(size_t n)
{
    struct buffer b;
    char block[4096] = {0};
    buffer_init(&b);
    for (size_t left = n; left; left -= left < sizeof(block) ? left : sizeof(block))
        buffer_add(&b, block, left < sizeof(block) ? left : sizeof(block));
    conn_write(&o.conn, &b);
}

static void expect_got(const char *text)
{
    char had[256] = {0};
    buffer_copy_out(&o.got, 0, had, sizeof(had) - 1);
    ck_assert_str_eq(had, text);
}

/* What the peer finds: bytes read, and 0 at an end, -1 with nothing there, or -errno. */
static ssize_t peer_read(char *to, size_t len)
{
    ssize_t n = recv(peer_fd, to, len, MSG_DONTWAIT);
    return n >= 0 ? n : errno == EAGAIN ? -1 : -errno;
}

static size_t peer_drain(void)
{
    char block[65536];
    size_t sum = 0;
    for (ssize_t n; (n = peer_read(block, sizeof(block))) > 0;)
        sum += (size_t)n;
    return sum;
}

static void reset_peer(void)
{
    struct linger l = {.l_onoff = 1};
    setsockopt(peer_fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    close(peer_fd);
    peer_fd = -1;
}

/* --- opening --------------------------------------------------------------------------------- */

static void connect_to(const struct addr *a, uint64_t ms)
{
    struct conn_connect how = {.peer = a, .timeout_ms = ms};
    conn_init_connecting(&o.conn, loop, &how, &ops, &o);
    ck_assert_int_eq(o.closed, 0); /* never inside */
}

START_TEST(refused)
{
    struct addr a;
    int fd = listen_on(&a, 1);
    close(fd);
    connect_to(&a, 1000);
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_CONNECT);
    ck_assert_int_eq(o.conn.err, ECONNREFUSED);
    ck_assert_int_eq(o.connected, 0);
    loop_advance(loop, 5000);
    ck_assert_int_eq(o.closed, 1);
}
END_TEST

START_TEST(fails_at_once)
{
    struct addr a;
    ck_assert(addr_parse_pipe(STR("/nonexistent/socket"), &a));
    connect_to(&a, 1000);
    put("dropped");
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_CONNECT);
    ck_assert_int_eq(o.conn.err, ENOENT);
    ck_assert(conn_closing(&o.conn));
    ck_assert(!conn_peer(&o.conn));
    ck_assert_uint_eq(conn_failure(&o.conn).len, 0);
}
END_TEST

START_TEST(cannot_bind)
{
    struct addr a, from;
    int fd = listen_on(&a, 1);
    ck_assert(addr_parse_ip(STR("203.0.113.7"), 0, &from));
    struct conn_connect how = {.peer = &a, .bind = &from};
    conn_init_connecting(&o.conn, loop, &how, &ops, &o);
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_CONNECT);
    ck_assert_int_eq(o.conn.err, EADDRNOTAVAIL);
    close(fd);
}
END_TEST

START_TEST(binds_source)
{
    struct addr a, from;
    int lfd = listen_on(&a, 1);
    ck_assert(addr_parse_ip(STR("127.0.0.9"), 0, &from));
    struct conn_connect how = {.peer = &a, .bind = &from};
    conn_init_connecting(&o.conn, loop, &how, &ops, &o);
    turn();
    ck_assert_int_eq(o.connected, 1);
    ck_assert(addr_eq_ip(&o.conn.local, &from));
    peer_fd = accept(lfd, NULL, NULL);
    close(lfd);
}
END_TEST

/* A listener whose backlog is full drops the SYN: the connection stays half open. */
START_TEST(connect_timeout)
{
    struct addr a;
    int fillers[8];
    int lfd = listen_on(&a, 0);
    for (size_t i = 0; i < ARRAY_LEN(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!addr_connect(fillers[i], &a);
    }
    connect_to(&a, 300);
    turn();
    ck_assert_int_eq(o.closed, 0);
    loop_advance(loop, 299);
    ck_assert_int_eq(o.closed, 0);
    loop_advance(loop, 2);
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_CONNECT_TIMEOUT);
    for (size_t i = 0; i < ARRAY_LEN(fillers); i++)
        close(fillers[i]);
    close(lfd);
}
END_TEST

START_TEST(written_before_connected)
{
    struct addr a;
    int lfd = listen_on(&a, 1);
    char text[16] = {0};
    connect_to(&a, 1000);
    put("early");
    conn_shut_write(&o.conn);
    turn();
    peer_fd = accept(lfd, NULL, NULL);
    close(lfd);
    ck_assert_int_eq(peer_read(text, sizeof(text)), 5);
    ck_assert_str_eq(text, "early");
    ck_assert_int_eq(peer_read(text, sizeof(text)), 0);
    ck_assert_uint_eq(o.conn.bytes_written, 5);
}
END_TEST

static struct fake_transport fake;

static void open_fake(const enum io_status *handshake, size_t n, uint64_t ms)
{
    int fds[2];
    struct addr none = {0};
    fake_transport_init(&fake, handshake, n);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    peer_fd = fds[1];
    conn_init_accepted(&o.conn, loop, fds[0], &fake.t, &none, &none, ms, &ops, &o);
    turn();
}

START_TEST(handshake_timeout)
{
    open_fake((enum io_status[]){IO_AGAIN}, 1, 200);
    loop_advance(loop, 199);
    ck_assert_int_eq(o.closed, 0);
    loop_advance(loop, 2);
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_HANDSHAKE_TIMEOUT);
    ck_assert_int_eq(o.connected, 0);
    conn_cleanup(&o.conn);
    ck_assert_int_eq(fake.freed, 1);
}
END_TEST

START_TEST(handshake_fails)
{
    open_fake((enum io_status[]){IO_ERROR}, 1, 200);
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_TLS);
    ck_assert(str_eq(conn_failure(&o.conn), STR("TLS_error:|1|")));
}
END_TEST

/* The peer's last bytes finish the handshake, its end came along with them. */
START_TEST(handshake_done_with_fin)
{
    open_fake((enum io_status[]){IO_AGAIN, IO_AGAIN, IO_AGAIN, IO_OK}, 4, 200);
    ck_assert_int_eq(o.closed + o.connected, 0);
    fake.asked = 2;
    say("x");
    shutdown(peer_fd, SHUT_WR);
    turn();
    ck_assert_int_eq(o.connected, 1);
    ck_assert_int_eq(o.closed, 0);
}
END_TEST

START_TEST(handshake_cut_by_fin)
{
    open_fake((enum io_status[]){IO_AGAIN, IO_AGAIN, IO_AGAIN, IO_EOF}, 4, 200);
    fake.asked = 2;
    say("x");
    shutdown(peer_fd, SHUT_WR);
    turn();
    ck_assert_int_eq(o.connected, 0);
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_TLS);
}
END_TEST

/* --- bytes ------------------------------------------------------------------------------------ */

START_TEST(both_ways)
{
    char text[16] = {0};
    open_pair();
    say("hello");
    put("world");
    turn();
    expect_got("hello");
    ck_assert_int_eq(peer_read(text, sizeof(text)), 5);
    ck_assert_str_eq(text, "world");
    ck_assert_uint_eq(o.conn.bytes_read, 5);
    ck_assert_uint_eq(o.conn.bytes_written, 5);
    ck_assert_int_eq(o.closed, 0);
}
END_TEST

static void check_data_with_fin(size_t n)
{
    char *block = mem_zalloc(n);
    size_t sent = 0;
    while (sent < n) {
        ssize_t r = send(peer_fd, block + sent, n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r > 0)
            sent += (size_t)r;
        else
            loop_run_once(loop, false);
    }
    shutdown(peer_fd, SHUT_WR);
    mem_free(block);
    turn();
    ck_assert_uint_eq(o.got.len, n);
    ck_assert(o.eof);
    ck_assert_int_eq(o.closed, 0);
}

START_TEST(data_with_fin)
{
    open_pair();
    check_data_with_fin(5);
}
END_TEST

START_TEST(much_data_with_fin)
{
    open_tcp(true);
    check_data_with_fin(3000000);
}
END_TEST

/* Everything that came before a reset is read, and the reset is seen although one event told of
 * both. */
START_TEST(data_with_reset)
{
    open_tcp(_i != 0);
    say("last words");
    reset_peer();
    turn();
    expect_got("last words");
    loop_advance(loop, 300);
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_RESET);
}
END_TEST

START_TEST(reset_after_fin)
{
    open_tcp(true);
    shutdown(peer_fd, SHUT_WR);
    turn();
    ck_assert(o.eof);
    ck_assert_int_eq(o.closed, 0);
    reset_peer();
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_RESET);
}
END_TEST

START_TEST(half_close)
{
    char text[16] = {0};
    open_pair();
    conn_set_half_close(&o.conn, true);
    shutdown(peer_fd, SHUT_WR);
    turn();
    ck_assert(o.eof);
    ck_assert_int_eq(o.reads, 1); /* told once */
    put("still here");
    turn();
    ck_assert_int_eq(peer_read(text, sizeof(text)), 10);
    conn_shut_write(&o.conn);
    turn();
    ck_assert_int_eq(peer_read(text, sizeof(text)), 0);
    ck_assert_int_eq(o.reads, 1);
    ck_assert_int_eq(o.closed, 0); /* the owner closes */
    conn_close(&o.conn, CONN_CLOSE_FLUSH, 1000);
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_REMOTE); /* the peer was first */
}
END_TEST

START_TEST(shut_write_sends_all_first)
{
    open_pair();
    put_many(1000000);
    conn_shut_write(&o.conn);
    size_t sum = 0;
    for (int i = 0; i < 1000 && sum < 1000000; i++) {
        turn();
        sum += peer_drain();
    }
    turn();
    ck_assert_uint_eq(sum, 1000000);
    char c;
    ck_assert_int_eq(peer_read(&c, 1), 0);
}
END_TEST

START_TEST(early_response_survives_reset)
{
    open_tcp(false);
    put_many(8 << 20); /* more than the sockets hold */
    turn();
    say("HTTP/1.1 413 no\r\n\r\n");
    close(peer_fd); /* with bytes unread: a reset */
    peer_fd = -1;
    turn();
    expect_got("HTTP/1.1 413 no\r\n\r\n");
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_RESET);
}
END_TEST

/* Nobody will read while the reading is paused: a response that cannot be sent must not keep the
 * connection for ever. */
START_TEST(write_fails_while_paused)
{
    open_tcp(true);
    conn_pause_read(&o.conn);
    reset_peer();
    turn();
    put("response");
    turn();
    put("more");
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_RESET);
}
END_TEST

/* --- pauses and watermarks -------------------------------------------------------------------- */

START_TEST(pauses_count)
{
    open_pair();
    conn_pause_read(&o.conn);
    conn_pause_read(&o.conn);
    say("abc");
    turn();
    ck_assert_int_eq(o.reads, 0);
    conn_resume_read(&o.conn);
    turn();
    ck_assert_int_eq(o.reads, 0);
    conn_resume_read(&o.conn);
    ck_assert_int_eq(o.reads, 0); /* never inside */
    turn();
    expect_got("abc");
}
END_TEST

START_TEST(end_while_paused)
{
    open_pair();
    conn_pause_read(&o.conn);
    say("abc");
    shutdown(peer_fd, SHUT_WR);
    turn();
    ck_assert(!o.eof);
    conn_resume_read(&o.conn);
    turn();
    expect_got("abc");
    ck_assert(o.eof);
}
END_TEST

START_TEST(pause_in_callback)
{
    open_pair();
    o.pause_on_read = true;
    say("one");
    turn();
    say("two");
    turn();
    expect_got("one");
    conn_resume_read(&o.conn);
    turn();
    expect_got("onetwo");
}
END_TEST

START_TEST(read_again)
{
    open_pair();
    o.leave = true;
    say("left");
    turn();
    ck_assert_int_eq(o.reads, 1);
    turn();
    ck_assert_int_eq(o.reads, 1); /* not again by itself */
    o.leave = false;
    conn_read_again(&o.conn);
    ck_assert_int_eq(o.reads, 1);
    turn();
    expect_got("left");
}
END_TEST

START_TEST(read_again_while_paused_is_kept)
{
    open_pair();
    o.leave = true;
    say("left");
    turn();
    o.leave = false;
    conn_pause_read(&o.conn);
    conn_read_again(&o.conn);
    turn();
    ck_assert_int_eq(o.reads, 1);
    conn_resume_read(&o.conn);
    turn();
    ck_assert_int_eq(o.reads, 2);
    expect_got("left");
}
END_TEST

START_TEST(out_watermarks)
{
    open_pair();
    conn_set_limits(&o.conn, 65536);
    put_many(65536);
    ck_assert_int_eq(o.above, 0);
    put_many(1000000);
    ck_assert_int_eq(o.above, 1);
    turn();
    ck_assert_int_eq(o.below, 0);
    for (int i = 0; i < 1000 && o.conn.out.len; i++) {
        peer_drain();
        turn();
    }
    ck_assert_int_eq(o.above, 1);
    ck_assert_int_eq(o.below, 1);
}
END_TEST

/* The owner leaves everything: reading stops at the limit and goes on when it takes bytes, also
 * when what is there is exactly the limit. */
START_TEST(in_limit)
{
    size_t limit = (size_t)_i;
    open_tcp(true);
    conn_set_limits(&o.conn, limit);
    o.leave = true;
    char block[4096] = {0};
    size_t sent = 0;
    for (int i = 0; i < 2000 && sent < 8 * limit; i++) {
        ssize_t n = send(peer_fd, block, sizeof(block), MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        if (n <= 0)
            turn();
    }
    turn();
    ck_assert_uint_ge(o.conn.in.len, limit);
    ck_assert_uint_le(o.conn.in.len, limit + BUFFER_BLOCK);
    size_t taken = 0;
    for (int i = 0; i < 2000 && taken < sent; i++) {
        taken += o.conn.in.len;
        buffer_drain(&o.conn.in, o.conn.in.len); /* outside of on_read */
        turn();
    }
    ck_assert_uint_eq(taken, sent);
}
END_TEST

/* --- closing -----------------------------------------------------------------------------------
 */

START_TEST(close_now_drops)
{
    char c;
    open_pair();
    put("dropped");
    conn_close(&o.conn, CONN_CLOSE_NOW, 0);
    ck_assert(conn_closing(&o.conn));
    ck_assert_int_eq(o.closed, 0);
    conn_close(&o.conn, CONN_CLOSE_FLUSH, 100);
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_LOCAL);
    ck_assert_int_eq(peer_read(&c, 1), 0);
    put("nothing");
    conn_flush_soon(&o.conn);
    conn_shut_write(&o.conn);
    conn_read_again(&o.conn);
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.reads, 0);
}
END_TEST

START_TEST(close_reset)
{
    char c;
    open_tcp(true);
    conn_close(&o.conn, CONN_CLOSE_RESET, 0);
    turn();
    ck_assert_int_eq(peer_read(&c, 1), -ECONNRESET);
    ck_assert_int_eq(o.why, CONN_CLOSED_LOCAL);
}
END_TEST

START_TEST(close_flushes)
{
    open_pair();
    put_many(1000000);
    conn_close(&o.conn, CONN_CLOSE_FLUSH, 1000);
    say("ignored");
    turn();
    ck_assert_int_eq(o.closed, 0);
    size_t sum = 0;
    for (int i = 0; i < 1000 && !o.closed; i++) {
        sum += peer_drain();
        turn();
    }
    sum += peer_drain();
    ck_assert_uint_eq(sum, 1000000);
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.reads, 0);
}
END_TEST

START_TEST(flush_is_bounded)
{
    open_pair();
    put_many(1000000);
    conn_close(&o.conn, CONN_CLOSE_FLUSH, 500);
    turn();
    loop_advance(loop, 499);
    ck_assert_int_eq(o.closed, 0);
    loop_advance(loop, 2);
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_LOCAL);
}
END_TEST

START_TEST(flush_to_a_dead_peer)
{
    open_tcp(true);
    put_many(8 << 20);
    turn();
    conn_close(&o.conn, CONN_CLOSE_FLUSH, 5000);
    reset_peer();
    turn();
    ck_assert_int_eq(o.closed, 1);
}
END_TEST

/* The peer still sends: a close would reset it before it has read the answer. */
START_TEST(lingers)
{
    char text[32] = {0};
    open_tcp(true);
    say("a long request");
    turn();
    put("413");
    say(" that goes on");
    conn_close(&o.conn, CONN_CLOSE_LINGER, 1000);
    turn();
    ck_assert_int_eq(o.closed, 0);
    for (int i = 0; i < 100; i++) {
        say("and on");
        turn();
    }
    ck_assert_int_eq(peer_read(text, sizeof(text)), 3);
    ck_assert_str_eq(text, "413");
    ck_assert_int_eq(peer_read(text, sizeof(text)), 0);
    ck_assert_int_eq(o.reads, 1); /* what came after is dropped */
    ck_assert_int_eq(o.closed, 0);
    close(peer_fd);
    peer_fd = -1;
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(o.why, CONN_CLOSED_LOCAL);
}
END_TEST

START_TEST(linger_is_bounded)
{
    open_tcp(true);
    put("bye");
    conn_close(&o.conn, CONN_CLOSE_LINGER, 700);
    turn();
    for (int i = 0; i < 6; i++) {
        say("x");
        loop_advance(loop, 100);
        ck_assert_int_eq(o.closed, 0);
    }
    loop_advance(loop, 101);
    ck_assert_int_eq(o.closed, 1);
}
END_TEST

/* What is still to be sent gets the time that is given, and no lingering read after it. */
START_TEST(hasten_shortens_a_flush)
{
    static char much[1 << 20];
    open_tcp(true);
    struct buffer b;
    buffer_init(&b);
    for (int i = 0; i < 16; i++)
        buffer_add(&b, much, sizeof(much));
    conn_write(&o.conn, &b);
    conn_close(&o.conn, CONN_CLOSE_LINGER, 60000);
    turn();
    ck_assert_uint_gt(o.conn.out.len, 0);
    conn_hasten(&o.conn, 1000);
    loop_advance(loop, 900);
    ck_assert_int_eq(o.closed, 0);
    loop_advance(loop, 101);
    ck_assert_int_eq(o.closed, 1);
}
END_TEST

START_TEST(linger_ends_with_a_peer_that_ended)
{
    open_tcp(true);
    shutdown(peer_fd, SHUT_WR);
    turn();
    put("bye");
    conn_close(&o.conn, CONN_CLOSE_LINGER, 60000);
    turn();
    ck_assert_int_eq(o.closed, 1);
    char text[8] = {0};
    ck_assert_int_eq(peer_read(text, sizeof(text)), 3);
}
END_TEST

START_TEST(close_at_eof)
{
    char text[8] = {0};
    open_pair();
    o.close_on_eof = true;
    put("bye");
    shutdown(peer_fd, SHUT_WR);
    turn();
    ck_assert_int_eq(o.closed, 1);
    ck_assert_int_eq(peer_read(text, sizeof(text)), 3);
    ck_assert_int_eq(peer_read(text, sizeof(text)), 0);
}
END_TEST

START_TEST(peer_ended)
{
    open_pair();
    ck_assert(!conn_peer_ended(&o.conn));
    say("unexpected");
    ck_assert(conn_peer_ended(&o.conn)); /* seen in the socket, before any event */
    turn();
    ck_assert(!conn_peer_ended(&o.conn));
    close(peer_fd);
    peer_fd = -1;
    ck_assert(conn_peer_ended(&o.conn));
    turn();
    ck_assert(conn_peer_ended(&o.conn));
}
END_TEST

/* --- cleanup -----------------------------------------------------------------------------------
 */

static const char *const callbacks[] = {"connected", "read", "below", "closed"};

/* Freed inside a callback: nothing of it is touched afterwards. */
START_TEST(cleanup_inside)
{
    int fds[2];
    struct addr none = {0};
    o.cleanup_in = callbacks[_i];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    peer_fd = fds[1];
    conn_init_accepted(&o.conn, loop, fds[0], NULL, &none, &none, 100, &ops, &o);
    conn_set_limits(&o.conn, 1000);
    say("hello");
    put_many(2000);
    turn();
    shutdown(peer_fd, SHUT_WR);
    turn();
    if (strcmp(o.cleanup_in, "closed") == 0) {
        conn_close(&o.conn, CONN_CLOSE_NOW, 0);
        turn();
        ck_assert_int_eq(o.closed, 1);
    } else {
        ck_assert_int_eq(o.closed, 0);
    }
    ck_assert(conn_closing(&o.conn));
    ck_assert_int_eq(o.conn.fd, -1);
}
END_TEST

/* Freed at each moment of a life, with events, timers and tasks outstanding. */
START_TEST(cleanup_between)
{
    struct addr a;
    int lfd = listen_on(&a, 4);
    connect_to(&a, 50);
    for (int i = 0; i < _i % 5; i++)
        loop_run_once(loop, false);
    put("hello");
    if (_i & 1)
        conn_close(&o.conn, _i & 2 ? CONN_CLOSE_LINGER : CONN_CLOSE_FLUSH, 50);
    if (_i & 2)
        loop_run_once(loop, false);
    int closed = o.closed;
    conn_cleanup(&o.conn);
    conn_cleanup(&o.conn); /* twice is fine */
    loop_advance(loop, 200);
    ck_assert_int_eq(o.closed, closed);
    close(lfd);
}
END_TEST

int main(void)
{
    /* Each with the range of _i it is run for. */
    const struct {
        const TTest *test;
        int from, to;
    } tests[] = {
        {refused, 0, 1},
        {fails_at_once, 0, 1},
        {cannot_bind, 0, 1},
        {binds_source, 0, 1},
        {connect_timeout, 0, 1},
        {written_before_connected, 0, 1},
        {handshake_timeout, 0, 1},
        {handshake_fails, 0, 1},
        {handshake_done_with_fin, 0, 1},
        {handshake_cut_by_fin, 0, 1},
        {both_ways, 0, 1},
        {data_with_fin, 0, 1},
        {much_data_with_fin, 0, 1},
        {data_with_reset, 0, 2},
        {reset_after_fin, 0, 1},
        {half_close, 0, 1},
        {shut_write_sends_all_first, 0, 1},
        {early_response_survives_reset, 0, 1},
        {write_fails_while_paused, 0, 1},
        {pauses_count, 0, 1},
        {end_while_paused, 0, 1},
        {pause_in_callback, 0, 1},
        {read_again, 0, 1},
        {read_again_while_paused_is_kept, 0, 1},
        {out_watermarks, 0, 1},
        {in_limit, 16383, 16386},
        {in_limit, 65536, 65537},
        {close_now_drops, 0, 1},
        {close_reset, 0, 1},
        {close_flushes, 0, 1},
        {flush_is_bounded, 0, 1},
        {flush_to_a_dead_peer, 0, 1},
        {lingers, 0, 1},
        {linger_is_bounded, 0, 1},
        {hasten_shortens_a_flush, 0, 1},
        {linger_ends_with_a_peer_that_ended, 0, 1},
        {close_at_eof, 0, 1},
        {peer_ended, 0, 1},
        {cleanup_inside, 0, (int)ARRAY_LEN(callbacks)},
        {cleanup_between, 0, 20},
    };
    Suite *s = suite_create("conn");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < ARRAY_LEN(tests); i++)
        tcase_add_loop_test(t, tests[i].test, tests[i].from, tests[i].to);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
