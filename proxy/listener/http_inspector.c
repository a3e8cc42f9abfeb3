/* envoy.filters.listener.http_inspector: which HTTP a plaintext connection speaks, for the
 * application_protocols of the chain match. */
#include "base/stats.h"
#include "proxy/listener/downstream.h"
#include "proxy/listener/http_preface.h"
#include "proxy/listener/listener_filter.h"
#include "proxy/worker.h"

#define INSPECTOR_STATS(X)                                                                         \
    X(READ_ERROR, "read_error", COUNTER)                                                           \
    X(HTTP10_FOUND, "http10_found", COUNTER)                                                       \
    X(HTTP11_FOUND, "http11_found", COUNTER)                                                       \
    X(HTTP2_FOUND, "http2_found", COUNTER)                                                         \
    X(HTTP_NOT_FOUND, "http_not_found", COUNTER)

enum { INSPECTOR_STATS(STATS_ENUM) NUM_STATS };
static const struct stats_def stat_defs[] = {INSPECTOR_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

enum { FIRST = 1024, LINE_MAX_LEN = 65536 };

struct config {
    struct stats_scope *stats;
};

static void *compile(const struct compile_env *env, struct arena *a, const void *msg,
                     struct errors *e)
{
    struct config *c = ARENA_NEW(a, struct config);
    if (!env->validate)
        c->stats = stats_scope_named(&stat_table, STR("http_inspector"));
    return c;
}

static void release(void *config)
{
    struct config *c = config;
    stats_scope_free(&c->stats);
}

static size_t first(const void *config)
{
    return FIRST;
}

static void found(struct downstream *d, const struct config *c, struct str protocol, uint32_t stat)
{
    stats_inc(c->stats, d->worker->index, stat);
    struct str *alpn = ARENA_NEW(d->arena, struct str);
    *alpn = protocol;
    d->detected_alpn = alpn;
    d->num_detected_alpn = 1;
}

static enum listener_filter_result look(void *config, struct downstream *d,
                                        struct listener_filter_look *l)
{
    const struct config *c = config;
    if (!str_eq(d->detected_protocol, STR("raw_buffer")))
        return LISTENER_FILTER_NEXT; /* TLS: its ALPN says it */
    switch (http_preface_look(l->bytes)) {
    case HTTP_PREFACE_MORE:
        if (l->bytes.len < LINE_MAX_LEN)
            return LISTENER_FILTER_MORE;
        stats_inc(c->stats, d->worker->index, READ_ERROR);
        return LISTENER_FILTER_CLOSE;
    case HTTP_PREFACE_NONE:
        stats_inc(c->stats, d->worker->index, HTTP_NOT_FOUND);
        break;
    case HTTP_PREFACE_10:
        found(d, c, STR("http/1.0"), HTTP10_FOUND);
        break;
    case HTTP_PREFACE_11:
        found(d, c, STR("http/1.1"), HTTP11_FOUND);
        break;
    case HTTP_PREFACE_2:
        found(d, c, STR("h2c"), HTTP2_FOUND);
        break;
    }
    return LISTENER_FILTER_NEXT;
}

const struct listener_filter_ops http_inspector_filter = {
    .name = "envoy.filters.listener.http_inspector",
    .type_name = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    .compile = compile,
    .release = release,
    .look = look,
    .first = first,
};
