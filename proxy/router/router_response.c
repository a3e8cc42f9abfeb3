#include "proxy/router/router_private.h"

static bool is_canary(const struct headers *h)
{
    const struct header *f = headers_known(h, HDR_X_ENVOY_UPSTREAM_CANARY);
    return f && str_eq(f->value, STR("true"));
}

/* Only of a request that was complete before its response. */
static void tell_time(struct router *r, struct headers *h)
{
    struct stream *s = r->stream;
    if (s->hc->config->suppress_envoy_headers || !s->request_end)
        return;
    uint64_t us = s->info.upstream_first_rx_us - s->info.downstream_last_rx_us;
    headers_set_known(h, HDR_X_ENVOY_UPSTREAM_SERVICE_TIME,
                      arena_printf(s->arena, "%llu", (unsigned long long)(us / 1000)));
}

static void answer_with(struct router *r, struct upstream_request *u)
{
    struct stream *s = r->stream;
    r->responded = true;
    r->answer = u;
    timer_disarm(&r->backoff);
    router_release_retry(r);
    if (u->next || r->up != u) {
        router_drop_all(r, u);
        upstream_request_describe(u);
        s->info.upstream_host = arena_str(s->arena, u->host->address_text);
    }
    router_drop_replay(r);
    s->info.code_details = STR("via_upstream");
}

static void response_ended(struct router *r)
{
    struct stream *s = r->stream;
    if (s->request_end)
        stats_record(r->cluster->stats, s->worker->index, CLUSTER_UPSTREAM_RQ_TIME,
                     (loop_now_us(s->worker->loop) - s->info.downstream_last_rx_us) / 1000);
}

void router_on_headers(struct router *r, struct upstream_request *u, struct headers *h, bool end)
{
    struct stream *s = r->stream;
    bool wants = r->can_retry && retry_wants_response(r, h);
    if (wants && !u->retried && router_try_again(r, retry_wait_ms(r, h))) {
        r->timeout_retry = false;
        router_count_retried(r, h->status);
        router_drop(r, u);
        router_rewind(r);
        return;
    }
    if (s->route->redirects && internal_redirect(r, h))
        return;
    if (wants) { /* another try may do better */
        struct upstream_request *other = r->up == u ? u->next : r->up;
        if (other || timer_armed(&r->backoff)) {
            router_drop(r, u);
            router_rewind(r);
            return;
        }
    }
    if (!wants && !u->retried)
        router_settle_retry(r);
    router_count_code(r, h->status, is_canary(h));
    answer_with(r, u);
    if (s->tunnel && h->upgrade)
        timer_disarm(&r->timeout); /* a tunnel takes as long as it takes */
    tell_time(r, h);
    if (s->route->attempt_count_response)
        headers_set_known(h, HDR_X_ENVOY_ATTEMPT_COUNT, arena_printf(s->arena, "%u", r->tries));
    if (r->cookie.policy)
        headers_add(h, STR("set-cookie"), route_cookie_header(&r->cookie, s->arena));
    s->info.response = h; /* for %RESPONSE_CODE% and %RESP()% in the values of header changes */
    s->info.response_code = h->status;
    route_rewrite_response(s->table, s->route, s->weighted, h, &s->info);
    if (end)
        response_ended(r);
    if (!end)
        test_fault(r, u, FAULT_RESPONSE_HEAD);
    stream_response_headers(s, h, end);
}

void router_on_data(struct router *r, struct upstream_request *u, struct buffer *b, bool end)
{
    if (end)
        response_ended(r);
    else
        test_fault(r, u, FAULT_RESPONSE_BODY);
    stream_response_data(r->stream, b, end);
}

void router_on_trailers(struct router *r, struct upstream_request *u, struct headers *h)
{
    response_ended(r);
    if (!upstream_request_takes_trailers(u)) {
        stream_response_end(r->stream);
        return;
    }
    stream_response_trailers(r->stream, h);
}
