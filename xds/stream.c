#include "xds/stream.h"

#include "base/alloc.h"
#include "base/log.h"
#include "xds/client.h"

/* GrpcService.retry_policy's and RateLimitSettings' defaults. */
enum { BACKOFF_BASE_MS = 500, BACKOFF_MAX_MS = 30000, RATE_TOKENS = 100, RATE_FILL = 10 };

static const char *const state_names[] = {
    [XDS_STREAM_IDLE] = "idle",
    [XDS_STREAM_BACKOFF] = "backoff",
    [XDS_STREAM_OPEN] = "open",
};

static void set_state(struct xds_stream *st, enum xds_stream_state to)
{
    CHECK(to != XDS_STREAM_OPEN || st->call);
    LOG_DEBUG(config, "stream to %.*s: %s -> %s", STR_ARG(st->server.cluster),
              state_names[st->state], state_names[to]);
    st->state = to;
    xds_stream_counts_connected(st->counts, to == XDS_STREAM_OPEN);
}

/* --- closing and trying again ----------------------------------------------------------------- */

static void drop_call(struct xds_stream *st)
{
    xds_ingest_cancel(&st->ingest);
    if (st->call)
        st->x->transport_ops->close(st->call);
    st->call = NULL;
    st->sending = st->receiving = st->applying = false;
    timer_disarm(&st->tokens_timer);
}

static void fail(struct xds_stream *st, const char *what, int status, struct str text)
{
    uint64_t delay = backoff_next_ms(&st->backoff);
    /* A stream that ends after it has answered is the way servers rebalance. */
    if (st->responded)
        LOG_INFO(config, "stream to %.*s ended (status %d: %.*s), again in %llu ms",
                 STR_ARG(st->server.cluster), status, STR_ARG(text), (unsigned long long)delay);
    else
        LOG_WARN(config, "stream to %.*s: %s (status %d: %.*s), again in %llu ms",
                 STR_ARG(st->server.cluster), what, status, STR_ARG(text),
                 (unsigned long long)delay);
    drop_call(st);
    LIST_FOREACH(it, &st->feeds)
        xds_feed_failed(CONTAINER_OF(it, struct xds_feed, stream_link));
    set_state(st, XDS_STREAM_BACKOFF);
    timer_arm(&st->retry, delay);
}

/* --- events of the call ----------------------------------------------------------------------- */

static void on_message(void *arg, struct str bytes)
{
    struct xds_stream *st = arg;
    const char *why = NULL;
    st->receiving = false;
    st->applying = true;
    st->responded = true;
    backoff_reset(&st->backoff);
    if (!st->variant->message(st, bytes, &why))
        fail(st, why, 0, STR("protocol error"));
}

static void on_sent(void *arg)
{
    struct xds_stream *st = arg;
    st->sending = false;
    xds_stream_kick(st);
}

static void on_close(void *arg, int status, struct str text)
{
    fail(arg, "closed", status, text);
}

static const struct xds_call_events events = {
    .on_message = on_message, .on_sent = on_sent, .on_close = on_close};

static void connect_now(struct xds_stream *st)
{
    struct xds *x = st->x;
    char why[128] = "no way to reach a cluster yet";
    LIST_FOREACH(it, &st->feeds)
        xds_feed_start_timers(CONTAINER_OF(it, struct xds_feed, stream_link));
    st->tried = true;
    st->responded = st->node_sent = false;
    int fd = x->dial ? x->dial(x->dial_arg, st->server.cluster, why, sizeof(why)) : -1;
    if (fd < 0) {
        fail(st, "no connection", 0, str_of(why));
        return;
    }
    struct xds_call_options opts = {
        .method = st->method,
        .authority = st->server.authority.len ? st->server.authority : st->server.cluster,
        .headers = st->server.headers,
        .num_headers = st->server.num_headers,
    };
    if (!x->transport)
        x->transport = x->transport_ops->start(x->loop, x->max_message);
    st->call = x->transport_ops->open(x->transport, fd, &opts, &events, st);
    set_state(st, XDS_STREAM_OPEN);
    st->variant->opened(st);
    xds_stream_kick(st);
}

static void on_retry(void *arg)
{
    connect_now(arg);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* One token every so many milliseconds. */
static uint64_t token_interval_ms(const struct xds_server *server)
{
    double fill = server->rate_fill > 0 ? server->rate_fill : RATE_FILL;
    return fill < 1000 ? (uint64_t)(1000 / fill) : 1;
}

/* take_token says whether a request may leave now; if not, the pump runs when it may. */
static bool take_token(struct xds_stream *st)
{
    uint64_t now = loop_now_ms(st->x->loop);
    if (!st->server.rate_limited || rate_take(&st->rate, 1, now)) {
        xds_stream_counts_pending(st->counts, 0);
        return true;
    }
    if (timer_armed(&st->tokens_timer))
        return false;
    xds_stream_counts_limited(st->counts);
    xds_stream_counts_pending(st->counts, 1);
    timer_arm(&st->tokens_timer, rate_wait_ms(&st->rate, 1, now));
    return false;
}

static void send_next(struct xds_stream *st)
{
    struct arena a;
    struct str request;
    if (!st->variant->next(st, NULL, NULL))
        return;
    if (!take_token(st))
        return;
    arena_init(&a, 0);
    if (st->variant->next(st, &a, &request)) {
        st->sending = true;
        st->node_sent = true;
        st->x->transport_ops->send(st->call, request);
    }
    arena_cleanup(&a);
}

static bool wanted(const struct xds_stream *st)
{
    LIST_FOREACH(it, &st->feeds) {
        if (xds_feed_wanted(CONTAINER_OF(it, struct xds_feed, stream_link)))
            return true;
    }
    return false;
}

static void on_pump(void *arg)
{
    struct xds_stream *st = arg;
    switch (st->state) {
    case XDS_STREAM_IDLE:
        if (wanted(st))
            connect_now(st);
        return;
    case XDS_STREAM_BACKOFF:
        return;
    case XDS_STREAM_OPEN:
        /* While clusters are being applied each adds a name of endpoints: asked for at the end,
         * after the answer, all together. */
        if (!st->sending && !st->applying)
            send_next(st);
        if (!st->receiving && !st->applying && !st->variant->answer_due(st)) {
            st->receiving = true;
            st->x->transport_ops->receive(st->call);
        }
        return;
    }
}

void xds_stream_kick(struct xds_stream *st)
{
    loop_post(st->x->loop, &st->pump);
}

static void on_tokens(void *arg)
{
    xds_stream_kick(arg);
}

void xds_stream_applied(struct xds_stream *st)
{
    st->applying = false;
    xds_stream_kick(st);
}

void xds_stream_identified(struct xds_stream *st, struct str identifier)
{
    if (!identifier.len || str_eq(identifier, st->identifier))
        return;
    xds_text_set(&st->identifier, identifier);
    xds_stream_counts_identifier(st->counts, st->identifier);
}

/* --- life ------------------------------------------------------------------------------------- */

static void copy_server(struct xds_stream *st, const struct xds_server *from)
{
    struct xds_header *headers = arena_alloc(&st->arena,
                                             (from->num_headers + 1) * sizeof(*headers));
    st->server = *from;
    st->server.cluster = arena_str(&st->arena, from->cluster);
    st->server.authority = arena_str(&st->arena, from->authority);
    for (size_t i = 0; i < from->num_headers; i++) {
        headers[i].name = arena_str(&st->arena, from->headers[i].name);
        headers[i].value = arena_str(&st->arena, from->headers[i].value);
    }
    st->server.headers = headers;
}

struct xds_stream *xds_stream_new(struct xds *x, const struct xds_server *server,
                                  const char *method, const struct xds_stats_prefix *prefix)
{
    struct xds_stream *st = NEW(struct xds_stream);
    st->x = x;
    st->variant = server->delta ? &xds_delta : &xds_sotw;
    arena_init(&st->arena, 256);
    copy_server(st, server);
    st->method = method;
    list_init(&st->feeds);
    timer_init(&st->retry, x->loop, on_retry, st);
    timer_init(&st->tokens_timer, x->loop, on_tokens, st);
    task_init(&st->pump, on_pump, st);
    xds_ingest_init(&st->ingest);
    backoff_init(&st->backoff, server->backoff_base_ms ? server->backoff_base_ms : BACKOFF_BASE_MS,
                 server->backoff_max_ms ? server->backoff_max_ms : BACKOFF_MAX_MS);
    rate_init(&st->rate, server->rate_tokens ? server->rate_tokens : RATE_TOKENS, 1,
              token_interval_ms(server), loop_now_ms(x->loop));
    st->counts = xds_stream_counts_new(prefix);
    list_push_tail(&x->streams, &st->link);
    return st;
}

void xds_stream_free(struct xds_stream *st)
{
    drop_call(st);
    timer_disarm(&st->retry);
    task_cancel(&st->pump);
    LIST_FOREACH_SAFE(it, &st->feeds) {
        list_remove(it);
        CONTAINER_OF(it, struct xds_feed, stream_link)->stream = NULL;
    }
    xds_ingest_cleanup(&st->ingest);
    xds_stream_counts_connected(st->counts, false);
    xds_stream_counts_free(&st->counts);
    xds_text_set(&st->identifier, STR_NULL);
    list_remove(&st->link);
    arena_cleanup(&st->arena);
    mem_free(st);
}

void xds_stream_add(struct xds_stream *st, struct xds_feed *f)
{
    struct list *at = st->feeds.next;
    while (at != &st->feeds &&
           CONTAINER_OF(at, struct xds_feed, stream_link)->type->order <= f->type->order)
        at = at->next;
    list_insert_before(at, &f->stream_link);
    f->stream = st;
}
