#include "base/random.h"
#include "proxy/router/lb_match.h"
#include "proxy/router/router_private.h"

/* --- which tries there are --- */

void router_drop(struct router *r, struct upstream_request *u)
{
    for (struct upstream_request **at = &r->up; *at; at = &(*at)->next) {
        if (*at != u)
            continue;
        *at = u->next;
        break;
    }
    if (r->answer == u)
        r->answer = NULL;
    upstream_request_drop(&u);
}

void router_drop_all(struct router *r, struct upstream_request *keep)
{
    struct upstream_request *u = r->up, *next;
    for (; u; u = next) {
        next = u->next;
        if (u != keep)
            router_drop(r, u);
    }
}

bool router_waits(const struct router *r)
{
    for (const struct upstream_request *u = r->up; u; u = u->next) {
        if (!u->got_headers && !u->over)
            return true;
    }
    return timer_armed(&r->backoff);
}

/* --- starting --- */

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
    router_count(r, CLUSTER_ORIGINAL_DST_HOST_INVALID);
    return &s->hc->down->info.local;
}

static struct host *pick(struct router *r)
{
    struct addr room;
    struct lb_request lb = {
        .hash = r->hash,
        .has_hash = r->has_hash,
        .match = r->match ? r->match->labels : NULL,
        .fallbacks = r->match ? r->match->fallbacks : NULL,
        .num_fallbacks = r->match ? r->match->num_fallbacks : 0,
        .original_dst = destination(r, &room),
        .tried = r->tried,
        .num_tried = r->retry.previous_hosts ? r->num_tried : 0,
        .max_tries = r->retry.host_attempts + 1,
        .attempted = r->tried,
        .num_attempted = r->num_tried,
        .update_frequency = r->retry.update_frequency,
        .override_host = r->tries == 1 ? r->stream->override_host : NULL,
        .override_strict = r->stream->override_strict,
    };
    return cluster_pick(r->cluster, &lb);
}

static void tell_attempt(struct router *r)
{
    struct stream *s = r->stream;
    if (s->route->attempt_count)
        headers_set_known(s->request, HDR_X_ENVOY_ATTEMPT_COUNT,
                          arena_printf(s->arena, "%u", r->tries));
    if (s->route->timeout_retry_header && r->tries > 1)
        headers_set(s->request, STR("x-envoy-is-timeout-retry"),
                    r->timeout_retry ? STR("true") : STR("false"));
    if (r->tries > 1)
        timeouts_tell(r);
}

static void begin(struct router *r, struct host *h, bool fresh)
{
    struct upstream_request *older = r->up;
    r->up = upstream_request_new(r, h, fresh);
    r->up->next = older;
    if (older) /* the older try is not done with its own copy: hedging */
        router_copy(&r->up->body, &r->replay);
    else
        buffer_move(&r->up->body, &r->body, r->body.len);
    if (r->stream->down_above)
        upstream_request_pause(r->up);
    test_fault(r, r->up, FAULT_POOL_WAIT);
}

void router_start_try(struct router *r)
{
    struct stream *s = r->stream;
    r->tries++;
    s->info.attempts = r->tries;
    struct host *h = pick(r);
    if (!h) {
        router_count(r, CLUSTER_UPSTREAM_CX_NONE_HEALTHY);
        router_count_code(r, 503, false);
        stream_local_reply(s, 503, FLAG(NO_HEALTHY_UPSTREAM), STR("no_healthy_upstream"),
                           STR("no healthy upstream"));
        return;
    }
    if (r->num_tried < ROUTER_MAX_TRIED)
        r->tried[r->num_tried++] = host_ref(h);
    tell_attempt(r);
    if (s->route->auto_host_rewrite) {
        shadow_keep_head(r);
        route_rewrite_host_auto(s->route, h->hostname, !s->hc->config->suppress_envoy_headers,
                                s->request);
    }
    begin(r, h, false);
}

/* --- trying again --- */

void router_release_retry(struct router *r)
{
    if (!r->retry_held)
        return;
    r->retry_held = false;
    circuit_give(r->cluster->circuit, r->stream->route->priority, CIRCUIT_RETRIES);
}

void router_settle_retry(struct router *r)
{
    if (r->retry_held)
        router_count(r, CLUSTER_UPSTREAM_RQ_RETRY_SUCCESS);
    router_release_retry(r);
}

static void arm_backoff(struct router *r, uint64_t wait_ms)
{
    if (wait_ms) {
        /* Up to half as much again, so that not all come at the same moment. */
        router_count(r, CLUSTER_UPSTREAM_RQ_RETRY_BACKOFF_RATELIMITED);
        timer_arm(&r->backoff, wait_ms + random_below(wait_ms / 2 + 1));
        return;
    }
    router_count(r, CLUSTER_UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL);
    /* Fully jittered exponential back-off: 0 to base * (2^n - 1), at most the maximum. */
    uint32_t n = r->tries < 16 ? r->tries : 16;
    uint64_t range = r->retry.backoff_base_ms * ((1ULL << n) - 1);
    if (range > r->retry.backoff_max_ms)
        range = r->retry.backoff_max_ms;
    timer_arm(&r->backoff, random_below(range + 1));
}

bool router_try_again(struct router *r, uint64_t wait_ms)
{
    struct stream *s = r->stream;
    if (!r->can_retry || !r->keep)
        return false;
    router_release_retry(r);
    if (r->retries_left == 0) {
        s->info.flags |= FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED);
        router_count(r, CLUSTER_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED);
        return false;
    }
    r->retries_left--;
    if (!circuit_take(r->cluster->circuit, s->route->priority, CIRCUIT_RETRIES)) {
        s->info.flags |= FLAG(UPSTREAM_OVERFLOW);
        router_count(r, CLUSTER_UPSTREAM_RQ_RETRY_OVERFLOW);
        return false;
    }
    r->retry_held = true;
    router_count(r, CLUSTER_UPSTREAM_RQ_RETRY);
    arm_backoff(r, wait_ms);
    test_fault(r, r->up, FAULT_BACKOFF);
    return true;
}

/* The whole body so far once more. Now, not when the next try starts: what comes meanwhile is added
 * to it, also if it becomes too much to be kept for yet another try. */
void router_rewind(struct router *r)
{
    if (r->up)
        return; /* hedged: the next one copies for itself */
    buffer_cleanup(&r->body);
    router_copy(&r->body, &r->replay);
}

/* A connection that was kept alive may be closed by the peer at the very moment that a request goes
 * out on it (RFC 9112 section 9.3.1). Nobody has seen such a request, or it is of a kind that does
 * no harm twice: once more, on a connection of its own. */
static bool won_race(struct router *r, struct upstream_request *u)
{
    if (!u->raced || r->raced || r->responded || u->retried)
        return false;
    bool whole = r->keep || r->hold || !r->stream->info.bytes_received;
    if (!whole)
        return false;
    struct host *h = host_ref(u->host);
    r->raced = true;
    router_drop(r, u);
    if (!r->keep && !r->hold)
        buffer_cleanup(&r->body);
    router_rewind(r);
    router_count(r, CLUSTER_UPSTREAM_RQ_RETRY_REUSED_CONNECTION);
    begin(r, h, true);
    return true;
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
    [TRY_TIMEOUT] = {"upstream_per_try_timeout", FLAG(UPSTREAM_REQUEST_TIMEOUT), 504},
    [TRY_IDLE_TIMEOUT] = {"upstream_per_try_idle_timeout", FLAG(UPSTREAM_REQUEST_TIMEOUT), 504},
    [TRY_MAX_DURATION] = {"upstream_max_stream_duration_reached",
                          FLAG(UPSTREAM_MAX_STREAM_DURATION), 504},
};

static bool is_timeout(enum try_failure f)
{
    return f == TRY_TIMEOUT || f == TRY_IDLE_TIMEOUT;
}

/* What is said about a failure after the response's head. */
static void cut_off(struct router *r, enum try_failure f)
{
    struct stream *s = r->stream;
    const struct failure *what = &failures[f];
    if (headers_is_grpc(s->request))
        hcm_count(s->hc, HCM_RQ_RESET_AFTER_RESPONSE);
    struct str details = str_of(what->reason);
    if (f < TRY_TIMEOUT)
        details = underscored(
            s->arena,
            arena_printf(s->arena, "upstream_reset_after_response_started{%s}", what->reason));
    stream_response_reset(s, what->flag, details);
}

static void reply_failure(struct router *r, enum try_failure f, struct str transport)
{
    struct stream *s = r->stream;
    const struct failure *what = &failures[f];
    struct arena *a = s->arena;
    if (is_timeout(f)) {
        stream_local_reply(s, r->timeout_status, what->flag, str_of(what->reason),
                           r->timeout_status == 504 ? STR("upstream request timeout") : STR_NULL);
        return;
    }
    if (f == TRY_MAX_DURATION) {
        stream_local_reply(s, s->request_end ? 504 : 408, what->flag, str_of(what->reason),
                           STR("upstream max stream duration reached"));
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

void router_on_failed(struct router *r, struct upstream_request *u, enum try_failure f,
                      struct str transport)
{
    if (transport.len)
        r->stream->info.upstream_failure = transport;
    u->flags = failures[f].flag;
    if (r->responded) {
        router_drop(r, u);
        cut_off(r, f);
        return;
    }
    if (won_race(r, u))
        return;
    bool tried = u->retried;
    bool wants = !tried && r->can_retry && retry_wants_failure(r, f, u->started_us != 0);
    if (wants && router_try_again(r, 0)) {
        r->timeout_retry = is_timeout(f);
        router_drop(r, u);
        router_rewind(r);
        return;
    }
    if (!wants && !tried)
        router_settle_retry(r);
    router_drop(r, u);
    if (f != TRY_MAX_DURATION)
        router_count_code(r, is_timeout(f) ? r->timeout_status : failures[f].status, false);
    if (router_waits(r) && !is_timeout(f) && f != TRY_MAX_DURATION) {
        router_rewind(r);
        return;
    }
    reply_failure(r, f, transport);
}

void router_on_late(struct router *r, struct upstream_request *u)
{
    cluster_count_outcome(r->cluster, u->host, OUTCOME_TIMEOUT, 0);
    u->late = true;
    u->flags |= FLAG(UPSTREAM_REQUEST_TIMEOUT);
    if (r->responded || !r->can_retry)
        return;
    if (router_try_again(r, 0)) {
        r->timeout_retry = true;
        u->retried = true;
        test_fault(r, u, FAULT_HEDGE);
    }
}
