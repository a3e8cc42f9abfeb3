#include "proxy/http/codec.h"

#include "base/obj.h"
#include "proxy/http/h1_chunks.h"
#include "proxy/http/h1_parse.h"
#include "proxy/http/h1_scan.h"
#include "proxy/http/h1_write.h"
#include "proxy/router/matchers.h"
#include "tls/conn.h"

enum {
    H1_SERVER_MAGIC = 0x48315356,
    REQUESTS_PER_TURN = 32, /* pipelined requests that are begun before others get their turn */
    EMPTY_LINE_BYTES = 8,   /* tolerated before a request */
};

#define CLIENT_LEFT STR("downstream_remote_disconnect")

/* Where the reading side stands. The writing side is `replied` and `out`. */
enum server_state {
    SERVER_IDLE,     /* nothing of a request is there */
    SERVER_HEAD,     /* a part of its head */
    SERVER_BODY,     /* the head was given on */
    SERVER_TRAILERS, /* the last chunk was there */
    SERVER_REPLY,    /* all of the request was given on; what follows waits */
    SERVER_CLOSING,  /* conn_close was called, or the connection is over */
};

struct h1_server {
    uint32_t magic;
    struct http_server base; /* the user's handle */
    struct conn *conn;
    const struct http_limits *limits;
    const struct http_server_events *events;
    void *user;
    struct h1_rules rules;
    struct codec_stream cs; /* of the exchange under way */
    bool exchange;          /* there is one: cs has a user */
    struct h1_scan scan;
    struct h1_chunks chunks;
    struct h1_message message; /* the request; its length counts down */
    struct h1_out out;         /* the response's body */
    struct buffer body;        /* what is being given on */
    struct timer timer;        /* idle, or the head's */
    uint32_t num_requests;
    uint32_t empty_lines; /* bytes still tolerated */
    uint32_t pauses;
    uint8_t state;
    uint8_t minor; /* of the request */
    bool to_head;
    bool granted; /* a tunnel: what follows in both directions is no HTTP */
    bool replied; /* the response's head was sent */
    bool last;    /* the connection ends with this exchange */
    bool draining;
    bool running; /* in run(), which goes on by itself */
};

static struct h1_server *of(struct codec_stream *cs)
{
    struct h1_server *s = CONTAINER_OF(cs, struct h1_server, cs);
    CHECK(s->magic == H1_SERVER_MAGIC);
    return s;
}

/* --- the end of an exchange, and of the connection --- */

static void undo_pauses(struct h1_server *s)
{
    if (s->pauses)
        conn_resume_read(s->conn);
    s->pauses = 0;
}

static void begin_close(struct h1_server *s, enum conn_close_how how)
{
    if (s->state == SERVER_CLOSING)
        return;
    s->state = SERVER_CLOSING;
    timer_disarm(&s->timer);
    undo_pauses(s);
    conn_close(s->conn, how, s->limits->delayed_close_ms);
}

static void wait_for_request(struct h1_server *s)
{
    s->state = SERVER_IDLE;
    s->replied = false;
    s->empty_lines = EMPTY_LINE_BYTES;
    if (s->limits->idle_timeout_ms)
        timer_arm(&s->timer, s->limits->idle_timeout_ms);
    else
        timer_disarm(&s->timer);
    /* What is there already: in run() the loop goes on, otherwise it is asked to. */
    if (!s->running && (s->conn->in.len || s->conn->eof))
        conn_read_again(s->conn);
}

/* The user has sent its end; it is not told anything more. */
static void reply_ended(struct h1_server *s)
{
    s->exchange = false;
    undo_pauses(s);
    if (s->state != SERVER_REPLY || s->last || s->conn->eof || s->draining)
        begin_close(s, CONN_CLOSE_LINGER);
    else
        wait_for_request(s);
}

/* Tells the user that its exchange is over, whatever it was doing. */
static void reset_exchange(struct h1_server *s, enum reset_reason why, struct str detail)
{
    if (!s->exchange)
        return;
    s->exchange = false;
    s->cs.events->on_reset(s->cs.user, why, detail);
}

static void answer_error(struct h1_server *s, unsigned status, struct str detail)
{
    struct str body;
    struct buffer b;
    struct h1_reply how = {.to_head = s->to_head && s->exchange, .minor = 1, .close = true};
    if (!s->events->error_reply) {
        h1_write_error(&s->conn->out, status, how.to_head);
        return;
    }
    struct arena *a = s->events->arena_for(s->user);
    struct headers *h = s->events->error_reply(s->user, a, status, detail, &body);
    how.end = !body.len;
    struct h1_out out = h1_write_response(&s->conn->out, h, &how);
    buffer_init(&b);
    buffer_add_str(&b, how.to_head ? STR("") : body);
    if (!h1_write_data(&out, &s->conn->out, &b, true))
        s->last = true;
    buffer_cleanup(&b);
    s->events->arena_unused(s->user, a);
}

/* The bytes of a request are wrong: the client is told if it was not told anything else, and
 * nothing that follows can be trusted. */
static void refuse_head(struct h1_server *s, const struct h1_error *err, const struct headers *head)
{
    bool begun = s->exchange;
    if (!s->replied) {
        answer_error(s, begun ? 400 : err->status, err->detail);
        conn_flush_soon(s->conn);
    }
    begin_close(s, CONN_CLOSE_LINGER);
    if (begun)
        reset_exchange(s, RESET_PROTOCOL_ERROR, err->detail);
    else
        s->events->on_malformed(s->user, err->status, err->detail, head);
}

static void refuse(struct h1_server *s, const struct h1_error *err)
{
    refuse_head(s, err, NULL);
}

/* How long a head may take, and what it is called when it takes longer; 0: for ever. */
static uint64_t head_timeout(const struct http_limits *l, struct str *why)
{
    uint64_t ms = l->headers_timeout_ms;
    *why = STR("request_header_timeout");
    if (l->request_ms && (!ms || l->request_ms < ms)) {
        ms = l->request_ms;
        *why = STR("request_overall_timeout");
    }
    if (l->stream_idle_ms && (!ms || l->stream_idle_ms < ms)) {
        ms = l->stream_idle_ms;
        *why = STR("stream_idle_timeout");
    }
    return ms;
}

static void on_timer(void *arg)
{
    struct h1_server *s = OBJ_CAST(arg, struct h1_server, H1_SERVER_MAGIC);
    bool first = s->state == SERVER_IDLE && !s->draining && s->events->on_idle;
    if (first)
        s->events->on_idle(s->user);
    if (first && s->num_requests && s->limits->drain_ms) {
        s->draining = true;
        timer_arm(&s->timer, s->limits->drain_ms);
    } else if (s->state == SERVER_IDLE) {
        begin_close(s, CONN_CLOSE_FLUSH);
    } else if (s->state == SERVER_HEAD) {
        struct h1_error late = {408, STR_NULL};
        (void)head_timeout(s->limits, &late.detail);
        refuse(s, &late);
    }
}

/* --- requests --- */

static void give_headers(struct h1_server *s, struct headers *h)
{
    bool end = s->message.body == H1_BODY_NONE;
    s->state = end ? SERVER_REPLY : SERVER_BODY;
    s->exchange = true;
    s->num_requests++;
    s->minor = h->minor;
    s->to_head = str_eq(h->method, STR("HEAD"));
    s->granted = false;
    s->last = !s->message.keep_alive ||
              (s->limits->max_requests && s->num_requests >= s->limits->max_requests);
    s->chunks = (struct h1_chunks){0};
    bool expects = s->message.expect_continue && !s->limits->proxy_100_continue;
    if (expects)
        headers_remove_known(h, HDR_EXPECT);
    s->events->new_stream(s->user, &s->cs);
    s->cs.events->on_headers(s->cs.user, h, end);
    /* Only who has not yet been answered and has not gone on by itself still waits for it. */
    if (expects && s->exchange && s->state == SERVER_BODY && !s->replied && !s->conn->in.len) {
        buffer_add_str(&s->conn->out, STR("HTTP/1.1 100 Continue\r\n\r\n"));
        conn_flush_soon(s->conn);
    }
}

/* A head that is not whole has a limited time. */
static void await_head(struct h1_server *s)
{
    if (s->state == SERVER_HEAD)
        return;
    s->state = SERVER_HEAD;
    struct str why;
    uint64_t ms = head_timeout(s->limits, &why);
    if (ms)
        timer_arm(&s->timer, ms);
}

/* Finds the end of a head in the input. */
static enum h1_status find_head(struct h1_server *s, struct h1_error *err)
{
    struct buffer *in = &s->conn->in;
    *err = (struct h1_error){400, H1_CODEC_ERROR};
    if (!h1_scan_begun(&s->scan)) {
        if (!h1_scan_skip_empty_lines(in, &s->empty_lines))
            return H1_BAD;
        if (in->len == 0 || (in->len == 1 && buffer_peek(in).p[0] == '\r'))
            return H1_MORE;
    }
    enum h1_status r = h1_scan_head(&s->scan, in, &s->rules, false, err);
    return r == H1_MORE && !h1_scan_may_be(&s->scan, H1_REQUEST) ? H1_BAD : r;
}

/* Takes a whole head from the input. False: there is none, or it is refused. */
static bool read_head(struct h1_server *s)
{
    struct buffer *in = &s->conn->in;
    struct h1_error err;
    switch (find_head(s, &err)) {
    case H1_MORE:
        if (in->len || h1_scan_begun(&s->scan))
            await_head(s);
        return false;
    case H1_BAD:
        refuse(s, &err);
        return false;
    case H1_DONE:
        break;
    }
    struct arena *a = s->events->arena_for(s->user);
    struct headers *h = ARENA_NEW(a, struct headers);
    headers_init(h, a);
    uint32_t lines = s->scan.lines;
    char *head = h1_scan_take(&s->scan, in, a);
    if (!h1_parse_request(head, lines, &s->rules, h, &s->message, &err)) {
        refuse_head(s, &err, str_eq(err.detail, STR("missing_host_header")) ? h : NULL);
        s->events->arena_unused(s->user, a);
        return false;
    }
    s->cs.arena = a;
    give_headers(s, h);
    return true;
}

static void give_data(struct h1_server *s, struct buffer *b, bool end)
{
    if (end)
        s->state = SERVER_REPLY;
    s->cs.events->on_data(s->cs.user, b, end);
    if (b == &s->body)
        buffer_drain(b, b->len);
}

static void read_length(struct h1_server *s)
{
    struct buffer *in = &s->conn->in;
    uint64_t left = s->message.length;
    if (in->len > left) {
        buffer_move(&s->body, in, (size_t)left);
        s->message.length = 0;
        give_data(s, &s->body, true);
        return;
    }
    s->message.length -= in->len;
    give_data(s, in, s->message.length == 0);
    if (s->state != SERVER_CLOSING)
        buffer_drain(in, in->len);
}

static void read_tunnel(struct h1_server *s)
{
    struct buffer *in = &s->conn->in;
    give_data(s, in, false);
    if (s->state != SERVER_CLOSING)
        buffer_drain(in, in->len);
}

static void read_trailers(struct h1_server *s)
{
    struct h1_error err;
    enum h1_status r = h1_scan_head(&s->scan, &s->conn->in, &s->rules, true, &err);
    if (r == H1_BAD) {
        refuse(s, &err);
        return;
    }
    if (r == H1_MORE) {
        if (s->body.len)
            give_data(s, &s->body, false);
        return;
    }
    uint32_t lines = s->scan.lines;
    struct headers *h = ARENA_NEW(s->cs.arena, struct headers);
    headers_init(h, s->cs.arena);
    char *section = h1_scan_take(&s->scan, &s->conn->in, s->cs.arena);
    if (!h1_parse_trailers(section, lines, &s->rules, h, &err)) {
        refuse(s, &err);
        return;
    }
    if (!h->live) {
        give_data(s, &s->body, true);
        return;
    }
    if (s->body.len)
        give_data(s, &s->body, false);
    if (!s->exchange)
        return;
    s->state = SERVER_REPLY;
    s->cs.events->on_trailers(s->cs.user, h);
}

static void read_chunks(struct h1_server *s)
{
    struct h1_error err = {400, H1_CODEC_ERROR};
    switch (h1_chunks_read(&s->chunks, &s->conn->in, &s->body, SIZE_MAX)) {
    case H1_BAD:
        buffer_drain(&s->body, s->body.len);
        refuse(s, &err);
        return;
    case H1_MORE:
        if (s->body.len)
            give_data(s, &s->body, false);
        return;
    case H1_DONE:
        s->state = SERVER_TRAILERS;
        read_trailers(s);
        return;
    }
}

/* --- the driver --- */

/* Does one thing with the input; false when there is nothing to do now. */
static bool step(struct h1_server *s, unsigned *requests)
{
    bool more = s->conn->in.len != 0;
    switch ((enum server_state)s->state) {
    case SERVER_IDLE:
    case SERVER_HEAD:
        /* Who does not read its responses gets no further ones. */
        if (!more || *requests == 0 || s->conn->out.above)
            return false;
        --*requests;
        return read_head(s);
    case SERVER_BODY:
        if (!more || s->pauses || (s->message.body == H1_BODY_TUNNEL && !s->granted))
            return false;
        if (s->message.body == H1_BODY_TUNNEL)
            read_tunnel(s);
        else if (s->message.body == H1_BODY_LENGTH)
            read_length(s);
        else
            read_chunks(s);
        return true;
    case SERVER_TRAILERS:
        if (!more || s->pauses)
            return false;
        read_trailers(s);
        return true;
    case SERVER_REPLY:
    case SERVER_CLOSING:
        return false;
    }
    return false;
}

/* The client has ended its direction, and what it sent before has been dealt with: HTTP/1 has no
 * half-closed exchanges, but what flows through a tunnel may. */
static void on_eof(struct h1_server *s)
{
    if (s->state == SERVER_CLOSING || (s->granted && s->state == SERVER_REPLY))
        return;
    if (s->granted) {
        give_data(s, &s->body, true);
        return;
    }
    bool in_head = s->state == SERVER_HEAD;
    begin_close(s, CONN_CLOSE_FLUSH);
    if (in_head)
        s->events->on_malformed(s->user, 0, CLIENT_LEFT, NULL);
    else
        reset_exchange(s, RESET_CONN_TERMINATED, CLIENT_LEFT);
}

static void run(struct h1_server *s)
{
    unsigned requests = REQUESTS_PER_TURN;
    s->running = true;
    while (step(s, &requests))
        continue;
    s->running = false;
    if (s->state == SERVER_CLOSING)
        return;
    if (requests == 0 && s->conn->in.len && s->state == SERVER_IDLE)
        conn_read_again(s->conn);
    else if (s->conn->eof && !s->pauses)
        on_eof(s);
}

/* --- events of the connection --- */

static void on_connected(void *owner, struct conn *c)
{
}

static void on_read(void *owner, struct conn *c)
{
    run(OBJ_CAST(owner, struct h1_server, H1_SERVER_MAGIC));
}

static void on_above(void *owner, struct conn *c)
{
    struct h1_server *s = OBJ_CAST(owner, struct h1_server, H1_SERVER_MAGIC);
    if (s->exchange)
        s->cs.events->on_above(s->cs.user);
}

static void on_below(void *owner, struct conn *c)
{
    struct h1_server *s = OBJ_CAST(owner, struct h1_server, H1_SERVER_MAGIC);
    if (s->exchange)
        s->cs.events->on_below(s->cs.user);
    else if ((s->state == SERVER_IDLE || s->state == SERVER_HEAD) && c->in.len)
        conn_read_again(c);
}

static void on_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct h1_server *s = OBJ_CAST(owner, struct h1_server, H1_SERVER_MAGIC);
    bool in_head = s->state == SERVER_HEAD;
    s->state = SERVER_CLOSING;
    timer_disarm(&s->timer);
    if (in_head)
        s->events->on_malformed(s->user, 0, CLIENT_LEFT, NULL);
    reset_exchange(s, RESET_CONN_TERMINATED, CLIENT_LEFT);
    s->events->on_closed(s->user);
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
    struct h1_server *s = of(cs);
    if (!s->exchange || s->replied)
        return;
    s->replied = true;
    if (s->message.body == H1_BODY_TUNNEL) {
        s->granted = !end && (s->message.connect ? h->status / 100 == 2 : h->status == 101);
        if (!s->granted) { /* an ordinary response; what the client has sent early is not HTTP */
            s->state = SERVER_REPLY;
            s->last |= s->conn->in.len != 0;
        }
    }
    /* What has not been read of the request by the time it is answered would be taken for the next
     * one: the connection ends with this response, which says so (RFC 9112 9.6). */
    if (s->state != SERVER_REPLY && !s->granted)
        s->last = true;
    struct h1_reply how = {
        .end = end,
        .to_head = s->to_head,
        .minor = s->minor,
        .tunnel = s->granted,
        .options = &s->limits->http1,
        .close = s->last || s->draining || s->conn->eof,
    };
    s->out = h1_write_response(&s->conn->out, h, &how);
    s->last = how.close || s->out.framing == H1_OUT_CLOSE;
    conn_flush_soon(s->conn);
    if (end)
        reply_ended(s);
}

static void op_informational(struct codec_stream *cs, const struct headers *h)
{
    struct h1_server *s = of(cs);
    if (!s->exchange || s->replied || s->minor == 0)
        return;
    h1_write_informational(&s->conn->out, h);
    conn_flush_soon(s->conn);
}

static void sent(struct h1_server *s, bool good, bool end)
{
    conn_flush_soon(s->conn);
    if (!good)
        s->last = true;
    if (end)
        reply_ended(s);
}

static void op_data(struct codec_stream *cs, struct buffer *b, bool end)
{
    struct h1_server *s = of(cs);
    if (!s->exchange || !s->replied) {
        buffer_drain(b, b->len);
        return;
    }
    sent(s, h1_write_data(&s->out, &s->conn->out, b, end), end);
}

static void op_trailers(struct codec_stream *cs, const struct headers *h)
{
    struct h1_server *s = of(cs);
    if (s->exchange && s->replied)
        sent(s, h1_write_trailers(&s->out, &s->conn->out, h), true);
}

static void op_reset(struct codec_stream *cs, enum reset_reason why)
{
    struct h1_server *s = of(cs);
    if (!s->exchange)
        return;
    s->exchange = false;
    /* A body that ends with the connection looks complete after a FIN. */
    bool cut = s->replied && s->out.framing == H1_OUT_CLOSE;
    begin_close(s, cut ? CONN_CLOSE_RESET : CONN_CLOSE_FLUSH);
}

static void op_pause(struct codec_stream *cs)
{
    struct h1_server *s = of(cs);
    if (s->exchange && s->pauses++ == 0)
        conn_pause_read(s->conn);
}

static void op_resume(struct codec_stream *cs)
{
    struct h1_server *s = of(cs);
    if (!s->exchange)
        return;
    CHECK(s->pauses > 0);
    if (--s->pauses)
        return;
    conn_resume_read(s->conn);
    if (!s->running && (s->conn->in.len || s->conn->eof))
        conn_read_again(s->conn);
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

/* --- what the connection's user asks --- */

static void server_drain(struct http_server *base)
{
    struct h1_server *s = CONTAINER_OF(base, struct h1_server, base);
    s->draining = true;
    if (s->state == SERVER_IDLE && !s->conn->in.len)
        begin_close(s, CONN_CLOSE_FLUSH);
}

static void server_free(struct http_server *base)
{
    struct h1_server *s = CONTAINER_OF(base, struct h1_server, base);
    timer_disarm(&s->timer);
    h1_scan_cleanup(&s->scan);
    buffer_cleanup(&s->body);
    s->magic = 0;
    mem_free(s);
}

static const struct http_server_ops server_ops = {
    .drain = server_drain,
    .free = server_free,
};

static bool may_upgrade(const void *arg, struct str protocol)
{
    const struct http_limits *limits = arg;
    for (size_t i = 0; i < limits->num_ignore_upgrade; i++) {
        if (string_match(&limits->ignore_upgrade[i], protocol))
            return false;
    }
    return true;
}

struct http_server *h1_server_new(struct conn *c, const struct http_limits *limits,
                                  const struct http_server_events *events, void *user)
{
    struct h1_server *s = NEW(struct h1_server);
    s->base.ops = &server_ops;
    s->magic = H1_SERVER_MAGIC;
    s->conn = c;
    s->limits = limits;
    s->events = events;
    s->user = user;
    s->rules = (struct h1_rules){
        .max_bytes = limits->max_headers_bytes,
        .max_count = limits->max_headers_count,
        .accept_http_10 = limits->accept_http_10,
        .default_host = limits->default_host,
        .allow_chunked_length = limits->http1.chunked_length,
        .keep_case = limits->http1.preserve_case,
        .may_upgrade = limits->num_ignore_upgrade ? may_upgrade : NULL,
        .arg = limits,
    };
    s->cs.ops = &stream_ops;
    buffer_init(&s->body);
    timer_init(&s->timer, c->loop, on_timer, s);
    conn_set_owner(c, &conn_callbacks, s);
    wait_for_request(s);
    return &s->base;
}
