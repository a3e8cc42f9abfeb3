#include "base/log.h"
#include "base/obj.h"
#include "cluster/clusters_private.h"
#include "cluster/outlier.h"

/* Points of a hash table made at a time: some milliseconds. */
enum { CLUSTER_SLICE = 32768 };

static void count(struct clusters *c, uint32_t stat)
{
    stats_inc(c->stats, loop_thread_index(c->loop), stat);
}

/* --- members -----------------------------------------------------------------------------------
 */

static void on_health_changed(void *arg)
{
    struct cluster_entry *e = OBJ_CAST(arg, struct cluster_entry, CLUSTER_ENTRY_MAGIC);
    e->rebuild = true;
    clusters_dirty(e);
}

static struct host *const *list_hosts(void *arg, uint32_t *num)
{
    struct cluster_entry *e = OBJ_CAST(arg, struct cluster_entry, CLUSTER_ENTRY_MAGIC);
    *num = e->members.num_hosts;
    return e->members.order;
}

static const struct outlier_ops outlier_ops = {.hosts = list_hosts, .changed = on_health_changed};

/* --- active health checks --- */

static void check_warm(struct cluster_version *v);

static void on_checked(void *arg)
{
    struct cluster_entry *e = OBJ_CAST(arg, struct cluster_entry, CLUSTER_ENTRY_MAGIC);
    if (e->warming)
        check_warm(e->warming);
}

/* Comes from within a check: what follows may end the checks. */
static void on_settled(void *arg)
{
    struct cluster_entry *e = OBJ_CAST(arg, struct cluster_entry, CLUSTER_ENTRY_MAGIC);
    loop_post(e->owner->loop, &e->checked_task);
}

static void on_passed(void *arg, struct host *h)
{
    struct cluster_entry *e = OBJ_CAST(arg, struct cluster_entry, CLUSTER_ENTRY_MAGIC);
    if (e->state->outlier)
        outlier_health_passed(e->state->outlier, h);
}

static const struct health_checker_ops checker_ops = {
    .changed = on_health_changed,
    .settled = on_settled,
    .passed = on_passed,
};

void entry_init_health(struct cluster_entry *e)
{
    task_init(&e->checked_task, on_checked, e);
}

static void end_checks(struct cluster_entry *e)
{
    health_checker_free(&e->checker);
    task_cancel(&e->checked_task);
}

/* The members or the configuration are others now. */
static void sync_checks(struct cluster_entry *e, struct cluster_config *config)
{
    if (!config->health || config->type == CLUSTER_ORIGINAL_DST || e->owner->opts.validate) {
        end_checks(e);
        return;
    }
    if (!e->checker)
        e->checker = health_checker_new(e->owner->loop, &e->owner->health, config, e->state,
                                        &checker_ops, e);
    else
        health_checker_configure(e->checker, config);
    health_checker_sync(e->checker, e->members.order, e->members.num_hosts);
}

static enum membership_change update_members(struct cluster_entry *e, struct load_assignment *la,
                                             struct cluster_config *config)
{
    enum membership_change change = membership_update(&e->members, la, config);
    sync_checks(e, config);
    return change;
}

static void members_changed(struct cluster_entry *e)
{
    switch (update_members(e, e->active->assignment, e->active->config)) {
    case MEMBERS_SAME:
        e->state->update_no_rebuild++;
        return;
    case MEMBERS_OTHER:
        e->state->membership_change++;
        break;
    case MEMBERS_CHANGED:
        break;
    }
    count(e->owner, CLUSTERS_UPDATED);
    e->rebuild = true;
    clusters_dirty(e);
}

bool entry_build(struct cluster_entry *e)
{
    uint64_t budget = e->hosts ? CLUSTER_SLICE : UINT64_MAX;
    if (e->rebuild && !e->next) { /* one that has begun is finished, however often hosts change */
        e->rebuild = false;
        if (membership_kept_failed(&e->members)) {
            (void)update_members(e, e->active->assignment, e->active->config);
            e->state->membership_change++;
        }
        e->next = membership_build(&e->members, e->active->config);
    }
    if (!e->next)
        return true;
    if (!host_set_step(e->next, &budget))
        return false;
    host_set_unref(e->hosts);
    e->hosts = e->next;
    e->next = NULL;
    e->state->hosts = e->hosts;
    return true;
}

/* --- versions ------------------------------------------------------------------------------------
 */

static void version_free(struct cluster_version *v)
{
    const struct cluster_transport_ops *ops = v->entry->owner->opts.transport;

    xds_unsubscribe(&v->eds);
    dns_hosts_free(&v->dns);
    timer_disarm(&v->stale);
    for (uint32_t i = 0; i < v->config->num_transports && v->waits; i++) {
        if (v->config->transports[i] && v->started)
            ops->stop(v->config->transports[i]);
    }
    mem_free(v->waits);
    load_assignment_unref(v->assignment);
    cluster_config_unref(v->config);
    mem_free((void *)(uintptr_t)v->version.p);
    v->magic = 0;
    mem_free(v);
}

/* One that is not fit to be used yet holds back initialization. */
static void count_first(struct cluster_entry *e, const struct cluster_version *v, int step)
{
    struct clusters *c = e->owner;
    if (e->active)
        return;
    c->num_first += (uint32_t)step;
    if (v->config->type != CLUSTER_EDS)
        c->num_first_primary += (uint32_t)step;
}

static void drop_warming(struct cluster_entry *e)
{
    struct cluster_version *v = e->warming;
    if (!v)
        return;
    count_first(e, v, -1);
    e->owner->num_warming--;
    e->warming = NULL;
    version_free(v);
}

static void on_stale(void *arg)
{
    struct cluster_version *v = OBJ_CAST(arg, struct cluster_version, CLUSTER_VERSION_MAGIC);
    struct cluster_entry *e = v->entry;
    LOG_WARN(upstream, "cluster %.*s: its endpoints are stale and are dropped", STR_ARG(e->name));
    load_assignment_unref(v->assignment);
    v->assignment = NULL;
    if (v != e->active)
        return;
    e->state->assignment_stale++;
    members_changed(e);
}

static struct cluster_version *version_new(struct cluster_entry *e, struct cluster_config *config,
                                           struct str version)
{
    struct cluster_version *v = NEW(struct cluster_version);
    v->magic = CLUSTER_VERSION_MAGIC;
    v->entry = e;
    v->config = cluster_config_ref(config);
    v->version = str_n(mem_strndup(version.p, version.len), version.len);
    v->updated_us = loop_wall_us(e->owner->loop);
    timer_init(&v->stale, e->owner->loop, on_stale, v);
    return v;
}

/* --- activation --- */

static void make_state(struct cluster_entry *e, const struct cluster_config *config)
{
    if (e->state)
        return;
    e->state = cluster_state_new(&e->owner->home, config);
    if (!e->is_static)
        stats_scope_set_lazy(e->state->stats);
    e->members.state = e->state;
}

static void set_outlier(struct cluster_entry *e, const struct cluster_config *config)
{
    struct cluster_state *s = e->state;

    if (!config->outlier) {
        outlier_free(&s->outlier);
        return;
    }
    if (s->outlier) {
        outlier_configure(s->outlier, config->outlier);
        return;
    }
    if (!s->outlier_stats) {
        const struct stats_part parts[] = {{STR("cluster"), NULL},
                                           {s->stat_name, "envoy_cluster_name"},
                                           {STR("outlier_detection"), NULL}};
        s->outlier_stats = stats_scope_new(&outlier_stats_table, parts, ARRAY_LEN(parts));
    }
    s->outlier = outlier_new(e->owner->loop, config->outlier, e->name, s->outlier_stats,
                             e->owner->opts.outlier_log, &outlier_ops, e);
}

static void activate(struct cluster_entry *e)
{
    struct cluster_version *v = e->warming, *old = e->active;

    count_first(e, v, -1);
    e->owner->num_warming--;
    e->warming = NULL;
    if (!old)
        e->owner->num_active++;
    e->active = v;
    make_state(e, v->config);
    for (unsigned p = 0; p < ARRAY_LEN(v->config->limits); p++) {
        circuit_set_limits(&e->state->circuit, (enum priority)p, &v->config->limits[p]);
        e->state->track_remaining[p] = v->config->limits[p].track_remaining;
    }
    set_outlier(e, v->config);
    cluster_state_table_stats(e->state, v->config);
    if (update_members(e, v->assignment, v->config) == MEMBERS_OTHER || e->others)
        e->state->membership_change++;
    e->others = false;
    if (!v->eds && !v->dns) { /* said all it has to say; the hosts stay */
        load_assignment_unref(v->assignment);
        load_assignment_unref(v->config->assignment);
        v->assignment = v->config->assignment = NULL;
    }
    e->rebuild = true; /* another configuration may divide the same members otherwise */
    host_set_unref(e->next);
    e->next = NULL; /* it was of the old one */
    e->state->warming = false;
    clusters_dirty(e);
    if (old)
        version_free(old);
    LOG_DEBUG(upstream, "cluster %.*s is warm", STR_ARG(e->name));
    clusters_counted(e->owner);
}

/* The first version serves nobody before its hosts have been checked. A later one takes over what
 * is known of those that stay. */
static bool is_checked(struct cluster_version *v)
{
    struct cluster_entry *e = v->entry;
    if (e->active || !v->config->health)
        return true;
    if (update_members(e, v->assignment, v->config) == MEMBERS_OTHER)
        e->others = true;
    return !e->checker || health_checker_pending(e->checker) == 0;
}

static void check_warm(struct cluster_version *v)
{
    if (v == v->entry->warming && v->started && v->endpoints_settled && v->num_waiting == 0 &&
        is_checked(v))
        activate(v->entry);
}

/* --- what a version waits for --- */

static void take_assignment(struct cluster_version *v, struct load_assignment *la)
{
    load_assignment_ref(la);
    load_assignment_unref(v->assignment);
    v->assignment = la;
    v->endpoints_settled = true;
    timer_disarm(&v->stale);
    if (la && la->stale_after_ms)
        timer_arm(&v->stale, la->stale_after_ms);
    if (v == v->entry->active)
        members_changed(v->entry);
    else
        check_warm(v);
}

static void on_endpoints(void *arg, void *compiled)
{
    take_assignment(OBJ_CAST(arg, struct cluster_version, CLUSTER_VERSION_MAGIC), compiled);
}

/* Removed, or late: those that are there stay. */
static void on_no_endpoints(void *arg, enum xds_absent why)
{
    struct cluster_version *v = OBJ_CAST(arg, struct cluster_version, CLUSTER_VERSION_MAGIC);
    v->endpoints_settled = true;
    check_warm(v);
}

static void on_bad_endpoints(void *arg, struct str text)
{
    struct cluster_version *v = OBJ_CAST(arg, struct cluster_version, CLUSTER_VERSION_MAGIC);
    v->endpoints_settled = true;
    check_warm(v);
}

static const struct watcher_ops endpoint_watcher = {
    .on_update = on_endpoints,
    .on_absent = on_no_endpoints,
    .on_error = on_bad_endpoints,
};

static void on_transport_settled(void *arg)
{
    struct transport_wait *w = arg;
    struct cluster_version *v = OBJ_CAST(w->version, struct cluster_version, CLUSTER_VERSION_MAGIC);
    if (!w->waiting)
        return;
    w->waiting = false;
    v->num_waiting--;
    check_warm(v);
}

static void start_transports(struct cluster_version *v)
{
    struct clusters *c = v->entry->owner;
    uint32_t n = v->config->num_transports;

    v->waits = mem_zalloc(n * sizeof(*v->waits));
    for (uint32_t i = 0; i < n; i++) {
        struct transport_factory *f = v->config->transports[i];
        if (!f)
            continue;
        v->waits[i] = (struct transport_wait){.version = v, .waiting = true};
        v->num_waiting++;
        c->opts.transport->start(c->opts.transport_arg, f, v->entry->state, on_transport_settled,
                                 &v->waits[i]);
        if (f->ops->ready(f))
            on_transport_settled(&v->waits[i]);
    }
}

/* --- names --- */

static void on_dns_members(void *arg, struct load_assignment *la)
{
    take_assignment(OBJ_CAST(arg, struct cluster_version, CLUSTER_VERSION_MAGIC), la);
}

static void on_dns_answer(void *arg, bool failed)
{
    struct cluster_version *v = OBJ_CAST(arg, struct cluster_version, CLUSTER_VERSION_MAGIC);
    if (!failed)
        v->entry->state->update_no_rebuild++;
    else if (v != v->entry->active && !v->assignment && v->entry->members.num_hosts)
        return; /* an update does not take working hosts away because the servers are silent */
    v->endpoints_settled = true;
    check_warm(v);
}

static const struct dns_hosts_ops dns_ops = {.on_members = on_dns_members,
                                             .on_answer = on_dns_answer};

static void start_dns(struct cluster_version *v)
{
    struct clusters *c = v->entry->owner;
    struct cluster_state *s = v->entry->state;

    if (!c->resolver)
        c->resolver = resolver_new(c->loop);
    if (!s->dns_stats) {
        const struct stats_part parts[] = {{STR("cluster"), NULL},
                                           {s->stat_name, "envoy_cluster_name"}};
        s->dns_stats = stats_scope_new(&dns_hosts_stats_table, parts, ARRAY_LEN(parts));
    }
    v->dns = dns_hosts_new(c->loop, c->resolver, v->config->dns, v->config->assignment,
                           s->dns_stats, &dns_ops, v);
    v->endpoints_settled = !v->config->dns->wait_for_warm && !v->entry->active;
}

void entry_start(struct cluster_version *v)
{
    struct cluster_entry *e = v->entry;
    struct clusters *c = e->owner;
    struct stats_part parts[] = {{STR("cluster"), NULL}, {STR_NULL, "envoy_cluster_name"}};
    const struct xds_stats_prefix prefix = {parts, ARRAY_LEN(parts)};

    if (v->started)
        return;
    make_state(e, v->config);
    parts[1].text = e->state->stat_name;
    e->state->warming = true;
    if (!c->opts.validate)
        start_transports(v);
    v->started = true;
    if (v->config->dns && v->config->assignment && !c->opts.validate) {
        start_dns(v);
    } else if (v->config->dns) {
        v->endpoints_settled = true;
    } else if (v->config->type != CLUSTER_EDS || c->opts.validate) {
        v->assignment = load_assignment_ref(v->config->assignment);
        v->endpoints_settled = true;
    } else {
        v->eds = xds_subscribe(c->xds, v->config->eds, &clusters_endpoint_ops, v->config->eds_name,
                               &prefix, &endpoint_watcher, v);
    }
    check_warm(v);
}

/* --- entries --- */

void entry_apply(struct cluster_entry *e, struct cluster_config *config, struct str version)
{
    struct clusters *c = e->owner;
    struct cluster_version *before = e->warming;
    bool known = e->active || before;

    /* The new one subscribes before the one it replaces lets go: its name stays on the wire. */
    if (before)
        count_first(e, before, -1);
    else
        c->num_warming++;
    e->removed = false;
    e->warming = version_new(e, config, version);
    count_first(e, e->warming, 1);
    count(c, known ? CLUSTERS_MODIFIED : CLUSTERS_ADDED);
    if (c->phase >= CLUSTERS_SECONDARY || config->type != CLUSTER_EDS || c->opts.validate)
        entry_start(e->warming);
    if (before)
        version_free(before);
    clusters_counted(c);
}

void entry_remove(struct cluster_entry *e)
{
    struct clusters *c = e->owner;

    drop_warming(e);
    if (e->active) {
        version_free(e->active);
        e->active = NULL;
        c->num_active--;
    }
    e->removed = true;
    end_checks(e);
    if (e->state) {
        e->state->hosts = NULL;
        outlier_free(&e->state->outlier);
    }
    membership_cleanup(&e->members);
    e->rebuild = false;
    host_set_unref(e->next);
    host_set_unref(e->hosts);
    e->next = e->hosts = NULL;
    count(c, CLUSTERS_REMOVED);
    clusters_dirty(e);
    clusters_counted(c);
}

void entry_free(struct cluster_entry *e)
{
    drop_warming(e);
    if (e->active)
        version_free(e->active);
    list_remove(&e->dirty_link);
    end_checks(e);
    if (e->state) {
        e->state->hosts = NULL;
        outlier_free(&e->state->outlier);
    }
    list_remove(&e->dirty_link);
    membership_cleanup(&e->members);
    host_set_unref(e->next);
    host_set_unref(e->hosts);
    cluster_state_unref(e->state);
    mem_free((void *)(uintptr_t)e->name.p);
    e->magic = 0;
    mem_free(e);
}
