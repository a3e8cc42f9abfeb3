#include "api-protos/wkt.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "proxy/http/http_filter.h"
#include "proxy/network/network_filter.h"
#include "proxy/router/match_tree.h"
#include "proxy/router/route_private.h"

typedef Envoy__Config__Route__V3__RouteConfiguration RouteConfiguration;
typedef Envoy__Config__Route__V3__VirtualHost VirtualHost;

enum { DEFAULT_MAX_DIRECT_BODY = 4096 };

/* --- virtual hosts --- */

struct http_filter_overrides *route_overrides_compile(struct route_compiler *c,
                                                      void *const *entries, size_t num)
{
    static const struct compile_env no_env;
    const struct http_filter_env env = {.compile = c->opts->env ? c->opts->env : &no_env,
                                        .arena = c->a};
    struct route_inside *inside = c->table->inside;
    if (!num)
        return NULL;
    size_t mark = errors_push(c->e, "typed_per_filter_config");
    struct overrides_item *item = ARENA_NEW(c->a, struct overrides_item);
    item->overrides = http_filter_overrides_compile(&env, entries, num, c->e);
    item->next = inside->overrides;
    inside->overrides = item;
    errors_pop(c->e, mark);
    return item->overrides;
}

const struct metadata *route_metadata_compile(struct arena *a, const void *metadata)
{
    const Envoy__Config__Core__V3__Metadata *m = metadata;
    if (!m)
        return NULL;
    struct metadata *md = ARENA_NEW(a, struct metadata);
    metadata_from_message(md, a, m);
    return md;
}

static void compile_require_tls(struct vhost *v, const VirtualHost *m)
{
    switch (m->require_tls) {
    case ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__EXTERNAL_ONLY:
        v->require_tls = TLS_EXTERNAL;
        break;
    case ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL:
        v->require_tls = TLS_ALL;
        break;
    default:
        return;
    }
    v->to_https = (struct redirect){.https = true, .status = 301};
    v->tls_redirect = (struct route){
        .vhost = v, .action = ROUTE_REDIRECT, .redirect = &v->to_https};
}

/* A matcher's action: one Route, or a RouteList of which the first that fits is taken. */
struct matched_routes {
    struct route_compiler *c;
    struct vhost *v;
};

static void *compile_route_action(void *arg, struct str type_name, const void *action)
{
    struct matched_routes *m = arg;
    struct route_compiler *c = m->c;
    struct route_list *l = ARENA_NEW(c->a, struct route_list);
    if (str_eq(type_name, STR("envoy.config.route.v3.Route"))) {
        l->n = 1;
        l->v = arena_zalloc(c->a, sizeof(*l->v));
        route_entry_compile(c, l->v, action, m->v);
        route_list_index(l, c->a);
    } else if (str_eq(type_name, STR("envoy.config.route.v3.RouteList"))) {
        const Envoy__Config__Route__V3__RouteList *list = action;
        route_list_compile(c, l, (void *const *)list->routes, list->n_routes, m->v);
    } else {
        errors_add(c->e, NULL, "the action '%.*s' is not supported", STR_ARG(type_name));
        return NULL;
    }
    struct lists_item *item = ARENA_NEW(c->a, struct lists_item);
    item->list = l;
    item->next = m->v->lists;
    m->v->lists = item;
    return l;
}

static void compile_matcher(struct route_compiler *c, struct vhost *v, const VirtualHost *m)
{
    struct matched_routes routes = {.c = c, .v = v};
    size_t mark = errors_push(c->e, "matcher");
    v->matcher = match_tree_compile(c->regexes, c->a, m->matcher, compile_route_action, &routes,
                                    c->e);
    if (m->n_routes)
        errors_add(c->e, NULL, "and routes cannot both be set");
    errors_pop(c->e, mark);
}

static void compile_vhost(struct route_compiler *c, struct vhost *v, const VirtualHost *m)
{
    v->name = arena_str(c->a, str_of(m->name));
    compile_require_tls(v, m);
    v->request = REQUEST_MUTATION(c->a, m, c->e);
    v->response = RESPONSE_MUTATION(c->a, m, c->e);
    v->filters = route_overrides_compile(c, (void *const *)m->typed_per_filter_config,
                                         m->n_typed_per_filter_config);
    v->metadata = route_metadata_compile(c->a, m->metadata);
    v->attempt_count = m->include_request_attempt_count;
    v->attempt_count_response = m->include_attempt_count_in_response;
    vhost_policies_compile(&v->policies, c->regexes, c->a, m, c->table->mirrors, c->e);
    route_list_compile(c, &v->routes, (void *const *)m->routes, m->n_routes, v);
    if (m->matcher)
        compile_matcher(c, v, m);
    for (size_t i = 0; i < m->n_domains; i++) {
        size_t mark = errors_push_index(c->e, "domains", i);
        vhost_index_add(&c->table->inside->vhosts, c->a, v, str_of(m->domains[i]), c->e);
        errors_pop(c->e, mark);
    }
}

/* --- the whole --- */

static void check_list(const struct route_list *l, const struct route_compile_options *opts,
                       struct errors *e)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct route *r = &l->v[i].route;
        size_t mark = errors_push_index(e, "routes", i);
        if (r->cluster.len && !opts->cluster_known(opts->arg, r->cluster))
            errors_add(e, "route.cluster", "unknown cluster '%.*s'", STR_ARG(r->cluster));
        for (size_t k = 0; k < r->num_weighted; k++) {
            if (r->weighted[k].name.len && !opts->cluster_known(opts->arg, r->weighted[k].name))
                errors_add(e, "route.weighted_clusters", "unknown cluster '%.*s'",
                           STR_ARG(r->weighted[k].name));
        }
        for (size_t k = 0; k < r->mirrors.n; k++) {
            struct str name = r->mirrors.v[k].cluster;
            if (name.len && !opts->cluster_known(opts->arg, name))
                errors_add(e, "route.request_mirror_policies", "unknown shadow cluster '%.*s'",
                           STR_ARG(name));
        }
        errors_pop(e, mark);
    }
}

static void check_clusters(const struct vhost *v, const struct route_compile_options *opts,
                           struct errors *e)
{
    check_list(&v->routes, opts, e);
    for (const struct lists_item *i = v->lists; i; i = i->next)
        check_list(i->list, opts, e);
}

static void table_free(struct route_table *t)
{
    for (struct overrides_item *i = t->inside->overrides; i; i = i->next)
        http_filter_overrides_free(i->overrides);
    regex_list_free(&t->inside->regexes);
    vhost_index_cleanup(&t->inside->vhosts);
    struct arena *a = t->arena;
    arena_free(&a);
}

static struct route_table *new_table(const RouteConfiguration *m)
{
    struct arena *a = arena_new(4096);
    struct route_table *t = ARENA_NEW(a, struct route_table);
    refcount_init(&t->ref);
    t->arena = a;
    t->name = arena_str(a, str_of(m->name));
    t->inside = ARENA_NEW(a, struct route_inside);
    vhost_index_init(&t->inside->vhosts);
    t->ignore_port = m->ignore_port_in_host_matching;
    t->ignore_path_parameters = m->ignore_path_parameters_in_path_matching;
    t->vhost_header = lower_str(a, str_of(m->vhost_header));
    t->most_specific_wins = m->most_specific_header_mutations_wins;
    t->metadata = route_metadata_compile(a, m->metadata);
    t->num_internal_only = m->n_internal_only_headers;
    t->internal_only = arena_zalloc(a, (t->num_internal_only + 1) * sizeof(*t->internal_only));
    for (size_t i = 0; i < t->num_internal_only; i++)
        t->internal_only[i] = lower_str(a, str_of(m->internal_only_headers[i]));
    return t;
}

struct route_table *route_table_compile(const void *msg, const struct route_compile_options *opts,
                                        struct errors *e)
{
    static const struct route_compile_options none;
    const RouteConfiguration *m = msg;
    size_t before = e->num_errors;
    struct route_table *t = new_table(m);
    struct route_compiler c = {
        .table = t,
        .a = t->arena,
        .regexes = &t->inside->regexes,
        .e = e,
        .max_body = wkt_u32(m->max_direct_response_body_size_bytes, DEFAULT_MAX_DIRECT_BODY),
        .opts = opts ? opts : &none,
        .plugins = (const void *const *)m->cluster_specifier_plugins,
        .num_plugins = m->n_cluster_specifier_plugins,
    };
    t->request = REQUEST_MUTATION(c.a, m, e);
    t->response = RESPONSE_MUTATION(c.a, m, e);
    t->filters = route_overrides_compile(&c, (void *const *)m->typed_per_filter_config,
                                         m->n_typed_per_filter_config);
    t->mirrors = mirrors_compile(c.regexes, c.a, (void *const *)m->request_mirror_policies,
                                 m->n_request_mirror_policies, e);
    bool validate = c.opts->cluster_known &&
                    wkt_bool(m->validate_clusters, c.opts->validate_clusters);
    for (size_t i = 0; i < m->n_virtual_hosts; i++) {
        struct vhost *v = ARENA_NEW(c.a, struct vhost);
        size_t mark = errors_push_index(e, "virtual_hosts", i);
        compile_vhost(&c, v, m->virtual_hosts[i]);
        if (validate)
            check_clusters(v, c.opts, e);
        errors_pop(e, mark);
    }
    if (e->num_errors > before) {
        table_free(t);
        return NULL;
    }
    return t;
}

struct route_table *route_table_ref(struct route_table *t)
{
    if (t)
        refcount_inc(&t->ref);
    return t;
}

void route_table_unref(struct route_table *t)
{
    if (t && refcount_dec(&t->ref))
        table_free(t);
}
