#include "proxy/http/stream.h"

#include "base/obj.h"
#include "base/random.h"
#include "proxy/http/grpc_reply.h"
#include "proxy/http/local_reply.h"
#include "proxy/http/mutate.h"
#include "proxy/http/stream_filters.h"
#include "proxy/http/stream_log.h"
#include "proxy/worker.h"

enum { STREAM_MAGIC = 0x53545245 };

enum step_result { STEP_NEXT, STEP_WAIT };

static enum step_result step_headers(struct stream *s);
static enum step_result step_route(struct stream *s);
static enum step_result step_filters(struct stream *s);
static enum step_result step_upstream(struct stream *s);
static enum step_result step_wait(struct stream *s);
static const struct http_chain_ends chain_ends;

/* The life of a request, in order. */
static const struct stream_step {
    const char *name;
    enum step_result (*run)(struct stream *s);
} steps[] = {
    [STREAM_HEADERS] = {"headers", step_headers},    /* check, complete, pin the route table */
    [STREAM_ROUTE] = {"route", step_route},          /* a route is chosen */
    [STREAM_FILTERS] = {"filters", step_filters},    /* the head passes the filters; may wait */
    [STREAM_UPSTREAM] = {"upstream", step_upstream}, /* redirect, direct response or first try */
    [STREAM_RELAY] = {"relay", step_wait},           /* two pumps run */
    [STREAM_DONE] = {"done", step_wait},
};

static void set_state(struct stream *s, enum stream_state to)
{
    CHECK(to > s->state); /* a stream only moves forward */
    s->state = to;
}

static void run(struct stream *s)
{
    while (steps[s->state].run(s) == STEP_NEXT)
        continue;
}

static uint64_t now_us(const struct stream *s)
{
    return loop_now_us(s->worker->loop);
}

/* --- the end -----------------------------------------------------------------------------------
 */

static void count_response(struct stream *s)
{
    static const uint8_t by_class[] = {
        [1] = HCM_RQ_1XX, [2] = HCM_RQ_2XX, [3] = HCM_RQ_3XX, [4] = HCM_RQ_4XX, [5] = HCM_RQ_5XX};
    unsigned class = s->info.response_code / 100;
    hcm_count(s->hc, HCM_RQ_COMPLETED);
    if (class >= 1 && class <= 5)
        hcm_count(s->hc, by_class[class]);
}

static void run_free(void *arg)
{
    struct stream *s = OBJ_CAST(arg, struct stream, STREAM_MAGIC);
    s->magic = 0;
    if (s->table)
        route_table_unref(s->table);
    worker_arena_put(s->worker, s->arena); /* s itself lives in it */
}

/* The exchange is over in both directions: log, count, let go. */
static void finish(struct stream *s)
{
    if (s->state == STREAM_DONE)
        return;
    set_state(s, STREAM_DONE);
    s->down = NULL;
    if (s->tunnel_open)
        stats_gauge_dec(s->hc->config->stats, s->worker->index, HCM_CX_UPGRADES_ACTIVE);
    http_chain_complete(&s->chain);
    router_cleanup(&s->router);
    timer_disarm(&s->idle);
    timer_disarm(&s->deadline);
    timer_disarm(&s->max_duration);
    stream_log_stop(s);
    const struct hcm_config *cfg = s->hc->config;
    unsigned thread = s->worker->index;
    s->info.end_us = now_us(s);
    stats_gauge_dec(cfg->stats, thread, HCM_RQ_ACTIVE);
    stats_record(cfg->stats, thread, HCM_RQ_TIME, (s->info.end_us - s->info.start_us) / 1000);
    count_response(s);
    stream_log(s, LOG_TYPE_DOWNSTREAM_END);
    list_remove(&s->link);
    worker_count(&s->worker->num_active, -1);
    loop_defer_free(s->worker->loop, &s->free_task);
}

/* Cuts the exchange off on the wire. */
static void reset_down(struct stream *s)
{
    struct codec_stream *cs = s->down;
    s->down = NULL;
    hcm_count(s->hc, HCM_RQ_TX_RESET);
    hcm_count(s->hc, HCM_RQ_RX_RESET);
    if (cs)
        cs->ops->reset(cs, RESET_LOCAL);
    finish(s);
}

/* --- the response --- */

static void touch(struct stream *s)
{
    if (timer_armed(&s->idle)) {
        bool own = s->route && s->route->has_idle_timeout;
        timer_arm(&s->idle, own ? s->route->idle_timeout_ms : s->hc->config->stream_idle_ms);
    }
}

void stream_response_informational(struct stream *s, struct headers *h)
{
    if (s->down && !s->response_started && s->hc->config->limits.proxy_100_continue)
        s->down->ops->informational(s->down, h);
}

/* In HTTP/1 only where enable_trailers says so. */
static bool takes_trailers(const struct stream *s)
{
    return s->info.protocol == PROTOCOL_HTTP2 || s->hc->config->trailers;
}

static void response_ended(struct stream *s)
{
    if (!s->received && s->info.protocol != PROTOCOL_HTTP2)
        hcm_count(s->hc, HCM_RQ_RX_RESET);
    s->response_end = true;
    s->info.downstream_last_tx_us = now_us(s);
    s->down = NULL; /* what is left of the request is dropped by the codec */
    finish(s);
}

/* What the client has sent before it knew is let go only now: had the upstream said no, it would
 * have been read as something else there. */
static void open_tunnel(struct stream *s)
{
    s->tunnel_open = true;
    if (s->hc->config->log_tunnel)
        stream_log(s, LOG_TYPE_DOWNSTREAM_TUNNEL);
    stats_inc(s->hc->config->stats, s->worker->index, HCM_CX_UPGRADES_TOTAL);
    stats_gauge_inc(s->hc->config->stats, s->worker->index, HCM_CX_UPGRADES_ACTIVE);
    stream_resume_request(s);
}

/* The head has passed the filters. */
static void send_headers(void *user, struct headers *h, bool end)
{
    struct stream *s = user;
    if (!s->down)
        return;
    s->response_started = true;
    s->response = h;
    s->info.response = h;
    s->info.response_code = h->status;
    mutate_response(s, h);
    if (s->hc->ending) {
        s->down->ops->close_after(s->down);
    } else if (worker_drain_close(s->worker) || s->hc->down->draining) {
        hcm_count(s->hc, HCM_CX_DRAIN_CLOSE);
        s->down->ops->close_after(s->down);
    }
    if (!s->received && !s->tunnel) {
        hcm_count(s->hc, HCM_RQ_EARLY_RESPONSE);
        if (s->info.protocol !=
            PROTOCOL_HTTP2) /* the rest is not waited for: RFC 9112 section 9.3 */
            s->down->ops->close_after(s->down);
    }
    if (s->tunnel && !end && (h->status == 101 || (h->upgrade && h->status / 100 == 2)))
        open_tunnel(s);
    s->info.downstream_first_tx_us = now_us(s);
    touch(s);
    s->down->ops->headers(s->down, h, end || s->is_head);
    if (end || s->is_head)
        response_ended(s);
}

static void send_data(void *user, struct buffer *b, bool end)
{
    struct stream *s = user;
    if (!s->down || s->is_head) {
        buffer_drain(b, b->len);
        return;
    }
    s->info.bytes_sent += b->len;
    touch(s);
    s->down->ops->data(s->down, b, end);
    if (end)
        response_ended(s);
}

static void send_trailers(void *user, struct headers *h)
{
    struct stream *s = user;
    struct buffer none;
    if (!s->down)
        return;
    if (!takes_trailers(s)) {
        buffer_init(&none);
        send_data(s, &none, true);
        return;
    }
    s->info.response_trailers = h;
    s->down->ops->trailers(s->down, h);
    response_ended(s);
}

void stream_response_headers(struct stream *s, struct headers *h, bool end)
{
    if (!s->down)
        return;
    s->response_begun = true;
    s->info.response = h;
    if (s->chain.num)
        http_chain_headers(&s->chain, HTTP_RESPONSE, h, end);
    else
        send_headers(s, h, end);
}

void stream_response_data(struct stream *s, struct buffer *b, bool end)
{
    if (s->chain.num)
        http_chain_data(&s->chain, HTTP_RESPONSE, b, end);
    else
        send_data(s, b, end);
}

void stream_response_end(struct stream *s)
{
    struct buffer none;
    buffer_init(&none);
    stream_response_data(s, &none, true);
}

void stream_response_trailers(struct stream *s, struct headers *h)
{
    if (s->chain.num)
        http_chain_trailers(&s->chain, HTTP_RESPONSE, h);
    else
        send_trailers(s, h);
}

void stream_response_reset(struct stream *s, uint64_t flags, struct str details)
{
    if (s->state == STREAM_DONE)
        return;
    s->info.flags |= flags;
    if (details.len)
        s->info.code_details = details;
    reset_down(s);
}

/* Which cluster the request would go to, for formats that are asked before the router is. */
static void note_cluster(struct stream *s)
{
    bool known = s->cluster_name.len && worker_clusters_find(s->worker->clusters, s->cluster_name);
    s->info.upstream_cluster = known ? s->cluster_name : STR_NULL;
}

/* Sends a whole response of our own. */
static void reply(struct stream *s, struct headers *h, struct str body)
{
    http_chain_stop(&s->chain, HTTP_REQUEST);
    if (s->state < STREAM_RELAY)
        note_cluster(s);
    if (!s->received && s->info.protocol != PROTOCOL_HTTP2 && s->down) {
        s->down->ops->close_after(s->down); /* what is left of the request is read by nobody */
    }
    router_cleanup(&s->router);
    if (s->route && s->route->attempt_count_response && s->info.attempts)
        headers_set_known(h, HDR_X_ENVOY_ATTEMPT_COUNT,
                          arena_printf(s->arena, "%u", s->info.attempts));
    if (s->route)
        route_rewrite_response(s->table, s->route, s->weighted, h, &s->info);
    bool grpc = s->request && !s->grpc_bridged && headers_is_grpc(s->request);
    body = local_reply_finish(s->hc->config->local_reply, h, body, grpc, &s->info);
    bool with_body = body.len && !s->is_head;
    stream_response_headers(s, h, !with_body);
    if (!with_body || s->state == STREAM_DONE)
        return;
    struct buffer b;
    buffer_init(&b);
    buffer_add_str(&b, body);
    stream_response_data(s, &b, true);
    buffer_cleanup(&b);
}

static struct headers *reply_headers(struct stream *s, unsigned status)
{
    struct headers *h = ARENA_NEW(s->arena, struct headers);
    headers_init(h, s->arena);
    h->status = (uint16_t)status;
    return h;
}

void stream_reply_with(struct stream *s, unsigned status, uint64_t flags, struct str details,
                       struct str body, void (*add)(void *arg, struct headers *h), void *arg)
{
    if (s->state == STREAM_DONE)
        return;
    if (s->response_started) {
        stream_response_reset(s, flags, details);
        return;
    }
    if (s->response_begun) /* a filter holds another response: ours passes none */
        http_chain_complete(&s->chain);
    s->info.flags |= flags;
    s->info.code_details = details;
    struct headers *h = reply_headers(s, status);
    if ((flags & FLAG(UPSTREAM_OVERFLOW)) && !s->hc->config->suppress_envoy_headers)
        headers_add_known(h, HDR_X_ENVOY_OVERLOADED, STR("true"));
    if (flags & FLAG(DROP_OVERLOAD))
        headers_add(h, STR("x-envoy-drop-overload"), STR("true"));
    if (flags & FLAG(UNCONDITIONAL_DROP_OVERLOAD))
        headers_add(h, STR("x-envoy-unconditional-drop-overload"), STR("true"));
    if (add)
        add(arg, h);
    reply(s, h, body);
}

void stream_local_reply(struct stream *s, unsigned status, uint64_t flags, struct str details,
                        struct str body)
{
    stream_reply_with(s, status, flags, details, body, NULL, NULL);
}

/* 201 and 3xx tell where: at the URL that was asked for. */
static void direct_response(struct stream *s)
{
    const struct route *r = s->route;
    struct headers *h = reply_headers(s, r->direct_status);
    s->info.code_details = STR("direct_response");
    if (r->direct_status == 201 || r->direct_status / 100 == 3)
        headers_add_known(h, HDR_LOCATION,
                          arena_printf(s->arena, "%.*s://%.*s%.*s", STR_ARG(s->request->scheme),
                                       STR_ARG(s->request->authority), STR_ARG(s->request->path)));
    struct str type, body = route_direct_body(r, &s->info, s->arena, &type);
    if (type.len)
        headers_add_known(h, HDR_CONTENT_TYPE, type);
    reply(s, h, body);
}

void stream_redirect(struct stream *s, unsigned status, struct str location, struct str details)
{
    struct headers *h = reply_headers(s, status);
    s->info.code_details = details;
    headers_add_known(h, HDR_LOCATION, location);
    reply(s, h, STR_NULL);
}

void stream_conn_closed(struct stream *s, struct str details)
{
    if (s->state == STREAM_DONE)
        return;
    s->down = NULL;
    s->info.flags |= FLAG(DOWNSTREAM_CONNECTION_TERMINATION);
    s->info.code_details = details;
    if (!s->response_started)
        s->info.response_code = 0;
    finish(s);
}

/* --- timeouts --- */

static void on_idle(void *arg)
{
    struct stream *s = OBJ_CAST(arg, struct stream, STREAM_MAGIC);
    hcm_count(s->hc, HCM_RQ_IDLE_TIMEOUT);
    stream_local_reply(s, s->received ? 504 : 408, FLAG(STREAM_IDLE_TIMEOUT),
                       STR("stream_idle_timeout"), STR("stream timeout"));
}

static void on_deadline(void *arg)
{
    struct stream *s = OBJ_CAST(arg, struct stream, STREAM_MAGIC);
    hcm_count(s->hc, HCM_RQ_TIMEOUT);
    stream_local_reply(s, 408, 0, STR("request_overall_timeout"), STR("request timeout"));
}

/* The status that a gRPC client's own deadline would have given it. */
static void add_deadline_exceeded(void *arg, struct headers *h)
{
    const struct stream *s = arg;
    if (s->request && headers_is_grpc(s->request))
        headers_add_known(h, HDR_GRPC_STATUS, STR("4"));
}

static void on_max_duration(void *arg)
{
    struct stream *s = OBJ_CAST(arg, struct stream, STREAM_MAGIC);
    hcm_count(s->hc, HCM_RQ_MAX_DURATION);
    stream_reply_with(s, s->received ? 504 : 408, 0, STR("max_duration_timeout"),
                      STR("downstream duration timeout"), add_deadline_exceeded, s);
}

/* --- steps --- */

static enum step_result step_wait(struct stream *s)
{
    return STEP_WAIT;
}

static enum step_result step_headers(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    if (!mutate_request(s))
        return STEP_WAIT;
    s->table = route_slot_get(cfg->routes, s->worker->index);
    if (s->table && !headers_known(s->request, HDR_X_ENVOY_INTERNAL))
        route_remove_internal(s->table, s->request);
    s->match = (struct route_match_input){
        .headers = s->request,
        .random = random_u64(),
        .sni = s->hc->down->info.sni,
        .tls = s->hc->down->info.tls != NULL,
        .peer = s->hc->down->info.tls,
        .conn = &s->hc->down->info,
        .remote = &s->info.downstream_remote,
        .metadata = &s->info.metadata,
        .filter_state = &s->info.filter_state,
    };
    set_state(s, STREAM_ROUTE);
    return STEP_NEXT;
}

static void choose_route(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    const struct route *r = s->table ? route_match(s->table, &s->match, s->arena) : NULL;
    s->route = r;
    s->weighted = NULL;
    s->cluster_name = STR_NULL;
    s->info.route_name = r ? r->name : STR_NULL;
    s->info.route_metadata = r ? r->metadata : NULL;
    if (!r)
        return;
    if (r->action == ROUTE_FORWARD)
        s->cluster_name = route_cluster_name(r, &s->match, &s->weighted);
    uint64_t idle = r->has_idle_timeout ? r->idle_timeout_ms : cfg->stream_idle_ms;
    if (idle)
        timer_arm(&s->idle, idle);
    uint64_t longest;
    if (!route_stream_duration_ms(r, s->request, cfg->max_stream_ms, &longest)) {
        timer_disarm(&s->max_duration);
        return;
    }
    timer_arm(&s->max_duration, longest);
    if (headers_is_grpc(s->request)) /* the server is to know how long it has */
        headers_set_known(s->request, HDR_GRPC_TIMEOUT, grpc_timeout_text(s->arena, longest));
}

static enum step_result step_route(struct stream *s)
{
    choose_route(s);
    if (s->hc->config->log_new_request) {
        note_cluster(s);
        stream_log(s, LOG_TYPE_DOWNSTREAM_START);
    }
    set_state(s, STREAM_FILTERS);
    return STEP_NEXT;
}

static enum step_result step_filters(struct stream *s)
{
    const struct hcm_config *cfg = s->hc->config;
    const struct http_filter_list *filters = &cfg->filters;
    if (s->tunnel && !stream_filters_for_upgrade(s, &filters)) {
        stream_local_reply(s, 403, 0, STR("upgrade_failed"), STR_NULL);
        return STEP_WAIT;
    }
    if (filters->n)
        stream_filters_init(s, filters, &chain_ends);
    if (s->chain.num) { /* the chain's end goes on */
        note_cluster(s);
        http_chain_headers(&s->chain, HTTP_REQUEST, s->request, s->received);
        return STEP_WAIT;
    }
    s->request_end = s->received;
    set_state(s, STREAM_UPSTREAM);
    return STEP_NEXT;
}

static enum step_result step_upstream(struct stream *s)
{
    unsigned status = 0;
    struct str location;
    set_state(s, STREAM_RELAY);
    if (!s->route) {
        hcm_count(s->hc, HCM_NO_ROUTE);
        stream_local_reply(s, 404, FLAG(NO_ROUTE_FOUND), STR("route_not_found"), STR_NULL);
        return STEP_WAIT;
    }
    switch (s->route->action) {
    case ROUTE_FORWARD:
        router_start(&s->router, s);
        return STEP_WAIT;
    case ROUTE_REDIRECT:
        hcm_count(s->hc, HCM_RQ_REDIRECT);
        location = route_redirect_location(s->route, s->request, s->match.tls, s->arena, &status);
        route_redirect_rewrite(s->route, !s->hc->config->suppress_envoy_headers, s->request);
        stream_redirect(s, status, location, STR("direct_response"));
        return STEP_WAIT;
    case ROUTE_DIRECT:
        hcm_count(s->hc, HCM_RQ_DIRECT);
        direct_response(s);
        return STEP_WAIT;
    }
    return STEP_WAIT;
}

/* --- what leaves the filters --- */

static void request_passed(struct stream *s)
{
    s->request_end = true;
    router_end(&s->router);
}

static void routed_headers(void *user, struct headers *h, bool end)
{
    struct stream *s = user;
    s->request_end = end;
    set_state(s, STREAM_UPSTREAM);
    run(s);
}

static void routed_data(void *user, struct buffer *b, bool end)
{
    struct stream *s = user;
    if (b->len)
        router_data(&s->router, b);
    if (end && s->state == STREAM_RELAY)
        request_passed(s);
}

static void routed_trailers(void *user, struct headers *h)
{
    struct stream *s = user;
    s->request_trailers = h;
    request_passed(s);
}

void stream_pause_request(struct stream *s)
{
    if (s->down)
        s->down->ops->pause(s->down);
}

void stream_resume_request(struct stream *s)
{
    if (s->down)
        s->down->ops->resume(s->down);
    http_chain_writable(&s->chain, HTTP_REQUEST);
}

static void pause_request(void *user)
{
    stream_pause_request(user);
}

static void resume_request(void *user)
{
    stream_resume_request(user);
}

static void pause_response(void *user)
{
    struct stream *s = user;
    router_pause_response(&s->router);
}

static void resume_response(void *user)
{
    struct stream *s = user;
    router_resume_response(&s->router);
}

static bool request_blocked(void *user)
{
    const struct stream *s = user;
    return s->router.body_paused;
}

static bool response_blocked(void *user)
{
    const struct stream *s = user;
    return s->down_above;
}

static void request_too_large(void *user)
{
    struct stream *s = user;
    hcm_count(s->hc, HCM_RQ_TOO_LARGE);
    stream_local_reply(s, 413, 0, STR("request_payload_too_large"), STR("Payload Too Large"));
}

static void response_too_large(void *user)
{
    struct stream *s = user;
    hcm_count(s->hc, HCM_RS_TOO_LARGE);
    stream_local_reply(s, 500, 0, STR("response_payload_too_large"), STR("Internal Server Error"));
}

static void filter_reply(void *user, unsigned status, uint64_t flags, struct str details,
                         struct str body, void (*add)(void *arg, struct headers *h), void *arg)
{
    stream_reply_with(user, status, flags, details, body, add, arg);
}

static void clear_route(void *user)
{
    struct stream *s = user;
    if (s->state != STREAM_FILTERS)
        return;
    choose_route(s);
    note_cluster(s);
}

static const struct http_chain_ends chain_ends = {
    .headers = {routed_headers, send_headers},
    .data = {routed_data, send_data},
    .trailers = {routed_trailers, send_trailers},
    .pause = {pause_request, pause_response},
    .resume = {resume_request, resume_response},
    .blocked = {request_blocked, response_blocked},
    .too_large = {request_too_large, response_too_large},
    .reply = filter_reply,
    .clear_route = clear_route,
};

/* --- once more --- */

static void begin_again(struct stream *s, struct buffer *body)
{
    struct headers *trailers = s->request_trailers;
    s->request_trailers = NULL;
    s->request_end = false;
    s->received = !body->len && !trailers;
    s->state = STREAM_ROUTE;
    run(s);
    if (s->received || s->state == STREAM_DONE)
        return;
    s->received = true;
    if (s->chain.num) {
        if (body->len)
            http_chain_data(&s->chain, HTTP_REQUEST, body, !trailers);
        if (trailers && s->state != STREAM_DONE)
            http_chain_trailers(&s->chain, HTTP_REQUEST, trailers);
        return;
    }
    if (s->state == STREAM_RELAY)
        routed_data(s, body, !trailers);
    if (s->state == STREAM_RELAY && trailers)
        routed_trailers(s, trailers);
}

void stream_recreate(struct stream *s, struct headers *response, struct buffer *body)
{
    const struct hcm_config *cfg = s->hc->config;
    unsigned thread = s->worker->index;
    struct stream_info was = s->info;
    http_chain_complete(&s->chain);
    s->chain = (struct http_chain){0};
    s->override_host = NULL; /* the filters choose anew */
    s->override_strict = false;
    s->info.response = response;
    s->info.response_code = response->status;
    s->info.code_details = STR("internal_redirect");
    s->info.end_us = now_us(s);
    stream_log(s, LOG_TYPE_DOWNSTREAM_END);
    s->info = (struct stream_info){
        .conn = was.conn,
        .start_us = s->info.end_us,
        .start_wall_us = loop_wall_us(s->worker->loop),
        .downstream_last_rx_us = s->info.end_us,
        .bytes_received = was.bytes_received,
        .protocol = was.protocol,
        .request = s->request,
        .request_id = was.request_id,
        .downstream_remote = was.downstream_remote,
        .original_path = s->request->path,
    };
    stats_inc(cfg->stats, thread, HCM_RQ_TOTAL);
    stats_inc(cfg->stats, thread,
              was.protocol == PROTOCOL_HTTP2 ? HCM_RQ_HTTP2_TOTAL : HCM_RQ_HTTP1_TOTAL);
    begin_again(s, body);
}

/* --- events of the downstream codec --- */

static void received_all(struct stream *s)
{
    s->received = true;
    s->info.downstream_last_rx_us = now_us(s);
    timer_disarm(&s->deadline);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct stream *s = OBJ_CAST(user, struct stream, STREAM_MAGIC);
    const struct hcm_config *cfg = s->hc->config;
    s->request = h;
    s->info.request = h;
    static const uint8_t protocols[] = {PROTOCOL_HTTP10, PROTOCOL_HTTP11, PROTOCOL_HTTP2};
    s->info.protocol = (enum http_protocol)protocols[h->minor];
    s->is_head = str_eq(h->method, STR("HEAD"));
    h->upgrade |= str_eq(h->method, STR("CONNECT"));
    s->tunnel = h->upgrade && !end;
    if (s->tunnel)
        stream_pause_request(s);
    if (end)
        received_all(s);
    else if (cfg->request_ms)
        timer_arm(&s->deadline, cfg->request_ms);
    run(s);
}

static void on_data(void *user, struct buffer *data, bool end)
{
    struct stream *s = OBJ_CAST(user, struct stream, STREAM_MAGIC);
    if (s->state == STREAM_DONE)
        return;
    s->info.bytes_received += data->len;
    touch(s);
    if (end)
        received_all(s);
    if (s->chain.num)
        http_chain_data(&s->chain, HTTP_REQUEST, data, end);
    else if (s->state == STREAM_RELAY)
        routed_data(s, data, end);
}

static void on_trailers(void *user, struct headers *h)
{
    struct stream *s = OBJ_CAST(user, struct stream, STREAM_MAGIC);
    struct buffer none;
    if (s->state == STREAM_DONE)
        return;
    received_all(s);
    if (!takes_trailers(s)) { /* the end of the body is the end */
        buffer_init(&none);
        on_data(s, &none, true);
    } else if (s->chain.num) {
        http_chain_trailers(&s->chain, HTTP_REQUEST, h);
    } else if (s->state == STREAM_RELAY) {
        routed_trailers(s, h);
    }
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct stream *s = OBJ_CAST(user, struct stream, STREAM_MAGIC);
    if (s->state == STREAM_DONE)
        return;
    s->down = NULL;
    hcm_count(s->hc, HCM_RQ_RX_RESET);
    if (why == RESET_PROTOCOL_ERROR || why == RESET_OVERFLOW) {
        hcm_count(s->hc, HCM_CX_PROTOCOL_ERROR);
        s->info.flags |= FLAG(DOWNSTREAM_PROTOCOL_ERROR);
        s->info.code_details = detail;
        if (!s->response_started)
            s->info.response_code = s->hc->error_status; /* what the codec has said */
        finish(s);
        return;
    }
    stream_conn_closed(s, detail.len ? detail : STR("downstream_remote_disconnect"));
}

static void on_above(void *user)
{
    struct stream *s = OBJ_CAST(user, struct stream, STREAM_MAGIC);
    if (s->down_above)
        return;
    s->down_above = true;
    router_pause_response(&s->router);
}

static void on_below(void *user)
{
    struct stream *s = OBJ_CAST(user, struct stream, STREAM_MAGIC);
    if (!s->down_above)
        return;
    s->down_above = false;
    router_resume_response(&s->router);
    http_chain_writable(&s->chain, HTTP_RESPONSE);
}

static const struct codec_events stream_events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_above,
    .on_below = on_below,
};

void stream_new_from(struct hcm_conn *hc, struct codec_stream *cs, struct arena *a)
{
    struct stream *s = ARENA_NEW(a, struct stream);
    struct worker *w = hc->down->worker;
    s->magic = STREAM_MAGIC;
    s->hc = hc;
    s->worker = w;
    s->arena = a;
    s->down = cs;
    s->info.conn = &hc->down->info;
    s->info.start_us = loop_now_us(w->loop);
    s->info.start_wall_us = loop_wall_us(w->loop);
    s->info.downstream_remote = hc->down->info.remote;
    timer_init(&s->idle, w->loop, on_idle, s);
    timer_init(&s->deadline, w->loop, on_deadline, s);
    timer_init(&s->max_duration, w->loop, on_max_duration, s);
    task_init(&s->free_task, run_free, s);
    stream_log_init(s);
    list_push_tail(&hc->streams, &s->link);
    worker_count(&w->num_active, 1);
    worker_count(&w->num_started, 1);
    cs->events = &stream_events;
    cs->user = s;
    stats_inc(hc->config->stats, w->index, HCM_RQ_TOTAL);
    stats_inc(hc->config->stats, w->index, hc->http2 ? HCM_RQ_HTTP2_TOTAL : HCM_RQ_HTTP1_TOTAL);
    stats_gauge_inc(hc->config->stats, w->index, HCM_RQ_ACTIVE);
}
