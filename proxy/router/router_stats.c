#include "proxy/router/router_private.h"

/* Of each of these there is "completed", the class and the code itself, as dynamic names. */
static const char external[] = "external.upstream_rq_";
static const char internal[] = "internal.upstream_rq_";
static const char canary_rq[] = "canary.upstream_rq_";
static const char retry_rq[] = "retry.upstream_rq_";
static const char no_family[] = "";

static void count_family(struct router *r, const char *family, unsigned status)
{
    unsigned thread = r->stream->worker->index;
    struct stats_scope *scope = r->cluster->stats;
    stats_count_group(scope, thread, family, 0);
    stats_count_group(scope, thread, family, status / 100);
    stats_count_code(scope, thread, family, status);
}

/* Whoever may use the header may name it: the number of names is bounded by the statistics. */
static void count_alt(struct router *r, const char *part, unsigned status)
{
    unsigned thread = r->stream->worker->index;
    struct stats_scope *scope = r->cluster->stats;
    struct arena *a = r->stream->arena;
    struct str name = arena_printf(a, "%.*s.%supstream_rq_", STR_ARG(r->alt_stat), part);
    stats_count_name(scope, thread, no_family, arena_printf(a, "%.*scompleted", STR_ARG(name)));
    stats_count_name(scope, thread, no_family,
                     arena_printf(a, "%.*s%uxx", STR_ARG(name), status / 100));
    stats_count_name(scope, thread, no_family, arena_printf(a, "%.*s%u", STR_ARG(name), status));
}

static bool code_is_hidden(const struct router *r)
{
    const struct stream *s = r->stream;
    return s->hc->config->suppress_grpc_codes && headers_is_grpc(s->request);
}

void router_count_code(struct router *r, unsigned status, bool canary)
{
    unsigned thread = r->stream->worker->index;
    unsigned class = status / 100;
    bool hidden = code_is_hidden(r);
    router_count(r, CLUSTER_UPSTREAM_RQ_COMPLETED);
    if (!hidden && class >= 1 && class <= 5)
        router_count(r, CLUSTER_UPSTREAM_RQ_1XX + class - 1);
    if (!r->stream->hc->config->dynamic_stats)
        return;
    if (!hidden)
        stats_count_code(r->cluster->stats, thread, "upstream_rq_", status);
    count_family(r, r->internal ? internal : external, status);
    if (canary)
        count_family(r, canary_rq, status);
    if (r->alt_stat.len) {
        count_alt(r, "", status);
        count_alt(r, r->internal ? "internal." : "external.", status);
    }
}

void router_count_retried(struct router *r, unsigned status)
{
    if (r->stream->hc->config->dynamic_stats)
        count_family(r, retry_rq, status);
}
