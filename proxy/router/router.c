#include "proxy/router/lb_match.h"
#include "proxy/router/router_private.h"

static void on_backoff(void *arg)
{
    router_start_try(arg);
}

size_t router_body_limit(const struct router *r)
{
    return downstream_buffer_limit(r->stream->hc->down);
}

size_t router_replay_limit(const struct router *r)
{
    const struct route *route = r->stream->route;
    return route->has_body_limit ? (size_t)route->body_limit : router_body_limit(r);
}

/* --- the request's body --- */

void router_drop_replay(struct router *r)
{
    r->keep = r->hold = r->can_retry = false;
    r->mirrors = 0;
    buffer_cleanup(&r->replay);
    if (r->up && timer_armed(&r->backoff)) { /* a hedge that would have nothing whole to send */
        timer_disarm(&r->backoff);
        router_release_retry(r);
    }
}

void router_copy(struct buffer *to, const struct buffer *from)
{
    char bytes[4096];
    for (size_t off = 0, n; (n = buffer_copy_out(from, off, bytes, sizeof(bytes))) > 0; off += n)
        buffer_add(to, bytes, n);
}

static void pause_request(struct router *r)
{
    if (r->body_paused || !r->stream->down)
        return;
    r->body_paused = true;
    stream_pause_request(r->stream);
    router_count(r, CLUSTER_UPSTREAM_FLOW_CONTROL_BACKED_UP_TOTAL);
}

static void resume_request(struct router *r)
{
    if (!r->body_paused)
        return;
    r->body_paused = false;
    stream_resume_request(r->stream);
    router_count(r, CLUSTER_UPSTREAM_FLOW_CONTROL_DRAINED_TOTAL);
}

/* Gives the try what is there for it, its end included. */
void router_on_writable(struct router *r, struct upstream_request *u)
{
    struct stream *s = r->stream;
    if (!upstream_request_ready(u) || u->sent_end)
        return;
    bool trailers = s->request_trailers && upstream_request_takes_trailers(u);
    bool last = s->request_end && !trailers;
    if (u->body.len || last)
        upstream_request_body(u, &u->body, last);
    if (u->over)
        return;
    if (s->request_end && trailers && !u->sent_end)
        upstream_request_trailers(u, s->request_trailers);
    resume_request(r);
}

static void keep_copy(struct router *r, const struct buffer *b)
{
    if (r->hold && r->up && upstream_request_written(r->up)) {
        r->hold = false;
        if (!r->keep)
            buffer_cleanup(&r->replay);
    }
    if (!r->keep && !r->hold)
        return;
    if (r->replay.len + b->len <= router_replay_limit(r)) {
        router_copy(&r->replay, b);
        return;
    }
    if (r->keep)
        router_count(r, CLUSTER_RETRY_OR_SHADOW_ABANDONED);
    router_drop_replay(r);
}

void router_data(struct router *r, struct buffer *b)
{
    if (!r->cluster) {
        buffer_drain(b, b->len);
        return;
    }
    keep_copy(r, b);
    struct buffer *to = r->up ? &r->up->body : &r->body;
    buffer_move(to, b, b->len);
    if (r->up && upstream_request_ready(r->up) && !r->stream->request_end)
        router_on_writable(r, r->up);
    if (to->len > router_body_limit(r))
        pause_request(r);
}

void router_end(struct router *r)
{
    if (!r->cluster)
        return;
    timeouts_start(r);
    shadow_send(r);
    if (r->up)
        router_on_writable(r, r->up);
}

/* --- start and end --- */

void router_pause_response(struct router *r)
{
    for (struct upstream_request *u = r->up; u; u = u->next)
        upstream_request_pause(u);
}

void router_resume_response(struct router *r)
{
    for (struct upstream_request *u = r->up; u; u = u->next)
        upstream_request_resume(u);
}

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
        router_count_code(r, 503, false);
        stream_local_reply(r->stream, 503, FLAG(DROP_OVERLOAD), STR("drop_overload"),
                           STR("drop overload"));
        return true;
    case CLUSTER_DROP_ALL:
        break;
    }
    router_count_code(r, 503, false);
    stream_local_reply(r->stream, 503, FLAG(UNCONDITIONAL_DROP_OVERLOAD),
                       STR("unconditional_drop_overload"), STR("unconditional drop overload"));
    return true;
}

/* strict_check_headers: a number that is none is refused, not passed by. True: answered. */
static bool malformed(struct router *r)
{
    struct stream *s = r->stream;
    const struct hcm_config *cfg = s->hc->config;
    for (size_t i = 0; i < cfg->num_strict; i++) {
        struct str name = cfg->strict_headers[i];
        struct header *f = headers_find(s->request, name);
        if (!f || retry_header_valid(name, f->value))
            continue;
        struct arena *a = s->arena;
        stream_local_reply(
            s, 400, FLAG(INVALID_ENVOY_REQUEST_HEADERS),
            arena_printf(a, "request_headers_failed_strict_check{%.*s}", STR_ARG(name)),
            arena_printf(a, "invalid header '%.*s' with value '%.*s'", STR_ARG(name),
                         STR_ARG(f->value)));
        return true;
    }
    return false;
}

static struct str take_alt_stat(struct stream *s)
{
    struct str name = STR("x-envoy-upstream-alt-stat-name");
    struct header *f = headers_find(s->request, name);
    if (!f)
        return STR_NULL;
    struct str value = f->value;
    headers_remove(s->request, name);
    return value;
}

static void prepare(struct router *r, struct cluster *c)
{
    struct stream *s = r->stream;
    r->cluster = c;
    cluster_hold(c);
    timer_init(&r->timeout, s->worker->loop, timeouts_expired, r);
    timer_init(&r->backoff, s->worker->loop, on_backoff, r);
    r->internal = headers_known(s->request, HDR_X_ENVOY_INTERNAL) != NULL;
    if (r->internal)
        r->alt_stat = take_alt_stat(s);
    test_fault_init(r);
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
    prepare(r, c);
    hcm_count(s->hc, HCM_RQ_ROUTED);
    s->info.upstream_cluster = arena_str(s->arena, name);
    if (s->hc->config->num_strict && malformed(r))
        return;
    if (dropped(r))
        return;
    if (s->route->num_hash && c->config->table) /* of the request as it came */
        r->has_hash = route_hash(s->route, &s->match, s->arena, &r->cookie, &r->hash);
    if (c->config->subsets)
        r->match = lb_match_new(s);
    timeouts_init(r);
    route_rewrite_request(s->table, s->route, s->weighted, !s->hc->config->suppress_envoy_headers,
                          s->request, &s->info);
    retry_init(r);
    shadow_choose(r);
    r->can_retry = r->retry.on != 0;
    r->keep = r->can_retry || r->mirrors || s->route->redirects;
    router_start_try(r);
    if (r->cluster && (s->request_end || s->tunnel))
        timeouts_start(r);
    if (r->cluster && s->request_end)
        shadow_send(r);
}

void router_cleanup(struct router *r)
{
    buffer_cleanup(&r->body);
    buffer_cleanup(&r->replay);
    if (!r->cluster)
        return;
    struct cluster *c = r->cluster;
    test_fault_end(r);
    timer_disarm(&r->timeout);
    timer_disarm(&r->backoff);
    router_drop_all(r, NULL);
    router_release_retry(r);
    for (size_t i = 0; i < r->num_tried; i++)
        host_unref(r->tried[i]);
    r->num_tried = 0;
    r->has_hash = false;
    r->match = NULL;
    r->cookie.policy = NULL;
    r->cluster = NULL;
    cluster_release(c);
}
