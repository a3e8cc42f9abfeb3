/* The endpoints in /config_dump?include_eds: as the hosts are now, not as they were sent. */
#include "cluster/clusters.h"
#include "cluster/load_assignment.h"
#include "proxy/admin/admin_address.h"
#include "proxy/admin/admin_dump.h"
#include "proxy/server.h"

struct endpoints {
    struct admin_dump *dump;
    bool is_static;
};

static void put_u32(struct json_writer *w, const char *key, uint32_t v)
{
    json_key(w, str_of(key));
    json_put_u64(w, v);
}

static bool same_place(const struct host *a, const struct host *b)
{
    return a->priority == b->priority && str_eq(a->region, b->region) && str_eq(a->zone, b->zone) &&
           str_eq(a->sub_zone, b->sub_zone);
}

static void put_host(struct admin_dump *d, const struct host *h)
{
    struct json_writer *w = d->out;
    uint32_t health = atomic_load_explicit(&h->health, memory_order_relaxed);
    json_open(w, '{');
    json_key(w, STR("endpoint"));
    json_open(w, '{');
    json_key(w, STR("address"));
    admin_put_address(w, &h->addr);
    json_key(w, STR("health_check_config"));
    json_open(w, '{');
    if (addr_port(&h->hc_addr) != addr_port(&h->addr))
        put_u32(w, "port_value", addr_port(&h->hc_addr));
    admin_dump_str(d, "hostname", h->hc_hostname);
    json_close(w, '}');
    admin_dump_str(d, "hostname", h->hostname);
    json_close(w, '}');
    admin_dump_str(d, "health_status",
                   health & HOST_UNHEALTHY  ? STR("UNHEALTHY")
                   : health & HOST_DEGRADED ? STR("DEGRADED")
                                            : STR("HEALTHY"));
    put_u32(w, "load_balancing_weight", h->weight);
    json_close(w, '}');
}

static uint32_t locality_weight(const struct load_assignment *a, const struct host *h)
{
    for (uint32_t i = 0; a && i < a->num_localities; i++) {
        const struct assigned_locality *l = &a->localities[i];
        if (l->priority == h->priority && str_eq(l->region, h->region) &&
            str_eq(l->zone, h->zone) && str_eq(l->sub_zone, h->sub_zone))
            return l->weight;
    }
    return 0;
}

/* The hosts of one priority and locality; `done` marks those that were written. */
static void put_locality(struct admin_dump *d, const struct cluster_view *v, uint32_t first,
                         bool *done)
{
    struct json_writer *w = d->out;
    const struct host_set *set = v->hosts;
    const struct host *h = set->hosts[first];
    json_open(w, '{');
    if (h->region.len || h->zone.len || h->sub_zone.len) {
        json_key(w, STR("locality"));
        json_open(w, '{');
        admin_dump_str(d, "region", h->region);
        admin_dump_str(d, "zone", h->zone);
        admin_dump_str(d, "sub_zone", h->sub_zone);
        json_close(w, '}');
    }
    json_key(w, STR("lb_endpoints"));
    json_open(w, '[');
    for (uint32_t i = first; i < set->num_hosts; i++) {
        if (done[i] || !same_place(h, set->hosts[i]))
            continue;
        put_host(d, set->hosts[i]);
        done[i] = true;
    }
    json_close(w, ']');
    put_u32(w, "load_balancing_weight", locality_weight(v->assignment, h));
    if (h->priority)
        put_u32(w, "priority", h->priority);
    json_close(w, '}');
}

static void put_assignment(struct admin_dump *d, const struct cluster_view *v)
{
    struct json_writer *w = d->out;
    const struct host_set *set = v->hosts;
    json_key(w, STR("endpoint_config"));
    json_open(w, '{');
    admin_dump_str(d, "@type", str_of(clusters_endpoint_ops.type_url));
    admin_dump_str(d, "cluster_name",
                   v->config->eds_name.len ? v->config->eds_name : v->config->name);
    if (set && set->num_hosts) {
        bool *done = arena_zalloc(&d->scratch, set->num_hosts * sizeof(*done));
        json_key(w, STR("endpoints"));
        json_open(w, '[');
        for (uint32_t i = 0; i < set->num_hosts; i++) {
            if (!done[i])
                put_locality(d, v, i, done);
        }
        json_close(w, ']');
    }
    json_key(w, STR("policy"));
    json_open(w, '{');
    put_u32(w, "overprovisioning_factor", set ? set->overprovisioning : HOST_OVERPROVISIONING);
    json_close(w, '}');
    json_close(w, '}');
}

static void on_cluster(void *arg, const struct cluster_view *v)
{
    const struct endpoints *e = arg;
    if (v->is_static != e->is_static || !v->active)
        return;
    struct str name = v->config->eds_name.len ? v->config->eds_name : v->name;
    if (!admin_dump_begin_next(e->dump, name))
        return;
    put_assignment(e->dump, v);
    admin_dump_end(e->dump);
}

static void visit(struct admin_dump *d, bool is_static)
{
    struct endpoints e = {d, is_static};
    if (d->server->clusters)
        clusters_visit(d->server->clusters, on_cluster, &e);
}

void admin_dump_static_endpoints(struct admin_dump *d)
{
    visit(d, true);
}

void admin_dump_dynamic_endpoints(struct admin_dump *d)
{
    visit(d, false);
}
