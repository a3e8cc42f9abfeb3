#include "proxy/network/hcm.h"

#include "base/obj.h"
#include "base/random.h"
#include "proxy/http/h1_write.h"
#include "proxy/http/local_reply.h"
#include "proxy/http/mutate.h"
#include "proxy/http/stream.h"
#include "proxy/network/hcm_config.h"
#include "proxy/observe/access_log.h"
#include "proxy/worker.h"

enum {
    HCM_MAGIC = 0x48434d43,
    DRAIN_SPREAD_MS = 5000, /* not all clients come back at once */
};

#define IDLE STR("stream_idle_timeout")

/* What Envoy finds later than the rest that is wrong with a head: it answers with less. */
static bool found_late(struct str detail)
{
    return str_eq(detail, STR("missing_host_header")) ||
           str_eq(detail, STR("path_normalization_failed"));
}

void hcm_count(const struct hcm_conn *hc, uint32_t stat)
{
    stats_inc(hc->config->stats, hc->down->worker->index, stat);
}

static void new_stream(void *user, struct codec_stream *cs)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    hc->num_streams++;
    if (hc->num_streams == hc->config->limits.max_requests)
        hcm_count(hc, HCM_CX_MAX_REQUESTS);
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

static struct stream_info conn_stream_info(const struct hcm_conn *hc)
{
    struct loop *l = hc->down->worker->loop;
    return (struct stream_info){
        .conn = &hc->down->info,
        .protocol = hc->http2 ? PROTOCOL_HTTP2 : PROTOCOL_HTTP11,
        .start_wall_us = loop_wall_us(l),
        .start_us = loop_now_us(l),
        .end_us = loop_now_us(l),
        .downstream_remote = hc->down->info.remote,
    };
}

static struct str error_body(unsigned status, struct str detail)
{
    if (found_late(detail))
        return STR("");
    if (str_eq(detail, STR("request_header_timeout")))
        return STR("request header timeout");
    if (str_eq(detail, STR("request_overall_timeout")))
        return STR("request timeout");
    return str_eq(detail, IDLE) ? STR("stream timeout") : h1_reason(status);
}

/* What the head of a request was too slow for. */
static uint32_t timeout_stat(struct str detail)
{
    if (str_eq(detail, IDLE))
        return HCM_RQ_IDLE_TIMEOUT;
    return str_eq(detail, STR("request_overall_timeout")) ? HCM_RQ_TIMEOUT : HCM_RQ_HEADER_TIMEOUT;
}

static struct headers *error_reply(void *user, struct arena *a, unsigned status, struct str detail,
                                   struct str *out_body)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    struct headers *h = ARENA_NEW(a, struct headers);
    struct stream_info none = conn_stream_info(hc), *si = &none;
    if (!hc->http2 && !list_empty(&hc->streams))
        si = &CONTAINER_OF(hc->streams.next, struct stream, link)->info;
    headers_init(h, a);
    h->status = (uint16_t)status;
    bool grpc = si->request && headers_is_grpc(si->request);
    si->code_details = detail;
    *out_body = local_reply_finish(hc->config->local_reply, h, error_body(status, detail), grpc,
                                   si);
    si->response = NULL; /* a goes first */
    hc->error_status = h->status;
    hc->error_bytes = out_body->len;
    mutate_own_response(hc->config, hc->down->worker, h);
    return h;
}

/* What was not a request is logged all the same: somebody has to find out who sends it. */
static void on_malformed(void *user, unsigned status, struct str detail, const struct headers *head)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    const struct hcm_config *cfg = hc->config;
    static const uint8_t by_class[] = {
        [1] = HCM_RQ_1XX, [2] = HCM_RQ_2XX, [3] = HCM_RQ_3XX, [4] = HCM_RQ_4XX, [5] = HCM_RQ_5XX};
    unsigned said = status && !hc->http2 ? hc->error_status : status;
    hcm_count(hc, HCM_RQ_TOTAL);
    hcm_count(hc, hc->http2 ? HCM_RQ_HTTP2_TOTAL : HCM_RQ_HTTP1_TOTAL);
    hcm_count(hc, HCM_RQ_COMPLETED);
    if (status)
        hcm_count(hc, HCM_RQ_RX_RESET);
    if (status == 408)
        hcm_count(hc, timeout_stat(detail));
    else if (status == 431)
        hcm_count(hc, HCM_RQ_TOO_LARGE);
    else if (status || hc->http2)
        hcm_count(hc, HCM_CX_PROTOCOL_ERROR);
    if (said >= 100 && said < 600)
        hcm_count(hc, by_class[said / 100]);
    uint64_t flags = FLAG(DOWNSTREAM_PROTOCOL_ERROR);
    if (status == 0 && !hc->http2) /* it left in the middle of a head */
        flags = FLAG(DOWNSTREAM_CONNECTION_TERMINATION);
    else if (status == 408 || found_late(detail))
        flags = str_eq(detail, IDLE) ? FLAG(STREAM_IDLE_TIMEOUT) : 0;
    struct stream_info si = conn_stream_info(hc);
    si.response_code = said;
    si.bytes_sent = status ? hc->error_bytes : 0;
    si.code_details = detail;
    si.flags = flags;
    si.request = found_late(detail) ? head : NULL;
    access_logs_write(cfg->logs, cfg->num_logs, &si, LOG_TYPE_DOWNSTREAM_END);
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

static void on_idle(void *user)
{
    struct hcm_conn *hc = OBJ_CAST(user, struct hcm_conn, HCM_MAGIC);
    hcm_count(hc, HCM_CX_IDLE_TIMEOUT);
    hc->ending = true;
}

static const struct http_server_events events = {
    .new_stream = new_stream,
    .arena_for = arena_for,
    .arena_unused = arena_unused,
    .error_reply = error_reply,
    .on_malformed = on_malformed,
    .on_too_many_resets = on_too_many_resets,
    .on_idle = on_idle,
    .on_closed = on_closed,
};

static void on_age(void *arg)
{
    struct hcm_conn *hc = OBJ_CAST(arg, struct hcm_conn, HCM_MAGIC);
    bool over = hc->ending || !hc->num_streams || !hc->config->drain_ms;
    if (!hc->ending)
        hcm_count(hc, HCM_CX_MAX_DURATION);
    if (!hc->codec) {
        conn_close(&hc->down->conn, CONN_CLOSE_NOW, 0);
        return;
    }
    if (hc->http2) { /* which has its own way to take requests for a while */
        hc->codec->ops->drain(hc->codec);
        return;
    }
    hc->ending = true; /* the next response says so */
    if (hc->config->http1_safe_duration && hc->num_streams)
        hcm_count(hc, HCM_CX_SOFT_DRAIN);
    else if (over)
        hc->codec->ops->drain(hc->codec);
    else
        timer_arm(&hc->age, hc->config->drain_ms);
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
