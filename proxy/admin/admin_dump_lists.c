/* The lists of /config_dump that stand for resources of the xDS client. */
#include "api-protos/mapping.h"
#include "api-protos/wire.h"
#include "cluster/clusters.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "proxy/admin/admin_dump.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/bootstrap.h"
#include "proxy/listener/listeners.h"
#include "proxy/router/route_slots.h"
#include "proxy/server.h"
#include "tls/tls_secret.h"
#include "xds/xds.h"

static void foreach_resource(struct admin_dump *d, const struct resource_ops *ops,
                             void (*fn)(void *arg, const struct xds_resource_info *r))
{
    if (d->server->xds)
        xds_foreach(d->server->xds, ops, fn, d);
}

/* The fields that most elements have. */
static void put_resource(struct admin_dump *d, const char *any, const struct xds_resource_info *r)
{
    if (!r->is_static)
        admin_dump_str(d, "version_info", r->version);
    if (r->bytes.len)
        admin_dump_any(d, any, r->ops->type_url, r->bytes);
    admin_put_time(d->out, "last_updated", r->updated_us);
}

/* UpdateFailureState: the version that was refused last. */
static void put_error(struct admin_dump *d, const struct xds_resource_info *r)
{
    if (r->error.len == 0)
        return;
    json_key(d->out, STR("error_state"));
    json_open(d->out, '{');
    admin_dump_any(d, "failed_configuration", r->ops->type_url, r->error_bytes);
    admin_put_time(d->out, "last_update_attempt", r->error_us);
    admin_dump_str(d, "details", r->error);
    admin_dump_str(d, "version_info", r->error_version);
    json_close(d->out, '}');
}

/* An Any that says no more than the name, where the bytes are not there. */
static void put_name_only(struct admin_dump *d, const char *any, const char *type_url,
                          struct str name)
{
    json_key(d->out, str_of(any));
    json_open(d->out, '{');
    json_key(d->out, STR("@type"));
    json_put_str(d->out, str_of(type_url));
    admin_dump_str(d, "name", name);
    json_close(d->out, '}');
}

/* --- bootstrap ---------------------------------------------------------------------------------
 */

/* The bootstrap's bytes with the node as the control plane is told it. */
static struct str with_node(const struct bootstrap *b, struct arena *a)
{
    enum { NODE = 1, TAG_LEN = 6 };
    char *out = arena_bytes(a, b->bytes.len + b->node.len + TAG_LEN), *at = out;
    struct wire w;
    struct wire_field f;
    const char *why;
    *at++ = NODE << 3 | WIRE_LEN;
    for (size_t n = b->node.len;; n >>= 7) {
        *at++ = (char)(n > 0x7f ? (n & 0x7f) | 0x80 : n);
        if (n <= 0x7f)
            break;
    }
    memcpy(at, b->node.p, b->node.len);
    at += b->node.len;
    wire_init(&w, b->bytes);
    while (wire_next(&w, &f, &why) == WIRE_FIELD) {
        if (f.number == NODE)
            continue;
        memcpy(at, f.whole.p, f.whole.len);
        at += f.whole.len;
    }
    return str_n(out, (size_t)(at - out));
}

void admin_dump_bootstrap(struct admin_dump *d)
{
    const struct bootstrap *b = d->server->bootstrap;
    struct json_writer before = *d->out;
    if (!b)
        return;
    json_key(d->out, STR("bootstrap"));
    if (!pb_to_json(b->msg->base.descriptor, with_node(b, &d->scratch), PB_JSON_REDACT, d->out)) {
        before.p = d->out->p;
        before.cap = d->out->cap;
        *d->out = before;
    }
    admin_put_time(d->out, "last_updated", b->loaded_us);
}

/* --- clusters ----------------------------------------------------------------------------------
 */

struct str admin_dump_cluster_version(const struct admin_dump *d)
{
    const struct server *s = d->server;
    return s->clusters ? xds_version(s->xds, &clusters_resource_ops) : STR_NULL;
}

static void on_static_cluster(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    if (!r->is_static || !admin_dump_begin(d, r->name))
        return;
    put_resource(d, "cluster", r);
    admin_dump_end(d);
}

void admin_dump_static_clusters(struct admin_dump *d)
{
    foreach_resource(d, &clusters_resource_ops, on_static_cluster);
}

static void note_cluster(void *arg, const struct cluster_view *v)
{
    struct admin_dump *d = arg;
    struct cluster_view *copy = ARENA_NEW(&d->names_arena, struct cluster_view);
    *copy = *v;
    (void)map_put(&d->names, v->name, copy);
}

static void note_clusters(struct admin_dump *d)
{
    if (d->server->clusters)
        clusters_visit(d->server->clusters, note_cluster, d);
}

/* While a newer version warms, only its bytes are kept: the active one shows its name. */
static void on_active_cluster(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    const struct cluster_view *v = map_get(&d->names, r->name);
    if (r->is_static || !v || !v->active || !admin_dump_begin(d, r->name))
        return;
    if (v->warming) {
        admin_dump_str(d, "version_info", v->version);
        put_name_only(d, "cluster", r->ops->type_url, r->name);
        admin_put_time(d->out, "last_updated", v->updated_us);
    } else {
        put_resource(d, "cluster", r);
    }
    put_error(d, r);
    admin_dump_end(d);
}

void admin_dump_active_clusters(struct admin_dump *d)
{
    note_clusters(d);
    foreach_resource(d, &clusters_resource_ops, on_active_cluster);
}

/* Warming ones, and those of which no version was accepted yet. */
static void on_warming_cluster(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    const struct cluster_view *v = map_get(&d->names, r->name);
    if (r->is_static || (v && !v->warming) || !admin_dump_begin(d, r->name))
        return;
    if (r->bytes.len)
        put_resource(d, "cluster", r);
    else
        put_name_only(d, "cluster", r->ops->type_url, r->name);
    if (!v || !v->active)
        put_error(d, r);
    admin_dump_end(d);
}

void admin_dump_warming_clusters(struct admin_dump *d)
{
    note_clusters(d);
    foreach_resource(d, &clusters_resource_ops, on_warming_cluster);
}

/* --- listeners ---------------------------------------------------------------------------------
 */

struct str admin_dump_listener_version(const struct admin_dump *d)
{
    const struct server *s = d->server;
    return s->listeners ? xds_version(s->xds, &listener_resource) : STR_NULL;
}

static void on_static_listener(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    if (!r->is_static || !admin_dump_begin(d, r->name))
        return;
    put_resource(d, "listener", r);
    admin_dump_end(d);
}

void admin_dump_static_listeners(struct admin_dump *d)
{
    foreach_resource(d, &listener_resource, on_static_listener);
}

static void note_listener(void *arg, const struct listener_view *v)
{
    struct admin_dump *d = arg;
    const char *state = v->draining  ? "draining_state"
                        : v->warming ? "warming_state"
                                     : "active_state";
    if (v->num_addresses)
        (void)map_put(&d->names, v->name, (void *)(uintptr_t)state);
}

static void on_dynamic_listener(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    const char *state = map_get(&d->names, r->name);
    if (r->is_static || !admin_dump_begin(d, r->name))
        return;
    admin_dump_str(d, "name", r->name);
    if (state && r->bytes.len) {
        json_key(d->out, str_of(state));
        json_open(d->out, '{');
        put_resource(d, "listener", r);
        json_close(d->out, '}');
    }
    put_error(d, r);
    admin_dump_end(d);
}

void admin_dump_dynamic_listeners(struct admin_dump *d)
{
    if (d->server->listeners)
        listeners_visit(d->server->listeners, note_listener, d);
    foreach_resource(d, &listener_resource, on_dynamic_listener);
}

/* --- routes ------------------------------------------------------------------------------------
 */

/* Inline route tables have no resource of their own: they are cut out of their listeners' JSON. */
static void put_inline_routes(struct admin_dump *d, const struct json *chain,
                              const struct xds_resource_info *r)
{
    const struct json *filters = json_get(chain, "filters");
    for (const struct json *f = filters ? filters->first : NULL; f; f = f->next) {
        const struct json *table = json_get(json_get(f, "typed_config"), "route_config");
        if (!table || !admin_dump_element(d, json_str(json_get(table, "name"))))
            continue;
        json_key(d->out, STR("route_config"));
        json_open(d->out, '{');
        json_key(d->out, STR("@type"));
        json_put_str(d->out, str_of(route_resource.type_url));
        for (const struct json *m = table->first; m; m = m->next) {
            json_key(d->out, m->key);
            json_put_tree(d->out, m);
        }
        json_close(d->out, '}');
        admin_put_time(d->out, "last_updated", r->updated_us);
        admin_dump_end(d);
    }
}

static void on_listener_routes(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    struct json_writer w;
    struct json_error err;
    struct arena a;
    if (str_find(r->bytes, STR("HttpConnectionManager")) < 0 || !admin_dump_source(d, r->name))
        return;
    arena_init(&a, 16384);
    json_writer_init(&w, false);
    const struct json *l = NULL;
    if (pb_to_json(&envoy__config__listener__v3__listener__descriptor, r->bytes, PB_JSON_REDACT,
                   &w))
        l = json_parse(json_writer_text(&w), JSON_DUPLICATES_LAST, &a, &err);
    const struct json *chains = json_get(l, "filter_chains");
    for (const struct json *c = chains ? chains->first : NULL; c; c = c->next)
        put_inline_routes(d, c, r);
    put_inline_routes(d, json_get(l, "default_filter_chain"), r);
    json_writer_cleanup(&w);
    arena_cleanup(&a);
}

void admin_dump_static_routes(struct admin_dump *d)
{
    foreach_resource(d, &listener_resource, on_listener_routes);
}

static void on_dynamic_route(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    if ((r->bytes.len == 0 && r->error.len == 0) || !admin_dump_begin(d, r->name))
        return;
    put_resource(d, "route_config", r);
    put_error(d, r);
    admin_dump_end(d);
}

void admin_dump_dynamic_routes(struct admin_dump *d)
{
    foreach_resource(d, &route_resource, on_dynamic_route);
}

/* --- secrets -----------------------------------------------------------------------------------
 */

static void put_secret(struct admin_dump *d, const struct xds_resource_info *r)
{
    admin_dump_str(d, "name", r->name);
    if (!r->is_static)
        admin_dump_str(d, "version_info", r->version);
    admin_put_time(d->out, "last_updated", r->updated_us);
    if (r->bytes.len)
        admin_dump_any(d, "secret", r->ops->type_url, r->bytes);
    else
        put_name_only(d, "secret", r->ops->type_url, r->name);
    put_error(d, r);
}

static void on_static_secret(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    if (!r->is_static || !admin_dump_begin(d, r->name))
        return;
    put_secret(d, r);
    admin_dump_end(d);
}

void admin_dump_static_secrets(struct admin_dump *d)
{
    foreach_resource(d, &tls_secret_ops, on_static_secret);
}

static void on_active_secret(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    if (r->is_static || r->bytes.len == 0 || !admin_dump_begin(d, r->name))
        return;
    put_secret(d, r);
    admin_dump_end(d);
}

void admin_dump_active_secrets(struct admin_dump *d)
{
    foreach_resource(d, &tls_secret_ops, on_active_secret);
}

static void on_warming_secret(void *arg, const struct xds_resource_info *r)
{
    struct admin_dump *d = arg;
    if (r->is_static || r->bytes.len || !admin_dump_begin(d, r->name))
        return;
    put_secret(d, r);
    admin_dump_end(d);
}

void admin_dump_warming_secrets(struct admin_dump *d)
{
    foreach_resource(d, &tls_secret_ops, on_warming_secret);
}
