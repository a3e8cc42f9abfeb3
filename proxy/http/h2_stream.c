#include "proxy/http/h2_link.h"

#include "base/obj.h"

enum { H2_STREAM_MAGIC = 0x48325354 };

struct h2_stream *h2_stream_of(struct codec_stream *cs)
{
    struct h2_stream *s = CONTAINER_OF(cs, struct h2_stream, cs);
    CHECK(s->magic == H2_STREAM_MAGIC);
    return s;
}

/* --- life --- */

static void on_flush_timeout(void *arg)
{
    struct h2_stream *s = OBJ_CAST(arg, struct h2_stream, H2_STREAM_MAGIC);
    h2_count(&s->link->stats, H2_TX_FLUSH_TIMEOUT);
    h2_stream_reset(s, H2_CANCEL);
    h2_link_send_soon(s->link);
}

struct h2_stream *h2_stream_new(struct h2_link *l, int32_t id)
{
    struct h2_stream *s = NEW(struct h2_stream);
    s->magic = H2_STREAM_MAGIC;
    s->link = l;
    s->id = id;
    buffer_init(&s->in);
    buffer_init(&s->out);
    timer_init(&s->flush, l->conn->loop, on_flush_timeout, s);
    list_push_tail(&l->streams, &s->node);
    list_push_tail(&l->turns, &s->turn);
    h2_gauge(&l->stats, H2_STREAMS_ACTIVE, 1);
    return s;
}

void h2_stream_drop_out(struct h2_stream *s)
{
    size_t n = s->out.len;
    buffer_drain(&s->out, n);
    h2_unsent_less(s, n);
}

void h2_stream_destroy(struct h2_stream *s)
{
    h2_stream_drop_out(s);
    timer_disarm(&s->flush);
    list_remove(&s->node);
    list_remove(&s->gone_node);
    list_remove(&s->below);
    list_remove(&s->turn);
    buffer_cleanup(&s->in);
    buffer_cleanup(&s->out);
    arena_free(&s->out_arena);
    s->magic = 0;
    mem_free(s);
}

void h2_stream_free(struct h2_stream *s)
{
    struct h2_link *l = s->link;
    if (s->gone)
        return;
    s->gone = true;
    timer_disarm(&s->flush);
    list_remove(&s->below);
    list_remove(&s->turn);
    list_push_tail(&l->gone, &s->gone_node);
    h2_gauge(&l->stats, H2_STREAMS_ACTIVE, -1);
    if (l->partial == s)
        l->partial = NULL;
    h2_link_send_soon(l);
}

void h2_stream_attach(struct h2_stream *s)
{
    s->attached = true;
    s->link->num_attached++;
}

static void give_window_back(struct h2_stream *s)
{
    size_t n = s->unconsumed;
    s->unconsumed = 0;
    if (n == 0)
        return;
    h2_session_consume(s->link->session, s->id, n);
    h2_link_send_soon(s->link);
}

static void let_go(struct h2_stream *s)
{
    struct h2_link *l = s->link;
    l->num_attached--;
    s->above = false;
    list_remove(&s->below);
    buffer_drain(&s->in, s->in.len);
    give_window_back(s);
    s->trailers_in = NULL;
    if (l->head_of == s) { /* its user's memory goes: the rest of the block goes nowhere */
        l->head.h = NULL;
        l->head_of = NULL;
    }
    if (s->closed || s->id == 0)
        h2_stream_free(s);
    else if (l->flush_ms && !s->end_on_wire && !s->reset)
        timer_arm(&s->flush, l->flush_ms);
    l->ops->detached(l, s);
}

void h2_stream_detach(struct h2_stream *s)
{
    if (!s->attached)
        return;
    s->attached = false;
    let_go(s);
}

void h2_stream_fail(struct h2_stream *s, enum reset_reason why, struct str detail)
{
    if (!s->attached)
        return;
    s->attached = false;
    s->cs.events->on_reset(s->cs.user, why, detail);
    let_go(s);
}

void h2_stream_reset(struct h2_stream *s, uint32_t code)
{
    timer_disarm(&s->flush);
    if (s->sent_head && !s->head_on_wire && !s->closed) /* RST_STREAM would overtake it */
        h2_link_push(s->link);
    h2_stream_drop_out(s);
    if (s->reset || s->closed || s->id == 0)
        return;
    s->reset = true;
    h2_session_reset(s->link->session, s->id, code);
    h2_link_send_soon(s->link);
}

/* --- what comes in --- */

void h2_stream_body(struct h2_stream *s, const void *p, size_t len)
{
    s->unconsumed += len;
    s->wire_in += len;
    if (!s->attached || s->gave_end) {
        give_window_back(s);
        return;
    }
    buffer_add(&s->in, p, len);
    if (s->pauses)
        buffer_fit(&s->in);
}

/* The last of what the peer sends was given. On the client side the exchange is over with it, if
 * all of the request was sent by then. What of it is not on the wire is no longer wanted, except in
 * a tunnel, whose directions end each by itself. */
static void ended(struct h2_stream *s, bool over)
{
    if (!over || !s->attached)
        return;
    if (!s->end_on_wire && !s->tunnel)
        h2_stream_reset(s, H2_NO_ERROR);
    h2_stream_detach(s);
}

void h2_stream_deliver(struct h2_stream *s)
{
    if (!s->attached || s->pauses || s->gave_end || !s->got_head)
        return;
    bool end = s->got_end && !s->trailers_in;
    bool over = !s->link->server && s->sent_end;
    if (s->in.len || end) {
        s->gave_end = end;
        s->cs.events->on_data(s->cs.user, &s->in, end);
        buffer_drain(&s->in, s->in.len);
        give_window_back(s);
    }
    if (s->attached && s->trailers_in && s->got_end && !s->pauses) {
        s->gave_end = true;
        over = !s->link->server && s->sent_end;
        s->cs.events->on_trailers(s->cs.user, s->trailers_in);
    }
    if (s->gave_end)
        ended(s, over);
}

/* --- what the user asks --- */

static bool takes_body(const struct h2_stream *s)
{
    return s->attached && s->sent_head && !s->sent_end;
}

void h2_stream_sent_end(struct h2_stream *s)
{
    s->sent_end = true;
    if (s->link->server)
        h2_stream_detach(s);
}

static void wake(struct h2_stream *s)
{
    if (s->held)
        return;
    if (s->closed || s->reset || s->id == 0) {
        h2_stream_drop_out(s);
        return;
    }
    h2_session_resume(s->link->session, s->id);
    h2_link_send_soon(s->link);
}

void h2_op_data(struct codec_stream *cs, struct buffer *b, bool end)
{
    struct h2_stream *s = h2_stream_of(cs);
    size_t n = b->len;
    if (!takes_body(s)) {
        buffer_drain(b, b->len);
        return;
    }
    if (h2_unsent_crowded(s))
        buffer_fit(b);
    buffer_move(&s->out, b, n);
    s->sent_end = end;
    h2_unsent_more(s, n);
    wake(s);
    if (end)
        h2_stream_sent_end(s);
}

void h2_op_trailers(struct codec_stream *cs, const struct headers *h)
{
    struct h2_stream *s = h2_stream_of(cs);
    if (!takes_body(s))
        return;
    /* The body may still wait when the user's memory is gone. */
    s->out_arena = arena_new(0);
    s->trailers_out = ARENA_NEW(s->out_arena, struct headers);
    headers_copy(s->trailers_out, h, s->out_arena);
    s->sent_end = true;
    wake(s);
    h2_stream_sent_end(s);
}

void h2_op_reset(struct codec_stream *cs, enum reset_reason why)
{
    struct h2_stream *s = h2_stream_of(cs);
    if (!s->attached)
        return;
    bool complete = !s->link->server && s->gave_end; /* what is left of the request is not wanted */
    uint32_t code = s->link->server ? H2_INTERNAL_ERROR : complete ? H2_NO_ERROR : H2_CANCEL;
    if (why == RESET_PROTOCOL_ERROR)
        code = H2_PROTOCOL_ERROR;
    else if (why == RESET_REFUSED)
        code = H2_REFUSED_STREAM;
    h2_stream_reset(s, code);
    h2_stream_detach(s);
}

void h2_op_pause(struct codec_stream *cs)
{
    struct h2_stream *s = h2_stream_of(cs);
    if (s->attached)
        s->pauses++;
}

void h2_op_resume(struct codec_stream *cs)
{
    struct h2_stream *s = h2_stream_of(cs);
    if (!s->attached)
        return;
    CHECK(s->pauses > 0);
    if (--s->pauses)
        return;
    s->resumed = true;
    s->link->resumed = true;
    h2_link_send_soon(s->link);
}
