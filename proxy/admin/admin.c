/* The port: connections, requests and responses on the main thread's loop. What is on the pages is
 * admin_pages.c's. */
#include "proxy/admin/admin.h"

#include "base/list.h"
#include "base/log.h"
#include "base/obj.h"
#include "base/timefmt.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/admin/admin_stats_scope.h"
#include "proxy/http/codec.h"
#include "proxy/server.h"
#include "tls/conn.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ADMIN_MAGIC = 0x41444d4e,
    ADMIN_CONN_MAGIC = 0x41444d43,
    ADMIN_EXCHANGE_MAGIC = 0x41444d58,
    MAX_CONNECTIONS = 1024,
    ACCEPTS_PER_TURN = 16,
    BODY_MAX = 65536, /* of a request */
    BUFFER_HIGH = 1 << 20,
    BACKLOG = 128,
    PAUSE_MS = 100,   /* out of file descriptors */
    STALL_MS = 60000, /* a client that takes nothing of its response for so long is cut */
    AFTER_MS = 20,    /* for the kernel to take a response that is the last */
};

struct admin {
    uint32_t magic;
    struct server *server;
    struct addr addr; /* as bound */
    int fd;
    struct io_watch watch;
    struct timer resume, after_timer;
    void (*after)(struct server *s); /* what after_timer runs */
    struct http_limits limits;
    struct list conns; /* struct admin_conn */
    unsigned num_conns;
    struct admin_stats_scope stats;
};

struct admin_conn {
    uint32_t magic;
    struct list link;
    struct admin *admin;
    struct conn conn;
    struct http_server *codec;
    struct admin_exchange *exchange; /* the one under way, or NULL */
    uint64_t start_ms;
    bool over;
    struct task free_task;
};

struct admin_exchange {
    uint32_t magic;
    struct admin_conn *owner;
    struct codec_stream *cs;
    struct arena *arena;
    const struct headers *headers;
    struct buffer body; /* of the request */
    struct admin_response response;
    struct task slice;  /* the next slice of a long body */
    struct timer stall; /* while blocked */
    uint64_t start_ms;
    bool responding, too_large, blocked;
};

/* --- an exchange ------------------------------------------------------------------------------ */

static void exchange_free(struct admin_exchange *x)
{
    struct admin_conn *c = x->owner;
    admin_stats_exchange_over(&c->admin->stats, x->response.status,
                              loop_now_ms(c->conn.loop) - x->start_ms);
    c->exchange = NULL;
    task_cancel(&x->slice);
    timer_disarm(&x->stall);
    admin_response_cleanup(&x->response);
    buffer_cleanup(&x->body);
    x->magic = 0;
    struct arena *a = x->arena;
    arena_free(&a); /* x is in it */
}

/* The response is handed to the connection whole. */
static void exchange_end(struct admin_exchange *x)
{
    struct admin *a = x->owner->admin;
    if (x->response.after) {
        a->after = x->response.after;
        timer_arm(&a->after_timer, AFTER_MS);
    }
    exchange_free(x);
}

static void on_after(void *arg)
{
    struct admin *a = OBJ_CAST(arg, struct admin, ADMIN_MAGIC);
    a->after(a->server);
}

static void send_body(struct admin_exchange *x, bool end)
{
    struct codec_stream *cs = x->cs;
    if (end)
        x->cs = NULL; /* gone when it returns */
    cs->ops->data(cs, &x->response.body, end);
}

/* Makes and sends one slice. What was sent is waited for when it is much. */
static void on_slice(void *arg)
{
    struct admin_exchange *x = OBJ_CAST(arg, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    struct admin_response *rs = &x->response;
    bool more = rs->more(rs->arg, &rs->body);
    send_body(x, !more);
    if (!more)
        exchange_end(x);
    else if (!x->blocked)
        loop_post(x->owner->conn.loop, &x->slice);
}

static void put_headers(struct admin_exchange *x, struct headers *h)
{
    char *date = arena_bytes(x->arena, TIMEFMT_HTTP_LEN);
    timefmt_http(loop_wall_us(x->owner->conn.loop), date);
    headers_init(h, x->arena);
    h->status = (uint16_t)x->response.status;
    headers_add_known(h, HDR_CONTENT_TYPE, str_of(x->response.content_type));
    headers_add(h, STR("cache-control"), STR("no-cache, max-age=0"));
    headers_add(h, STR("x-content-type-options"), STR("nosniff"));
    if (!x->response.more)
        headers_add_known(h, HDR_CONTENT_LENGTH,
                          arena_printf(x->arena, "%zu", x->response.body.len));
    headers_add_known(h, HDR_DATE, str_n(date, TIMEFMT_HTTP_LEN));
    headers_add_known(h, HDR_SERVER, STR("envoy"));
}

static void respond(struct admin_exchange *x)
{
    struct headers h;
    x->responding = true;
    put_headers(x, &h);
    x->cs->ops->headers(x->cs, &h, false);
    if (x->response.more) {
        loop_post(x->owner->conn.loop, &x->slice);
        return;
    }
    send_body(x, true);
    exchange_end(x);
}

/* The text of a form, if the request has one. */
static struct str form_of(struct admin_exchange *x)
{
    const struct header *type = headers_known(x->headers, HDR_CONTENT_TYPE);
    if (!type || !str_istarts(type->value, STR("application/x-www-form-urlencoded")))
        return STR_NULL;
    char *text = arena_bytes(x->arena, x->body.len);
    return str_n(text, buffer_copy_out(&x->body, 0, text, x->body.len));
}

/* The whole request is there. */
static void handle(struct admin_exchange *x)
{
    struct str target = x->headers->path;
    ptrdiff_t mark = str_chr(target, '?');
    struct admin_request rq = {.server = x->owner->admin->server,
                               .arena = x->arena,
                               .method = x->headers->method,
                               .path = mark < 0 ? target : str_n(target.p, (size_t)mark)};
    struct str query = mark < 0 ? STR_NULL
                                : str_n(target.p + mark + 1, target.len - (size_t)mark - 1);
    bool form = mark < 0;
    LOG_DEBUG(admin, "%.*s %.*s", STR_ARG(rq.method), STR_ARG(target));
    if (form)
        query = form_of(x);
    if (x->too_large)
        admin_error(&x->response, 413, "the request's body is over %d bytes", BODY_MAX);
    else if (!admin_query_parse(&rq.query, query, form, x->arena))
        admin_error(&x->response, 400, "more than %d parameters", ADMIN_PARAMS_MAX);
    else
        admin_respond(&rq, &x->response);
    respond(x);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct admin_exchange *x = OBJ_CAST(user, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    x->headers = h;
    if (end)
        handle(x);
}

static void on_data(void *user, struct buffer *data, bool end)
{
    struct admin_exchange *x = OBJ_CAST(user, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    if (x->responding)
        return;
    x->too_large = x->too_large || x->body.len + data->len > BODY_MAX;
    if (!x->too_large)
        buffer_move(&x->body, data, data->len);
    if (end || x->too_large)
        handle(x);
}

static void on_trailers(void *user, struct headers *h)
{
    struct admin_exchange *x = OBJ_CAST(user, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    if (!x->responding)
        handle(x);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct admin_exchange *x = OBJ_CAST(user, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    x->cs = NULL;
    exchange_free(x);
}

static void on_above(void *user)
{
    struct admin_exchange *x = OBJ_CAST(user, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    x->blocked = true;
    timer_arm(&x->stall, STALL_MS);
}

static void on_stall(void *arg)
{
    struct admin_exchange *x = OBJ_CAST(arg, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    x->cs->ops->reset(x->cs, RESET_LOCAL);
    x->cs = NULL;
    exchange_free(x);
}

static void on_below(void *user)
{
    struct admin_exchange *x = OBJ_CAST(user, struct admin_exchange, ADMIN_EXCHANGE_MAGIC);
    x->blocked = false;
    timer_disarm(&x->stall);
    if (x->responding && x->response.more)
        loop_post(x->owner->conn.loop, &x->slice);
}

static const struct codec_events exchange_events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_above,
    .on_below = on_below,
};

/* --- a connection ----------------------------------------------------------------------------- */

static struct arena *arena_for(void *user)
{
    return arena_new(0);
}

static void arena_unused(void *user, struct arena *a)
{
    arena_free(&a);
}

static void new_stream(void *user, struct codec_stream *cs)
{
    struct admin_conn *c = OBJ_CAST(user, struct admin_conn, ADMIN_CONN_MAGIC);
    struct admin_exchange *x = ARENA_NEW(cs->arena, struct admin_exchange);
    CHECK(!c->exchange);
    x->magic = ADMIN_EXCHANGE_MAGIC;
    x->owner = c;
    x->cs = cs;
    x->arena = cs->arena;
    x->start_ms = loop_now_ms(c->conn.loop);
    buffer_init(&x->body);
    buffer_init(&x->response.body);
    task_init(&x->slice, on_slice, x);
    timer_init(&x->stall, c->conn.loop, on_stall, x);
    c->exchange = x;
    cs->events = &exchange_events;
    cs->user = x;
    admin_stats_exchange(&c->admin->stats);
}

static void on_malformed(void *user, unsigned status, struct str detail, const struct headers *head)
{
    struct admin_conn *c = OBJ_CAST(user, struct admin_conn, ADMIN_CONN_MAGIC);
    admin_stats_malformed(&c->admin->stats, status);
    LOG_DEBUG(admin, "malformed request: %.*s", STR_ARG(detail));
}

static void free_conn(void *arg)
{
    struct admin_conn *c = OBJ_CAST(arg, struct admin_conn, ADMIN_CONN_MAGIC);
    c->codec->ops->free(c->codec);
    conn_cleanup(&c->conn);
    c->magic = 0;
    mem_free(c);
}

static void conn_over(struct admin_conn *c)
{
    struct admin *a = c->admin;
    c->over = true;
    list_remove(&c->link);
    a->num_conns--;
    admin_stats_conn_over(&a->stats, c->conn.why == CONN_CLOSED_LOCAL,
                          loop_now_ms(c->conn.loop) - c->start_ms, c->conn.bytes_read,
                          c->conn.bytes_written);
}

static void on_closed(void *user)
{
    struct admin_conn *c = OBJ_CAST(user, struct admin_conn, ADMIN_CONN_MAGIC);
    if (c->over)
        return;
    conn_over(c);
    task_init(&c->free_task, free_conn, c);
    loop_defer_free(c->conn.loop, &c->free_task);
}

static const struct http_server_events server_events = {
    .new_stream = new_stream,
    .arena_for = arena_for,
    .arena_unused = arena_unused,
    .on_malformed = on_malformed,
    .on_closed = on_closed,
};

static const struct conn_ops no_ops; /* until the codec takes over */

static void add_conn(struct admin *a, int fd, const struct addr *peer)
{
    struct admin_conn *c = NEW(struct admin_conn);
    c->magic = ADMIN_CONN_MAGIC;
    c->admin = a;
    c->start_ms = loop_now_ms(a->server->loop);
    conn_init_accepted(&c->conn, a->server->loop, fd, NULL, &a->addr, peer, 0, &no_ops, NULL);
    conn_set_limits(&c->conn, BUFFER_HIGH);
    c->codec = h1_server_new(&c->conn, &a->limits, &server_events, c);
    list_push_tail(&a->conns, &c->link);
    a->num_conns++;
    admin_stats_conn(&a->stats);
}

/* --- accepting -------------------------------------------------------------------------------- */

static void on_resume(void *arg)
{
    struct admin *a = OBJ_CAST(arg, struct admin, ADMIN_MAGIC);
    io_watch_resume(&a->watch);
}

/* Takes one connection; false when there is none, or none can be taken now. */
static bool accept_one(struct admin *a)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct addr peer = {0};
    int fd = accept4(a->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
        LOG_EVERY(5000, admin, LOG_LEVEL_WARN, "admin: accept: %s", strerror(errno));
        io_watch_pause(&a->watch);
        timer_arm(&a->resume, PAUSE_MS);
        return false;
    }
    if (fd < 0)
        return errno == EINTR || errno == ECONNABORTED;
    if (a->num_conns >= MAX_CONNECTIONS) {
        admin_stats_overflow(&a->stats);
        close(fd);
        return true;
    }
    if (!addr_from_sockaddr(&peer, (struct sockaddr *)&ss, len))
        peer = (struct addr){0};
    add_conn(a, fd, &peer);
    return true;
}

static void on_accept(void *arg, unsigned events)
{
    struct admin *a = OBJ_CAST(arg, struct admin, ADMIN_MAGIC);
    for (int i = 0; i < ACCEPTS_PER_TURN && accept_one(a); i++)
        continue;
}

/* A socket file that nobody listens on any more stands in the way of bind. */
static void remove_stale(const struct addr *addr)
{
    struct stat st;
    const char *path = addr_path(addr);
    if (!path || lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (addr_connect(fd, addr) != 0 && errno == ECONNREFUSED)
        (void)unlink(path);
    close(fd);
}

static int listen_on(const struct addr *addr, struct addr *bound, struct errors *e)
{
    int on = 1;
    char text[ADDR_TEXT_MAX];
    const char *what = "socket";
    remove_stale(addr);
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        what = "bind";
        if (addr_is_ip(addr))
            (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (addr_bind(fd, addr) == 0) {
            what = "listen";
            if (listen(fd, BACKLOG) == 0 && addr_local(fd, bound))
                return fd;
        }
    }
    errors_add(e, "admin.address", "cannot listen on %.*s: %s: %s",
               STR_ARG(addr_format(addr, text)), what, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

struct admin *admin_new(struct server *s, const struct addr *addr, struct errors *e)
{
    struct addr bound = {0};
    char text[ADDR_TEXT_MAX];
    int fd = listen_on(addr, &bound, e);
    if (fd < 0)
        return NULL;
    struct admin *a = NEW(struct admin);
    a->magic = ADMIN_MAGIC;
    a->server = s;
    a->fd = fd;
    a->addr = bound;
    a->limits = (struct http_limits){.max_headers_bytes = 60 * 1024,
                                     .max_headers_count = 100,
                                     .headers_timeout_ms = 10000,
                                     .idle_timeout_ms = 300000,
                                     .delayed_close_ms = 1000,
                                     .accept_http_10 = true};
    list_init(&a->conns);
    admin_stats_init(&a->stats);
    timer_init(&a->resume, s->loop, on_resume, a);
    timer_init(&a->after_timer, s->loop, on_after, a);
    io_watch_init_level(&a->watch, s->loop, fd, on_accept, a);
    if (addr_is_ip(&bound) && !addr_is_loopback(&bound))
        LOG_WARN(admin,
                 "the admin port %.*s is not on loopback: who reaches it can read the "
                 "configuration and end the process",
                 STR_ARG(addr_format(&bound, text)));
    LOG_INFO(main, "admin address: %.*s", STR_ARG(addr_format(&bound, text)));
    return a;
}

void admin_free(struct admin **admin)
{
    struct admin *a = *admin;
    *admin = NULL;
    if (!a)
        return;
    timer_disarm(&a->resume);
    timer_disarm(&a->after_timer);
    io_watch_cleanup(&a->watch);
    close(a->fd);
    if (addr_path(&a->addr))
        (void)unlink(addr_path(&a->addr));
    LIST_FOREACH_SAFE(it, &a->conns) {
        struct admin_conn *c = CONTAINER_OF(it, struct admin_conn, link);
        if (c->exchange)
            exchange_free(c->exchange);
        conn_over(c);
        free_conn(c);
    }
    admin_stats_cleanup(&a->stats);
    a->magic = 0;
    mem_free(a);
}

const struct addr *admin_address(const struct admin *a)
{
    return &a->addr;
}
