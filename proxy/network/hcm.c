#include "proxy/network/hcm.h"

#include "base/obj.h"
#include "base/random.h"
#include "proxy/http/stream.h"
#include "proxy/network/hcm_config.h"
#include "proxy/observe/access_log.h"
#include "proxy/worker.h"

enum {
    HCM_MAGIC = 0x48434d43,
    DRAIN_SPREAD_MS = 5000, /* not all clients come back at once */
};

void hcm_count(const struct hcm_conn *hc, uint32_t stat)
{
    stats_inc(hc->config->stats, hc->down->worker->index, stat);
}

static void new_stream(void *user, struct codec_stream *cs)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    hc->num_streams++;
    stream_new_from(hc, cs, cs->arena);
}

static struct arena *arena_for(void *user)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    return worker_arena_get(hc->down->worker);
}

static void arena_unused(void *user, struct arena *a)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    worker_arena_put(hc->down->worker, a);
}

/* What was not a request is logged all the same: somebody has to find out who sends it. */
static void on_malformed(void *user, unsigned status, struct str detail)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    const struct hcm_config *cfg = hc->config;
    struct loop *l = hc->down->worker->loop;
    static const uint8_t by_class[] = {[4] = HCM_RQ_4XX, [5] = HCM_RQ_5XX};
    hcm_count(hc, HCM_RQ_TOTAL);
    hcm_count(hc, hc->http2 ? HCM_RQ_HTTP2_TOTAL : HCM_RQ_HTTP1_TOTAL);
    hcm_count(hc, HCM_RQ_COMPLETED);
    if (status == 408)
        hcm_count(hc, HCM_RQ_HEADER_TIMEOUT);
    else if (status == 431)
        hcm_count(hc, HCM_RQ_TOO_LARGE);
    else if (status || hc->http2)
        hcm_count(hc, HCM_CX_PROTOCOL_ERROR);
    if (status / 100 == 4 || status / 100 == 5)
        hcm_count(hc, by_class[status / 100]);
    uint64_t flags = FLAG(DOWNSTREAM_PROTOCOL_ERROR);
    if (status == 0 && !hc->http2) /* it left in the middle of a head */
        flags = FLAG(DOWNSTREAM_CONNECTION_TERMINATION);
    else if (status == 408)
        flags = 0;
    struct stream_info si = {
        .conn = &hc->down->info,
        .protocol = hc->http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP11,
        .start_wall_us = loop_wall_us(l),
        .start_us = loop_now_us(l),
        .end_us = loop_now_us(l),
        .response_code = status,
        .code_details = detail,
        .flags = flags,
        .downstream_remote = hc->down->info.remote,
    };
    for (size_t i = 0; i < cfg->num_logs; i++)
        access_log_write(cfg->logs[i], &si);
}

static void count_bytes(struct hcm_conn *hc)
{
    const struct hcm_config *cfg = hc->config;
    unsigned thread = hc->down->worker->index;
    stats_add(cfg->stats, thread, HCM_CX_RX, hc->down->conn.bytes_read);
    stats_add(cfg->stats, thread, HCM_CX_TX, hc->down->conn.bytes_written);
}

static void count_end(struct hcm_conn *hc, bool active)
{
    const struct hcm_config *cfg = hc->config;
    unsigned thread = hc->down->worker->index;
    bool local = hc->down->conn.why == CONN_CLOSED_LOCAL;
    hcm_count(hc, HCM_CX_DESTROY);
    hcm_count(hc, local ? HCM_CX_DESTROY_LOCAL : HCM_CX_DESTROY_REMOTE);
    if (active) {
        hcm_count(hc, HCM_CX_DESTROY_ACTIVE);
        hcm_count(hc, local ? HCM_CX_DESTROY_LOCAL_ACTIVE : HCM_CX_DESTROY_REMOTE_ACTIVE);
    }
    stats_gauge_dec(cfg->stats, thread, HCM_CX_ACTIVE);
    if (hc->codec)
        stats_gauge_dec(cfg->stats, thread, hc->http2 ? HCM_CX_HTTP2_ACTIVE : HCM_CX_HTTP1_ACTIVE);
    if (hc->down->info.tls)
        stats_gauge_dec(cfg->stats, thread, HCM_CX_SSL_ACTIVE);
    struct loop *l = hc->down->worker->loop;
    uint64_t us = loop_now_us(l) - hc->down->conn.connected_us;
    stats_record(cfg->stats, thread, HCM_CX_LENGTH, us / 1000);
    count_bytes(hc);
}

static void on_closed(void *user)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    count_end(hc, !list_empty(&hc->streams));
    while (!list_empty(&hc->streams)) {
        struct stream *s = CONTAINER_OF(hc->streams.next, struct stream, link);
        stream_conn_closed(s, STR("downstream_remote_disconnect"));
    }
    timer_disarm(&hc->age);
    timer_disarm(&hc->sniff);
    if (hc->codec)
        hc->codec->ops->free(hc->codec);
    hc->codec = NULL;
    downstream_done(hc->down); /* hc lives in its arena, freed after the streams */
}

static void on_too_many_resets(void *user)
{
    hcm_count(OBJ_CAST(user, struct hcm_conn, HCM_MAGIC), HCM_RQ_TOO_MANY_RESETS);
}

static const struct http_server_events events = {
    .new_stream = new_stream,
    .arena_for = arena_for,
    .arena_unused = arena_unused,
    .on_malformed = on_malformed,
    .on_too_many_resets = on_too_many_resets,
    .on_closed = on_closed,
};

static void on_age(void *arg)
{
    struct hcm_conn *hc = OBJ_CAST(arg, struct hcm_conn, HCM_MAGIC);
    hc->down->draining = true; /* the next response says so */
    if (hc->codec)
        hc->codec->ops->drain(hc->codec);
    else
        conn_close(&hc->down->conn, CONN_CLOSE_NOW, 0);
}

/* --- which protocol --- */

static void use(struct hcm_conn *hc, bool http2)
{
    const struct hcm_config *cfg = hc->config;
    unsigned thread = hc->down->worker->index;
    struct conn *c = &hc->down->conn;
    hc->http2 = http2;
    timer_disarm(&hc->sniff);
    stats_inc(cfg->stats, thread, http2 ? HCM_CX_HTTP2_TOTAL : HCM_CX_HTTP1_TOTAL);
    stats_gauge_inc(cfg->stats, thread, http2 ? HCM_CX_HTTP2_ACTIVE : HCM_CX_HTTP1_ACTIVE);
    hc->codec = http2 ? h2_server_new(c, &cfg->limits, &events, hc)
                      : h1_server_new(c, &cfg->limits, &events, hc);
}

#define PREFACE STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

/* The first bytes tell, at the latest where they cannot be the preface of HTTP/2 any more (RFC 9113
 * 3.4). */
static void on_first_bytes(void *owner, struct conn *c)
{
    struct hcm_conn *hc = OBJ_CAST(owner, struct hcm_conn, HCM_MAGIC);
    char got[24];
    size_t n = buffer_copy_out(&c->in, 0, got, PREFACE.len);
    bool may_be = memcmp(got, PREFACE.p, n) == 0;
    if (may_be && n < PREFACE.len && !c->eof) {
        if (n && hc->config->limits.headers_timeout_ms)
            timer_arm(&hc->sniff, hc->config->limits.headers_timeout_ms);
        return;
    }
    use(hc, may_be && n == PREFACE.len);
    conn_read_again(c);
}

static void on_early_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    on_closed(owner);
}

static void on_early_event(void *owner, struct conn *c)
{
}

static const struct conn_ops sniff_ops = {
    .on_connected = on_early_event,
    .on_read = on_first_bytes,
    .on_below = on_early_event,
    .on_above = on_early_event,
    .on_closed = on_early_closed,
};

static void on_sniff_timer(void *arg)
{
    struct hcm_conn *hc = OBJ_CAST(arg, struct hcm_conn, HCM_MAGIC);
    conn_close(&hc->down->conn, CONN_CLOSE_FLUSH, hc->config->limits.delayed_close_ms);
}

static void sniff(struct hcm_conn *hc)
{
    struct conn *c = &hc->down->conn;
    if (hc->config->limits.idle_timeout_ms)
        timer_arm(&hc->sniff, hc->config->limits.idle_timeout_ms);
    conn_set_owner(c, &sniff_ops, hc);
    if (c->in.len || c->eof)
        conn_read_again(c);
}

static void choose_codec(struct hcm_conn *hc)
{
    const struct tls_peer *tls = hc->down->info.tls;
    switch (hc->config->codec) {
    case CODEC_HTTP1:
        use(hc, false);
        return;
    case CODEC_HTTP2:
        use(hc, true);
        return;
    case CODEC_AUTO:
        break;
    }
    if (tls && tls->alpn.len) /* whatever else was agreed on is taken for HTTP/1 */
        use(hc, str_eq(tls->alpn, STR("h2")));
    else
        sniff(hc);
}

static void start(void *config, struct downstream *d)
{
    const struct hcm_config *cfg = config;
    struct hcm_conn *hc = ARENA_NEW(d->arena, struct hcm_conn);
    unsigned thread = d->worker->index;
    hc->magic = HCM_MAGIC;
    hc->config = cfg;
    hc->down = d;
    d->filter_state = hc;
    list_init(&hc->streams);
    timer_init(&hc->age, d->worker->loop, on_age, hc);
    timer_init(&hc->sniff, d->worker->loop, on_sniff_timer, hc);
    if (cfg->max_connection_ms)
        timer_arm(&hc->age, cfg->max_connection_ms);
    stats_inc(cfg->stats, thread, HCM_CX_TOTAL);
    stats_gauge_inc(cfg->stats, thread, HCM_CX_ACTIVE);
    if (d->info.tls) {
        stats_inc(cfg->stats, thread, HCM_CX_SSL_TOTAL);
        stats_gauge_inc(cfg->stats, thread, HCM_CX_SSL_ACTIVE);
    }
    choose_codec(hc);
}

/* An HTTP/2 connection can be told without a response to say it in. */
static void drain(struct downstream *d)
{
    struct hcm_conn *hc = OBJ_CAST(d->filter_state, struct hcm_conn, HCM_MAGIC);
    if (hc->http2 && hc->codec)
        timer_arm(&hc->age, 1 + random_u64() % DRAIN_SPREAD_MS);
}

const struct network_filter_ops hcm_filter = {
    .name = "envoy.filters.network.http_connection_manager",
    .type_name =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    .compile = hcm_config_compile,
    .free = hcm_config_free,
    .ready = hcm_config_ready,
    .start = start,
    .drain = drain,
};
