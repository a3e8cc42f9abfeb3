#include "cluster/clusters.h"
#include "proxy/admin/admin_handler.h"
#include "proxy/listener/listeners.h"
#include "proxy/server.h"

/* envoy.admin.v3.UnreadyTargetsDumps: one entry for each manager that still waits, with the names
 * of what it waits for. */
struct dumps {
    struct json_writer *w;
    const char *manager;
    size_t num; /* targets of this manager */
    bool any;
};

static void put_target(struct dumps *d, struct str name)
{
    struct json_writer *w = d->w;
    if (!d->any) {
        json_key(w, STR("unready_targets_dumps"));
        json_open(w, '[');
        d->any = true;
    }
    if (d->num++ == 0) {
        json_open(w, '{');
        json_key(w, STR("name"));
        json_put_str(w, str_of(d->manager));
        json_key(w, STR("target_names"));
        json_open(w, '[');
    }
    json_put_str(w, name);
}

static void end_manager(struct dumps *d)
{
    if (d->num) {
        json_close(d->w, ']');
        json_close(d->w, '}');
    }
    d->num = 0;
}

static void on_listener(void *arg, const struct listener_view *v)
{
    if (v->warming)
        put_target(arg, v->name);
}

static void on_cluster(void *arg, const struct cluster_view *v)
{
    if (v->warming)
        put_target(arg, v->name);
}

void admin_init_dump(const struct admin_request *rq, struct admin_response *rs)
{
    const struct server *s = rq->server;
    struct str mask = STR_NULL;
    struct json_writer w;
    struct dumps d = {.w = &w};
    (void)admin_query_get(&rq->query, "mask", &mask);
    json_writer_init(&w, true);
    json_open(&w, '{');
    if (s->clusters && (mask.len == 0 || str_eq(mask, STR("cluster")))) {
        d.manager = "clusters";
        clusters_visit(s->clusters, on_cluster, &d);
        end_manager(&d);
    }
    if (s->listeners && (mask.len == 0 || str_eq(mask, STR("listener")))) {
        d.manager = "listeners";
        listeners_visit(s->listeners, on_listener, &d);
        end_manager(&d);
    }
    if (d.any)
        json_close(&w, ']');
    json_close(&w, '}');
    admin_put_json(rs, &w);
}
