/* The bound on a connection's unsent bodies. With W the connection's watermark, 2 W are shared by
 * all of its streams and its output: a stream is told to stop when it has more than what is left
 * for others, so that one alone gets W, several that the peer does not read leave room for the
 * next. When there is nothing left, all are told. From then on those whose bytes would not have to
 * wait are let on, one delivery at a time: streams that the peer leaves lying do not stop the rest.
 */
#include "proxy/http/h2_link.h"

enum {
    CROWD = 16,           /* streams with bytes: from here on whole blocks for few are too much */
    LONG_QUEUE = 1 << 16, /* bytes of one */
    ENOUGH = 4096,        /* window, for what a stream sends not to wait */
    BEYOND = 1 << 18,     /* what may wait of it all the same */
    OVERSHOOT = 1 << 20,  /* more than what one read of who can be stopped brings */
};

static size_t total(const struct h2_link *l)
{
    return l->unsent + l->conn->out.len;
}

static size_t watermark(const struct h2_link *l)
{
    return l->conn->out.high;
}

static size_t room(const struct h2_link *l)
{
    size_t all = 2 * watermark(l), used = total(l);
    return used < all ? all - used : 0;
}

static bool sends_body(const struct h2_stream *s)
{
    return s->attached && s->sent_head && !s->sent_end;
}

static void tell_above(struct h2_stream *s)
{
    if (s->above || !sends_body(s))
        return;
    s->above = true;
    s->cs.events->on_above(s->cs.user);
}

static void tell_all_above(struct h2_link *l)
{
    while (list_pop_head(&l->below))
        continue;
    LIST_FOREACH_SAFE(it, &l->turns)
        tell_above(CONTAINER_OF(it, struct h2_stream, turn));
}

void h2_unsent_head(struct h2_stream *s)
{
    if (s->link->above)
        tell_above(s);
}

void h2_unsent_more(struct h2_stream *s, size_t n)
{
    struct h2_link *l = s->link;
    if (n == 0)
        return;
    h2_gauge(&l->stats, H2_PENDING_SEND_BYTES, (int64_t)n);
    l->num_unsent += s->out.len == n;
    l->unsent += n;
    list_remove(&s->turn);
    list_push_tail(&l->turns, &s->turn);
    if (!watermark(l))
        return;
    if (l->above || room(l) == 0) {
        l->above = true;
        tell_all_above(l);
    } else if (s->out.len > room(l)) {
        tell_above(s);
    }
}

/* Whether it may go on once the connection may. */
static bool is_low(const struct h2_stream *s)
{
    return s->out.len <= room(s->link) / 2;
}

static void queue(struct h2_stream *s)
{
    if (s->above && is_low(s) && !list_linked(&s->below))
        list_push_tail(&s->link->below, &s->below);
}

/* Nothing is left, and the peer reads. */
static void queue_unhindered(struct h2_link *l)
{
    if (l->conn->out.above || total(l) > 2 * watermark(l) + BEYOND)
        return;
    LIST_FOREACH(it, &l->turns) {
        struct h2_stream *s = CONTAINER_OF(it, struct h2_stream, turn);
        if (s->above && s->out.len == 0 && h2_session_window(l->session, s->id) >= ENOUGH)
            queue(s);
    }
}

void h2_unsent_less(struct h2_stream *s, size_t n)
{
    struct h2_link *l = s->link;
    if (n == 0)
        return;
    h2_gauge(&l->stats, H2_PENDING_SEND_BYTES, -(int64_t)n);
    l->num_unsent -= s->out.len == 0;
    l->unsent -= n;
    if (!l->above)
        queue(s);
}

void h2_unsent_settle(struct h2_link *l)
{
    struct list *e;
    /* What is on the output goes without an event of its own, and is not looked at. */
    if (l->above && l->unsent <= watermark(l)) {
        l->above = false;
        LIST_FOREACH(it, &l->turns)
            queue(CONTAINER_OF(it, struct h2_stream, turn));
    }
    if (l->above)
        queue_unhindered(l);
    while ((e = list_pop_head(&l->below))) {
        struct h2_stream *s = CONTAINER_OF(e, struct h2_stream, below);
        if (!s->above)
            continue;
        s->above = false;
        if (s->attached)
            s->cs.events->on_below(s->cs.user);
    }
}

bool h2_unsent_crowded(const struct h2_stream *s)
{
    return s->link->num_unsent > CROWD || s->out.len > LONG_QUEUE;
}

bool h2_unsent_overflow(const struct h2_link *l)
{
    size_t high = watermark(l);
    return high && total(l) > 2 * high + OVERSHOOT;
}
