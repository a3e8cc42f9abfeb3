#include "proxy/http/codec.h"

#include "base/obj.h"
#include "proxy/http/h2_link.h"

enum { H2_SERVER_MAGIC = 0x48325356 };

#define CLIENT_LEFT STR("downstream_remote_disconnect")

/* How far the connection is on its way out. */
enum drain_state {
    DRAIN_NONE,
    DRAIN_NOTICED, /* GOAWAY with the highest id is out: requests under way still come in */
    DRAIN_FINAL,   /* GOAWAY with the last id: what is begun is finished */
};

struct h2_server {
    uint32_t magic;
    struct http_server base;
    struct h2_link link;
    const struct http_limits *limits;
    const struct http_server_events *events;
    void *user;
    struct arena *arena; /* of a request whose head is being received */
    struct timer idle;   /* no request; or, while draining, until the final GOAWAY */
    struct timer head;   /* a head that is not whole */
    uint64_t num_requests;
    uint8_t drain; /* enum drain_state */
    bool closing;
};

static struct h2_server *of_link(struct h2_link *l)
{
    struct h2_server *s = CONTAINER_OF(l, struct h2_server, link);
    CHECK(s->magic == H2_SERVER_MAGIC);
    return s;
}

/* --- the end of the connection --- */

static void drop_head(struct h2_server *s)
{
    struct arena *a = s->arena;
    s->arena = NULL;
    s->link.head.h = NULL;
    timer_disarm(&s->head);
    if (a)
        s->events->arena_unused(s->user, a);
}

static void begin_close(struct h2_server *s, enum conn_close_how how)
{
    if (s->closing)
        return;
    s->closing = true;
    timer_disarm(&s->idle);
    drop_head(s);
    conn_close(s->link.conn, how, s->limits->delayed_close_ms);
}

static void final_goaway(struct h2_server *s)
{
    if (s->drain == DRAIN_FINAL || s->closing)
        return;
    s->drain = DRAIN_FINAL;
    timer_disarm(&s->idle);
    h2_session_goaway(s->link.session);
    h2_link_send_soon(&s->link);
}

static void drain(struct h2_server *s)
{
    if (s->drain != DRAIN_NONE || s->closing)
        return;
    s->drain = DRAIN_NOTICED;
    h2_session_notice(s->link.session);
    h2_link_probe(&s->link);
    timer_arm(&s->idle, s->limits->drain_ms ? s->limits->drain_ms : 1);
}

static void on_idle_timer(void *arg)
{
    struct h2_server *s = OBJ_CAST(arg, struct h2_server, H2_SERVER_MAGIC);
    if (s->drain == DRAIN_NOTICED) {
        final_goaway(s);
        return;
    }
    if (s->events->on_idle)
        s->events->on_idle(s->user);
    drain(s);
}

static void wait_for_request(struct h2_server *s)
{
    if (s->drain == DRAIN_NONE && !s->closing && s->limits->idle_timeout_ms)
        timer_arm(&s->idle, s->limits->idle_timeout_ms);
}

static void on_head_timer(void *arg)
{
    struct h2_server *s = OBJ_CAST(arg, struct h2_server, H2_SERVER_MAGIC);
    s->events->on_malformed(s->user, 408, STR("request_header_timeout"), NULL);
    h2_link_terminate(&s->link, H2_ENHANCE_YOUR_CALM, H2_NUM_STATS);
}

/* --- requests --- */

static struct headers *head_begin(struct h2_link *l, int32_t id, struct h2_stream *st,
                                  enum h2_head_kind *kind)
{
    struct h2_server *s = of_link(l);
    struct arena *a;
    if (st) {
        *kind = H2_HEAD_TRAILERS;
        if (!st->attached)
            return NULL;
        a = st->cs.arena;
    } else {
        *kind = H2_HEAD_REQUEST;
        if (!s->arena)
            s->arena = s->events->arena_for(s->user);
        a = s->arena;
    }
    struct headers *h = ARENA_NEW(a, struct headers);
    headers_init(h, a);
    return h;
}

static void answer_400(struct h2_server *s, int32_t id, struct str detail)
{
    struct headers plain, *h = &plain;
    struct str body;
    headers_init(&plain, s->arena);
    plain.status = 400;
    if (s->events->error_reply) {
        h = s->events->error_reply(s->user, s->arena, 400, detail, &body);
        headers_remove_known(h, HDR_CONTENT_LENGTH); /* there is no stream to send a body on */
    }
    s->link.queued_heads++;
    h2_session_response(s->link.session, id, h, 0, true, NULL);
}

/* The user is told of what was no request, and the client too, unless the connection ends by it. */
static void refuse(struct h2_server *s, int32_t id, enum h2_head_verdict v, bool end)
{
    struct h2_link *l = &s->link;
    switch (v) {
    case H2_HEAD_OK:
        return;
    case H2_HEAD_MALFORMED:
        s->events->on_malformed(s->user, 0, l->head.detail, NULL);
        h2_link_malformed(l, id, NULL);
        break;
    case H2_HEAD_TOO_LARGE:
        h2_count(&l->stats, H2_HEADER_OVERFLOW);
        s->events->on_malformed(s->user, 431, l->head.detail, NULL);
        h2_session_reset(l->session, id, H2_ENHANCE_YOUR_CALM);
        h2_link_premature(l);
        break;
    case H2_HEAD_REFUSED:
        s->events->on_malformed(s->user, 400, l->head.detail, l->head.h);
        answer_400(s, id, l->head.detail);
        if (!end)
            h2_session_reset(l->session, id, H2_NO_ERROR);
        break;
    }
}

static void expect_continue(struct h2_stream *st)
{
    struct headers h;
    if (!st->attached || st->sent_head || st->got_end)
        return;
    headers_init(&h, st->cs.arena);
    h.status = 100;
    st->link->queued_heads++;
    h2_session_informational(st->link->session, st->id, &h);
}

static const struct codec_stream_ops stream_ops;

static void give_request(struct h2_server *s, int32_t id, bool end)
{
    struct h2_link *l = &s->link;
    struct headers *h = l->head.h;
    struct h2_stream *st = h2_stream_new(l, id);
    bool expects = l->head.expect_continue && !s->limits->proxy_100_continue;
    h2_session_set_stream(l->session, id, st);
    st->cs.ops = &stream_ops;
    st->cs.arena = s->arena;
    s->arena = NULL;
    st->got_head = true;
    st->got_end = st->gave_end = end;
    st->extended = l->head.extended;
    st->has_length = l->head.has_length;
    st->length = l->head.length;
    st->wire_in = l->guard.block_bytes + H2_FRAME_HEADER;
    if (expects)
        headers_remove_known(h, HDR_EXPECT);
    h2_stream_attach(st);
    s->num_requests++;
    if (s->drain != DRAIN_NOTICED)
        timer_disarm(&s->idle);
    s->events->new_stream(s->user, &st->cs);
    st->cs.events->on_headers(st->cs.user, h, end);
    if (expects)
        expect_continue(st);
    if (s->limits->max_requests && s->num_requests >= s->limits->max_requests)
        drain(s);
}

static void request_head(struct h2_server *s, int32_t id, enum h2_head_verdict v, bool end)
{
    struct h2_link *l = &s->link;
    timer_disarm(&s->head);
    if (v == H2_HEAD_OK && end && l->head.has_length && l->head.length) {
        l->head.detail = STR("http2.violation.of.messaging.rule"); /* RFC 9113 8.1.1 */
        v = H2_HEAD_MALFORMED;
    }
    if (v == H2_HEAD_OK && h2_unsent_overflow(l)) {
        h2_session_reset(l->session, id, H2_REFUSED_STREAM);
        h2_link_premature(l);
        drop_head(s);
        return;
    }
    if (v == H2_HEAD_OK && !l->error) {
        give_request(s, id, end);
        return;
    }
    refuse(s, id, v, end);
    drop_head(s);
}

static void head_end(struct h2_link *l, int32_t id, struct h2_stream *st, enum h2_head_verdict v,
                     bool end)
{
    if (!st) {
        request_head(of_link(l), id, v, end);
        return;
    }
    st->got_end = end;
    if (v == H2_HEAD_OK && !(st->has_length && st->length)) {
        if (l->head.h->live)
            st->trailers_in = l->head.h;
        h2_stream_deliver(st);
        return;
    }
    if (v != H2_HEAD_TOO_LARGE) {
        h2_link_malformed(l, id, st);
        return;
    }
    h2_count(&l->stats, H2_HEADER_OVERFLOW);
    h2_stream_reset(st, H2_ENHANCE_YOUR_CALM);
    h2_link_premature(l);
    h2_stream_fail(st, RESET_OVERFLOW, l->head.detail);
}

static void detached(struct h2_link *l, struct h2_stream *st)
{
    if (l->num_attached == 0)
        wait_for_request(of_link(l));
}

static void round_trip(struct h2_link *l)
{
    final_goaway(of_link(l));
}

static void over(struct h2_link *l, bool error)
{
    struct h2_server *s = of_link(l);
    begin_close(s, CONN_CLOSE_LINGER);
    if (l->too_many && s->events->on_too_many_resets)
        s->events->on_too_many_resets(s->user);
    h2_link_reset_all(l, error ? RESET_PROTOCOL_ERROR : RESET_CONN_TERMINATED,
                      error ? STR("http2.protocol_error") : CLIENT_LEFT);
}

static const struct h2_link_ops link_ops = {
    .head_begin = head_begin,
    .head_end = head_end,
    .detached = detached,
    .round_trip = round_trip,
    .over = over,
};

/* --- events of the connection --- */

static void on_connected(void *owner, struct conn *c)
{
}

static void on_read(void *owner, struct conn *c)
{
    struct h2_server *s = OBJ_CAST(owner, struct h2_server, H2_SERVER_MAGIC);
    h2_link_read(&s->link);
    if (s->closing)
        return;
    if (!s->link.in_block)
        timer_disarm(&s->head);
    else if (!timer_armed(&s->head) && s->limits->headers_timeout_ms)
        timer_arm(&s->head, s->limits->headers_timeout_ms);
    if (!c->eof || s->link.waiting)
        return;
    /* Nobody is there to give window or to take a GOAWAY. */
    begin_close(s, CONN_CLOSE_FLUSH);
    h2_link_reset_all(&s->link, RESET_CONN_TERMINATED, CLIENT_LEFT);
}

static void on_above(void *owner, struct conn *c)
{
}

static void on_below(void *owner, struct conn *c)
{
    struct h2_server *s = OBJ_CAST(owner, struct h2_server, H2_SERVER_MAGIC);
    h2_link_send_soon(&s->link);
}

static void on_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct h2_server *s = OBJ_CAST(owner, struct h2_server, H2_SERVER_MAGIC);
    s->closing = true;
    drop_head(s);
    h2_link_reset_all(&s->link, RESET_CONN_TERMINATED, CLIENT_LEFT);
    timer_disarm(&s->idle);
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
    struct h2_stream *st = h2_stream_of(cs);
    struct h2_link *l = st->link;
    if (!st->attached || st->sent_head)
        return;
    st->sent_head = true;
    st->sent_end = end;
    l->queued_heads++;
    h2_session_response(l->session, st->id, h, st->extended && h->status == 101 ? 200 : 0, end, st);
    h2_link_send_soon(l);
    if (end)
        h2_stream_sent_end(st);
    else
        h2_unsent_head(st);
}

static void op_informational(struct codec_stream *cs, const struct headers *h)
{
    struct h2_stream *st = h2_stream_of(cs);
    if (!st->attached || st->sent_head || h->status == 101)
        return;
    st->link->queued_heads++;
    h2_session_informational(st->link->session, st->id, h);
    h2_link_send_soon(st->link);
}

static void op_close_after(struct codec_stream *cs)
{
    drain(of_link(h2_stream_of(cs)->link));
}

static const struct codec_stream_ops stream_ops = {
    .headers = op_headers,
    .informational = op_informational,
    .data = h2_op_data,
    .trailers = h2_op_trailers,
    .reset = h2_op_reset,
    .pause = h2_op_pause,
    .resume = h2_op_resume,
    .close_after = op_close_after,
};

/* --- what the connection's user asks --- */

static void server_drain(struct http_server *base)
{
    drain(CONTAINER_OF(base, struct h2_server, base));
}

static void server_free(struct http_server *base)
{
    struct h2_server *s = CONTAINER_OF(base, struct h2_server, base);
    timer_disarm(&s->idle);
    drop_head(s);
    h2_link_cleanup(&s->link);
    s->magic = 0;
    mem_free(s);
}

static const struct http_server_ops server_ops = {
    .drain = server_drain,
    .free = server_free,
};

struct http_server *h2_server_new(struct conn *c, const struct http_limits *limits,
                                  const struct http_server_events *events, void *user)
{
    struct h2_server *s = NEW(struct h2_server);
    struct h2_stats stats = {limits->h2_stats, loop_thread_index(c->loop), false};
    struct h2_head_rules rules = {.max_bytes = limits->max_headers_bytes,
                                  .max_count = limits->max_headers_count,
                                  .allow_connect = limits->h2->allow_connect};
    s->base.ops = &server_ops;
    s->magic = H2_SERVER_MAGIC;
    s->limits = limits;
    s->events = events;
    s->user = user;
    timer_init(&s->idle, c->loop, on_idle_timer, s);
    timer_init(&s->head, c->loop, on_head_timer, s);
    h2_link_init(&s->link, true, c, limits->h2, &link_ops, &stats, &rules);
    s->link.flush_ms = limits->flush_ms;
    conn_set_owner(c, &conn_callbacks, s);
    wait_for_request(s);
    conn_read_again(c);
    return &s->base;
}
