#include "base/random.h"
#include "cluster/cluster_bind.h"
#include "cluster/clusters_private.h"
#include <stdio.h>

/* --- questions ----------------------------------------------------------------------------------
 */

static const struct cluster_entry *find(struct clusters *c, struct str name)
{
    const struct cluster_entry *e = map_get(&c->entries, name);
    return e && !e->removed ? e : NULL;
}

bool clusters_known(struct clusters *c, struct str name)
{
    return find(c, name) != NULL;
}

const struct cluster_config *clusters_find_config(struct clusters *c, struct str name)
{
    const struct cluster_entry *e = find(c, name);
    return e && e->active ? e->active->config : NULL;
}

static void view_of(struct cluster_entry *e, struct cluster_view *v)
{
    const struct cluster_version *shown = e->active ? e->active : e->warming;
    *v = (struct cluster_view){
        .name = e->name,
        .is_static = e->is_static,
        .active = e->active != NULL,
        .warming = e->warming != NULL,
        .config = shown->config,
        .assignment = shown->assignment,
    };
    if (e->active) {
        entry_build(e);
        v->hosts = e->hosts;
        v->circuit = &e->state->circuit;
        v->outlier = e->state->outlier;
        v->version = e->active->version;
        v->updated_us = e->active->updated_us;
    }
    if (e->warming) {
        v->warming_version = e->warming->version;
        v->warming_updated_us = e->warming->updated_us;
    }
}

void clusters_visit(struct clusters *c, void (*fn)(void *arg, const struct cluster_view *v),
                    void *arg)
{
    struct cluster_view v;
    struct str name;
    void *value;

    for (size_t it = 0; map_next(&c->entries, &it, &name, &value);) {
        struct cluster_entry *e = value;
        if (e->removed)
            continue;
        view_of(e, &v);
        fn(arg, &v);
    }
}

/* --- connections on the main loop --- */

static struct host *choose(const struct host_set *set)
{
    for (uint32_t i = 0; i < set->num_priorities; i++) {
        const struct host_list *l = &set->priorities[i].lists[HOSTS_HEALTHY];
        if (l->num)
            return l->hosts[random_below(l->num)];
    }
    return NULL;
}

bool clusters_dial_target(struct clusters *c, struct str name, struct clusters_dial *out, char *why,
                          size_t why_len)
{
    static const struct str h2[] = {{"h2", 2}};
    static const struct transport_options h2_options = {.alpn_override = h2,
                                                        .num_alpn_override = 1};
    struct cluster_entry *e = map_get(&c->entries, name);
    struct cluster_config *config;
    struct host *h;

    if (!e || e->removed || !e->active) {
        snprintf(why, why_len, "cluster %.*s %s", STR_ARG(name),
                 e && !e->removed ? "is not warm yet" : "is unknown");
        return false;
    }
    entry_build(e);
    h = choose(e->hosts);
    if (!h) {
        snprintf(why, why_len, "cluster %.*s has no healthy host", STR_ARG(name));
        return false;
    }
    config = e->active->config;
    *out = (struct clusters_dial){
        .host = host_ref(h),
        .config = cluster_config_ref(config),
        .state = cluster_state_ref(e->state),
        .how = {.peer = &h->addr,
                .factory = config->num_transports ? config->transports[h->transport_index] : NULL,
                .transport_opts = config->http == UPSTREAM_HTTP2 ? &h2_options : NULL,
                .timeout_ms = config->connect_timeout_ms,
                .keepalive = config->keepalive,
                .keepalive_time_s = config->keepalive_time_s,
                .keepalive_interval_s = config->keepalive_interval_s,
                .keepalive_probes = config->keepalive_probes},
    };
    cluster_bind_fill(config->bind, &out->how);
    return true;
}

void clusters_dial_release(struct clusters_dial *d)
{
    host_unref(d->host);
    cluster_config_unref(d->config);
    cluster_state_unref(d->state);
    *d = (struct clusters_dial){0};
}

void clusters_dial_opened(struct clusters *c, struct clusters_dial *d)
{
    unsigned thread = loop_thread_index(c->loop);
    stats_inc(d->state->stats, thread, CLUSTER_UPSTREAM_CX_TOTAL);
    stats_inc(d->state->stats, thread, CLUSTER_UPSTREAM_CX_HTTP2_TOTAL);
    stats_gauge_inc(d->state->stats, thread, CLUSTER_UPSTREAM_CX_ACTIVE);
    atomic_fetch_add_explicit(&d->host->cx_total, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&d->host->cx_active, 1, memory_order_relaxed);
    circuit_take_always(&d->state->circuit, PRIORITY_DEFAULT, CIRCUIT_CX);
}

void clusters_dial_failed(struct clusters *c, struct clusters_dial *d, bool timeout)
{
    unsigned thread = loop_thread_index(c->loop);
    stats_inc(d->state->stats, thread, CLUSTER_UPSTREAM_CX_CONNECT_FAIL);
    if (timeout)
        stats_inc(d->state->stats, thread, CLUSTER_UPSTREAM_CX_CONNECT_TIMEOUT);
    atomic_fetch_add_explicit(&d->host->cx_connect_fail, 1, memory_order_relaxed);
}

void clusters_dial_closed(struct clusters *c, struct clusters_dial *d, const struct conn *cn)
{
    unsigned thread = loop_thread_index(c->loop);
    bool peer = cn->eof || cn->why == CONN_CLOSED_REMOTE || cn->why == CONN_CLOSED_RESET;
    struct stats_scope *s = d->state->stats;

    stats_gauge_dec(s, thread, CLUSTER_UPSTREAM_CX_ACTIVE);
    stats_inc(s, thread, CLUSTER_UPSTREAM_CX_DESTROY);
    stats_inc(s, thread,
              peer ? CLUSTER_UPSTREAM_CX_DESTROY_REMOTE : CLUSTER_UPSTREAM_CX_DESTROY_LOCAL);
    stats_add(s, thread, CLUSTER_UPSTREAM_CX_RX_BYTES_TOTAL, cn->bytes_read);
    stats_add(s, thread, CLUSTER_UPSTREAM_CX_TX_BYTES_TOTAL, cn->bytes_written);
    atomic_fetch_sub_explicit(&d->host->cx_active, 1, memory_order_relaxed);
    circuit_give(&d->state->circuit, PRIORITY_DEFAULT, CIRCUIT_CX);
}

/* --- streams that would wait for themselves --- */

struct stream_check {
    struct clusters *clusters;
    struct str ads;
    struct errors *e;
    uint32_t depth;
    struct str path[16]; /* from the cluster that carries a stream to what it waits for */
};

enum { CHECK_DEPTH = 16 };

static struct str need_cluster(const struct stream_check *k, const struct cluster_need *n)
{
    return n->ads ? k->ads : n->cluster;
}

/* visit goes along what `name` waits for; false after an error. */
static bool visit(struct stream_check *k, struct str name)
{
    const struct cluster_entry *e = find(k->clusters, name);
    const struct cluster_config *config;

    if (!e) {
        errors_add(k->e, NULL, "control-plane cluster '%.*s' is not among static_resources",
                   STR_ARG(name));
        return false;
    }
    for (uint32_t i = 0; i < k->depth; i++) {
        if (str_eq(k->path[i], name)) {
            errors_add(k->e, NULL,
                       "control-plane cluster '%.*s' waits for endpoints or secrets of a stream "
                       "that it carries itself%s%.*s",
                       STR_ARG(name), i + 1 < k->depth ? ", by way of " : "",
                       i + 1 < k->depth ? (int)k->path[k->depth - 1].len : 0,
                       k->path[k->depth - 1].p);
            return false;
        }
    }
    if (k->depth == CHECK_DEPTH) {
        errors_add(k->e, NULL, "control-plane clusters depend on each other too deeply at '%.*s'",
                   STR_ARG(name));
        return false;
    }
    k->path[k->depth++] = name;
    config = e->active ? e->active->config : e->warming->config;
    for (const struct cluster_need *n = config->needs; n; n = n->next) {
        if (need_cluster(k, n).len && !visit(k, need_cluster(k, n)))
            return false;
    }
    k->depth--;
    return true;
}

bool clusters_check_streams(struct clusters *c, struct str ads_cluster, const struct str *others,
                            size_t num_others, struct errors *e)
{
    struct stream_check k = {.clusters = c, .ads = ads_cluster, .e = e};
    struct str name;
    void *value;

    if (ads_cluster.len && !visit(&k, ads_cluster))
        return false;
    for (size_t i = 0; i < num_others; i++) {
        k.depth = 0;
        if (!visit(&k, others[i]))
            return false;
    }
    for (size_t it = 0; map_next(&c->entries, &it, &name, &value);) {
        const struct cluster_entry *entry = value;
        const struct cluster_version *v = entry->active ? entry->active : entry->warming;
        for (const struct cluster_need *n = v ? v->config->needs : NULL; n; n = n->next) {
            k.depth = 0;
            if (need_cluster(&k, n).len && !visit(&k, need_cluster(&k, n)))
                return false;
        }
    }
    return true;
}
