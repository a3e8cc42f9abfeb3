#include "proxy/router/route_slots.h"

#include "api-protos/message.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "proxy/network/network_filter.h"
#include "proxy/server.h"
#include "xds/discovery.h"
#include "xds/xds.h"

struct route_slot {
    struct list link;
    struct refcount ref; /* main's and those of messages under way */
    struct route_slots *owner;
    struct subscription *sub;      /* NULL: static */
    struct str name;               /* owned; empty: static */
    struct route_table *newest;    /* main's */
    bool settled;                  /* nothing to wait for */
    struct route_table *current[]; /* by thread; each written by its thread only */
};

struct route_slots {
    struct server *server;
    struct xds *xds;
    struct compile_env env; /* what per-route configurations of filters may refer to */
    void (*on_change)(void *arg);
    void *arg;
    struct list slots;
};

/* --- the resource type --- */

static bool name_of(struct str bytes, struct str *out)
{
    return discovery_name_of(bytes, 1, out);
}

static void *compile(void *owner, struct str name, struct str bytes, struct errors *e)
{
    struct route_slots *r = owner;
    struct arena a;
    arena_init(&a, 16384);
    struct route_table *t = NULL;
    const void *msg = PB_UNPACK(Envoy__Config__Route__V3__RouteConfiguration,
                                envoy__config__route__v3__route_configuration, bytes, &a, e,
                                r->env.pb);
    if (msg)
        t = route_table_compile(msg, &(struct route_compile_options){.env = &r->env}, e);
    arena_cleanup(&a);
    return t;
}

static void ref(void *compiled)
{
    route_table_ref(compiled);
}

static void unref(void *compiled)
{
    route_table_unref(compiled);
}

const struct resource_ops route_resource = {
    .type_url = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    .label = "rds",
    .reload_stats = true,
    .name_of = name_of,
    .compile = compile,
    .ref = ref,
    .unref = unref,
};

/* --- publishing --- */

static void slot_drop(struct route_slot *s)
{
    if (!refcount_dec(&s->ref))
        return;
    unsigned threads = s->owner->server->num_workers + 1;
    for (unsigned i = 0; i < threads; i++)
        route_table_unref(s->current[i]);
    route_table_unref(s->newest);
    mem_free((void *)(uintptr_t)s->name.p);
    mem_free(s);
}

struct swap {
    struct message msg;
    struct route_slot *slot;
    struct route_table *table;
    struct server *server;
    unsigned thread;
};

/* Back on main: the slot may go now. */
static void deliver_back(void *arg)
{
    struct swap *m = arg;
    slot_drop(m->slot);
    mem_free(m);
}

static void deliver_swap(void *arg)
{
    struct swap *m = arg;
    struct route_table *old = m->slot->current[m->thread];
    m->slot->current[m->thread] = m->table;
    route_table_unref(old);
    m->msg.deliver = deliver_back;
    mailbox_send(&m->server->box, &m->msg);
}

static void publish(struct route_slot *s, struct route_table *t)
{
    struct server *server = s->owner->server;
    for (unsigned i = 0; i < server->num_workers; i++) {
        struct swap *m = NEW(struct swap);
        m->slot = s;
        m->table = route_table_ref(t);
        m->server = server;
        m->thread = server->workers[i].index;
        m->msg = (struct message){.deliver = deliver_swap, .arg = m};
        refcount_inc(&s->ref);
        mailbox_send(&server->workers[i].box, &m->msg);
    }
}

static void settle(struct route_slot *s)
{
    if (s->settled)
        return;
    s->settled = true;
    s->owner->on_change(s->owner->arg);
}

static void on_update(void *arg, void *compiled)
{
    struct route_slot *s = arg;
    route_table_unref(s->newest);
    s->newest = route_table_ref(compiled);
    publish(s, s->newest);
    settle(s);
}

static void on_absent(void *arg, enum xds_absent why)
{
    settle(arg);
}

static void on_error(void *arg, struct str text)
{
    settle(arg);
}

static const struct watcher_ops watcher = {on_update, on_absent, on_error};

/* --- slots --- */

static struct route_slot *slot_new(struct route_slots *r)
{
    size_t threads = r->server->num_workers + 1;
    struct route_slot *s = mem_zalloc(sizeof(*s) + threads * sizeof(s->current[0]));
    refcount_init(&s->ref);
    s->owner = r;
    list_push_tail(&r->slots, &s->link);
    return s;
}

struct route_slot *route_slot_static(struct route_slots *r, struct route_table *t)
{
    struct route_slot *s = slot_new(r);
    s->newest = t;
    s->settled = true;
    publish(s, t);
    return s;
}

struct route_slot *route_slot_rds(struct route_slots *r, const struct xds_source *src,
                                  struct str name, struct str stat_prefix)
{
    struct route_slot *s = slot_new(r);
    s->name = str_n(mem_strndup(name.p, name.len), name.len);
    struct stats_part parts[] = {{STR("http"), NULL},
                                 {stat_prefix, "envoy_http_conn_manager_prefix"},
                                 {STR("rds"), NULL},
                                 {s->name, "envoy_rds_route_config"}};
    struct xds_stats_prefix prefix = {parts, ARRAY_LEN(parts)};
    s->sub = xds_subscribe(r->xds, src, &route_resource, s->name, &prefix, &watcher, s);
    return s;
}

void route_slot_unref(struct route_slot *s)
{
    if (!s)
        return;
    xds_unsubscribe(&s->sub);
    list_remove(&s->link);
    slot_drop(s);
}

bool route_slot_ready(const struct route_slot *s)
{
    return s->settled;
}

struct route_table *route_slot_get(struct route_slot *s, unsigned thread)
{
    struct route_table *t = s->current[thread];
    return t ? route_table_ref(t) : NULL;
}

struct route_slots *route_slots_new(struct server *server, struct xds *x, const struct pb_opts *pb,
                                    void (*on_change)(void *), void *arg)
{
    struct route_slots *r = NEW(struct route_slots);
    r->server = server;
    r->xds = x;
    r->env.pb = pb;
    r->on_change = on_change;
    r->arg = arg;
    list_init(&r->slots);
    if (x)
        xds_register(x, &route_resource, r);
    return r;
}

void route_slots_free(struct route_slots **r)
{
    mem_free(*r);
    *r = NULL;
}
