#include "cluster/clusters.h"

#include "base/log.h"
#include "cluster/clusters_private.h"
#include "cluster/worker_clusters.h"

static void gauge(struct clusters *c, uint32_t stat, uint64_t n)
{
    stats_gauge_set(c->stats, loop_thread_index(c->loop), stat, n);
}

/* --- publishing --------------------------------------------------------------------------------
 */

void clusters_dirty(struct cluster_entry *e)
{
    if (!list_linked(&e->dirty_link))
        list_push_tail(&e->owner->dirty, &e->dirty_link);
    loop_post(e->owner->loop, &e->owner->publish_task);
}

static void put_entry(struct clusters *c, struct cluster_table *t, struct cluster_entry *e)
{
    struct cluster_node *n;

    if (e->removed) {
        cluster_table_remove(t, e->name);
        (void)map_remove(&c->entries, e->name);
        entry_free(e);
        return;
    }
    if (!e->active)
        return; /* removed, and added again, and still warming */
    if (!entry_build(e)) {
        list_push_tail(&c->unfinished, &e->dirty_link);
        return;
    }
    n = cluster_node_new(&c->home, e->active->config, e->hosts, e->state);
    cluster_table_put(t, n);
    cluster_node_unref(n);
    if (e->rebuild) /* something changed while that was being built */
        list_push_tail(&c->unfinished, &e->dirty_link);
}

static void publish(void *arg)
{
    struct clusters *c = arg;
    struct cluster_table *t = cluster_table_copy(c->table);
    struct list *it;

    while ((it = list_pop_head(&c->dirty)))
        put_entry(c, t, CONTAINER_OF(it, struct cluster_entry, dirty_link));
    while ((it = list_pop_head(&c->unfinished)))
        clusters_dirty(CONTAINER_OF(it, struct cluster_entry, dirty_link));
    if (c->own_changed)
        cluster_table_set_own(t, c->own, (uint32_t)c->num_own);
    c->own_changed = false;
    cluster_table_unref(c->table);
    c->table = t;
    for (size_t i = 0; i < c->num_workers; i++)
        worker_clusters_send(c->workers[i], t);
}

void clusters_attach(struct clusters *c, struct worker_clusters *w)
{
    c->workers = mem_grow_array(c->workers, &c->cap_workers, c->num_workers + 1,
                                sizeof(struct worker_clusters *));
    c->workers[c->num_workers++] = w;
    worker_clusters_send(w, c->table);
}

void clusters_detach(struct clusters *c, struct worker_clusters *w)
{
    for (size_t i = 0; i < c->num_workers; i++) {
        if (c->workers[i] == w) {
            c->workers[i] = c->workers[--c->num_workers];
            return;
        }
    }
}

void clusters_set_own_listeners(struct clusters *c, const struct addr *addrs, size_t num)
{
    mem_free(c->own);
    c->own = mem_alloc(num * sizeof(*addrs));
    for (size_t i = 0; i < num; i++)
        c->own[i] = addrs[i];
    c->num_own = num;
    c->own_changed = true;
    loop_post(c->loop, &c->publish_task);
}

/* --- initialization --- */

static void on_cds_settled(void *arg)
{
    struct clusters *c = arg;
    c->cds_settled = true;
    clusters_counted(c);
}

static void begin_secondary(struct clusters *c)
{
    const struct stats_part parts[] = {{STR("cluster_manager"), NULL}, {STR("cds"), NULL}};
    const struct xds_stats_prefix prefix = {parts, ARRAY_LEN(parts)};
    struct str name;
    void *value;

    c->phase = CLUSTERS_SECONDARY;
    for (size_t it = 0; map_next(&c->entries, &it, &name, &value);) {
        struct cluster_entry *e = value;
        if (e->warming)
            entry_start(e->warming);
    }
    if (c->cds_wanted)
        xds_collect(c->xds, &c->cds, &clusters_resource_ops, &prefix, on_cds_settled, c);
    else
        c->cds_settled = true;
}

static void advance(void *arg)
{
    struct clusters *c = arg;

    if (c->phase == CLUSTERS_PRIMARY && c->num_first_primary == 0)
        begin_secondary(c);
    if (c->phase != CLUSTERS_SECONDARY || !c->cds_settled || c->num_first > 0)
        return;
    c->phase = CLUSTERS_READY;
    if (list_linked(&c->publish_task.link)) { /* listeners come after what they refer to */
        task_cancel(&c->publish_task);
        publish(c);
    }
    LOG_INFO(upstream, "all clusters are warm: %u", c->num_active);
    if (c->initialized)
        c->initialized(c->initialized_arg);
}

void clusters_counted(struct clusters *c)
{
    gauge(c, CLUSTERS_ACTIVE, c->num_active);
    gauge(c, CLUSTERS_WARMING, c->num_warming);
    if (c->phase == CLUSTERS_PRIMARY || c->phase == CLUSTERS_SECONDARY)
        loop_post(c->loop, &c->init_task);
}

static void copy_source(struct clusters *c, const struct xds_source *src)
{
    c->cds = *src;
    c->cds.server.cluster = arena_str(&c->arena, src->server.cluster);
    c->cds.server.authority = arena_str(&c->arena, src->server.authority);
    c->cds.path = arena_str(&c->arena, src->path);
    c->cds.watched_directory = arena_str(&c->arena, src->watched_directory);
    if (src->server.num_headers) {
        struct xds_header *h = arena_alloc(&c->arena, src->server.num_headers * sizeof(*h));
        for (size_t i = 0; i < src->server.num_headers; i++) {
            h[i].name = arena_str(&c->arena, src->server.headers[i].name);
            h[i].value = arena_str(&c->arena, src->server.headers[i].value);
        }
        c->cds.server.headers = h;
    }
}

void clusters_start(struct clusters *c, const struct xds_source *cds, void (*initialized)(void *),
                    void *arg)
{
    CHECK(c->phase == CLUSTERS_LOADING);
    c->phase = CLUSTERS_PRIMARY;
    c->initialized = initialized;
    c->initialized_arg = arg;
    if (cds) {
        c->cds_wanted = true;
        copy_source(c, cds);
    }
    clusters_counted(c);
}

/* --- the resource types --- */

static void *compile_cluster(void *owner, struct str name, struct str bytes, struct errors *e)
{
    struct clusters *c = owner;
    struct cluster_compile_env env = {
        .home = &c->home,
        .pb = c->compiling_static ? c->opts.pb_static : c->opts.pb_dynamic,
        .has_ads = xds_has_ads(c->xds),
        .is_static = c->compiling_static,
        .parent = c->compiling_static || !c->cds_wanted ? NULL : &c->cds,
        .transport = c->opts.transport,
        .transport_arg = c->opts.transport_arg,
        .filters = c->opts.filters,
        .filters_arg = c->opts.filters_arg,
        .dns = c->opts.dns,
        .probes = c->opts.probes,
        .sink = c->opts.sink,
    };
    return cluster_config_compile(&env, bytes, e);
}

static void ref_config(void *compiled)
{
    (void)cluster_config_ref(compiled);
}

static void unref_config(void *compiled)
{
    cluster_config_unref(compiled);
}

static struct cluster_entry *find_or_make(struct clusters *c, struct str name)
{
    struct cluster_entry *e = map_get(&c->entries, name);
    if (e)
        return e;
    e = NEW(struct cluster_entry);
    e->magic = CLUSTER_ENTRY_MAGIC;
    e->owner = c;
    e->name = str_n(mem_strndup(name.p, name.len), name.len);
    e->is_static = c->compiling_static;
    membership_init(&e->members, &c->home, NULL);
    entry_init_health(e);
    (void)map_put(&c->entries, e->name, e);
    return e;
}

static bool apply_cluster(void *owner, struct str name, void *compiled, struct str version,
                          struct errors *e)
{
    struct clusters *c = owner;
    entry_apply(find_or_make(c, name), compiled, version);
    return true;
}

static void remove_cluster(void *owner, struct str name)
{
    struct clusters *c = owner;
    struct cluster_entry *e = map_get(&c->entries, name);
    if (e && !e->removed)
        entry_remove(e);
}

const struct resource_ops clusters_resource_ops = {
    .type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    .label = "cds",
    .wildcard = true,
    .reload_stats = true,
    .name_of = cluster_name_of,
    .compile = compile_cluster,
    .ref = ref_config,
    .unref = unref_config,
    .apply = apply_cluster,
    .remove = remove_cluster,
};

static void *compile_endpoints(void *owner, struct str name, struct str bytes, struct errors *e)
{
    struct clusters *c = owner;
    struct load_assignment *la = load_assignment_compile(bytes, e, c->opts.pb_dynamic);
    if (la && !str_eq(la->name, name)) {
        errors_add(e, "cluster_name", "is '%.*s', not '%.*s'", STR_ARG(la->name), STR_ARG(name));
        load_assignment_unref(la);
        return NULL;
    }
    return la;
}

static void ref_endpoints(void *compiled)
{
    (void)load_assignment_ref(compiled);
}

static void unref_endpoints(void *compiled)
{
    load_assignment_unref(compiled);
}

const struct resource_ops clusters_endpoint_ops = {
    .type_url = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    .label = "eds",
    .name_of = cluster_name_of_assignment,
    .compile = compile_endpoints,
    .ref = ref_endpoints,
    .unref = unref_endpoints,
};

bool clusters_add_static(struct clusters *c, struct str bytes, struct errors *e)
{
    struct str name;
    size_t mark = cluster_name_of(bytes, &name) ? errors_push_key(e, NULL, name) : e->path_len;
    bool ok;

    c->compiling_static = true;
    ok = xds_static(c->xds, &clusters_resource_ops, bytes, e);
    c->compiling_static = false;
    errors_pop(e, mark);
    return ok;
}

/* --- life --- */

struct clusters *clusters_new(const struct clusters_options *opts)
{
    struct clusters *c = NEW(struct clusters);
    c->loop = opts->loop;
    c->xds = opts->xds;
    c->opts = *opts;
    c->home = (struct reclaim_home){pthread_self(), opts->box};
    arena_init(&c->arena, 0);
    map_init(&c->entries, false);
    list_init(&c->dirty);
    list_init(&c->unfinished);
    list_init(&c->health.waiting);
    task_init(&c->publish_task, publish, c);
    task_init(&c->init_task, advance, c);
    c->stats = stats_scope_named(&clusters_stats_table, STR("cluster_manager"));
    c->table = cluster_table_new(&c->home);
    xds_register(c->xds, &clusters_resource_ops, c);
    xds_register(c->xds, &clusters_endpoint_ops, c);
    clusters_counted(c);
    return c;
}

static void free_entry(void *arg)
{
    entry_free(arg);
}

void clusters_free(struct clusters **cp)
{
    struct clusters *c = *cp;
    if (!c)
        return;
    *cp = NULL;
    map_cleanup(&c->entries, free_entry);
    resolver_free(&c->resolver);
    task_cancel(&c->publish_task);
    task_cancel(&c->init_task);
    cluster_table_unref(c->table);
    stats_scope_free(&c->stats);
    mem_free(c->workers);
    mem_free(c->own);
    arena_cleanup(&c->arena);
    mem_free(c);
}
