/* envoy.filters.listener.tls_inspector: TLS or not, the server name and the protocols offered. */
#include "api-protos/wkt.h"
#include "base/stats.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb-c.h"
#include "proxy/listener/downstream.h"
#include "proxy/listener/listener_filter.h"
#include "proxy/worker.h"
#include "tls/client_hello.h"

#define INSPECTOR_STATS(X)                                                                         \
    X(HELLO_TOO_LARGE, "client_hello_too_large", COUNTER)                                          \
    X(TLS_FOUND, "tls_found", COUNTER)                                                             \
    X(TLS_NOT_FOUND, "tls_not_found", COUNTER)                                                     \
    X(ALPN_FOUND, "alpn_found", COUNTER)                                                           \
    X(ALPN_NOT_FOUND, "alpn_not_found", COUNTER)                                                   \
    X(SNI_FOUND, "sni_found", COUNTER)                                                             \
    X(SNI_NOT_FOUND, "sni_not_found", COUNTER)                                                     \
    X(BYTES_PROCESSED, "bytes_processed", HISTOGRAM)

enum { INSPECTOR_STATS(STATS_ENUM) NUM_STATS };
static const struct stats_def stat_defs[] = {INSPECTOR_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

enum { FIRST = 2048, FIRST_MIN = 256 };

struct config {
    struct stats_scope *stats;
    size_t first, max;
    bool close_on_errors;
};

static void *compile(const struct compile_env *env, struct arena *a, const void *msg,
                     struct errors *e)
{
    const Envoy__Extensions__Filters__Listener__TlsInspector__V3__TlsInspector *m = msg;
    struct config *c = ARENA_NEW(a, struct config);
    c->max = m ? wkt_u32(m->max_client_hello_size, CLIENT_HELLO_MAX) : CLIENT_HELLO_MAX;
    c->first = m ? wkt_u32(m->initial_read_buffer_size, FIRST) : FIRST;
    c->close_on_errors = m && m->close_connection_on_client_hello_parsing_errors;
    if (c->first > c->max)
        c->first = c->max;
    if (c->first < FIRST_MIN)
        c->first = FIRST_MIN;
    if (!env->validate)
        c->stats = stats_scope_named(&stat_table, STR("tls_inspector"));
    return c;
}

static void release(void *config)
{
    struct config *c = config;
    stats_scope_free(&c->stats);
}

static size_t first(const void *config)
{
    const struct config *c = config;
    return c->first;
}

static void keep_hello(struct downstream *d, const struct client_hello *h)
{
    d->detected_protocol = STR("tls");
    d->info.sni = arena_str(d->arena, h->sni);
    struct str *alpn = arena_alloc(d->arena, (h->num_alpn + 1) * sizeof(*alpn));
    for (size_t i = 0; i < h->num_alpn; i++)
        alpn[i] = arena_str(d->arena, h->alpn[i]);
    d->detected_alpn = alpn;
    d->num_detected_alpn = h->num_alpn;
}

static enum listener_filter_result over(const struct config *c, struct downstream *d, uint32_t stat,
                                        size_t seen)
{
    stats_inc(c->stats, d->worker->index, stat);
    stats_record(c->stats, d->worker->index, BYTES_PROCESSED, seen);
    return LISTENER_FILTER_NEXT;
}

static enum listener_filter_result look(void *config, struct downstream *d,
                                        struct listener_filter_look *l)
{
    const struct config *c = config;
    unsigned thread = d->worker->index;
    struct client_hello hello;
    void *workspace = mem_alloc(l->bytes.len);
    enum client_hello_status st = client_hello_parse(l->bytes, c->max, workspace, &hello);
    if (st == CLIENT_HELLO_OK)
        keep_hello(d, &hello);
    mem_free(workspace);
    switch (st) {
    case CLIENT_HELLO_NEED_MORE:
        l->need = hello.need;
        return LISTENER_FILTER_MORE;
    case CLIENT_HELLO_OK:
        stats_inc(c->stats, thread, hello.sni.len ? SNI_FOUND : SNI_NOT_FOUND);
        stats_inc(c->stats, thread, hello.num_alpn ? ALPN_FOUND : ALPN_NOT_FOUND);
        return over(c, d, TLS_FOUND, l->bytes.len);
    case CLIENT_HELLO_NOT_TLS:
        return over(c, d, TLS_NOT_FOUND, l->bytes.len);
    case CLIENT_HELLO_TOO_LARGE:
        over(c, d, HELLO_TOO_LARGE, l->bytes.len);
        return LISTENER_FILTER_CLOSE;
    case CLIENT_HELLO_ERROR:
        over(c, d, TLS_NOT_FOUND, l->bytes.len);
        return c->close_on_errors ? LISTENER_FILTER_CLOSE : LISTENER_FILTER_NEXT;
    }
    return LISTENER_FILTER_CLOSE;
}

const struct listener_filter_ops tls_inspector_filter = {
    .name = "envoy.filters.listener.tls_inspector",
    .type_name = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    .compile = compile,
    .release = release,
    .look = look,
    .first = first,
};
