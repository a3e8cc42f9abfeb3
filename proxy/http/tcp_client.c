/* The client side of a CONNECT that ends here: the exchange's bytes go to the upstream as they are,
 * and the connection that is there is its response. */
#include "proxy/http/codec.h"

#include "base/obj.h"
#include "cluster/pool.h"

enum { TCP_CLIENT_MAGIC = 0x54435043, FLUSH_MS = 5000 };

struct tcp_client {
    uint32_t magic;
    struct pool_conn *pc;
    struct codec_stream cs;
    struct task answer; /* the response's head: never inside the call that sends the request's */
    uint32_t pauses;
    bool exchange; /* the user is to be told */
    bool answered;
    bool sent_end, received_end;
    bool in_event; /* the user is being told; the connection is let go afterwards */
    bool over;
};

static struct tcp_client *of(struct codec_stream *cs)
{
    struct tcp_client *c = CONTAINER_OF(cs, struct tcp_client, cs);
    CHECK(c->magic == TCP_CLIENT_MAGIC);
    return c;
}

/* The connection serves once. What was sent is flushed where both ends agree that it is over. */
static void let_go(struct tcp_client *c)
{
    if (!c->pc)
        return;
    struct pool_conn *pc = c->pc;
    c->pc = NULL;
    c->exchange = false;
    task_cancel(&c->answer);
    if (c->pauses)
        conn_resume_read(&pc->conn);
    c->pauses = 0;
    conn_close(&pc->conn, c->sent_end && c->received_end ? CONN_CLOSE_FLUSH : CONN_CLOSE_NOW,
               FLUSH_MS);
    pool_release(pc, false);
}

static void settle(struct tcp_client *c)
{
    c->in_event = false;
    if (c->over || (c->received_end && c->sent_end))
        let_go(c);
}

static void fail(struct tcp_client *c)
{
    if (!c->exchange)
        return;
    c->exchange = false;
    c->over = true;
    c->in_event = true;
    c->cs.events->on_reset(c->cs.user, RESET_CONN_TERMINATED, STR_NULL);
    settle(c);
}

/* --- events of the connection --- */

static void on_connected(void *owner, struct conn *conn)
{
}

static void on_read(void *owner, struct conn *conn)
{
    struct tcp_client *c = OBJ_CAST(owner, struct tcp_client, TCP_CLIENT_MAGIC);
    if (!c->exchange || !c->answered || c->pauses || c->received_end)
        return;
    if (!conn->in.len && !conn->eof)
        return;
    c->received_end = conn->eof;
    c->in_event = true;
    c->cs.events->on_data(c->cs.user, &conn->in, conn->eof);
    buffer_drain(&conn->in, conn->in.len);
    settle(c);
}

static void on_above(void *owner, struct conn *conn)
{
    struct tcp_client *c = OBJ_CAST(owner, struct tcp_client, TCP_CLIENT_MAGIC);
    if (c->exchange)
        c->cs.events->on_above(c->cs.user);
}

static void on_below(void *owner, struct conn *conn)
{
    struct tcp_client *c = OBJ_CAST(owner, struct tcp_client, TCP_CLIENT_MAGIC);
    if (c->exchange)
        c->cs.events->on_below(c->cs.user);
}

static void on_closed(void *owner, struct conn *conn, enum conn_close_reason why)
{
    struct tcp_client *c = OBJ_CAST(owner, struct tcp_client, TCP_CLIENT_MAGIC);
    if (c->received_end)
        return; /* the user has all, and its reset lets go */
    fail(c);
}

static const struct conn_ops conn_callbacks = {
    .on_connected = on_connected,
    .on_read = on_read,
    .on_below = on_below,
    .on_above = on_above,
    .on_closed = on_closed,
};

/* --- what the exchange's user asks --- */

static void run_answer(void *arg)
{
    struct tcp_client *c = OBJ_CAST(arg, struct tcp_client, TCP_CLIENT_MAGIC);
    struct headers *h = ARENA_NEW(c->cs.arena, struct headers);
    headers_init(h, c->cs.arena);
    h->status = 200;
    h->minor = 1;
    h->upgrade = true;
    c->answered = true;
    c->in_event = true;
    c->cs.events->on_headers(c->cs.user, h, false);
    c->in_event = false;
    if (c->over)
        let_go(c);
    else if (c->pc)
        conn_read_again(&c->pc->conn);
}

static void op_headers(struct codec_stream *cs, const struct headers *h, bool end)
{
    struct tcp_client *c = of(cs);
    c->sent_end = end;
    loop_post(c->pc->conn.loop, &c->answer);
}

static void op_informational(struct codec_stream *cs, const struct headers *h)
{
}

static void op_data(struct codec_stream *cs, struct buffer *b, bool end)
{
    struct tcp_client *c = of(cs);
    if (!c->exchange || c->sent_end) {
        buffer_drain(b, b->len);
        return;
    }
    conn_write(&c->pc->conn, b);
    if (!end)
        return;
    c->sent_end = true;
    conn_shut_write(&c->pc->conn);
    if (c->received_end && !c->in_event)
        let_go(c);
}

static void op_trailers(struct codec_stream *cs, const struct headers *h)
{
    struct buffer none;
    buffer_init(&none);
    op_data(cs, &none, true);
}

static void op_reset(struct codec_stream *cs, enum reset_reason why)
{
    struct tcp_client *c = of(cs);
    c->exchange = false;
    c->over = true;
    if (!c->in_event)
        let_go(c);
}

static void op_pause(struct codec_stream *cs)
{
    struct tcp_client *c = of(cs);
    if (c->exchange && c->pauses++ == 0)
        conn_pause_read(&c->pc->conn);
}

static void op_resume(struct codec_stream *cs)
{
    struct tcp_client *c = of(cs);
    if (!c->exchange)
        return;
    CHECK(c->pauses > 0);
    if (--c->pauses)
        return;
    conn_resume_read(&c->pc->conn);
    if (c->pc->conn.in.len || c->pc->conn.eof)
        conn_read_again(&c->pc->conn);
}

static void op_close_after(struct codec_stream *cs)
{
}

static const struct codec_stream_ops stream_ops = {
    .headers = op_headers,
    .informational = op_informational,
    .data = op_data,
    .trailers = op_trailers,
    .reset = op_reset,
    .pause = op_pause,
    .resume = op_resume,
    .close_after = op_close_after,
};

struct codec_stream *tcp_client_stream(struct pool_conn *pc, struct arena *a,
                                       const struct codec_events *events, void *user)
{
    struct tcp_client *c = ARENA_NEW(a, struct tcp_client);
    c->magic = TCP_CLIENT_MAGIC;
    c->pc = pc;
    c->exchange = true;
    c->cs = (struct codec_stream){.ops = &stream_ops, .events = events, .user = user, .arena = a};
    task_init(&c->answer, run_answer, c);
    conn_set_owner(&pc->conn, &conn_callbacks, c);
    conn_set_half_close(&pc->conn, true);
    return &c->cs;
}
