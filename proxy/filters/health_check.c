/* envoy.filters.http.health_check: answers health checks of whoever balances the load over proxies,
 * or passes them through and says what the proxy itself thinks; /healthcheck/fail of the admin port
 * makes all of them fail. */
#include "api-protos/wkt.h"
#include "cluster/cluster.h"
#include "envoy/extensions/filters/http/health_check/v3/health_check.pb-c.h"
#include "proxy/bootstrap.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/filters/filters.h"
#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"
#include "proxy/router/matchers.h"
#include "proxy/server.h"
#include "proxy/worker.h"

#include <stdatomic.h>

typedef Envoy__Extensions__Filters__Http__HealthCheck__V3__HealthCheck HealthCheck;

#define HEALTH_STATS(X)                                                                            \
    X(HEALTH_CACHED, "cached_response", COUNTER)                                                   \
    X(HEALTH_DEGRADED, "degraded", COUNTER)                                                        \
    X(HEALTH_FAILED, "failed", COUNTER)                                                            \
    X(HEALTH_CLUSTER_EMPTY, "failed_cluster_empty", COUNTER)                                       \
    X(HEALTH_CLUSTER_UNKNOWN, "failed_cluster_not_found", COUNTER)                                 \
    X(HEALTH_CLUSTER_UNHEALTHY, "failed_cluster_unhealthy", COUNTER)                               \
    X(HEALTH_OK, "ok", COUNTER)                                                                    \
    X(HEALTH_RQ_TOTAL, "request_total", COUNTER)
enum { HEALTH_STATS(STATS_ENUM) HEALTH_NUM_STATS };
static const struct stats_def stat_defs[] = {HEALTH_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

struct min_healthy {
    struct str cluster;
    double per_cent;
};

struct health_config {
    struct stats_scope *stats;
    struct regex_list regexes;
    struct header_match *headers; /* which requests are health checks; none: all */
    size_t num_headers;
    bool pass_through;
    uint64_t cache_ms; /* 0: no cache */
    struct min_healthy *clusters;
    size_t num_clusters;
    /* The last response's status with CACHE_DEGRADED, and above CACHE_SHIFT until when it counts,
     * in milliseconds; 0: none. One word, for all workers. */
    _Atomic uint64_t cached;
};

enum { CACHE_DEGRADED = 1024, CACHE_SHIFT = 16 };

struct health_state {
    bool ours; /* answered here once the request is complete */
    bool from_cache;
    bool degraded;
};

/* --- configuration --- */

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const HealthCheck *m = msg;
    struct arena *a = env->arena;
    struct health_config *c = ARENA_NEW(a, struct health_config);
    if (!m || !m->pass_through_mode) {
        errors_add(e, "pass_through_mode", "is required");
        return c;
    }
    c->stats = filter_stats_named(env, &stat_table, STR("health_check"));
    c->pass_through = m->pass_through_mode->value;
    c->num_headers = m->n_headers;
    c->headers = header_matches_compile(&c->regexes, a, (void *const *)m->headers, m->n_headers,
                                        "headers", e);
    c->cache_ms = wkt_duration_ms(m->cache_time, 0, e, "cache_time");
    if (!c->pass_through && c->cache_ms)
        errors_add(e, "cache_time", "must not be set when pass_through_mode is false");
    c->num_clusters = m->n_cluster_min_healthy_percentages;
    c->clusters = arena_zalloc(a, (c->num_clusters + 1) * sizeof(*c->clusters));
    for (size_t i = 0; i < c->num_clusters; i++) {
        const Envoy__Extensions__Filters__Http__HealthCheck__V3__HealthCheck__ClusterMinHealthyPercentagesEntry
            *x = m->cluster_min_healthy_percentages[i];
        c->clusters[i].cluster = arena_str(a, str_of(x->key));
        c->clusters[i].per_cent = x->value ? x->value->value : 0;
    }
    return c;
}

static void free_config(void *config)
{
    struct health_config *c = config;
    regex_list_free(&c->regexes);
    stats_scope_free(&c->stats);
}

/* --- the answer --- */

static bool failing(const struct http_filter *f)
{
    return f->stream->worker->server->health_failed;
}

/* The cached status, 0: none that still counts. */
static unsigned cached(const struct http_filter *f, bool *out_degraded)
{
    struct health_config *c = (void *)(uintptr_t)f->config;
    uint64_t word = atomic_load_explicit(&c->cached, memory_order_relaxed);
    if (!c->cache_ms || word >> CACHE_SHIFT <= loop_now_ms(f->stream->worker->loop))
        return 0;
    *out_degraded = word & CACHE_DEGRADED;
    return word & (CACHE_DEGRADED - 1);
}

static void remember(struct http_filter *f, unsigned status, bool degraded)
{
    struct health_config *c = (void *)(uintptr_t)f->config;
    if (!c->cache_ms)
        return;
    uint64_t until = loop_now_ms(f->stream->worker->loop) + c->cache_ms;
    uint64_t word = until << CACHE_SHIFT | (degraded ? CACHE_DEGRADED : 0) | status;
    atomic_store_explicit(&c->cached, word, memory_order_relaxed);
}

/* Whether so many of a cluster's hosts are healthy; *stat says why not. */
static bool cluster_ok(const struct http_filter *f, const struct min_healthy *want, uint32_t *stat,
                       struct str *details)
{
    struct cluster *c = worker_clusters_find(f->stream->worker->clusters, want->cluster);
    *stat = HEALTH_CLUSTER_UNKNOWN;
    *details = STR("health_check_failed_no_cluster_found");
    if (!c)
        return false;
    const struct host_set *hosts = c->hosts;
    *stat = HEALTH_CLUSTER_EMPTY;
    *details = STR("health_check_failed_cluster_empty");
    if (!hosts || !hosts->num_hosts)
        return want->per_cent <= 0;
    *stat = HEALTH_CLUSTER_UNHEALTHY;
    *details = STR("health_check_failed_cluster_unhealthy");
    double up = (double)hosts->num_healthy + (double)hosts->num_degraded;
    return 100 * up >= (double)hosts->num_hosts * want->per_cent;
}

static void add_degraded(void *arg, struct headers *h)
{
    const struct health_state *s = arg;
    if (s->degraded)
        headers_set(h, STR("x-envoy-degraded"), STR(""));
}

static void answer(struct http_filter *f)
{
    const struct health_config *c = f->config;
    struct health_state *s = f->state;
    struct str details = STR("health_check_ok");
    unsigned status = 200;
    uint32_t stat = HEALTH_NUM_STATS;
    if (failing(f)) {
        status = 503;
        details = STR("health_check_failed");
    } else if (c->pass_through) {
        status = cached(f, &s->degraded);
        status = status ? status : 200; /* it ran out meanwhile */
        s->from_cache = true;
        details = STR("health_check_cached");
        stat = HEALTH_CACHED;
    } else if (c->num_clusters) {
        details = STR("health_check_ok_cluster_healthy");
        struct str why;
        for (size_t i = 0; i < c->num_clusters && status == 200; i++) {
            if (cluster_ok(f, &c->clusters[i], &stat, &why))
                continue;
            status = 503;
            details = why;
        }
        stat = status == 200 ? HEALTH_NUM_STATS : stat;
    }
    bool good = status / 100 == 2;
    filter_stats_inc(f, c->stats, HEALTH_RQ_TOTAL);
    filter_stats_inc(f, c->stats, good ? HEALTH_OK : HEALTH_FAILED);
    if (stat < HEALTH_NUM_STATS)
        filter_stats_inc(f, c->stats, stat);
    if (s->degraded)
        filter_stats_inc(f, c->stats, HEALTH_DEGRADED);
    http_filter_reply(f, status, good ? 0 : FLAG(FAILED_LOCAL_HEALTH_CHECK), details, STR_NULL,
                      add_degraded, s);
}

/* --- the request --- */

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct health_config *c = f->config;
    bool degraded;
    for (size_t i = 0; i < c->num_headers; i++) {
        if (!header_match(&c->headers[i], h, h->arena))
            return FILTER_CONTINUE;
    }
    struct health_state *s = ARENA_NEW(h->arena, struct health_state);
    f->state = s;
    f->stream->info.health_check = true;
    s->ours = !c->pass_through || failing(f) || cached(f, &degraded);
    if (!s->ours)
        return FILTER_CONTINUE;
    if (end) {
        answer(f);
        return FILTER_PAUSE;
    }
    http_filter_set_request_limit(f, SIZE_MAX); /* nothing is kept */
    return FILTER_COLLECT;
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    const struct health_state *s = f->state;
    if (!s || !s->ours)
        return FILTER_CONTINUE;
    buffer_drain(b, b->len);
    if (!end)
        return FILTER_COLLECT;
    answer(f);
    return FILTER_PAUSE;
}

static enum filter_status on_request_trailers(struct http_filter *f, struct headers *h)
{
    const struct health_state *s = f->state;
    if (!s || !s->ours)
        return FILTER_CONTINUE;
    answer(f);
    return FILTER_PAUSE;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct health_state *s = f->state;
    if (s) {
        const struct bootstrap *b = f->stream->worker->server->bootstrap;
        if (!s->from_cache) /* which would keep it alive for ever */
            remember(f, h->status, headers_find(h, STR("x-envoy-degraded")) != NULL);
        headers_set(h, STR("x-envoy-upstream-healthchecked-cluster"), b->node_cluster);
    }
    if (failing(f))
        headers_set_known(h, HDR_X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL, STR("true"));
    return FILTER_CONTINUE;
}

const struct http_filter_ops health_check_filter = {
    .name = "envoy.filters.http.health_check",
    .type_name = "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    .compile = compile,
    .free = free_config,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
};
