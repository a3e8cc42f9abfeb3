#include "proxy/http/grpc_reply.h"
#include "proxy/router/router_private.h"

/* A number in a request header; false if it is not there or not a number. */
static bool number(const struct headers *h, enum header_id id, uint64_t *out)
{
    struct header *f = headers_known(h, id);
    return f && str_to_u64(str_trim(f->value), out);
}

/* max_grpc_timeout: what the client says holds, up to the maximum (0: there is none). */
static bool by_grpc(const struct router *r)
{
    const struct route *route = r->stream->route;
    return route->has_max_grpc_timeout && !route->own_durations &&
           headers_is_grpc(r->stream->request);
}

/* An egress proxy that has told how long it will wait is believed, where that is configured. */
static void from_headers(struct router *r)
{
    struct headers *h = r->stream->request;
    uint64_t n;
    if (r->stream->hc->config->respect_expected_timeout &&
        headers_known(h, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS)) {
        if (number(h, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, &n))
            r->timeout_ms = n;
    } else {
        if (number(h, HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, &n))
            r->timeout_ms = n;
        headers_remove_known(h, HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
    }
    if (number(h, HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, &n))
        r->per_try_ms = n;
    headers_remove_known(h, HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
}

/* Seldom used ones, of callers of ours only. */
static void from_rare_headers(struct router *r)
{
    struct headers *h = r->stream->request;
    struct str duration = STR("x-envoy-upstream-stream-duration-ms");
    struct header *f = headers_find(h, duration);
    uint64_t n;
    if (f && str_to_u64(str_trim(f->value), &n))
        r->max_try_ms = n;
    if (f)
        headers_remove(h, duration);
    struct str hedge = STR("x-envoy-hedge-on-per-try-timeout");
    f = headers_find(h, hedge);
    if (f && str_eq(f->value, STR("true")))
        r->hedge = true;
    if (f && str_eq(f->value, STR("false")))
        r->hedge = false;
    if (f)
        headers_remove(h, hedge);
    if (headers_remove(h, STR("x-envoy-upstream-rq-timeout-alt-response")))
        r->timeout_status = 204;
}

void timeouts_init(struct router *r)
{
    const struct route *route = r->stream->route;
    r->timeout_ms = route_timeout_ms(route, r->stream->request);
    r->timeout_status = 504;
    r->hedge = route->hedge && route->hedge->on_per_try_timeout;
    r->max_try_ms = r->cluster->config->max_stream_ms;
    if (route->retry) {
        r->per_try_ms = route->retry->per_try_timeout_ms;
        r->per_try_idle_ms = route->retry->per_try_idle_timeout_ms;
    }
    from_headers(r);
    if (r->internal)
        from_rare_headers(r);
    if (r->timeout_ms && r->per_try_ms >= r->timeout_ms)
        r->per_try_ms = 0;
    timeouts_tell(r);
}

void timeouts_tell(struct router *r)
{
    struct stream *s = r->stream;
    uint64_t ms = r->per_try_ms && !r->hedge ? r->per_try_ms : r->timeout_ms;
    uint64_t now = loop_now_ms(s->worker->loop);
    if (!ms)
        return;
    if (timer_armed(&r->timeout)) { /* what earlier tries have left */
        uint64_t left = r->timeout.due_ms > now ? r->timeout.due_ms - now : 1;
        ms = left < ms ? left : ms;
    }
    if (by_grpc(r))
        headers_set_known(s->request, HDR_GRPC_TIMEOUT, grpc_timeout_text(s->arena, ms));
    if (s->hc->config->suppress_envoy_headers)
        return;
    headers_set_known(s->request, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
                      arena_printf(s->arena, "%llu", (unsigned long long)ms));
}

void timeouts_start(struct router *r)
{
    if (r->timeout_ms)
        timer_arm(&r->timeout, r->timeout_ms);
}

void timeouts_expired(void *router)
{
    struct router *r = router;
    struct stream *s = r->stream;
    for (struct upstream_request *u = r->up; u; u = u->next) {
        router_count(r, CLUSTER_UPSTREAM_RQ_TIMEOUT);
        if (u->got_headers)
            continue;
        if (!u->late)
            cluster_count_outcome(r->cluster, u->host, OUTCOME_TIMEOUT, 0);
        router_count_code(r, r->timeout_status, false);
    }
    router_drop_all(r, NULL);
    stream_local_reply(s, r->timeout_status, FLAG(UPSTREAM_REQUEST_TIMEOUT),
                       STR("response_timeout"),
                       r->timeout_status == 504 ? STR("upstream request timeout") : STR_NULL);
}
