#include "proxy/http/codec.h"

#include "base/obj.h"
#include "cluster/cluster_stats.h"
#include "cluster/pool.h"
#include "proxy/http/h1_chunks.h"
#include "proxy/http/h1_parse.h"
#include "proxy/http/h1_scan.h"
#include "proxy/http/h1_write.h"

enum {
    H1_CLIENT_MAGIC = 0x4831434c,
    MAX_INFORMATIONAL = 16, /* 1xx before one response */
};

/* Where the reading side stands. */
enum client_state {
    CLIENT_FREE, /* the pool has the connection */
    CLIENT_HEAD, /* a response is awaited */
    CLIENT_BODY,
    CLIENT_TRAILERS, /* the last chunk was there */
    CLIENT_RECEIVED, /* the response is whole; the request is not: the user will reset */
};

/* What becomes of the connection when the event that is under way returns. */
enum client_release { RELEASE_NOT, RELEASE_REUSABLE, RELEASE_CLOSED };

struct h1_client {
    uint32_t magic;
    struct pool_conn *pc;
    struct conn *conn;
    struct codec_stream cs; /* of the exchange under way */
    struct h1_rules rules;
    const struct http1_options *options; /* of the exchange; NULL: the defaults */
    struct h1_scan scan;
    struct h1_chunks chunks;
    struct h1_message message; /* the response; its length counts down */
    struct h1_out out;         /* the request's body */
    struct buffer body;        /* what is being given on */
    uint32_t pauses;
    uint8_t state;   /* enum client_state */
    uint8_t release; /* enum client_release */
    uint8_t informational;
    bool exchange; /* the user is to be told */
    bool stale;    /* there were bytes before the request */
    bool to_head;
    bool tunnel, connect; /* the request asks for one */
    bool granted;         /* what follows is no HTTP */
    bool sent_head, sent_end;
    bool last; /* not to be used again */
    bool running;
};

static struct h1_client *of(struct codec_stream *cs)
{
    struct h1_client *c = CONTAINER_OF(cs, struct h1_client, cs);
    CHECK(c->magic == H1_CLIENT_MAGIC);
    return c;
}

/* --- the end of an exchange --- */

static void release_now(struct h1_client *c, bool reusable)
{
    c->release = RELEASE_NOT;
    if (!reusable)
        conn_close(c->conn, CONN_CLOSE_NOW, 0);
    pool_release(c->pc, reusable); /* c may be used or freed after this */
}

/* The slot goes back to the pool, at once or when the event that is under way has returned. */
static void release(struct h1_client *c, bool reusable)
{
    if (c->state == CLIENT_FREE)
        return;
    c->state = CLIENT_FREE;
    c->exchange = false;
    if (c->pauses)
        conn_resume_read(c->conn);
    c->pauses = 0;
    h1_scan_cleanup(&c->scan);
    if (c->running)
        c->release = reusable ? RELEASE_REUSABLE : RELEASE_CLOSED;
    else
        release_now(c, reusable);
}

static void fail(struct h1_client *c, enum reset_reason why, struct str detail)
{
    if (c->exchange) {
        c->exchange = false;
        c->cs.events->on_reset(c->cs.user, why, detail);
    }
    release(c, false);
}

static void refuse(struct h1_client *c, const struct h1_error *err)
{
    bool large = err->status == 431;
    fail(c, large ? RESET_HEADERS_TOO_LARGE : RESET_PROTOCOL_ERROR, err->detail);
}

/* The last of the response is about to be given. Who has not sent all of the request by now has to
 * reset, even if it sends the rest from within the event. True: all was sent. */
static bool response_ends(struct h1_client *c)
{
    if (!c->sent_end)
        c->state = CLIENT_RECEIVED;
    return c->sent_end;
}

/* The event has returned. */
static void response_ended(struct h1_client *c)
{
    if (!c->exchange)
        return;
    bool reusable = c->message.keep_alive && !c->last && !c->conn->eof && c->conn->in.len == 0 &&
                    c->conn->out.len == 0;
    release(c, reusable);
}

/* --- responses --- */

static void give_informational(struct h1_client *c, struct headers *h)
{
    struct h1_error err = {502, H1_CODEC_ERROR};
    if (++c->informational > MAX_INFORMATIONAL) {
        refuse(c, &err);
        return;
    }
    if (c->cs.events->on_informational)
        c->cs.events->on_informational(c->cs.user, h);
}

/* Whether what follows the head is a tunnel. False: 101 came and nobody had asked. */
static bool settle_tunnel(struct h1_client *c, struct headers *h)
{
    struct h1_error err = {502, H1_CODEC_ERROR};
    if (h->status == 101 && (!c->tunnel || c->connect || !h->upgrade)) {
        refuse(c, &err);
        return false;
    }
    if (!c->tunnel)
        return true;
    c->granted = c->connect ? h->status / 100 == 2 : h->status == 101;
    if (!c->granted) {
        c->sent_end = true; /* the request had nothing but its head */
        return true;
    }
    /* RFC 9110 9.3.6: framing in it means nothing. */
    headers_remove_known(h, HDR_CONTENT_LENGTH);
    h->upgrade = true;
    c->message.body = H1_BODY_CLOSE;
    c->message.keep_alive = false;
    return true;
}

/* Takes a whole head from the input. False: there is none. */
static bool read_head(struct h1_client *c)
{
    struct buffer *in = &c->conn->in;
    struct h1_error err;
    enum h1_status r = h1_scan_head(&c->scan, in, &c->rules, false, &err);
    if (r == H1_MORE && h1_scan_may_be(&c->scan, H1_RESPONSE))
        return false;
    struct arena *a = c->cs.arena;
    struct headers *h = ARENA_NEW(a, struct headers);
    headers_init(h, a);
    uint32_t lines = c->scan.lines;
    if (r != H1_DONE || lines == 0) {
        if (r != H1_BAD)
            h1_refuse(&err, 502, H1_CODEC_ERROR);
        refuse(c, &err);
        return true;
    }
    char *head = h1_scan_take(&c->scan, in, a);
    if (!h1_parse_response(head, lines, &c->rules, c->to_head, h, &c->message, &err)) {
        refuse(c, &err);
        return true;
    }
    if (h->status < 200 && h->status != 101) {
        give_informational(c, h);
        return true;
    }
    if (!settle_tunnel(c, h))
        return true;
    bool end = c->message.body == H1_BODY_NONE;
    c->state = CLIENT_BODY;
    c->chunks = (struct h1_chunks){0};
    bool over = end && response_ends(c);
    c->cs.events->on_headers(c->cs.user, h, end);
    if (over)
        response_ended(c);
    return true;
}

static void give_data(struct h1_client *c, struct buffer *b, bool end)
{
    bool over = end && response_ends(c);
    c->cs.events->on_data(c->cs.user, b, end);
    buffer_drain(b, b->len);
    if (over)
        response_ended(c);
}

static void read_length(struct h1_client *c)
{
    struct buffer *in = &c->conn->in;
    uint64_t left = c->message.length;
    if (in->len <= left) { /* all of it is body */
        c->message.length -= in->len;
        give_data(c, in, c->message.length == 0);
        return;
    }
    buffer_move(&c->body, in, (size_t)left);
    c->message.length = 0;
    give_data(c, &c->body, true);
}

static void read_trailers(struct h1_client *c)
{
    struct h1_error err;
    enum h1_status r = h1_scan_head(&c->scan, &c->conn->in, &c->rules, true, &err);
    if (r == H1_MORE && c->body.len)
        give_data(c, &c->body, false);
    if (r == H1_BAD)
        refuse(c, &err);
    if (r != H1_DONE)
        return;
    struct arena *a = c->cs.arena;
    struct headers *h = ARENA_NEW(a, struct headers);
    headers_init(h, a);
    uint32_t lines = c->scan.lines;
    char *section = h1_scan_take(&c->scan, &c->conn->in, a);
    if (!h1_parse_trailers(section, lines, &c->rules, h, &err)) {
        refuse(c, &err);
        return;
    }
    if (!h->live) {
        give_data(c, &c->body, true);
        return;
    }
    if (c->body.len)
        give_data(c, &c->body, false);
    if (!c->exchange)
        return;
    bool over = response_ends(c);
    c->cs.events->on_trailers(c->cs.user, h);
    if (over)
        response_ended(c);
}

static void read_chunks(struct h1_client *c)
{
    struct h1_error err = {502, H1_CODEC_ERROR};
    switch (h1_chunks_read(&c->chunks, &c->conn->in, &c->body, SIZE_MAX)) {
    case H1_BAD:
        if (c->body.len) /* what was good is still worth giving on */
            give_data(c, &c->body, false);
        refuse(c, &err);
        return;
    case H1_MORE:
        if (c->body.len)
            give_data(c, &c->body, false);
        return;
    case H1_DONE:
        c->state = CLIENT_TRAILERS;
        read_trailers(c);
        return;
    }
}

static void read_body(struct h1_client *c)
{
    switch (c->message.body) {
    case H1_BODY_LENGTH:
        read_length(c);
        return;
    case H1_BODY_CHUNKED:
        read_chunks(c);
        return;
    case H1_BODY_CLOSE:
        give_data(c, &c->conn->in, c->conn->eof);
        return;
    case H1_BODY_NONE:
    case H1_BODY_TUNNEL: /* of requests */
        return;
    }
}

/* --- the driver --- */

/* Does one thing with the input; false when there is nothing to do now. */
static bool step(struct h1_client *c)
{
    if (!c->exchange || c->conn->in.len == 0 || c->pauses)
        return false;
    switch ((enum client_state)c->state) {
    case CLIENT_HEAD:
        return read_head(c);
    case CLIENT_BODY:
        read_body(c);
        return true;
    case CLIENT_TRAILERS:
        read_trailers(c);
        return true;
    case CLIENT_FREE:
    case CLIENT_RECEIVED:
        return false;
    }
    return false;
}

/* The peer ended its direction, and what came before has been dealt with. */
static void on_eof(struct h1_client *c)
{
    if (c->state == CLIENT_HEAD && !h1_scan_begun(&c->scan))
        fail(c, RESET_CONN_TERMINATED, STR_NULL);
    else if (c->state == CLIENT_BODY && c->message.body == H1_BODY_CLOSE)
        give_data(c, &c->body, true);
    else if (c->state != CLIENT_RECEIVED)
        fail(c, RESET_PROTOCOL_ERROR, H1_CODEC_ERROR); /* a response that is cut off */
}

static void run(struct h1_client *c)
{
    c->running = true;
    if (c->stale)
        fail(c, RESET_PROTOCOL_ERROR, H1_CODEC_ERROR);
    while (step(c))
        continue;
    if (c->exchange && c->conn->eof && !c->pauses)
        on_eof(c);
    c->running = false;
    if (c->release != RELEASE_NOT)
        release_now(c, c->release == RELEASE_REUSABLE);
}

static void on_connected(void *owner, struct conn *conn)
{
}

static void on_read(void *owner, struct conn *conn)
{
    run(OBJ_CAST(owner, struct h1_client, H1_CLIENT_MAGIC));
}

static void on_above(void *owner, struct conn *conn)
{
    struct h1_client *c = OBJ_CAST(owner, struct h1_client, H1_CLIENT_MAGIC);
    if (c->exchange)
        c->cs.events->on_above(c->cs.user);
}

static void on_below(void *owner, struct conn *conn)
{
    struct h1_client *c = OBJ_CAST(owner, struct h1_client, H1_CLIENT_MAGIC);
    if (c->exchange)
        c->cs.events->on_below(c->cs.user);
}

static void on_closed(void *owner, struct conn *conn, enum conn_close_reason why)
{
    struct h1_client *c = OBJ_CAST(owner, struct h1_client, H1_CLIENT_MAGIC);
    if (c->state != CLIENT_RECEIVED) /* else the user has all, and its reset releases the slot */
        fail(c, RESET_CONN_TERMINATED, STR_NULL);
}

static const struct conn_ops conn_callbacks = {
    .on_connected = on_connected,
    .on_read = on_read,
    .on_below = on_below,
    .on_above = on_above,
    .on_closed = on_closed,
};

/* --- what the exchange's user asks --- */

static void op_headers(struct codec_stream *cs, const struct headers *h, bool end)
{
    struct h1_client *c = of(cs);
    if (!c->exchange || c->sent_head)
        return;
    c->sent_head = true;
    c->sent_end = end;
    c->to_head = str_eq(h->method, STR("HEAD"));
    c->tunnel = h->upgrade;
    c->connect = str_eq(h->method, STR("CONNECT"));
    c->out = h1_write_request(&c->conn->out, h, c->options, end);
    conn_flush_soon(c->conn);
}

static void op_informational(struct codec_stream *cs, const struct headers *h)
{
}

static void sent(struct h1_client *c, bool good, bool end)
{
    conn_flush_soon(c->conn);
    if (!good)
        c->last = true;
    if (!end)
        return;
    c->sent_end = true;
    if (c->granted)
        conn_shut_write(c->conn);
}

static void op_data(struct codec_stream *cs, struct buffer *b, bool end)
{
    struct h1_client *c = of(cs);
    if (!c->exchange || !c->sent_head || c->sent_end) {
        buffer_drain(b, b->len);
        return;
    }
    sent(c, h1_write_data(&c->out, &c->conn->out, b, end), end);
}

static void op_trailers(struct codec_stream *cs, const struct headers *h)
{
    struct h1_client *c = of(cs);
    if (c->exchange && c->sent_head && !c->sent_end)
        sent(c, h1_write_trailers(&c->out, &c->conn->out, h), true);
}

static void op_reset(struct codec_stream *cs, enum reset_reason why)
{
    release(of(cs), false);
}

static void op_pause(struct codec_stream *cs)
{
    struct h1_client *c = of(cs);
    if (c->exchange && c->pauses++ == 0)
        conn_pause_read(c->conn);
}

static void op_resume(struct codec_stream *cs)
{
    struct h1_client *c = of(cs);
    if (!c->exchange)
        return;
    CHECK(c->pauses > 0);
    if (--c->pauses)
        return;
    conn_resume_read(c->conn);
    if (!c->running && (c->conn->in.len || c->conn->eof))
        conn_read_again(c->conn);
}

static void op_close_after(struct codec_stream *cs)
{
    of(cs)->last = true;
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

/* --- what the pool asks --- */

static void *client_new(struct pool_conn *pc)
{
    struct h1_client *c = NEW(struct h1_client);
    c->magic = H1_CLIENT_MAGIC;
    c->pc = pc;
    c->conn = &pc->conn;
    c->cs.ops = &stream_ops;
    buffer_init(&c->body);
    conn_set_owner(&pc->conn, &conn_callbacks, c);
    return c;
}

static void client_free(void *client)
{
    struct h1_client *c = OBJ_CAST(client, struct h1_client, H1_CLIENT_MAGIC);
    h1_scan_cleanup(&c->scan);
    buffer_cleanup(&c->body);
    c->magic = 0;
    mem_free(c);
}

const struct pool_protocol h1_client_protocol = {
    .name = "http1",
    .stat = CLUSTER_UPSTREAM_CX_HTTP1_TOTAL,
    .client_new = client_new,
    .client_free = client_free,
};

struct codec_stream *h1_client_stream(struct pool_conn *pc, struct arena *a,
                                      const struct http_client_limits *limits,
                                      const struct codec_events *events, void *user)
{
    struct h1_client *c = OBJ_CAST(pc->client, struct h1_client, H1_CLIENT_MAGIC);
    CHECK(c->state == CLIENT_FREE && c->release == RELEASE_NOT);
    c->cs.arena = a;
    c->cs.events = events;
    c->cs.user = user;
    c->rules = (struct h1_rules){.max_bytes = limits->max_headers_bytes,
                                 .max_count = limits->max_headers_count,
                                 .keep_case = limits->http1 && limits->http1->preserve_case,
                                 .keep_reason = limits->http1 && limits->http1->forward_reason};
    c->options = limits->http1;
    c->state = CLIENT_HEAD;
    c->exchange = true;
    /* Bytes that no request asked for would be taken for its response. */
    c->stale = c->conn->in.len != 0;
    c->informational = 0;
    c->tunnel = c->connect = c->granted = false;
    c->to_head = c->sent_head = c->sent_end = c->last = false;
    return &c->cs;
}
