#include "proxy/http/h2_link.h"

#include "base/obj.h"
#include "base/random.h"

enum {
    H2_LINK_MAGIC = 0x48324c4b,
    PREFACE = 24,
    NEW_STREAMS_PER_TURN = 32, /* others get their turn */
    BLOCK_SLACK = 16384,       /* a header block on the wire beyond its limit decoded */
    QUIET_MS = 1000,
};

static struct h2_link *of(void *arg)
{
    return OBJ_CAST(arg, struct h2_link, H2_LINK_MAGIC);
}

static uint64_t now_ms(const struct h2_link *l)
{
    return loop_now_ms(l->conn->loop);
}

/* --- the end --- */

void h2_link_terminate(struct h2_link *l, uint32_t code, uint32_t stat)
{
    if (stat != H2_NUM_STATS)
        h2_count(&l->stats, stat);
    if (l->error)
        return;
    l->error = true;
    h2_session_terminate(l->session, code);
    h2_link_send_soon(l);
}

void h2_link_malformed(struct h2_link *l, int32_t id, struct h2_stream *s)
{
    h2_count(&l->stats, H2_RX_MESSAGING_ERROR);
    if (!l->options->reset_on_malformed) {
        h2_link_terminate(l, H2_PROTOCOL_ERROR, H2_NUM_STATS);
        return;
    }
    if (s)
        h2_stream_reset(s, H2_PROTOCOL_ERROR);
    else
        h2_session_reset(l->session, id, H2_PROTOCOL_ERROR);
    h2_link_send_soon(l);
    if (l->server)
        h2_link_premature(l);
    if (s)
        h2_stream_fail(s, RESET_PROTOCOL_ERROR, STR("http2.violation.of.messaging.rule"));
}

void h2_link_premature(struct h2_link *l)
{
    if (h2_guard_reset(&l->guard, now_ms(l)))
        return;
    l->too_many = true;
    h2_link_terminate(l, H2_ENHANCE_YOUR_CALM, H2_NUM_STATS);
}

void h2_link_reset_all(struct h2_link *l, enum reset_reason why, struct str detail)
{
    LIST_FOREACH_SAFE(it, &l->streams)
        h2_stream_fail(CONTAINER_OF(it, struct h2_stream, node), why, detail);
}

/* --- which frames may come --- */

static bool was_reset(const struct h2_link *l, int32_t id)
{
    if (l->num_resets > H2_RECENT_RESETS)
        return true; /* more than are remembered: the benefit of the doubt */
    for (uint32_t i = 0; i < l->num_resets; i++)
        if (l->resets[i] == id)
            return true;
    return false;
}

static void remember_reset(struct h2_link *l, int32_t id)
{
    if (id == 0)
        return;
    if (!l->resets)
        l->resets = mem_alloc(H2_RECENT_RESETS * sizeof(*l->resets));
    l->resets[l->num_resets % H2_RECENT_RESETS] = id;
    l->num_resets++;
}

static bool was_left_out(const struct h2_link *l, int32_t id)
{
    for (uint32_t i = 0; i < H2_GAPS; i++)
        if (id >= l->gaps[i].from && id <= l->gaps[i].to)
            return true;
    return false;
}

enum admission { ADMITTED, ADMIT_LATER, NOT_ADMITTED };

/* A request opens a stream with a higher id than all before. */
static enum admission admit_request(struct h2_link *l, int32_t id)
{
    if (l->new_streams >= NEW_STREAMS_PER_TURN)
        return ADMIT_LATER;
    l->new_streams++;
    l->guard.streams++;
    if (id > l->last_id + 2 && l->last_id) {
        uint32_t i = l->num_gaps++ % H2_GAPS;
        l->gaps[i].from = l->last_id + 1;
        l->gaps[i].to = id - 1;
    } else if (!l->last_id && id > 1) {
        l->gaps[l->num_gaps++ % H2_GAPS].to = id - 1;
    }
    l->last_id = id;
    return ADMITTED;
}

/* HEADERS or DATA on a stream that is not open (RFC 9113 5.1 and 5.1.1). The session would ignore
 * them; only for streams that we have reset, of which the peer does not know yet, that is right. */
static enum admission admit_on_stream(struct h2_link *l, const struct h2_frame *f)
{
    int32_t id = (int32_t)f->stream;
    if (l->server && l->last_id != l->begun_id && !l->in_block) { /* refused by the session */
        remember_reset(l, l->last_id);
        l->begun_id = l->last_id;
    }
    if (!(id & 1) || h2_session_knows(l->session, id))
        return ADMITTED;
    if (id > l->last_id)
        return l->server && f->type == H2_HEADERS ? admit_request(l, id) : ADMITTED;
    if (was_reset(l, id))
        return ADMITTED;
    h2_count(&l->stats, H2_HEADERS_CB_NO_STREAM);
    h2_link_terminate(l, was_left_out(l, id) ? H2_PROTOCOL_ERROR : H2_STREAM_CLOSED, H2_NUM_STATS);
    return NOT_ADMITTED;
}

static enum admission admit(struct h2_link *l, const struct h2_frame *f)
{
    uint32_t stat = H2_NUM_STATS;
    if (f->type == H2_PRIORITY && (f->stream == 0 || f->depends == f->stream)) {
        h2_link_terminate(l, H2_PROTOCOL_ERROR, H2_NUM_STATS); /* the session ignores the frame */
        return NOT_ADMITTED;
    }
    if (f->type == H2_HEADERS || f->type == H2_DATA) {
        enum admission a = admit_on_stream(l, f);
        if (a != ADMITTED)
            return a;
    }
    if (h2_guard_frame(&l->guard, f, &stat))
        return ADMITTED;
    h2_link_terminate(l, H2_ENHANCE_YOUR_CALM, stat);
    return NOT_ADMITTED;
}

/* --- bytes in --- */

static bool feed(struct h2_link *l, struct str v, size_t n, uint32_t *left, size_t of_left)
{
    bool good = h2_session_feed(l->session, v.p, n);
    *left -= (uint32_t)of_left;
    buffer_drain(&l->conn->in, n);
    if (!good)
        l->error = true;
    return good;
}

/* What is to be known of a frame before it is acted on; false: not all of it is there yet. */
static bool look(struct buffer *in, struct str *v, struct h2_frame *f)
{
    enum { PRIORITY_LENGTH = 5 };
    if (in->len < H2_FRAME_HEADER)
        return false;
    *v = buffer_pullup(in, H2_FRAME_HEADER + 1);
    *f = h2_frame_parse((const uint8_t *)v->p);
    if (f->type == H2_DATA && (f->flags & H2_FLAG_PADDED) && v->len > H2_FRAME_HEADER)
        f->padding = (uint8_t)v->p[H2_FRAME_HEADER];
    if (f->type != H2_PRIORITY || f->length != PRIORITY_LENGTH)
        return true;
    if (in->len < H2_FRAME_HEADER + PRIORITY_LENGTH)
        return false;
    *v = buffer_pullup(in, H2_FRAME_HEADER + PRIORITY_LENGTH);
    const uint8_t *p = (const uint8_t *)v->p + H2_FRAME_HEADER;
    f->depends = ((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]) &
                 0x7fffffff;
    return true;
}

/* One frame, or what there is of it. False: nothing more can be done now. */
static bool read_frame(struct h2_link *l)
{
    struct buffer *in = &l->conn->in;
    struct str v;
    struct h2_frame f;
    if (!look(in, &v, &f))
        return false;
    switch (admit(l, &f)) {
    case ADMIT_LATER:
        l->waiting = true;
        return false;
    case NOT_ADMITTED:
        return false;
    case ADMITTED:
        break;
    }
    size_t payload = v.len - H2_FRAME_HEADER < f.length ? v.len - H2_FRAME_HEADER : f.length;
    l->frame_left = f.length;
    if (f.type == H2_HEADERS || f.type == H2_CONTINUATION)
        l->in_block = !(f.flags & H2_FLAG_END_HEADERS);
    return feed(l, v, H2_FRAME_HEADER + payload, &l->frame_left, payload);
}

static bool step(struct h2_link *l)
{
    struct buffer *in = &l->conn->in;
    if (in->len == 0 || l->error || l->dead)
        return false;
    uint32_t *left = l->preface_left ? &l->preface_left : &l->frame_left;
    if (*left == 0)
        return read_frame(l);
    struct str v = buffer_peek(in);
    size_t n = v.len < *left ? v.len : *left;
    return feed(l, v, n, left, n);
}

/* Frames that a peer provokes and does not read. */
static void check_queue(struct h2_link *l)
{
    size_t all = h2_session_queued(l->session);
    size_t heads = l->queued_heads < all ? l->queued_heads : all;
    if (all - heads > l->options->max_outbound_control_frames)
        h2_link_terminate(l, H2_ENHANCE_YOUR_CALM, H2_OUTBOUND_CONTROL_FLOOD);
    else if (all > l->options->max_outbound_frames)
        h2_link_terminate(l, H2_ENHANCE_YOUR_CALM, H2_OUTBOUND_FLOOD);
}

static void send_now(struct h2_link *l);

void h2_link_read(struct h2_link *l)
{
    if (l->dead)
        return;
    l->new_streams = 0;
    l->waiting = false;
    l->last_rx_ms = now_ms(l);
    l->running = true;
    while (step(l))
        continue;
    if (l->partial && !l->error)
        h2_stream_deliver(l->partial);
    l->partial = NULL;
    l->running = false;
    if (!l->error)
        check_queue(l);
    if (l->error)
        buffer_drain(&l->conn->in, l->conn->in.len);
    send_now(l);
    if (l->waiting && !l->dead)
        conn_read_again(l->conn);
}

/* --- bytes out --- */

/* Users who take body again, and those whose request was not sent. */
static void tell_others(struct h2_link *l)
{
    if (!l->resumed)
        return;
    l->resumed = false;
    LIST_FOREACH_SAFE(it, &l->streams) {
        struct h2_stream *s = CONTAINER_OF(it, struct h2_stream, node);
        if (s->gone)
            continue;
        if (s->refused)
            h2_stream_fail(s, RESET_REFUSED, STR_NULL);
        if (s->resumed) {
            s->resumed = false;
            h2_stream_deliver(s);
        }
    }
}

static void free_gone(struct h2_link *l)
{
    struct list *e;
    while ((e = list_pop_head(&l->gone)))
        h2_stream_destroy(CONTAINER_OF(e, struct h2_stream, gone_node));
    if (list_empty(&l->streams) && l->session && !l->dead && !timer_armed(&l->quiet))
        timer_arm(&l->quiet, QUIET_MS);
}

static void on_quiet(void *arg)
{
    struct h2_link *l = of(arg);
    if (!list_empty(&l->streams))
        return;
    if (now_ms(l) - l->last_rx_ms < QUIET_MS)
        timer_arm(&l->quiet, QUIET_MS);
    else
        h2_session_trim(l->session);
}

static void push(struct h2_link *l)
{
    struct conn *c = l->conn;
    struct str v;
    l->running = true;
    while (!c->out.above && h2_session_pull(l->session, &v))
        buffer_add(&c->out, v.p, v.len);
    l->running = false;
    conn_flush_soon(c);
}

void h2_link_push(struct h2_link *l)
{
    if (l->running || l->dead || conn_closing(l->conn))
        return;
    push(l);
    h2_link_send_soon(l); /* for the events */
}

static void send_now(struct h2_link *l)
{
    struct conn *c = l->conn;
    task_cancel(&l->send_task);
    tell_others(l);
    if (l->dead || conn_closing(c)) {
        free_gone(l);
        return;
    }
    push(l);
    free_gone(l);
    h2_unsent_settle(l);
    if (l->resumed)
        loop_post(c->loop, &l->send_task);
    if (h2_session_broken(l->session))
        l->error = true;
    if (h2_session_over(l->session) || h2_session_broken(l->session) ||
        (l->error && c->out.above)) {
        l->dead = true;
        timer_disarm(&l->ping);
        timer_disarm(&l->quiet);
        l->ops->over(l, l->error && !l->timed_out);
    }
}

static void on_send(void *arg)
{
    send_now(of(arg));
}

void h2_link_send_soon(struct h2_link *l)
{
    if (!l->running) /* else the loop under way sees it */
        loop_post(l->conn->loop, &l->send_task);
}

/* --- events of the session --- */

static void on_head_begin(void *arg, int32_t id, void *stream)
{
    struct h2_link *l = of(arg);
    enum h2_head_kind kind = H2_HEAD_TRAILERS;
    if (!stream)
        l->begun_id = id;
    struct headers *h = l->ops->head_begin(l, id, stream, &kind);
    l->head_of = stream;
    h2_head_begin(&l->head, kind, h);
}

static bool on_field(void *arg, struct str name, struct str value)
{
    struct h2_link *l = of(arg);
    if (!l->head.h)
        return true;
    if (h2_head_field(&l->head, &l->rules, name, value))
        return true;
    h2_link_terminate(l, H2_ENHANCE_YOUR_CALM, H2_HEADER_OVERFLOW);
    return false;
}

static void on_head_end(void *arg, int32_t id, void *stream, bool end)
{
    struct h2_link *l = of(arg);
    struct h2_stream *s = stream;
    if (s && s->attached)
        s->wire_in += l->guard.block_bytes + H2_FRAME_HEADER;
    if (!l->head.h) {
        if (s && end)
            s->got_end = true;
        return;
    }
    if (l->head.kind == H2_HEAD_TRAILERS)
        h2_count(&l->stats, H2_TRAILERS);
    l->head_of = NULL;
    l->ops->head_end(l, id, s, h2_head_end(&l->head, &l->rules, end), end);
    l->head.h = NULL;
}

static void on_data(void *arg, int32_t id, void *stream, const void *p, size_t len)
{
    struct h2_link *l = of(arg);
    struct h2_stream *s = stream;
    if (!s) {
        h2_session_consume(l->session, id, len);
        return;
    }
    if (s->has_length && len > s->length && s->attached) {
        h2_session_consume(l->session, id, len);
        h2_link_malformed(l, id, s);
        return;
    }
    s->length -= s->has_length && len <= s->length ? len : 0;
    h2_stream_body(s, p, len);
    l->partial = s;
}

static void on_data_end(void *arg, int32_t id, void *stream, bool end)
{
    struct h2_link *l = of(arg);
    struct h2_stream *s = stream;
    l->partial = NULL;
    if (!s)
        return;
    s->wire_in += H2_FRAME_HEADER;
    if (end)
        s->got_end = true;
    if (!s->attached || l->error)
        return;
    if (end && s->has_length && s->length) {
        h2_link_malformed(l, id, s);
        return;
    }
    h2_stream_deliver(s);
}

static enum reset_reason reason_of(uint32_t code, bool remote)
{
    if (code == H2_REFUSED_STREAM)
        return RESET_REFUSED;
    return remote ? RESET_REMOTE : RESET_PROTOCOL_ERROR;
}

static void on_reset(void *arg, int32_t id, void *stream, uint32_t code)
{
    struct h2_link *l = of(arg);
    struct h2_stream *s = stream;
    h2_count(&l->stats, H2_RX_RESET);
    if (code == H2_REFUSED_STREAM)
        h2_count(&l->stats, H2_STREAM_REFUSED_ERRORS);
    if (!s)
        return;
    if (l->server && !s->end_on_wire)
        h2_link_premature(l);
    if (!l->server && s->got_end) /* the response is whole and stays (RFC 9113 8.1) */
        return;
    h2_stream_fail(s, l->server ? RESET_REMOTE : reason_of(code, true),
                   code == H2_REFUSED_STREAM ? STR("http2.remote_refuse")
                                             : STR("http2.remote_reset"));
}

static void on_close(void *arg, int32_t id, void *stream, uint32_t code)
{
    struct h2_stream *s = stream;
    if (!s)
        return;
    s->closed = true;
    timer_disarm(&s->flush);
    h2_stream_drop_out(s);
    bool whole = s->link->server ? s->end_on_wire : s->got_end;
    if (!s->attached)
        h2_stream_free(s);
    else if (!whole)
        h2_stream_fail(s, reason_of(code, false), STR_NULL); /* frees it */
}

static void on_goaway(void *arg, int32_t last_id, uint32_t code)
{
    struct h2_link *l = of(arg);
    l->goaway_in = true;
    if (l->ops->goaway)
        l->ops->goaway(l);
}

static void on_settings(void *arg)
{
    struct h2_link *l = of(arg);
    if (l->ops->settings)
        l->ops->settings(l);
}

static void on_not_sent(void *arg, int32_t id)
{
    struct h2_link *l = of(arg);
    if (l->queued_heads)
        l->queued_heads--;
    LIST_FOREACH(it, &l->streams) {
        struct h2_stream *s = CONTAINER_OF(it, struct h2_stream, node);
        if (s->id != id || l->server || s->head_on_wire)
            continue;
        s->refused = true;
        s->closed = true;
        l->resumed = true;
        if (!s->attached)
            h2_stream_free(s);
        return;
    }
}

static size_t on_want_data(void *arg, int32_t id, void *stream, size_t max, bool *end,
                           bool *trailers)
{
    struct h2_link *l = of(arg);
    struct h2_stream *s = stream;
    if (s->reset)
        return 0;
    size_t n = s->out.len < max ? s->out.len : max;
    *end = s->sent_end && n == s->out.len;
    if (*end && s->trailers_out) {
        *trailers = true;
        l->queued_heads++;
        h2_session_trailers(l->session, id, s->trailers_out);
    }
    return n;
}

static enum h2_write on_write_data(void *arg, void *stream, struct str head, size_t len)
{
    struct h2_link *l = of(arg);
    struct h2_stream *s = stream;
    struct buffer *out = &l->conn->out;
    if (out->above)
        return H2_BLOCKED;
    if (len > s->out.len)
        return H2_DROPPED;
    buffer_add_str(out, head);
    buffer_move(out, &s->out, len);
    s->wire_out += head.len + len;
    l->guard.data_sent++;
    h2_unsent_less(s, len);
    if (timer_armed(&s->flush))
        timer_arm(&s->flush, l->flush_ms);
    return H2_WRITTEN;
}

/* Our END_STREAM is out. Who has not sent all of its request need not go on (RFC 9113 8.1). */
static void end_is_out(struct h2_link *l, struct h2_stream *s)
{
    s->end_on_wire = true;
    timer_disarm(&s->flush);
    if (l->server && !s->got_end && !s->reset) {
        s->reset = true;
        h2_session_reset(l->session, s->id, H2_NO_ERROR);
    }
}

void h2_link_probe(struct h2_link *l)
{
    l->probing = true;
    h2_link_send_soon(l);
}

/* A PING overtakes what is queued: it is queued when the GOAWAY is out. */
static void goaway_is_out(struct h2_link *l)
{
    h2_count(&l->stats, H2_GOAWAY_SENT);
    if (!l->probing)
        return;
    l->probing = false;
    l->probe = ++l->pings;
    h2_session_ping(l->session, l->probe);
}

static void on_sent(void *arg, int32_t id, void *stream, uint8_t type, uint8_t flags)
{
    struct h2_link *l = of(arg);
    struct h2_stream *s = stream;
    switch (type) {
    case H2_HEADERS:
        if (l->queued_heads)
            l->queued_heads--;
        if (s)
            s->head_on_wire = true;
        if (!l->server && id > l->last_id)
            l->last_id = id;
        break;
    case H2_DATA:
        break;
    case H2_RST_STREAM:
        h2_count(&l->stats, H2_TX_RESET);
        remember_reset(l, id);
        /* Not by us: the peer has provoked it (CVE-2025-8671). */
        if (s && !s->reset && l->server && !s->end_on_wire)
            h2_link_premature(l);
        return;
    case H2_GOAWAY:
        goaway_is_out(l);
        return;
    default:
        return;
    }
    if (s && (flags & H2_FLAG_END_STREAM))
        end_is_out(l, s);
}

/* --- keep-alive --- */

static void arm_interval(struct h2_link *l)
{
    uint64_t ms = l->options->ping_interval_ms;
    if (!ms)
        return;
    uint64_t jitter = (uint64_t)((double)ms * l->options->ping_jitter / 100);
    timer_arm(&l->ping, ms + (jitter ? random_u64() % jitter : 0));
}

static void send_ping(struct h2_link *l)
{
    l->awaiting_ping = true;
    l->ping_sent_ms = now_ms(l);
    l->ping_id = ++l->pings;
    h2_session_ping(l->session, l->ping_id);
    h2_link_send_soon(l);
    timer_arm(&l->ping, l->options->ping_timeout_ms);
}

/* What comes late behind other frames is not lost: the time runs from the last of them. */
static void on_ping_timer(void *arg)
{
    struct h2_link *l = of(arg);
    if (!l->awaiting_ping) {
        send_ping(l);
        return;
    }
    uint64_t from = l->last_rx_ms > l->ping_sent_ms ? l->last_rx_ms : l->ping_sent_ms;
    uint64_t due = from + l->options->ping_timeout_ms;
    if (now_ms(l) < due) {
        timer_arm(&l->ping, due - now_ms(l));
        return;
    }
    l->timed_out = true;
    h2_link_terminate(l, H2_NO_ERROR, H2_KEEPALIVE_TIMEOUT);
}

void h2_link_keep_alive(struct h2_link *l)
{
    uint64_t idle = l->options->ping_idle_ms;
    if (idle && !l->awaiting_ping && now_ms(l) - l->last_rx_ms >= idle)
        send_ping(l);
}

static void on_ping_ack(void *arg, uint64_t opaque)
{
    struct h2_link *l = of(arg);
    if (l->probe && opaque == l->probe) {
        l->probe = 0;
        l->ops->round_trip(l);
        return;
    }
    if (!l->awaiting_ping || opaque != l->ping_id)
        return;
    l->awaiting_ping = false;
    timer_disarm(&l->ping);
    arm_interval(l);
}

/* --- life --- */

static const struct h2_session_events session_events = {
    .on_head_begin = on_head_begin,
    .on_field = on_field,
    .on_head_end = on_head_end,
    .on_data = on_data,
    .on_data_end = on_data_end,
    .on_reset = on_reset,
    .on_close = on_close,
    .on_goaway = on_goaway,
    .on_settings = on_settings,
    .on_ping_ack = on_ping_ack,
    .on_not_sent = on_not_sent,
    .on_want_data = on_want_data,
    .on_write_data = on_write_data,
    .on_sent = on_sent,
};

void h2_link_init(struct h2_link *l, bool server, struct conn *conn,
                  const struct http2_options *options, const struct h2_link_ops *ops,
                  const struct h2_stats *stats, const struct h2_head_rules *rules)
{
    *l = (struct h2_link){
        .magic = H2_LINK_MAGIC,
        .server = server,
        .conn = conn,
        .ops = ops,
        .options = options,
        .stats = *stats,
        .rules = *rules,
        .preface_left = server ? PREFACE : 0,
    };
    list_init(&l->streams);
    list_init(&l->below);
    list_init(&l->turns);
    list_init(&l->gone);
    task_init(&l->send_task, on_send, l);
    timer_init(&l->ping, conn->loop, on_ping_timer, l);
    timer_init(&l->quiet, conn->loop, on_quiet, l);
    l->last_rx_ms = now_ms(l);
    h2_guard_init(&l->guard, options, rules->max_bytes + BLOCK_SLACK, now_ms(l));
    l->session = h2_session_new(server, options, &session_events, l);
    arm_interval(l);
    h2_link_send_soon(l);
}

void h2_link_cleanup(struct h2_link *l)
{
    task_cancel(&l->send_task);
    timer_disarm(&l->ping);
    timer_disarm(&l->quiet);
    h2_session_free(&l->session);
    free_gone(l);
    while (!list_empty(&l->streams)) {
        h2_gauge(&l->stats, H2_STREAMS_ACTIVE, -1);
        h2_stream_destroy(CONTAINER_OF(l->streams.next, struct h2_stream, node));
    }
    mem_free(l->resets);
    l->resets = NULL;
    l->magic = 0;
}
