#include "xds/xds.h"

#include "base/log.h"
#include "xds/client.h"
#include "xds/file_source.h"
#include "xds/ingest.h"
#include <stdlib.h>

enum { MAX_MESSAGE = 256 * 1024 * 1024, MAX_WARNED = 10000 };

#define ADS_SERVICE "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

static const char ADS_METHOD[] = ADS_SERVICE "StreamAggregatedResources";
static const char ADS_DELTA_METHOD[] = ADS_SERVICE "DeltaAggregatedResources";

/* In the order in which requests leave: clusters and their endpoints before the listeners and
 * routes that point to them. */
static const struct {
    const char *type_url, *method, *delta_method;
} services[] = {
    {"type.googleapis.com/envoy.config.cluster.v3.Cluster",
     "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
     "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters"},
    {"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
     "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
     "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints"},
    {"type.googleapis.com/envoy.config.listener.v3.Listener",
     "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
     "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners"},
    {"type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
     "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
     "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes"},
    {"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
     "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
     "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"},
    {"type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
     "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs",
     "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs"},
    {"type.googleapis.com/envoy.service.runtime.v3.Runtime",
     "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime",
     "/envoy.service.runtime.v3.RuntimeDiscoveryService/DeltaRuntime"},
};

static int service_of(const struct resource_ops *ops)
{
    size_t i = 0;
    while (i < ARRAY_LEN(services) && strcmp(services[i].type_url, ops->type_url) != 0)
        i++;
    return (int)i;
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_reap(void *arg);

struct xds *xds_new(struct loop *main, const struct xds_options *opts)
{
    struct xds *x = NEW(struct xds);
    x->loop = main;
    xds_text_set(&x->node, opts->node);
    if (opts->pb)
        x->file_opts = *opts->pb;
    x->max_message = opts->max_message ? opts->max_message : MAX_MESSAGE;
    x->transport_ops = opts->transport ? opts->transport : &grpc_transport;
    list_init(&x->types);
    list_init(&x->streams);
    list_init(&x->files);
    map_init(&x->counts, false);
    map_init(&x->warned, true);
    task_init(&x->reap, on_reap, x);
    return x;
}

static void type_free(struct xds_type *t)
{
    LIST_FOREACH_SAFE(it, &t->feeds)
        xds_feed_free(CONTAINER_OF(it, struct xds_feed, link));
    list_remove(&t->link);
    mem_free(t);
}

void xds_free(struct xds **xp)
{
    struct xds *x = *xp;
    if (!x)
        return;
    *xp = NULL;
    task_cancel(&x->reap);
    LIST_FOREACH_SAFE(it, &x->streams)
        xds_stream_free(CONTAINER_OF(it, struct xds_stream, link));
    LIST_FOREACH_SAFE(it, &x->files)
        xds_file_free(CONTAINER_OF(it, struct xds_file, link));
    LIST_FOREACH_SAFE(it, &x->types)
        type_free(CONTAINER_OF(it, struct xds_type, link));
    if (x->transport)
        x->transport_ops->stop(x->transport);
    x->transport = NULL;
    map_cleanup(&x->counts, NULL);
    map_cleanup(&x->warned, NULL);
    xds_text_set(&x->node, STR_NULL);
    mem_free(x);
}

void xds_register(struct xds *x, const struct resource_ops *ops, void *owner)
{
    struct xds_type *t = NEW(struct xds_type);
    t->x = x;
    t->ops = ops;
    t->owner = owner;
    t->descriptor = pb_find(str_of(ops->type_url));
    CHECK(t->descriptor);
    t->order = service_of(ops);
    list_init(&t->feeds);
    list_push_tail(&x->types, &t->link);
}

struct xds_type *xds_type_of(struct xds *x, const struct resource_ops *ops)
{
    LIST_FOREACH(it, &x->types) {
        struct xds_type *t = CONTAINER_OF(it, struct xds_type, link);
        if (t->ops == ops)
            return t;
    }
    check_failed("the resource type is registered", __FILE__, __LINE__);
}

void xds_set_dial(struct xds *x, xds_dial_fn fn, void *arg)
{
    x->dial = fn;
    x->dial_arg = arg;
}

void xds_set_ads(struct xds *x, const struct xds_server *server)
{
    CHECK(!x->ads);
    x->ads = xds_stream_new(x, server, server->delta ? ADS_DELTA_METHOD : ADS_METHOD, NULL);
}

bool xds_has_ads(const struct xds *x)
{
    return x->ads != NULL;
}

bool xds_connected(const struct xds *x)
{
    return x->ads && x->ads->state == XDS_STREAM_OPEN;
}

struct str xds_control_plane(const struct xds *x)
{
    return x->ads ? x->ads->identifier : STR_NULL;
}

void xds_warn_once(struct xds *x, struct str message, struct str path, struct str resource,
                   struct str text)
{
    struct arena a;
    arena_init(&a, 0);
    struct str key = path.len ? arena_printf(&a, "%.*s %.*s %.*s", STR_ARG(message), STR_ARG(path),
                                             STR_ARG(text))
                              : arena_printf(&a, "%.*s %.*s %.*s", STR_ARG(message),
                                             STR_ARG(resource), STR_ARG(text));
    if (!map_get(&x->warned, key) && map_count(&x->warned) < MAX_WARNED) {
        map_put(&x->warned, key, x);
        LOG_WARN(config, "%.*s %.*s: %.*s%s%.*s", STR_ARG(message), STR_ARG(resource),
                 STR_ARG(path), path.len ? ": " : "", STR_ARG(text));
    }
    arena_cleanup(&a);
}

/* --- feeds ------------------------------------------------------------------------------------ */

static struct xds_feed *ads_feed(struct xds *x, struct xds_type *type)
{
    CHECK(x->ads);
    LIST_FOREACH(it, &type->feeds) {
        struct xds_feed *f = CONTAINER_OF(it, struct xds_feed, link);
        if (f->stream == x->ads)
            return f;
    }
    struct xds_feed *f = xds_feed_new(type);
    xds_stream_add(x->ads, f);
    return f;
}

static bool same_source(const struct xds_feed *f, const struct xds_source *src)
{
    switch (src->kind) {
    case XDS_SOURCE_ADS:
        return false;
    case XDS_SOURCE_GRPC:
        return f->stream && f->stream != f->type->x->ads &&
               str_eq(f->stream->server.cluster, src->server.cluster) &&
               str_eq(f->stream->server.authority, src->server.authority) &&
               f->stream->server.delta == src->server.delta;
    case XDS_SOURCE_PATH:
        return f->file && xds_file_is(f->file, src);
    }
    return false;
}

static struct xds_feed *own_feed(struct xds *x, struct xds_type *type, const struct xds_source *src,
                                 const struct xds_stats_prefix *prefix)
{
    struct xds_feed *f = xds_feed_new(type);
    if (src->kind == XDS_SOURCE_PATH) {
        xds_file_new(x, f, src);
        return f;
    }
    CHECK((size_t)type->order < ARRAY_LEN(services));
    const char *method = src->server.delta ? services[type->order].delta_method
                                           : services[type->order].method;
    xds_stream_add(xds_stream_new(x, &src->server, method, prefix), f);
    return f;
}

struct xds_feed *xds_feed_for(struct xds *x, struct xds_type *type, const struct xds_source *src,
                              struct str name, const struct xds_stats_prefix *prefix)
{
    if (src->kind == XDS_SOURCE_ADS)
        return ads_feed(x, type);
    LIST_FOREACH(it, &type->feeds) {
        struct xds_feed *f = CONTAINER_OF(it, struct xds_feed, link);
        if (!f->collects && xds_feed_find(f, name) && same_source(f, src))
            return f;
    }
    return own_feed(x, type, src, prefix);
}

void xds_feed_changed(struct xds_feed *f)
{
    struct xds *x = f->type->x;
    f->dirty = true;
    if (f->stream)
        xds_stream_kick(f->stream);
    if (f->file)
        xds_file_kick(f->file);
    if (!xds_feed_wanted(f))
        loop_post(x->loop, &x->reap);
}

bool xds_feed_tried(const struct xds_feed *f)
{
    return f->file || (f->stream && f->stream->tried);
}

/* A watcher that leaves may come back in the same turn (a cluster that is replaced), so sources go
 * later. On the aggregated stream a name goes with the request that no longer has it. */
static void on_reap(void *arg)
{
    struct xds *x = arg;
    LIST_FOREACH_SAFE(it, &x->streams) {
        struct xds_stream *st = CONTAINER_OF(it, struct xds_stream, link);
        struct xds_feed *f = CONTAINER_OF(st->feeds.next, struct xds_feed, stream_link);
        if (st == x->ads || xds_feed_wanted(f))
            continue;
        xds_stream_free(st);
        xds_feed_free(f);
    }
    LIST_FOREACH_SAFE(it, &x->files) {
        struct xds_file *file = CONTAINER_OF(it, struct xds_file, link);
        struct xds_feed *f = file->feed;
        if (xds_feed_wanted(f))
            continue;
        xds_file_free(file);
        xds_feed_free(f);
    }
}

void xds_collect(struct xds *x, const struct xds_source *src, const struct resource_ops *ops,
                 const struct xds_stats_prefix *prefix, void (*settled)(void *arg), void *arg)
{
    struct xds_type *type = xds_type_of(x, ops);
    struct xds_feed *f = src->kind == XDS_SOURCE_ADS ? ads_feed(x, type)
                                                     : own_feed(x, type, src, prefix);
    CHECK(ops->wildcard && !f->collects);
    f->collects = true;
    f->settled = settled;
    f->settled_arg = arg;
    f->fetch_timeout_ms = src->initial_fetch_timeout_ms;
    f->counts = xds_counts_get(&x->counts, prefix, ops->reload_stats);
    if (!f->file)
        xds_counts_attempt(f->counts);
    if (xds_feed_tried(f))
        xds_feed_start_timers(f);
    xds_feed_changed(f);
}

/* --- order ------------------------------------------------------------------------------------ */

void xds_pause(struct xds *x, const struct resource_ops *ops)
{
    xds_type_of(x, ops)->paused++;
}

void xds_resume(struct xds *x, const struct resource_ops *ops)
{
    struct xds_type *t = xds_type_of(x, ops);
    CHECK(t->paused);
    if (--t->paused)
        return;
    LIST_FOREACH(it, &t->feeds) {
        struct xds_feed *f = CONTAINER_OF(it, struct xds_feed, link);
        if (f->stream)
            xds_stream_kick(f->stream);
    }
}

/* --- static resources and the state ----------------------------------------------------------- */

bool xds_static(struct xds *x, const struct resource_ops *ops, struct str bytes, struct errors *e)
{
    struct xds_type *type = xds_type_of(x, ops);
    if (!type->fixed)
        type->fixed = xds_feed_new(type);
    return xds_ingest_fixed(type->fixed, bytes, e);
}

static int by_name(const void *a, const void *b)
{
    const struct xds_resource *const *x = a, *const *y = b;
    return str_cmp((*x)->name, (*y)->name);
}

static void foreach_type(const struct xds_type *t,
                         void (*fn)(void *arg, const struct xds_resource_info *r), void *arg)
{
    struct arena a;
    size_t n = 0, num;
    arena_init(&a, 0);
    LIST_FOREACH(it, &t->feeds)
        n += map_count(&CONTAINER_OF(it, struct xds_feed, link)->resources);
    struct xds_resource **all = arena_alloc(&a, (n + 1) * sizeof(*all));
    n = 0;
    LIST_FOREACH(it, &t->feeds) {
        struct xds_resource **some = xds_feed_sorted(CONTAINER_OF(it, struct xds_feed, link), &a,
                                                     &num);
        for (size_t i = 0; i < num; i++)
            all[n++] = some[i];
    }
    qsort(all, n, sizeof(*all), by_name);
    for (size_t i = 0; i < n; i++) {
        const struct xds_resource *r = all[i];
        struct xds_resource_info info = {
            .ops = t->ops,
            .name = r->name,
            .version = r->version,
            .bytes = r->bytes,
            .updated_us = r->updated_us,
            .status = r->status,
            .is_static = r->is_static,
            .error = r->error,
            .error_version = r->error_version,
            .error_bytes = r->error_bytes,
            .error_us = r->error_us,
        };
        fn(arg, &info);
    }
    arena_cleanup(&a);
}

void xds_foreach(struct xds *x, const struct resource_ops *ops,
                 void (*fn)(void *arg, const struct xds_resource_info *r), void *arg)
{
    LIST_FOREACH(it, &x->types) {
        const struct xds_type *t = CONTAINER_OF(it, struct xds_type, link);
        if (!ops || t->ops == ops)
            foreach_type(t, fn, arg);
    }
}

struct str xds_version(struct xds *x, const struct resource_ops *ops)
{
    struct xds_type *t = xds_type_of(x, ops);
    LIST_FOREACH(it, &t->feeds) {
        const struct xds_feed *f = CONTAINER_OF(it, struct xds_feed, link);
        if (f->collects)
            return f->version;
    }
    return STR_NULL;
}
