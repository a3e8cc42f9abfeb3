// covers: proxy/http/h2_server.c proxy/http/h2_head.c proxy/http/h2_guard.c proxy/http/h2_stream.c
/* A client's frames on an HTTP/2 connection, in pieces, with a user that answers, resets, pauses
 * and leaves by what it was asked. The first byte chooses options and the user's ways, the second
 * how the bytes are cut; the rest are frames, after a preface of ours. At the end every exchange is
 * over, no byte is pending and every arena is back. */
#include "cluster/http2_options.h"
#include "proxy/http/codec.h"

#include "test/support/far_end.h"
#include "tls/conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MAX_STREAMS = 64 };

struct user {
    struct codec_stream *cs;
    struct arena *arena;
    struct headers response;
    bool head, end, paused;
};

static struct loop *loop;
static struct user users[MAX_STREAMS];
static unsigned num_users, live, arenas;
static uint8_t ways;
static bool closed;
static struct conn conn;
static struct http_server *server;

static void over(struct user *u)
{
    CHECK(u->cs && u->arena);
    u->cs = NULL;
    live--;
}

static struct user *user_of(void *arg)
{
    struct user *u = arg;
    CHECK(u >= users && u < users + MAX_STREAMS && u->cs);
    return u;
}

static void head(struct user *u, unsigned status, bool end)
{
    if (u->head)
        return;
    u->head = true;
    headers_init(&u->response, u->arena);
    u->response.status = (uint16_t)status;
    headers_add(&u->response, STR("x-unique"), STR("some value"));
    u->cs->ops->headers(u->cs, &u->response, end);
    if (end)
        over(u);
}

static void body(struct user *u, size_t n, bool end)
{
    struct buffer b;
    buffer_init(&b);
    for (size_t i = 0; i < n; i++)
        buffer_add(&b, "0123456789", 10);
    u->cs->ops->data(u->cs, &b, end);
    CHECK(b.len == 0);
    buffer_cleanup(&b);
    if (end)
        over(u);
}

static void trailers(struct user *u)
{
    struct headers t;
    headers_init(&t, u->arena);
    headers_add(&t, STR("grpc-status"), STR("0"));
    u->cs->ops->trailers(u->cs, &t);
    over(u);
}

/* What comes next, by the path that was asked for. */
static void act(struct user *u, char how)
{
    switch (how) {
    case 'r':
        u->cs->ops->reset(u->cs, RESET_LOCAL);
        over(u);
        return;
    case 'e':
        head(u, 204, true);
        return;
    case 'i':
        headers_init(&u->response, u->arena);
        u->response.status = 103;
        u->cs->ops->informational(u->cs, &u->response);
        return;
    case 'c':
        u->cs->ops->close_after(u->cs);
        return;
    case 'p':
        u->cs->ops->pause(u->cs);
        u->paused = true;
        return;
    case 'b':
        head(u, 200, false);
        body(u, 20000, false);
        return;
    case 't':
        head(u, 200, false);
        body(u, 10, false);
        trailers(u);
        return;
    case 'u':
        head(u, 101, false);
        return;
    case 'w': /* at the end of the request */
        return;
    default:
        head(u, 200, false);
        body(u, 5, true);
    }
}

static void on_headers(void *arg, struct headers *h, bool end)
{
    struct user *u = user_of(arg);
    CHECK(h->method.len && h->authority.len);
    CHECK(!headers_known(h, HDR_HOST) && !headers_known(h, HDR_TRANSFER_ENCODING));
    HEADERS_FOREACH(f, h) {
        for (size_t i = 0; i < f->value.len; i++)
            CHECK(f->value.p[i] != '\n' && f->value.p[i] != '\r' && f->value.p[i] != 0);
    }
    u->end = end;
    for (size_t i = 1; u->cs && i < h->path.len && i < 8; i++)
        act(u, h->path.p[i]);
}

static void on_data(void *arg, struct buffer *b, bool end)
{
    struct user *u = user_of(arg);
    CHECK(!u->end && !u->paused);
    u->end = end;
    buffer_drain(b, b->len / 2);
    if (end || (ways & 1))
        act(u, end ? 'x' : 'p');
}

static void on_trailers(void *arg, struct headers *h)
{
    struct user *u = user_of(arg);
    CHECK(!u->end && !u->paused);
    u->end = true;
    act(u, 't');
}

static void on_reset(void *arg, enum reset_reason why, struct str detail)
{
    over(user_of(arg));
}

static void on_mark(void *arg)
{
    (void)user_of(arg);
}

static const struct codec_events events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_mark,
    .on_below = on_mark,
};

static void new_stream(void *user, struct codec_stream *cs)
{
    struct user *u = &users[num_users++ % MAX_STREAMS];
    if (u->cs) { /* the oldest makes room */
        u->cs->ops->reset(u->cs, RESET_LOCAL);
        over(u);
    }
    arena_free(&u->arena);
    *u = (struct user){.cs = cs, .arena = cs->arena};
    live++;
    cs->events = &events;
    cs->user = u;
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
    CHECK(detail.len > 0);
}

static void on_closed(void *user)
{
    closed = true;
}

static const struct http_server_events server_events = {
    .new_stream = new_stream,
    .arena_for = arena_for,
    .arena_unused = arena_unused,
    .on_malformed = on_malformed,
    .on_closed = on_closed,
};

static void nothing(void *owner, struct conn *c)
{
}

static void early_end(void *owner, struct conn *c, enum conn_close_reason why)
{
}

static const struct conn_ops no_ops = {
    .on_connected = nothing,
    .on_read = nothing,
    .on_below = nothing,
    .on_above = nothing,
    .on_closed = early_end,
};

static void resume_some(void)
{
    for (unsigned i = 0; i < MAX_STREAMS; i++) {
        struct user *u = &users[i];
        if (!u->cs || !u->paused)
            continue;
        u->paused = false;
        u->cs->ops->resume(u->cs);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct http2_options options;
    struct far_end far = {0};
    if (len < 2)
        return 0;
    if (!loop)
        loop = loop_new(true);
    ways = data[0];
    size_t cut = data[1] ? data[1] : 4096;
    http2_options_default(&options);
    options.allow_connect = ways & 2;
    options.reset_on_malformed = ways & 4;
    options.max_concurrent_streams = ways & 8 ? 5 : 100;
    options.ping_interval_ms = ways & 16 ? 1000 : 0;
    options.ping_timeout_ms = 1000;
    struct http_limits limits = {
        .max_headers_bytes = 2000,
        .max_headers_count = 20,
        .headers_timeout_ms = 1000,
        .idle_timeout_ms = 5000,
        .delayed_close_ms = 100,
        .max_requests = ways & 32 ? 3 : 0,
        .proxy_100_continue = ways & 64,
        .h2 = &options,
        .drain_ms = 500,
        .flush_ms = 2000,
    };
    struct addr any = {0};
    num_users = live = arenas = 0;
    closed = false;
    far_end_open(&far, loop);
    conn_init_accepted(&conn, loop, far.near_fd, NULL, &any, &any, 0, &no_ops, NULL);
    conn_set_limits(&conn, 4096);
    far_end_spin(&far, false);
    server = h2_server_new(&conn, &limits, &server_events, NULL);
    far_end_send(&far, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    for (size_t at = 2; at < len && !closed; at += cut) {
        size_t n = len - at < cut ? len - at : cut;
        if (far.ended || far.reset)
            break;
        far_end_send(&far, data + at, n);
        far_end_spin(&far, !(ways & 128) || at % 3);
        resume_some();
    }
    far_end_spin(&far, true);
    for (int i = 0; i < 4 && !closed; i++) {
        loop_advance(loop, 2500);
        resume_some();
        far_end_spin(&far, true);
    }
    if (!closed)
        far_end_hang_up(&far);
    for (int i = 0; i < 4 && !closed; i++) {
        far_end_spin(&far, true);
        loop_advance(loop, 1000);
    }
    CHECK(closed && live == 0);
    server->ops->free(server);
    conn_cleanup(&conn);
    far_end_spin(&far, false);
    for (unsigned i = 0; i < MAX_STREAMS; i++)
        arena_free(&users[i].arena);
    far_end_close(&far);
    return 0;
}
