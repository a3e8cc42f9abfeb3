#include "tls/conn.h"

#include "base/obj.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { CONN_MAGIC = 0x434f4e4e, READ_BUDGET = 65536, CHECK_RESET_MS = 250, HANDSHAKE_TURNS = 4 };

enum conn_state {
    CONN_CONNECTING,
    CONN_HANDSHAKE,
    CONN_OPEN,
    CONN_FLUSHING,  /* conn_close: sends what is in out */
    CONN_LINGERING, /* our direction is ended; reads and drops */
    CONN_CLOSED,    /* the fd is gone, on_closed is under way or was called */
};

static void drive(struct conn *c);

/* --- closing ------------------------------------------------------------------------------- */

static void close_fd(struct conn *c)
{
    io_watch_cleanup(&c->watch);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* The end, for whatever reason: on_closed follows from the run queue. */
static void end(struct conn *c, enum conn_close_reason why)
{
    if (c->state == CONN_CLOSED)
        return;
    if (!c->close_wanted)
        c->why = (uint8_t)why;
    c->state = CONN_CLOSED;
    timer_disarm(&c->timer);
    task_cancel(&c->flush_task);
    task_cancel(&c->read_task);
    close_fd(c);
    loop_post(c->loop, &c->closed_task);
}

static void run_closed(void *arg)
{
    struct conn *c = OBJ_CAST(arg, struct conn, CONN_MAGIC);
    c->ops->on_closed(c->owner, c, c->why);
}

/* libevent does not say of a reset that it is one, and a short read hides it when it came together
 * with the last bytes: a connection that has become quiet is asked once. */
static void look_for_reset(struct conn *c)
{
    char byte;
    if (c->eof || c->readable || c->fd < 0)
        return;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n < 0) { /* reading it has taken it away */
        c->err = errno;
        end(c, CONN_CLOSED_RESET);
        return;
    }
    c->readable = true;
    drive(c);
}

static void on_timer(void *arg)
{
    struct conn *c = OBJ_CAST(arg, struct conn, CONN_MAGIC);
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
        c->err = ETIMEDOUT;
        end(c, CONN_CLOSED_CONNECT_TIMEOUT);
        return;
    case CONN_HANDSHAKE:
        end(c, c->bound ? CONN_CLOSED_CONNECT_TIMEOUT : CONN_CLOSED_HANDSHAKE_TIMEOUT);
        return;
    case CONN_OPEN:
        look_for_reset(c);
        return;
    case CONN_FLUSHING:
    case CONN_LINGERING:
    case CONN_CLOSED:
        end(c, CONN_CLOSED_LOCAL);
        return;
    }
}

/* Everything in out has been sent and closing goes on: our direction ends. */
static void flushed(struct conn *c)
{
    enum io_status s = c->shut_done ? IO_OK : c->transport->ops->shut(c->transport);
    if (s == IO_AGAIN)
        return;
    c->shut_done = true;
    if (!c->linger || c->eof || s == IO_ERROR) {
        end(c, CONN_CLOSED_LOCAL);
        return;
    }
    c->state = CONN_LINGERING;
    if (c->linger_ms)
        timer_arm(&c->timer, c->linger_ms);
    c->readable = true; /* what was not taken from the socket before */
    drive(c);
}

/* --- moving bytes ------------------------------------------------------------------------------
 */

/* Sends out. False when the connection is over. */
static bool do_write(struct conn *c)
{
    size_t before = c->out.len;
    if (before && c->writable) {
        enum io_status s = c->transport->ops->write(c->transport, &c->out);
        c->bytes_written += before - c->out.len;
        if (s == IO_ERROR || s == IO_EOF) {
            /* What the peer sent before it went away is still worth reading: an early response. Not
             * if we are the server, or its reading is paused, perhaps for as long as we write. */
            c->err = errno;
            c->writable = false;
            c->shut_wanted = false;
            c->write_failed = true;
            buffer_cleanup(&c->out);
            if (c->state != CONN_OPEN || c->eof || (!c->bound && c->read_pauses)) {
                end(c, CONN_CLOSED_RESET);
                return false;
            }
            c->readable = true;
            return true;
        }
        if (s == IO_AGAIN)
            c->writable = false;
    }
    if (c->out.len || c->write_failed)
        return true;
    if (c->state == CONN_FLUSHING) {
        flushed(c);
        return c->state != CONN_CLOSED;
    }
    if (c->shut_wanted && !c->shut_done) {
        enum io_status s = c->transport->ops->shut(c->transport);
        c->shut_done = s != IO_AGAIN;
    }
    return true;
}

static void run_flush(void *arg)
{
    struct conn *c = OBJ_CAST(arg, struct conn, CONN_MAGIC);
    if (c->state == CONN_OPEN || c->state == CONN_FLUSHING) {
        bool failed = c->write_failed;
        if (do_write(c) && c->write_failed && !failed)
            drive(c);
    }
}

/* Drops what still comes after our end, so that the peer can read our last bytes. */
static void drop_input(struct conn *c)
{
    for (int turn = 0; turn < 4; turn++) {
        enum io_status s = c->transport->ops->read(c->transport, &c->in, READ_BUDGET);
        buffer_drain(&c->in, c->in.len);
        if (s == IO_EOF || s == IO_ERROR) {
            end(c, CONN_CLOSED_LOCAL);
            return;
        }
        if (s == IO_AGAIN) {
            if (c->closed_seen)
                continue;
            c->readable = false;
            return;
        }
    }
    loop_post(c->loop, &c->read_task);
}

static bool may_read(const struct conn *c)
{
    return c->state == CONN_OPEN && c->readable && c->read_pauses == 0 && !c->eof && !c->in.above;
}

/* One turn of reading; true if the owner has something to look at. */
static bool take_input(struct conn *c)
{
    size_t before = c->in.len;
    size_t max = c->read_budget;
    if (c->in.high && c->in.high - before < max)
        max = c->in.high - before + 1; /* over the mark, so that on_below tells when to go on */
    enum io_status s = c->transport->ops->read(c->transport, &c->in, max);
    /* A short read counts as drained only if the peer's end was not seen with it. */
    if (s == IO_AGAIN && c->closed_seen)
        s = c->transport->ops->read(c->transport, &c->in, max);
    c->bytes_read += c->in.len - before;
    switch (s) {
    case IO_OK:
        break;
    case IO_AGAIN:
        c->readable = false;
        if (c->write_failed)
            c->failed_read = true;
        timer_arm(&c->timer, CHECK_RESET_MS);
        break;
    case IO_EOF:
        c->readable = false;
        c->eof = true;
        return true;
    case IO_ERROR:
        c->readable = false;
        c->err = errno;
        c->failed_read = true;
        break;
    }
    return c->in.len > before;
}

static void do_read(struct conn *c)
{
    bool fresh = may_read(c) && take_input(c);
    if ((fresh || c->again) && c->read_pauses == 0) {
        c->again = false;
        c->ops->on_read(c->owner, c);
    }
    if (c->state != CONN_OPEN)
        return;
    if (c->failed_read || (c->write_failed && c->eof)) {
        struct str why = c->transport->ops->failure(c->transport);
        end(c, why.len ? CONN_CLOSED_TLS : CONN_CLOSED_RESET);
        return;
    }
    if (may_read(c) || (c->again && c->read_pauses == 0))
        loop_post(c->loop, &c->read_task);
}

static void drive_handshake(struct conn *c)
{
    enum io_status s = c->transport->ops->handshake(c->transport);
    /* The same rule as for reads: an end that came with the last bytes gives no further edge. */
    for (int i = 1; s == IO_AGAIN && c->closed_seen && i < HANDSHAKE_TURNS; i++)
        s = c->transport->ops->handshake(c->transport);
    if (s == IO_AGAIN)
        return;
    if (s != IO_OK) {
        c->err = errno;
        end(c, CONN_CLOSED_TLS);
        return;
    }
    timer_disarm(&c->timer);
    c->state = CONN_OPEN;
    if (c->transport->pending)
        c->readable = true; /* no edge will tell of what the handshake took along */
    c->connected_us = loop_now_us(c->loop);
    c->ops->on_connected(c->owner, c);
    if (c->state == CONN_OPEN || c->state == CONN_FLUSHING)
        do_write(c);
    if (c->state == CONN_OPEN)
        do_read(c);
}

static void drive_connect(struct conn *c)
{
    int err = 0;
    socklen_t len = sizeof(err);
    if (!c->writable && !c->closed_seen)
        return;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err) {
        c->err = err;
        end(c, CONN_CLOSED_CONNECT);
        return;
    }
    c->state = CONN_HANDSHAKE;
    if (!addr_local(c->fd, &c->local))
        c->local = (struct addr){0};
    drive_handshake(c);
}

static void drive(struct conn *c)
{
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
        drive_connect(c);
        return;
    case CONN_HANDSHAKE:
        drive_handshake(c);
        return;
    case CONN_OPEN:
        if (do_write(c))
            do_read(c);
        return;
    case CONN_FLUSHING:
        do_write(c);
        return;
    case CONN_LINGERING:
        if (c->readable || c->closed_seen)
            drop_input(c);
        return;
    case CONN_CLOSED:
        return;
    }
}

static void on_io(void *arg, unsigned events)
{
    struct conn *c = OBJ_CAST(arg, struct conn, CONN_MAGIC);
    if (events & IO_READ)
        c->readable = true;
    if (events & IO_WRITE)
        c->writable = !c->write_failed;
    if (events & IO_CLOSED)
        c->closed_seen = c->readable = true;
    else if (c->eof && c->closed_seen && c->state == CONN_OPEN) {
        /* Once there was an end, every event tells of it, but for a reset's. */
        end(c, CONN_CLOSED_RESET);
        return;
    }
    drive(c);
}

static void run_read(void *arg)
{
    drive(OBJ_CAST(arg, struct conn, CONN_MAGIC));
}

/* --- watermarks
 * ------------------------------------------------------------------------------------ */

static void in_below(void *arg)
{
    struct conn *c = arg;
    if (c->state == CONN_OPEN && c->readable)
        loop_post(c->loop, &c->read_task);
}

static void out_above(void *arg)
{
    struct conn *c = arg;
    if (c->ops->on_above)
        c->ops->on_above(c->owner, c);
}

static void out_below(void *arg)
{
    struct conn *c = arg;
    if (c->ops->on_below && (c->state == CONN_OPEN || c->state == CONN_HANDSHAKE))
        c->ops->on_below(c->owner, c);
}

void conn_set_limits(struct conn *c, size_t high)
{
    buffer_set_watermarks(&c->in, high, NULL, in_below, c);
    buffer_set_watermarks(&c->out, high, out_above, out_below, c);
}

/* --- opening
 * -------------------------------------------------------------------------------------- */

static void init(struct conn *c, struct loop *l, int fd, const struct conn_ops *ops, void *owner)
{
    *c = (struct conn){.magic = CONN_MAGIC, .fd = fd, .loop = l, .ops = ops, .owner = owner};
    c->read_budget = READ_BUDGET;
    buffer_init(&c->in);
    buffer_init(&c->out);
    timer_init(&c->timer, l, on_timer, c);
    task_init(&c->flush_task, run_flush, c);
    task_init(&c->read_task, run_read, c);
    task_init(&c->closed_task, run_closed, c);
}

static void no_delay(int fd, const struct addr *a)
{
    int on = 1;
    if (addr_is_ip(a))
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void conn_init_accepted(struct conn *c, struct loop *l, int fd, struct transport *t,
                        const struct addr *local, const struct addr *peer, uint64_t handshake_ms,
                        const struct conn_ops *ops, void *owner)
{
    init(c, l, fd, ops, owner);
    c->local = *local;
    c->peer = *peer;
    c->transport = t ? t : transport_raw_open(fd);
    c->state = CONN_HANDSHAKE;
    c->writable = true;
    no_delay(fd, local);
    if (handshake_ms)
        timer_arm(&c->timer, handshake_ms);
    io_watch_init(&c->watch, l, fd, on_io, c);
    loop_post(l, &c->read_task);
}

static void set_keepalive(int fd, const struct conn_connect *how)
{
    int on = 1;
    if (!how->keepalive || !addr_is_ip(how->peer))
        return;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    const struct {
        int name;
        uint32_t value;
    } opts[] = {{TCP_KEEPIDLE, how->keepalive_time_s},
                {TCP_KEEPINTVL, how->keepalive_interval_s},
                {TCP_KEEPCNT, how->keepalive_probes}};
    for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
        int v = (int)opts[i].value;
        if (v > 0)
            setsockopt(fd, IPPROTO_TCP, opts[i].name, &v, sizeof(v));
    }
}

static int set_flag(int fd, bool v6, int name, int name6, int value)
{
    int level = v6 ? SOL_IPV6 : SOL_IP;
    return setsockopt(fd, level, v6 ? name6 : name, &value, sizeof(value)) == 0 ? 0 : errno;
}

static int bind_source(int fd, const struct conn_connect *how)
{
    int on = 1;
    if (!how->bind || how->bind->sa.sa_family != how->peer->sa.sa_family)
        return 0;
    /* The port is chosen at connect, for the pair of addresses: as many connections as there are
     * ports to each destination, not in all. */
    setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return addr_bind(fd, how->bind) == 0 ? 0 : errno;
}

/* Options and source address; 0 or the errno of what failed. */
static int prepare(int fd, const struct conn_connect *how)
{
    static const struct socket_options none;
    const struct socket_options *options = how->options ? how->options : &none;
    bool v6 = how->peer->sa.sa_family == AF_INET6;
    int err = 0;

    no_delay(fd, how->peer);
    set_keepalive(fd, how);
    if (how->mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &how->mark, sizeof(how->mark)) != 0)
        return errno;
    if (how->transparent)
        err = set_flag(fd, v6, IP_TRANSPARENT, IPV6_TRANSPARENT, 1);
    if (!err && how->has_freebind && addr_is_ip(how->peer))
        err = set_flag(fd, v6, IP_FREEBIND, IPV6_FREEBIND, how->freebind);
    if (!err)
        err = socket_options_apply(options, fd, SOCKET_PREBIND);
    if (!err)
        err = bind_source(fd, how);
    return err ? err : socket_options_apply(options, fd, SOCKET_BOUND);
}

static int open_socket(const struct conn_connect *how, int *err, bool *out_prepared)
{
    int fd = socket(how->peer->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *err = fd < 0 ? errno : prepare(fd, how);
    *out_prepared = !*err;
    if (!*err && addr_connect(fd, how->peer) != 0 && errno != EINPROGRESS)
        *err = errno;
    return fd;
}

int conn_socket(const struct conn_connect *how, int *err)
{
    bool prepared;
    int fd = open_socket(how, err, &prepared);
    if (!*err)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

void conn_init_connecting(struct conn *c, struct loop *l, const struct conn_connect *how,
                          const struct conn_ops *ops, void *owner)
{
    int fd = how->connected_fd, err = 0;
    bool prepared = true;
    if (!fd)
        fd = open_socket(how, &err, &prepared);
    init(c, l, fd, ops, owner);
    c->peer = *how->peer;
    c->state = CONN_CONNECTING;
    c->bound = true;
    c->bind_failed = fd >= 0 && !prepared;
    if (!err) {
        c->transport = how->factory ? how->factory->ops->open(how->factory, fd, how->transport_opts)
                                    : transport_raw_open(fd);
        if (!c->transport)
            c->no_secret = true;
    }
    if (err || !c->transport) {
        c->err = err;
        end(c, err ? CONN_CLOSED_CONNECT : CONN_CLOSED_TLS);
        return;
    }
    io_watch_init(&c->watch, l, fd, on_io, c);
    if (how->timeout_ms)
        timer_arm(&c->timer, how->timeout_ms);
}

/* --- what the owner asks ------------------------------------------------------------------------
 */

void conn_set_owner(struct conn *c, const struct conn_ops *ops, void *owner)
{
    c->ops = ops;
    c->owner = owner;
}

void conn_set_half_close(struct conn *c, bool on)
{
    c->half_close = on;
}

void conn_flush_soon(struct conn *c)
{
    if (c->state == CONN_OPEN && !c->write_failed)
        loop_post(c->loop, &c->flush_task);
    else if (c->write_failed)
        buffer_drain(&c->out, c->out.len);
}

void conn_write(struct conn *c, struct buffer *from)
{
    if (conn_closing(c) || c->write_failed) {
        buffer_drain(from, from->len);
        return;
    }
    buffer_move(&c->out, from, from->len);
    conn_flush_soon(c);
}

void conn_pause_read(struct conn *c)
{
    CHECK(c->read_pauses < UINT16_MAX);
    c->read_pauses++;
}

void conn_resume_read(struct conn *c)
{
    CHECK(c->read_pauses > 0);
    if (--c->read_pauses == 0 && c->state == CONN_OPEN && (c->readable || c->again))
        loop_post(c->loop, &c->read_task);
}

void conn_read_again(struct conn *c)
{
    if (c->state != CONN_OPEN)
        return;
    c->again = true;
    loop_post(c->loop, &c->read_task);
}

void conn_shut_write(struct conn *c)
{
    c->shut_wanted = true;
    conn_flush_soon(c);
}

void conn_close(struct conn *c, enum conn_close_how how, uint64_t linger_ms)
{
    if (conn_closing(c))
        return;
    bool graceful = how == CONN_CLOSE_FLUSH || how == CONN_CLOSE_LINGER;
    bool open = c->state == CONN_OPEN && !c->write_failed;
    c->why = c->eof ? CONN_CLOSED_REMOTE : CONN_CLOSED_LOCAL;
    c->close_wanted = true;
    if (!graceful || !open) {
        struct linger reset = {.l_onoff = 1};
        if (how == CONN_CLOSE_RESET && c->fd >= 0)
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        end(c, CONN_CLOSED_LOCAL);
        return;
    }
    c->state = CONN_FLUSHING;
    c->linger = how == CONN_CLOSE_LINGER && linger_ms > 0;
    task_cancel(&c->read_task);
    buffer_drain(&c->in, c->in.len);
    timer_disarm(&c->timer);
    if (linger_ms)
        timer_arm(&c->timer, linger_ms);
    loop_post(c->loop, &c->flush_task);
}

void conn_close_slowly(struct conn *c, uint64_t flush_ms, uint32_t linger_ms)
{
    if (conn_closing(c))
        return;
    c->linger_ms = linger_ms;
    conn_close(c, CONN_CLOSE_LINGER, flush_ms);
    c->linger = true;
}

void conn_hasten(struct conn *c, uint64_t ms)
{
    if (c->state == CONN_LINGERING)
        end(c, CONN_CLOSED_LOCAL);
    if (c->state != CONN_FLUSHING)
        return;
    c->linger = false;
    timer_arm(&c->timer, ms);
}

bool conn_closing(const struct conn *c)
{
    return c->close_wanted || c->state == CONN_CLOSED;
}

const struct tls_peer *conn_peer(const struct conn *c)
{
    return c->transport ? c->transport->ops->peer(c->transport) : NULL;
}

struct str conn_failure(const struct conn *c)
{
    if (c->no_secret)
        return STR("TLS_error:_Secret_is_not_supplied_by_SDS");
    return c->transport ? c->transport->ops->failure(c->transport) : STR_NULL;
}

bool conn_peer_ended(struct conn *c)
{
    char byte;
    if (c->state != CONN_OPEN || c->eof || c->closed_seen || c->in.len)
        return true;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

void conn_cleanup(struct conn *c)
{
    if (c->magic != CONN_MAGIC)
        return;
    c->magic = 0;
    c->state = CONN_CLOSED; /* for the callback that this was called in */
    timer_disarm(&c->timer);
    task_cancel(&c->flush_task);
    task_cancel(&c->read_task);
    task_cancel(&c->closed_task);
    if (c->transport)
        c->transport->ops->free(c->transport);
    c->transport = NULL;
    close_fd(c);
    buffer_cleanup(&c->in);
    buffer_cleanup(&c->out);
}
