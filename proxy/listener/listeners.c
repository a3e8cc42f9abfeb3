#include "proxy/listener/listeners.h"

#include "api-protos/message.h"
#include "xds/discovery.h"
#include "base/log.h"
#include "base/map.h"
#include "cluster/clusters.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "proxy/listener/addr_index.h"
#include "proxy/listener/worker_listeners.h"
#include "proxy/server.h"
#include "xds/xds.h"

#define MANAGER_STATS(X)                                                                           \
    X(LM_ADDED, "listener_added", COUNTER)                                                         \
    X(LM_MODIFIED, "listener_modified", COUNTER)                                                   \
    X(LM_REMOVED, "listener_removed", COUNTER)                                                     \
    X(LM_STOPPED, "listener_stopped", COUNTER)                                                     \
    X(LM_CREATE_SUCCESS, "listener_create_success", COUNTER)                                       \
    X(LM_CREATE_FAILURE, "listener_create_failure", COUNTER)                                       \
    X(LM_ACTIVE, "total_listeners_active", GAUGE)                                                  \
    X(LM_WARMING, "total_listeners_warming", GAUGE)                                                \
    X(LM_DRAINING, "total_listeners_draining", GAUGE)                                              \
    X(LM_WORKERS_STARTED, "workers_started", GAUGE)

enum { MANAGER_STATS(STATS_ENUM) LM_NUM_STATS };
static const struct stats_def stat_defs[] = {MANAGER_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

/* One name: what serves, and what warms to take its place. */
struct entry {
    struct list link;
    struct str name; /* owned */
    struct listener *active, *warming;
};

/* A listener that is gone or replaced, while its connections end. */
struct leaving {
    struct list link;
    struct listeners *owner;
    struct listener *listener;
    struct timer timer;
};

struct listeners {
    struct server *server;
    const struct compile_env *env;
    struct stats_scope *stats;
    struct list entries, leaving;
    struct addr_index by_addr; /* addresses that are taken, to struct entry */
    struct timer drain_end;
    bool drain_inbound;
    bool started;                  /* the workers accept */
    bool stopped, stopped_inbound; /* they accept no more, whatever comes */
};

static void set_gauges(struct listeners *ls)
{
    uint64_t active = 0, warming = 0, leaving = 0;
    LIST_FOREACH(e, &ls->entries) {
        struct entry *en = CONTAINER_OF(e, struct entry, link);
        active += en->active != NULL;
        warming += en->warming != NULL;
    }
    LIST_FOREACH(e, &ls->leaving)
        leaving++;
    stats_gauge_set(ls->stats, 0, LM_ACTIVE, active);
    stats_gauge_set(ls->stats, 0, LM_WARMING, warming);
    stats_gauge_set(ls->stats, 0, LM_DRAINING, leaving);
}

static void publish(struct listeners *ls, enum publish_kind kind, struct listener *old,
                    struct listener *next)
{
    for (unsigned i = 0; i < ls->server->num_workers; i++)
        worker_listeners_publish(&ls->server->workers[i], kind, old, next);
}

/* Connections to these addresses would come straight back to us. */
static void tell_own_addresses(struct listeners *ls)
{
    size_t n = 0;
    LIST_FOREACH(e, &ls->entries) {
        const struct listener *l = CONTAINER_OF(e, struct entry, link)->active;
        n += l && l->sockets ? l->sockets->num : 0;
    }
    struct addr *own = mem_zalloc((n + 1) * sizeof(*own));
    n = 0;
    LIST_FOREACH(e, &ls->entries) {
        struct listener *l = CONTAINER_OF(e, struct entry, link)->active;
        for (size_t i = 0; l && l->sockets && i < l->sockets->num; i++)
            own[n++] = l->sockets->v[i].addr;
    }
    clusters_set_own_listeners(ls->server->clusters, own, n);
    mem_free(own);
}

/* Its sockets are closed as soon as the workers have let go of them too: a client of an address
 * that nobody serves is refused and does not wait. */
static void let_go_sockets(struct listener *l)
{
    listen_sockets_unref(l->sockets);
    l->sockets = NULL;
}

/* --- addresses --- */

/* Port 0 is another port each time. */
static bool is_fixed(const struct addr *a)
{
    return !addr_is_ip(a) || addr_port(a);
}

/* Bound or not, an address has one listener: connections would go to either. */
static bool check_addresses(const struct listeners *ls, const struct entry *en,
                            const struct listener *l, struct errors *e)
{
    for (size_t i = 0; i < l->num_addresses; i++) {
        const struct addr *a = &l->addresses[i].addr;
        const struct entry *other = addr_index_get(&ls->by_addr, a);
        char text[ADDR_TEXT_MAX];
        if (!other || other == en)
            continue;
        struct str where = addr_format(a, text);
        size_t mark = i ? errors_push_index(e, "additional_addresses", i - 1) : 0;
        errors_add(e, "address", "has duplicate address '%.*s' as existing listener '%.*s'",
                   STR_ARG(where), STR_ARG(other->name));
        if (i)
            errors_pop(e, mark);
        return false;
    }
    return true;
}

static void claim(struct listeners *ls, struct entry *en, const struct listener *l)
{
    for (size_t i = 0; l && i < l->num_addresses; i++) {
        if (is_fixed(&l->addresses[i].addr))
            (void)addr_index_put(&ls->by_addr, &l->addresses[i].addr, en);
    }
}

static void unclaim(struct listeners *ls, struct entry *en, const struct listener *l)
{
    for (size_t i = 0; l && i < l->num_addresses; i++)
        addr_index_remove(&ls->by_addr, &l->addresses[i].addr, en);
}

/* --- leaving --- */

static void on_drained(void *arg)
{
    struct leaving *lv = arg;
    struct listeners *ls = lv->owner;
    publish(ls, PUBLISH_KILL, lv->listener, NULL);
    timer_disarm(&lv->timer);
    list_remove(&lv->link);
    listener_unref(lv->listener);
    mem_free(lv);
    set_gauges(ls);
}

/* Takes the reference. */
static void leave(struct listeners *ls, struct listener *l)
{
    struct leaving *lv = NEW(struct leaving);
    lv->owner = ls;
    lv->listener = l;
    timer_init(&lv->timer, ls->server->loop, on_drained, lv);
    timer_arm(&lv->timer, ls->server->options->drain_time_s * 1000);
    list_push_tail(&ls->leaving, &lv->link);
}

/* --- warming --- */

static void activate(struct listeners *ls, struct entry *en)
{
    struct listener *next = en->warming, *old = en->active;
    if (ls->stopped || (ls->stopped_inbound && next->inbound))
        let_go_sockets(next);
    int err = next->sockets ? listen_sockets_listen(next->sockets, next) : 0;
    if (err) {
        LOG_ERROR(config, "listener %.*s: cannot listen: %s", STR_ARG(en->name), strerror(err));
        stats_inc(ls->stats, 0, LM_CREATE_FAILURE);
    }
    en->warming = NULL;
    en->active = next;
    publish(ls, old ? PUBLISH_REPLACE : PUBLISH_ADD, old, next);
    stats_add(ls->stats, 0, LM_CREATE_SUCCESS, ls->server->num_workers);
    if (old) {
        unclaim(ls, en, old);
        claim(ls, en, next);
        let_go_sockets(old);
        leave(ls, old);
    }
    LOG_DEBUG(config, "listener %.*s is active", STR_ARG(en->name));
    tell_own_addresses(ls);
    set_gauges(ls);
}

void listeners_recheck(struct listeners *ls)
{
    if (!ls || !ls->started)
        return;
    LIST_FOREACH(e, &ls->entries) {
        struct entry *en = CONTAINER_OF(e, struct entry, link);
        if (en->warming && listener_ready(en->warming))
            activate(ls, en);
    }
    server_check_ready(ls->server);
}

void listeners_start(struct listeners *ls)
{
    ls->started = true;
    stats_gauge_set(ls->stats, 0, LM_WORKERS_STARTED, 1);
    listeners_recheck(ls);
}

bool listeners_all_warm(const struct listeners *ls)
{
    LIST_FOREACH(e, &ls->entries) {
        const struct entry *en = CONTAINER_OF(e, struct entry, link);
        if (!en->active)
            return false;
    }
    return true;
}

/* --- the resource type --- */

static struct entry *find(struct listeners *ls, struct str name)
{
    LIST_FOREACH(e, &ls->entries) {
        struct entry *en = CONTAINER_OF(e, struct entry, link);
        if (str_eq(en->name, name))
            return en;
    }
    return NULL;
}

static bool name_of(struct str bytes, struct str *out)
{
    return discovery_name_of(bytes, 1, out);
}

static void *compile(void *owner, struct str name, struct str bytes, struct errors *e)
{
    struct listeners *ls = owner;
    struct arena a;
    arena_init(&a, 16384);
    struct listener *l = NULL;
    const void *msg = PB_UNPACK(Envoy__Config__Listener__V3__Listener,
                                envoy__config__listener__v3__listener, bytes, &a, e, ls->env->pb);
    if (msg)
        l = listener_compile(ls->server, ls->env, msg, e);
    arena_cleanup(&a);
    return l;
}

static void ref(void *compiled)
{
    listener_ref(compiled);
}

static void unref(void *compiled)
{
    listener_unref(compiled);
}

/* The sockets of whatever has this address already, under this name. */
static struct listen_sockets *reuse_sockets(const struct entry *en, const struct listener *l)
{
    struct listener *had[] = {en->active, en->warming};
    for (size_t i = 0; i < ARRAY_LEN(had); i++) {
        struct listener *o = had[i];
        if (o && o->sockets && listen_sockets_fit(o, l))
            return listen_sockets_ref(o->sockets);
    }
    return NULL;
}

static bool get_sockets(struct listeners *ls, const struct entry *en, struct listener *l,
                        struct errors *e)
{
    if (!l->bind_to_port)
        return true;
    if (en)
        l->sockets = reuse_sockets(en, l);
    if (!l->sockets)
        l->sockets = listen_sockets_open(l, ls->server->num_workers, e);
    return l->sockets != NULL;
}

static bool apply(void *owner, struct str name, void *compiled, struct str version,
                  struct errors *e)
{
    struct listeners *ls = owner;
    struct listener *l = compiled;
    struct entry *en = find(ls, name);
    if (!check_addresses(ls, en, l, e) || !get_sockets(ls, en, l, e)) {
        stats_inc(ls->stats, 0, LM_CREATE_FAILURE);
        return false;
    }
    stats_inc(ls->stats, 0, en ? LM_MODIFIED : LM_ADDED);
    if (!en) {
        en = NEW(struct entry);
        en->name = str_n(mem_strndup(name.p, name.len), name.len);
        list_push_tail(&ls->entries, &en->link);
    }
    unclaim(ls, en, en->warming);
    claim(ls, en, en->active);
    claim(ls, en, l);
    listener_unref(en->warming);
    en->warming = listener_ref(l);
    listener_start(l);
    set_gauges(ls);
    return true;
}

static void end(void *owner)
{
    listeners_recheck(owner);
}

static void entry_free(struct entry *en)
{
    list_remove(&en->link);
    listener_unref(en->warming);
    listener_unref(en->active);
    mem_free((void *)(uintptr_t)en->name.p);
    mem_free(en);
}

static void remove_listener(void *owner, struct str name)
{
    struct listeners *ls = owner;
    struct entry *en = find(ls, name);
    if (!en)
        return;
    stats_inc(ls->stats, 0, LM_REMOVED);
    unclaim(ls, en, en->active);
    unclaim(ls, en, en->warming);
    if (en->active) {
        publish(ls, PUBLISH_REMOVE, en->active, NULL);
        let_go_sockets(en->active);
        leave(ls, listener_ref(en->active));
    }
    entry_free(en);
    tell_own_addresses(ls);
    set_gauges(ls);
}

const struct resource_ops listener_resource = {
    .type_url = "type.googleapis.com/envoy.config.listener.v3.Listener",
    .label = "lds",
    .wildcard = true,
    .remove_first = true,
    .name_of = name_of,
    .compile = compile,
    .ref = ref,
    .unref = unref,
    .end = end,
    .apply = apply,
    .remove = remove_listener,
};

/* --- drain --- */

static bool concerned(const struct listener *l, bool inbound_only)
{
    return l && (!inbound_only || l->inbound);
}

static void stop_matching(struct listeners *ls, bool inbound_only)
{
    ls->stopped |= !inbound_only;
    ls->stopped_inbound |= inbound_only;
    LIST_FOREACH(e, &ls->entries) {
        struct listener *l = CONTAINER_OF(e, struct entry, link)->active;
        if (!concerned(l, inbound_only))
            continue;
        publish(ls, PUBLISH_STOP, l, NULL);
        let_go_sockets(l);
        stats_inc(ls->stats, 0, LM_STOPPED);
    }
}

static void on_drain_end(void *arg)
{
    struct listeners *ls = arg;
    stop_matching(ls, ls->drain_inbound);
}

void listeners_drain(struct listeners *ls, bool inbound_only, bool graceful, uint64_t drain_ms)
{
    LIST_FOREACH(e, &ls->entries) {
        struct listener *l = CONTAINER_OF(e, struct entry, link)->active;
        if (concerned(l, inbound_only))
            publish(ls, PUBLISH_DRAIN, l, NULL);
    }
    ls->drain_inbound = inbound_only;
    if (graceful)
        timer_arm(&ls->drain_end, drain_ms);
    else
        stop_matching(ls, inbound_only);
}

void listeners_stop_accepting(struct listeners *ls)
{
    timer_disarm(&ls->drain_end);
    stop_matching(ls, false);
}

/* --- views and life --- */

struct visit {
    struct map entries; /* by name */
    void (*fn)(void *arg, const struct listener_view *v);
    void *arg;
};

static void visit_one(void *arg, const struct xds_resource_info *r)
{
    struct visit *v = arg;
    struct listener_view view = {
        .name = r->name,
        .version = r->version,
        .updated_us = r->updated_us,
        .bytes = r->bytes,
        .is_static = r->is_static,
    };
    struct addr *own = NULL;
    const struct entry *en = map_get(&v->entries, r->name);
    if (en) {
        const struct listener *l = en->active ? en->active : en->warming;
        view.warming = !en->active;
        view.num_addresses = l->num_addresses;
        view.addresses = own = mem_alloc(l->num_addresses * sizeof(*own));
        for (size_t i = 0; i < l->num_addresses; i++)
            own[i] = l->sockets ? l->sockets->v[i].addr : l->addresses[i].addr;
    }
    v->fn(v->arg, &view);
    mem_free(own);
}

void listeners_visit(const struct listeners *ls,
                     void (*fn)(void *arg, const struct listener_view *v), void *arg)
{
    struct visit v = {.fn = fn, .arg = arg};
    map_init(&v.entries, false);
    LIST_FOREACH(e, &ls->entries) {
        struct entry *en = CONTAINER_OF(e, struct entry, link);
        (void)!map_put(&v.entries, en->name, en);
    }
    xds_foreach(ls->server->xds, &listener_resource, visit_one, &v);
    map_cleanup(&v.entries, NULL);
}

struct listeners *listeners_new(struct server *s, const struct compile_env *env)
{
    struct listeners *ls = NEW(struct listeners);
    ls->server = s;
    ls->env = env;
    ls->stats = stats_scope_named(&stat_table, STR("listener_manager"));
    list_init(&ls->entries);
    list_init(&ls->leaving);
    addr_index_init(&ls->by_addr);
    timer_init(&ls->drain_end, s->loop, on_drain_end, ls);
    stats_gauge_set(ls->stats, 0, LM_WORKERS_STARTED, 0);
    set_gauges(ls);
    xds_register(env->xds, &listener_resource, ls);
    return ls;
}

void listeners_free(struct listeners **lsp)
{
    struct listeners *ls = *lsp;
    if (!ls)
        return;
    *lsp = NULL;
    timer_disarm(&ls->drain_end);
    LIST_FOREACH_SAFE(e, &ls->leaving) {
        struct leaving *lv = CONTAINER_OF(e, struct leaving, link);
        timer_disarm(&lv->timer);
        list_remove(&lv->link);
        listener_unref(lv->listener);
        mem_free(lv);
    }
    while (!list_empty(&ls->entries))
        entry_free(CONTAINER_OF(ls->entries.next, struct entry, link));
    addr_index_cleanup(&ls->by_addr);
    stats_scope_free(&ls->stats);
    mem_free(ls);
}
