#include "proxy/router/shadow.h"

#include "base/obj.h"
#include "base/random.h"
#include "proxy/router/router_private.h"
#include "proxy/server.h"

enum { SHADOW_MAGIC = 0x53484457, MILLION = 1000000, MAX_MIRRORS = 64 };

struct shadow {
    uint32_t magic;
    struct worker *worker;
    struct arena *arena; /* holds this */
    struct cluster *cluster;
    struct host *host; /* referenced; NULL: none healthy */
    struct list link;
    struct pool_request slot;
    struct codec_stream *cs;
    struct headers request;
    struct headers *trailers;
    struct buffer body;
    struct timer timeout;
    struct task free_task;
    bool dynamic_stats, internal, over;
};

static void count(struct shadow *w, uint32_t stat)
{
    stats_inc(w->cluster->stats, w->worker->index, stat);
}

static void count_code(struct shadow *w, unsigned status)
{
    static const char external[] = "external.upstream_rq_", internal[] = "internal.upstream_rq_";
    unsigned class = status / 100, thread = w->worker->index;
    struct stats_scope *scope = w->cluster->stats;
    const char *family = w->internal ? internal : external;
    count(w, CLUSTER_UPSTREAM_RQ_COMPLETED);
    if (class >= 1 && class <= 5)
        count(w, CLUSTER_UPSTREAM_RQ_1XX + class - 1);
    if (!w->dynamic_stats)
        return;
    stats_count_code(scope, thread, "upstream_rq_", status);
    stats_count_group(scope, thread, family, 0);
    stats_count_group(scope, thread, family, class);
    stats_count_code(scope, thread, family, status);
}

/* --- the end --- */

static void run_free(void *arg)
{
    struct shadow *w = OBJ_CAST(arg, struct shadow, SHADOW_MAGIC);
    w->magic = 0;
    worker_arena_put(w->worker, w->arena);
}

static void finish(struct shadow *w)
{
    if (w->over)
        return;
    w->over = true;
    struct codec_stream *cs = w->cs;
    w->cs = NULL;
    timer_disarm(&w->timeout);
    if (cs)
        cs->ops->reset(cs, RESET_LOCAL);
    else
        pool_cancel(&w->slot);
    buffer_cleanup(&w->body);
    host_unref(w->host);
    w->host = NULL;
    list_remove(&w->link);
    cluster_release(w->cluster);
    loop_defer_free(w->worker->loop, &w->free_task);
}

void shadows_end(struct worker *w)
{
    while (!list_empty(&w->shadows))
        finish(CONTAINER_OF(w->shadows.next, struct shadow, link));
}

static void on_timeout(void *arg)
{
    struct shadow *w = OBJ_CAST(arg, struct shadow, SHADOW_MAGIC);
    count(w, CLUSTER_UPSTREAM_RQ_TIMEOUT);
    count_code(w, 504);
    finish(w);
}

/* --- events of the codec --- */

static void ended(struct shadow *w)
{
    w->cs = NULL; /* all was sent before: nothing is to be reset */
    finish(w);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct shadow *w = OBJ_CAST(user, struct shadow, SHADOW_MAGIC);
    count_code(w, h->status);
    cluster_count_outcome(w->cluster, w->host, OUTCOME_STATUS, h->status);
    if (end)
        ended(w);
}

static void on_data(void *user, struct buffer *data, bool end)
{
    struct shadow *w = OBJ_CAST(user, struct shadow, SHADOW_MAGIC);
    buffer_drain(data, data->len);
    if (end)
        ended(w);
}

static void on_trailers(void *user, struct headers *h)
{
    ended(OBJ_CAST(user, struct shadow, SHADOW_MAGIC));
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct shadow *w = OBJ_CAST(user, struct shadow, SHADOW_MAGIC);
    count_code(w, 503);
    cluster_count_outcome(w->cluster, w->host, OUTCOME_RESET, 0);
    ended(w);
}

static void on_mark(void *user)
{
    /* The whole body is bounded by what is kept for it. */
}

static const struct codec_events events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_mark,
    .on_below = on_mark,
};

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result result, struct str detail)
{
    struct shadow *w = OBJ_CAST(arg, struct shadow, SHADOW_MAGIC);
    if (result != POOL_READY) {
        if (result != POOL_OVERFLOW)
            cluster_count_outcome(w->cluster, w->host, OUTCOME_CONNECT_FAILED, 0);
        count_code(w, 503);
        finish(w);
        return;
    }
    w->cs = upstream_open(pc, w->cluster, w->arena, &events, w);
    if (pc->proto != &h2_client_protocol && !w->cluster->config->http1.trailers)
        w->trailers = NULL;
    bool head_only = !w->body.len && !w->trailers;
    w->cs->ops->headers(w->cs, &w->request, head_only);
    if (w->cs && w->body.len)
        w->cs->ops->data(w->cs, &w->body, !w->trailers);
    if (w->cs && w->trailers)
        w->cs->ops->trailers(w->cs, w->trailers);
}

/* --- sending --- */

static void set_host(struct shadow *w, struct str host)
{
    struct header *f = headers_known(&w->request, HDR_HOST);
    w->request.authority = host;
    if (f)
        f->value = host;
}

/* Where the copies go is to be told from where the requests go. */
static void rename_host(struct shadow *w)
{
    struct str host = w->request.authority;
    size_t n = host.len;
    for (size_t i = host.len; i > 0 && host.p[i - 1] != ']'; i--) {
        if (host.p[i - 1] == ':') {
            n = i - 1;
            break;
        }
    }
    set_host(w, arena_printf(w->arena, "%.*s-shadow%.*s", (int)n, host.p, (int)(host.len - n),
                             host.p + n));
}

/* The copy comes from us. */
static void append_xff(struct shadow *w)
{
    char text[ADDR_TEXT_MAX];
    const struct addr *own = &w->worker->server->local_ip;
    struct str ip = addr_is_ip(own) ? addr_format_ip(own, text) : STR_NULL, before;
    if (!ip.len)
        return;
    bool had = headers_value(&w->request, STR("x-forwarded-for"), w->arena, &before) && before.len;
    headers_set_known(&w->request, HDR_X_FORWARDED_FOR,
                      had ? arena_printf(w->arena, "%.*s,%.*s", STR_ARG(before), STR_ARG(ip))
                          : arena_str(w->arena, ip));
}

static void send_copy(struct router *r, const struct mirror *m)
{
    struct stream *s = r->stream;
    struct str name = m->cluster;
    if (!name.len) {
        const struct header *f = headers_find(s->request, m->header);
        name = f ? f->value : STR_NULL;
    }
    struct cluster *c = name.len ? worker_clusters_find(s->worker->clusters, name) : NULL;
    if (!c)
        return;
    struct arena *a = worker_arena_get(s->worker);
    struct shadow *w = ARENA_NEW(a, struct shadow);
    w->magic = SHADOW_MAGIC;
    w->worker = s->worker;
    w->arena = a;
    w->cluster = c;
    w->dynamic_stats = s->hc->config->dynamic_stats;
    w->internal = true;
    cluster_hold(c);
    list_push_tail(&s->worker->shadows, &w->link);
    task_init(&w->free_task, run_free, w);
    timer_init(&w->timeout, s->worker->loop, on_timeout, w);
    buffer_init(&w->body);
    headers_copy(&w->request, r->mirrored ? r->mirrored : s->request, a);
    headers_set_known(&w->request, HDR_X_ENVOY_INTERNAL, STR("true"));
    append_xff(w);
    header_steps_apply(&m->changes, &w->request, &s->info);
    if (m->host.len) /* of the route table, which the copy outlives */
        set_host(w, arena_str(a, m->host));
    else if (!m->plain_host)
        rename_host(w);
    if (s->request_trailers) {
        w->trailers = ARENA_NEW(a, struct headers);
        headers_copy(w->trailers, s->request_trailers, a);
    }
    router_copy(&w->body, &r->replay);
    if (r->timeout_ms) { /* all of it: a copy has one try */
        timer_arm(&w->timeout, r->timeout_ms);
        headers_set_known(&w->request, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
                          arena_printf(a, "%llu", (unsigned long long)r->timeout_ms));
    }
    const struct lb_request lb = {.original_dst = &s->hc->down->info.local};
    w->host = cluster_pick(c, &lb);
    if (!w->host) {
        count(w, CLUSTER_UPSTREAM_CX_NONE_HEALTHY);
        count_code(w, 503);
        finish(w);
        return;
    }
    pool_acquire(c, w->host, upstream_protocol(c, s->info.protocol), NULL, PRIORITY_DEFAULT,
                 &w->slot, on_slot, w);
}

void shadow_choose(struct router *r)
{
    const struct mirrors *m = &r->stream->route->mirrors;
    r->mirrored = NULL;
    for (size_t i = 0; i < m->n && i < MAX_MIRRORS; i++) {
        if (m->v[i].ppm == MILLION || random_below(MILLION) < m->v[i].ppm)
            r->mirrors |= 1ULL << i;
    }
}

void shadow_keep_head(struct router *r)
{
    struct stream *s = r->stream;
    if (!r->mirrors || r->mirrored)
        return;
    r->mirrored = ARENA_NEW(s->arena, struct headers);
    headers_copy(r->mirrored, s->request, s->arena);
}

void shadow_send(struct router *r)
{
    if (!r->mirrors || !r->cluster)
        return;
    const struct mirrors *m = &r->stream->route->mirrors;
    uint64_t chosen = r->mirrors;
    r->mirrors = 0;
    for (size_t i = 0; i < m->n && i < MAX_MIRRORS; i++) {
        if (chosen >> i & 1)
            send_copy(r, &m->v[i]);
    }
    test_fault(r, NULL, FAULT_MIRRORED);
}
