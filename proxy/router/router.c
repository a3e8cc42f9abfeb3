#include "proxy/router/router.h"

#include "base/obj.h"
#include "base/random.h"
#include "cluster/cluster_stats.h"
#include "proxy/http/stream.h"
#include "proxy/router/retry.h"
#include "proxy/router/upstream_request.h"
#include "proxy/worker.h"

static void start_try(struct router *r);

static void count(struct router *r, uint32_t stat)
{
    stats_inc(r->cluster->stats, r->stream->worker->index, stat);
}

/* Of the upstream's response, or of ours in its place. */
static void count_code(struct router *r, unsigned status)
{
    unsigned thread = r->stream->worker->index;
    unsigned class = status / 100;
    count(r, CLUSTER_UPSTREAM_RQ_COMPLETED);
    if (class >= 1 && class <= 5)
        count(r, CLUSTER_UPSTREAM_RQ_1XX + class - 1);
    if (r->stream->hc->config->dynamic_stats)
        stats_count_code(r->cluster->stats, thread, "upstream_rq_", status);
}

static size_t limit(const struct router *r)
{
    return downstream_buffer_limit(r->stream->hc->down);
}

/* --- the request's body --- */

static void abandon_replay(struct router *r)
{
    r->keep = false;
    buffer_cleanup(&r->replay);
}

static void pause_request(struct router *r)
{
    if (r->body_paused || !r->stream->down)
        return;
    r->body_paused = true;
    stream_pause_request(r->stream);
    count(r, CLUSTER_UPSTREAM_FLOW_CONTROL_BACKED_UP_TOTAL);
}

static void resume_request(struct router *r)
{
    if (!r->body_paused)
        return;
    r->body_paused = false;
    stream_resume_request(r->stream);
    count(r, CLUSTER_UPSTREAM_FLOW_CONTROL_DRAINED_TOTAL);
}

/* Gives the try what is there for it, its end included. */
void router_on_writable(struct router *r)
{
    struct stream *s = r->stream;
    struct upstream_request *u = r->up;
    if (!u || !upstream_request_ready(u) || u->sent_end)
        return;
    bool trailers = s->request_trailers && upstream_request_takes_trailers(u);
    bool last = s->request_end && !trailers;
    if (r->body.len || last)
        upstream_request_body(u, &r->body, last);
    if (r->up != u || u->over)
        return;
    if (s->request_end && trailers && !u->sent_end)
        upstream_request_trailers(u, s->request_trailers);
    resume_request(r);
}

static void copy(struct buffer *to, const struct buffer *from)
{
    char bytes[4096];
    for (size_t off = 0, n; (n = buffer_copy_out(from, off, bytes, sizeof(bytes))) > 0; off += n)
        buffer_add(to, bytes, n);
}

void router_data(struct router *r, struct buffer *b)
{
    if (!r->cluster) {
        buffer_drain(b, b->len);
        return;
    }
    if (r->keep) {
        if (r->replay.len + b->len > limit(r)) {
            count(r, CLUSTER_RETRY_OR_SHADOW_ABANDONED);
            abandon_replay(r);
        } else {
            copy(&r->replay, b);
        }
    }
    buffer_move(&r->body, b, b->len);
    if (r->up && upstream_request_ready(r->up) && !r->stream->request_end)
        router_on_writable(r);
    if (r->body.len > limit(r))
        pause_request(r);
}

void router_end(struct router *r)
{
    if (!r->cluster)
        return;
    if (r->timeout_ms)
        timer_arm(&r->timeout, r->timeout_ms);
    router_on_writable(r);
}

/* --- tries --- */

static void release_retry(struct router *r)
{
    if (!r->retry_held)
        return;
    r->retry_held = false;
    circuit_give(r->cluster->circuit, r->stream->route->priority, CIRCUIT_RETRIES);
}

static void on_backoff(void *arg)
{
    start_try(arg);
}

/* The whole body so far once more. Now, not when the next try starts: what comes meanwhile is added
 * to it, also if it becomes too much to be kept for yet another try. */
static void rewind_body(struct router *r)
{
    buffer_cleanup(&r->body);
    copy(&r->body, &r->replay);
}

/* Starts another try after a pause, if one is left and the breaker allows it; says so in the flags
 * if not. */
static bool try_again(struct router *r)
{
    struct stream *s = r->stream;
    if (!r->keep)
        return false;
    if (r->retries_left == 0) {
        s->info.flags |= FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED);
        count(r, CLUSTER_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED);
        return false;
    }
    release_retry(r);
    if (!circuit_take(r->cluster->circuit, s->route->priority, CIRCUIT_RETRIES)) {
        s->info.flags |= FLAG(UPSTREAM_OVERFLOW);
        count(r, CLUSTER_UPSTREAM_RQ_RETRY_OVERFLOW);
        return false;
    }
    r->retry_held = true;
    r->retries_left--;
    upstream_request_drop(&r->up);
    rewind_body(r);
    count(r, CLUSTER_UPSTREAM_RQ_RETRY);
    count(r, CLUSTER_UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL);
    /* Fully jittered exponential back-off: 0 to base * (2^n - 1), at most the maximum. */
    uint32_t n = r->tries < 16 ? r->tries : 16;
    uint64_t range = r->retry.backoff_base_ms * ((1ULL << n) - 1);
    if (range > r->retry.backoff_max_ms)
        range = r->retry.backoff_max_ms;
    timer_arm(&r->backoff, random_below(range + 1));
    return true;
}

static void set_attempt_count(struct router *r)
{
    struct stream *s = r->stream;
    if (s->route->attempt_count)
        headers_set_known(s->request, HDR_X_ENVOY_ATTEMPT_COUNT,
                          arena_printf(s->arena, "%u", r->tries));
}

/* How long the upstream may take, for its own use: the shorter of the timeouts. */
static void set_expected_timeout(struct router *r)
{
    struct stream *s = r->stream;
    uint64_t ms = r->per_try_ms ? r->per_try_ms : r->timeout_ms;
    uint64_t now = loop_now_ms(s->worker->loop);
    if (s->hc->config->suppress_envoy_headers || !ms)
        return;
    if (timer_armed(&r->timeout) && r->timeout.due_ms > now && r->timeout.due_ms - now < ms)
        ms = r->timeout.due_ms - now; /* what earlier tries have left */
    headers_set_known(s->request, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
                      arena_printf(s->arena, "%llu", (unsigned long long)ms));
}

/* Where an ORIGINAL_DST cluster is to go: as its header says if that is an address, else where the
 * connection was going. */
static const struct addr *destination(struct router *r, struct addr *room)
{
    const struct cluster_config *config = r->cluster->config;
    const struct stream *s = r->stream;
    const struct header *h = config->use_http_header
                                 ? headers_find(s->request, config->http_header_name)
                                 : NULL;
    if (!h)
        return &s->hc->down->info.local;
    if (addr_parse_ip_port(h->value, room))
        return room;
    count(r, CLUSTER_ORIGINAL_DST_HOST_INVALID);
    return &s->hc->down->info.local;
}

static void start_try(struct router *r)
{
    struct stream *s = r->stream;
    struct addr room;
    r->tries++;
    s->info.attempts = r->tries;
    struct lb_request lb = {
        .original_dst = destination(r, &room),
        .tried = r->tried,
        .num_tried = r->retry.previous_hosts ? r->num_tried : 0,
        .max_tries = r->retry.host_attempts + 1,
        .override_host = r->tries == 1 ? s->override_host : NULL,
        .override_strict = s->override_strict,
    };
    struct host *h = cluster_pick(r->cluster, &lb);
    if (!h) {
        count(r, CLUSTER_UPSTREAM_CX_NONE_HEALTHY);
        count_code(r, 503);
        stream_local_reply(s, 503, FLAG(NO_HEALTHY_UPSTREAM), STR("no_healthy_upstream"),
                           STR("no healthy upstream"));
        return;
    }
    if (r->num_tried < ROUTER_MAX_TRIED)
        r->tried[r->num_tried++] = host_ref(h);
    set_attempt_count(r);
    if (r->tries > 1)
        set_expected_timeout(r);
    r->up = upstream_request_new(r, h);
    if (s->down_above)
        upstream_request_pause(r->up);
}

/* --- failures --- */

static struct str underscored(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.p[i] == ' ' ? '_' : s.p[i];
    return str_n(p, s.len);
}

static const struct failure {
    const char *reason; /* Envoy's words */
    uint64_t flag;
    unsigned status;
} failures[] = {
    [TRY_OVERFLOW] = {"overflow", FLAG(UPSTREAM_OVERFLOW), 503},
    [TRY_CONNECT_FAILED] = {"remote connection failure", FLAG(UPSTREAM_CONNECTION_FAILURE), 503},
    [TRY_CONNECT_TIMEOUT] = {"connection timeout", FLAG(UPSTREAM_CONNECTION_FAILURE), 503},
    [TRY_CONN_TERMINATED] = {"connection termination", FLAG(UPSTREAM_CONNECTION_TERMINATION), 503},
    [TRY_REMOTE_RESET] = {"remote reset", FLAG(UPSTREAM_REMOTE_RESET), 503},
    [TRY_REFUSED] = {"remote refused stream reset", FLAG(UPSTREAM_REMOTE_RESET), 503},
    [TRY_PROTOCOL_ERROR] = {"protocol error", FLAG(UPSTREAM_PROTOCOL_ERROR), 502},
    [TRY_TIMEOUT] = {"local reset", FLAG(UPSTREAM_REQUEST_TIMEOUT), 504},
    [TRY_IDLE_TIMEOUT] = {"local reset", FLAG(UPSTREAM_REQUEST_TIMEOUT), 504},
};

static void reply_failure(struct router *r, enum try_failure f, struct str transport)
{
    struct stream *s = r->stream;
    const struct failure *what = &failures[f];
    struct arena *a = s->arena;
    count_code(r, what->status);
    if (f == TRY_TIMEOUT || f == TRY_IDLE_TIMEOUT) {
        stream_local_reply(s, 504, what->flag,
                           f == TRY_TIMEOUT ? STR("upstream_per_try_timeout")
                                            : STR("upstream_per_try_idle_timeout"),
                           STR("upstream request timeout"));
        return;
    }
    /* The transport's reason stays in the log: it would tell a client about the inside. */
    struct str body = arena_printf(
        a, "upstream connect error or disconnect/reset before headers. %sreset reason: %s",
        r->tries > 1 ? "retried and the latest " : "", what->reason);
    struct str details = arena_printf(a, "upstream_reset_before_response_started{%s%s%.*s}",
                                      what->reason, transport.len ? "|" : "", STR_ARG(transport));
    stream_local_reply(s, what->status, what->flag, underscored(a, details), body);
}

void router_on_failed(struct router *r, enum try_failure f, struct str transport, bool started)
{
    struct stream *s = r->stream;
    const struct failure *what = &failures[f];
    if (transport.len)
        s->info.upstream_failure = transport;
    upstream_request_drop(&r->up);
    if (r->responded) {
        struct str details = arena_printf(s->arena, "upstream_reset_after_response_started{%s}",
                                          what->reason);
        stream_response_reset(s, what->flag, underscored(s->arena, details));
        return;
    }
    if (retry_wants_failure(r, f, started) && try_again(r))
        return;
    reply_failure(r, f, transport);
}

static void on_timeout(void *arg)
{
    struct router *r = arg;
    struct stream *s = r->stream;
    count(r, CLUSTER_UPSTREAM_RQ_TIMEOUT);
    if (r->up && !r->responded)
        cluster_count_outcome(r->cluster, r->up->host, OUTCOME_TIMEOUT, 0);
    upstream_request_drop(&r->up);
    if (!r->responded)
        count_code(r, 504);
    stream_local_reply(s, 504, FLAG(UPSTREAM_REQUEST_TIMEOUT), STR("response_timeout"),
                       STR("upstream request timeout"));
}

/* --- the response --- */

/* A response that is not passed on. */
static void count_retried(struct router *r, unsigned status)
{
    static const char *const classes[] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
    static const char family[] = "retry.upstream_rq_";
    unsigned thread = r->stream->worker->index;
    unsigned class = status / 100;
    if (!r->stream->hc->config->dynamic_stats)
        return;
    stats_count_name(r->cluster->stats, thread, family, STR("completed"));
    if (class >= 1 && class <= 5)
        stats_count_name(r->cluster->stats, thread, family, str_of(classes[class - 1]));
    stats_count_code(r->cluster->stats, thread, family, status);
}

void router_on_headers(struct router *r, struct headers *h, bool end)
{
    struct stream *s = r->stream;
    bool failed = retry_wants_response(r, h);
    if (failed && try_again(r)) {
        count_retried(r, h->status);
        return;
    }
    count_code(r, h->status);
    r->responded = true;
    if (r->tries > 1 && !failed)
        count(r, CLUSTER_UPSTREAM_RQ_RETRY_SUCCESS);
    release_retry(r);
    abandon_replay(r);
    s->info.code_details = STR("via_upstream");
    if (s->tunnel && h->upgrade)
        timer_disarm(&r->timeout); /* a tunnel takes as long as it takes */
    if (!s->hc->config->suppress_envoy_headers) {
        uint64_t us = s->info.upstream_first_rx_us - s->info.upstream_first_tx_us;
        headers_set_known(h, HDR_X_ENVOY_UPSTREAM_SERVICE_TIME,
                          arena_printf(s->arena, "%llu", (unsigned long long)(us / 1000)));
    }
    if (s->route->attempt_count_response)
        headers_set_known(h, HDR_X_ENVOY_ATTEMPT_COUNT, arena_printf(s->arena, "%u", r->tries));
    s->info.response_code = h->status; /* for %RESPONSE_CODE% */
    route_rewrite_response(s->table, s->route, s->weighted, h, &s->info);
    stream_response_headers(s, h, end);
}

void router_on_data(struct router *r, struct buffer *b, bool end)
{
    stream_response_data(r->stream, b, end);
}

void router_on_trailers(struct router *r, struct headers *h)
{
    if (!upstream_request_takes_trailers(r->up)) {
        stream_response_end(r->stream);
        return;
    }
    stream_response_trailers(r->stream, h);
}

void router_pause_response(struct router *r)
{
    if (r->up)
        upstream_request_pause(r->up);
}

void router_resume_response(struct router *r)
{
    if (r->up)
        upstream_request_resume(r->up);
}

/* --- start and end --- */

static void no_cluster(struct router *r, struct stream *s)
{
    hcm_count(s->hc, HCM_NO_CLUSTER);
    stream_local_reply(s, s->route->cluster_not_found_code, FLAG(NO_CLUSTER_FOUND),
                       STR("cluster_not_found"), STR_NULL);
}

/* The endpoints' own load shedding (drop_overloads); true: answered. */
static bool dropped(struct router *r)
{
    switch (cluster_drops(r->cluster)) {
    case CLUSTER_DROP_NONE:
        return false;
    case CLUSTER_DROP_THIS:
        count_code(r, 503);
        stream_local_reply(r->stream, 503, FLAG(DROP_OVERLOAD), STR("drop_overload"),
                           STR("drop overload"));
        return true;
    case CLUSTER_DROP_ALL:
        break;
    }
    count_code(r, 503);
    stream_local_reply(r->stream, 503, FLAG(UNCONDITIONAL_DROP_OVERLOAD),
                       STR("unconditional_drop_overload"), STR("unconditional drop overload"));
    return true;
}

void router_start(struct router *r, struct stream *s)
{
    struct str name = s->cluster_name;
    struct cluster *c = name.len ? worker_clusters_find(s->worker->clusters, name) : NULL;
    r->stream = s;
    if (!c) {
        no_cluster(r, s);
        return;
    }
    r->cluster = c;
    cluster_hold(c);
    hcm_count(s->hc, HCM_RQ_ROUTED);
    s->info.upstream_cluster = arena_str(s->arena, name);
    buffer_init(&r->body);
    buffer_init(&r->replay);
    timer_init(&r->timeout, s->worker->loop, on_timeout, r);
    timer_init(&r->backoff, s->worker->loop, on_backoff, r);
    retry_init(r);
    r->keep = r->retry.on != 0;
    if (dropped(r))
        return;
    set_expected_timeout(r);
    route_rewrite_request(s->table, s->route, s->weighted, !s->hc->config->suppress_envoy_headers,
                          s->request, &s->info);
    start_try(r);
    if (r->cluster && (s->request_end || s->tunnel) && r->timeout_ms)
        timer_arm(&r->timeout, r->timeout_ms);
}

void router_cleanup(struct router *r)
{
    if (!r->cluster)
        return;
    struct cluster *c = r->cluster;
    struct stream *s = r->stream;
    bool completed = r->responded && s->info.upstream_last_rx_us;
    timer_disarm(&r->timeout);
    timer_disarm(&r->backoff);
    upstream_request_drop(&r->up);
    release_retry(r);
    if (completed)
        stats_record(c->stats, s->worker->index, CLUSTER_UPSTREAM_RQ_TIME,
                     (loop_now_us(s->worker->loop) - s->info.start_us) / 1000);
    for (size_t i = 0; i < r->num_tried; i++)
        host_unref(r->tried[i]);
    r->num_tried = 0;
    buffer_cleanup(&r->body);
    buffer_cleanup(&r->replay);
    r->cluster = NULL;
    cluster_release(c);
}
