#include "proxy/http/codec.h"

#include "base/obj.h"
#include "cluster/cluster_stats.h"
#include "cluster/pool.h"
#include "proxy/http/h2_link.h"

enum {
    H2_CLIENT_MAGIC = 0x4832434c,
    MAX_INFORMATIONAL = 16,   /* 1xx before one response */
    CLOSE_MS = 1000,          /* for a last GOAWAY */
    TUNNEL_FLUSH_MS = 300000, /* the rest of a tunnel whose other direction has ended */
    EXPECTED_STREAMS = 100,   /* before the server's SETTINGS */
};

struct h2_client {
    uint32_t magic;
    struct pool_conn *pc;
    struct h2_link link;
    struct http2_options options; /* a copy: an update replaces the cluster's */
    struct task settle_task;
    uint32_t releases; /* slots to be given back when the link has done its turn */
    bool settings;     /* the server allows another number of streams */
    bool met;          /* its first SETTINGS have come */
    bool drain;        /* it takes no more */
    bool closing;
};

static struct h2_client *of_link(struct h2_link *l)
{
    struct h2_client *c = CONTAINER_OF(l, struct h2_client, link);
    CHECK(c->magic == H2_CLIENT_MAGIC);
    return c;
}

static void count(struct h2_client *c, uint32_t stat)
{
    stats_inc(c->pc->cluster->stats, c->pc->cluster->thread, stat);
}

/* --- what the pool is told --- */

/* The pool may close the connection: not while its input is being read. */
static void settle(struct h2_client *c)
{
    if (c->link.running)
        return;
    if (c->drain && !c->pc->draining)
        c->pc->draining = true;
    while (c->releases) {
        c->releases--;
        pool_release(c->pc, true);
    }
    if (c->pc->pool && (c->settings || c->drain))
        pool_conn_changed(c->pc);
    c->settings = c->drain = false;
}

static void detached(struct h2_link *l, struct h2_stream *s)
{
    struct h2_client *c = of_link(l);
    c->releases++;
    h2_link_send_soon(l);
    loop_post(l->conn->loop, &c->settle_task);
}

static void on_settle(void *arg)
{
    settle(OBJ_CAST(arg, struct h2_client, H2_CLIENT_MAGIC));
}

/* --- responses --- */

static struct headers *head_begin(struct h2_link *l, int32_t id, struct h2_stream *s,
                                  enum h2_head_kind *kind)
{
    if (!s || !s->attached)
        return NULL;
    *kind = s->got_head ? H2_HEAD_TRAILERS : H2_HEAD_RESPONSE;
    struct headers *h = ARENA_NEW(s->cs.arena, struct headers);
    headers_init(h, s->cs.arena);
    return h;
}

static void informational(struct h2_link *l, struct h2_stream *s, struct headers *h)
{
    if (++s->informational > MAX_INFORMATIONAL) {
        h2_stream_reset(s, H2_ENHANCE_YOUR_CALM);
        h2_stream_fail(s, RESET_OVERFLOW, STR_NULL);
        return;
    }
    if (s->cs.events->on_informational)
        s->cs.events->on_informational(s->cs.user, h);
}

/* What was asked for as an upgrade is answered as one (RFC 8441 5). */
static void as_upgrade(struct h2_stream *s, struct headers *h)
{
    if (!s->connect || h->status / 100 != 2)
        return;
    h->upgrade = s->tunnel = true;
    if (!s->extended)
        return;
    h->status = 101;
    headers_set_known(h, HDR_CONNECTION, STR("upgrade"));
    headers_set_known(h, HDR_UPGRADE, s->protocol);
}

static void give_response(struct h2_link *l, struct h2_stream *s, bool end)
{
    struct headers *h = l->head.h;
    bool never = s->to_head || h->status == 304 || (s->connect && h->status / 100 == 2);
    s->has_length = l->head.has_length && !never;
    s->length = l->head.length;
    if (end && s->has_length && s->length) {
        h2_link_malformed(l, s->id, s);
        return;
    }
    as_upgrade(s, h);
    s->got_head = true;
    s->got_end = s->gave_end = end;
    bool over = end && s->sent_end;
    s->cs.events->on_headers(s->cs.user, h, end);
    if (!over || !s->attached)
        return;
    if (!s->end_on_wire && !s->tunnel)
        h2_stream_reset(s, H2_NO_ERROR);
    h2_stream_detach(s);
}

static void too_large(struct h2_link *l, struct h2_stream *s)
{
    h2_count(&l->stats, H2_HEADER_OVERFLOW);
    h2_stream_reset(s, H2_ENHANCE_YOUR_CALM);
    h2_stream_fail(s, RESET_HEADERS_TOO_LARGE, l->head.detail);
}

static void head_end(struct h2_link *l, int32_t id, struct h2_stream *s, enum h2_head_verdict v,
                     bool end)
{
    if (!s || !s->attached)
        return;
    if (v == H2_HEAD_TOO_LARGE) {
        too_large(l, s);
    } else if (v != H2_HEAD_OK || (s->got_head && s->has_length && s->length)) {
        h2_link_malformed(l, id, s);
    } else if (s->got_head) {
        s->got_end = true;
        if (l->head.h->live)
            s->trailers_in = l->head.h;
        h2_stream_deliver(s);
    } else if (l->head.h->status < 200) {
        informational(l, s, l->head.h);
    } else {
        give_response(l, s, end);
    }
}

static void goaway(struct h2_link *l)
{
    struct h2_client *c = of_link(l);
    if (!c->drain && !c->pc->draining)
        count(c, CLUSTER_UPSTREAM_CX_CLOSE_NOTIFY);
    c->drain = true;
}

/* Extended CONNECT (RFC 8441 3) where the server offers it. Before it has said so the cluster's
 * configuration is believed, as by Envoy: the first tunnel need not wait for a round trip. */
static bool takes_tunnels(const struct h2_client *c)
{
    return c->met ? h2_session_peer_connect(c->link.session) : c->options.allow_connect;
}

static void send_head(struct h2_stream *s, const struct headers *h, bool end)
{
    struct h2_link *l = s->link;
    if (!s->extended || takes_tunnels(of_link(l)))
        s->id = h2_session_request(l->session, h, end, s);
    if (s->id) {
        l->queued_heads++;
        l->guard.streams++;
    } else {
        s->refused = true;
        l->resumed = true;
    }
    h2_link_send_soon(l);
}

static void settings(struct h2_link *l)
{
    struct h2_client *c = of_link(l);
    c->settings = c->met = true;
    LIST_FOREACH_SAFE(it, &l->streams) {
        struct h2_stream *s = CONTAINER_OF(it, struct h2_stream, node);
        const struct headers *h = s->held;
        s->held = NULL;
        if (h && s->attached)
            send_head(s, h, s->sent_end && !s->out.len && !s->trailers_out);
    }
}

static void over(struct h2_link *l, bool error)
{
    struct h2_client *c = of_link(l);
    if (c->closing)
        return;
    c->closing = true;
    c->pc->draining = true;
    if (error && !l->num_attached)
        count(c, CLUSTER_UPSTREAM_CX_PROTOCOL_ERROR);
    conn_close(l->conn, CONN_CLOSE_FLUSH, CLOSE_MS);
    h2_link_reset_all(l, error ? RESET_PROTOCOL_ERROR : RESET_CONN_TERMINATED, STR_NULL);
}

static const struct h2_link_ops link_ops = {
    .head_begin = head_begin,
    .head_end = head_end,
    .detached = detached,
    .goaway = goaway,
    .settings = settings,
    .over = over,
};

/* --- events of the connection --- */

static void on_connected(void *owner, struct conn *conn)
{
}

static void on_read(void *owner, struct conn *conn)
{
    struct h2_client *c = OBJ_CAST(owner, struct h2_client, H2_CLIENT_MAGIC);
    h2_link_read(&c->link);
    if (conn->eof && !c->closing) {
        c->closing = true;
        c->pc->draining = true;
        conn_close(conn, CONN_CLOSE_NOW, 0);
        h2_link_reset_all(&c->link, RESET_CONN_TERMINATED, STR_NULL);
    }
    settle(c);
}

static void on_above(void *owner, struct conn *conn)
{
}

static void on_below(void *owner, struct conn *conn)
{
    struct h2_client *c = OBJ_CAST(owner, struct h2_client, H2_CLIENT_MAGIC);
    h2_link_send_soon(&c->link);
}

static void on_closed(void *owner, struct conn *conn, enum conn_close_reason why)
{
    struct h2_client *c = OBJ_CAST(owner, struct h2_client, H2_CLIENT_MAGIC);
    c->closing = true;
    c->pc->draining = true;
    h2_link_reset_all(&c->link, RESET_CONN_TERMINATED, STR_NULL);
    settle(c);
    pool_conn_ended(c->pc, why);
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
    struct h2_stream *s = h2_stream_of(cs);
    struct h2_link *l = s->link;
    struct header *upgrade = h->upgrade ? headers_known(h, HDR_UPGRADE) : NULL;
    if (!s->attached || s->sent_head)
        return;
    s->sent_head = true;
    s->sent_end = end;
    s->to_head = str_eq(h->method, STR("HEAD"));
    s->connect = str_eq(h->method, STR("CONNECT")) || upgrade;
    s->extended = upgrade != NULL;
    if (upgrade)
        s->protocol = upgrade->value;
    h2_link_keep_alive(l);
    if (upgrade && !of_link(l)->met && !takes_tunnels(of_link(l)))
        s->held = h; /* until it is offered, or not */
    else
        send_head(s, h, end);
    if (!end)
        h2_unsent_head(s);
}

static void op_informational(struct codec_stream *cs, const struct headers *h)
{
}

static void op_close_after(struct codec_stream *cs)
{
    struct h2_link *l = h2_stream_of(cs)->link;
    of_link(l)->pc->draining = true;
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

/* --- what the pool asks --- */

static void *client_new(struct pool_conn *pc)
{
    struct h2_client *c = NEW(struct h2_client);
    const struct cluster_config *config = pc->cluster->config;
    struct h2_stats stats = {pc->cluster->stats, pc->cluster->thread, true};
    struct h2_head_rules rules = {0}; /* with each exchange */
    c->magic = H2_CLIENT_MAGIC;
    c->pc = pc;
    c->options = config->http2_options;
    task_init(&c->settle_task, on_settle, c);
    rules.max_bytes = config->max_headers_kb ? config->max_headers_kb * 1024 : 61440;
    rules.max_count = config->max_headers_count ? config->max_headers_count : 100;
    h2_link_init(&c->link, false, &pc->conn, &c->options, &link_ops, &stats, &rules);
    c->link.flush_ms = TUNNEL_FLUSH_MS;
    conn_set_owner(&pc->conn, &conn_callbacks, c);
    return c;
}

static void client_free(void *client)
{
    struct h2_client *c = OBJ_CAST(client, struct h2_client, H2_CLIENT_MAGIC);
    task_cancel(&c->settle_task);
    h2_link_cleanup(&c->link);
    c->magic = 0;
    mem_free(c);
}

static uint32_t streams_allowed(void *client)
{
    struct h2_client *c = OBJ_CAST(client, struct h2_client, H2_CLIENT_MAGIC);
    uint32_t peer = h2_session_peer_streams(c->link.session);
    return peer < c->options.max_concurrent_streams ? peer : c->options.max_concurrent_streams;
}

static uint32_t streams_expected(const struct cluster_config *config)
{
    uint32_t max = config->http2_options.max_concurrent_streams;
    return max < EXPECTED_STREAMS ? max : EXPECTED_STREAMS;
}

static const struct str alpn[] = {{"h2", 2}};

const struct pool_protocol h2_client_protocol = {
    .name = "http2",
    .stat = CLUSTER_UPSTREAM_CX_HTTP2_TOTAL,
    .alpn = alpn,
    .num_alpn = 1,
    .keeps_callbacks = true,
    .client_new = client_new,
    .client_free = client_free,
    .streams_allowed = streams_allowed,
    .streams_expected = streams_expected,
};

struct codec_stream *h2_client_stream(struct pool_conn *pc, struct arena *a,
                                      const struct http_client_limits *limits,
                                      const struct codec_events *events, void *user)
{
    struct h2_client *c = OBJ_CAST(pc->client, struct h2_client, H2_CLIENT_MAGIC);
    struct h2_stream *s = h2_stream_new(&c->link, 0);
    c->link.rules.max_bytes = limits->max_headers_bytes;
    c->link.rules.max_count = limits->max_headers_count;
    s->cs = (struct codec_stream){&stream_ops, events, user, a};
    h2_stream_attach(s);
    if (c->link.dead || c->closing) { /* before the pool knew */
        s->refused = true;
        c->link.resumed = true;
        h2_link_send_soon(&c->link);
    }
    return &s->cs;
}
