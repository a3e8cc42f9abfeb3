#include "api-protos/wkt.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "proxy/network/network_filter.h"
#include "proxy/router/route_private.h"
#include <stdlib.h>

typedef Envoy__Config__Route__V3__RouteConfiguration RouteConfiguration;
typedef Envoy__Config__Route__V3__VirtualHost VirtualHost;

enum { DEFAULT_MAX_DIRECT_BODY = 4096 };

/* --- domains --- */

static struct str lower(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
    return str_n(p, s.len);
}

static void add_domain(struct vhost_index *ix, struct arena *a, struct vhost *v, struct str domain,
                       struct errors *e)
{
    struct str d = lower(a, domain);
    bool starts = d.len && d.p[0] == '*', ends = d.len && d.p[d.len - 1] == '*';
    size_t stars = 0;
    for (size_t i = 0; i < d.len; i++)
        stars += d.p[i] == '*';
    void *had;
    if (!d.len) {
        errors_add(e, NULL, "must not be empty");
        return;
    }
    if (d.len == 1 && starts) {
        had = ix->any;
        ix->any = v;
    } else if (stars > 1 || (stars == 1 && !starts && !ends)) {
        errors_add(e, NULL, "'%.*s': a wildcard must be the first or the last character",
                   STR_ARG(domain));
        return;
    } else if (starts) {
        had = map_put(&ix->suffixes, str_n(d.p + 1, d.len - 1), v);
    } else if (ends) {
        had = map_put(&ix->prefixes, str_n(d.p, d.len - 1), v);
    } else {
        had = map_put(&ix->exact, d, v);
    }
    if (had)
        errors_add(e, NULL,
                   "only unique values for domains are permitted; duplicate entry of domain '%.*s'",
                   STR_ARG(domain));
}

static int longest_first(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The distinct lengths of a map's keys, longest first. */
static size_t *key_lengths(struct arena *a, const struct map *m, size_t *out_n)
{
    size_t *v = arena_alloc(a, (map_count(m) + 1) * sizeof(*v));
    size_t n = 0, it = 0, kept = 0;
    struct str key;
    void *value;
    while (map_next(m, &it, &key, &value))
        v[n++] = key.len;
    qsort(v, n, sizeof(*v), longest_first);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || v[i] != v[i - 1])
            v[kept++] = v[i];
    }
    *out_n = kept;
    return v;
}

/* --- virtual hosts --- */

static void compile_require_tls(struct vhost *v, const VirtualHost *m, struct errors *e)
{
    switch (m->require_tls) {
    case ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__NONE:
        return;
    case ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL:
        v->require_tls = true;
        v->to_https = (struct redirect){.https = true, .status = 301};
        v->tls_redirect = (struct route){
            .vhost = v, .action = ROUTE_REDIRECT, .redirect = &v->to_https};
        return;
    default:
        errors_add(e, "require_tls", "EXTERNAL_ONLY is not supported");
    }
}

static void compile_vhost(struct route_table *t, struct vhost *v, const VirtualHost *m,
                          size_t max_body, struct errors *e)
{
    struct arena *a = t->arena;
    struct route_policies policies = {0};
    v->name = arena_str(a, str_of(m->name));
    compile_require_tls(v, m, e);
    v->request = headers_mutation_compile(a, (void *const *)m->request_headers_to_add,
                                          m->n_request_headers_to_add, m->request_headers_to_remove,
                                          m->n_request_headers_to_remove, "request_headers_to_add",
                                          "request_headers_to_remove", e);
    v->response = headers_mutation_compile(
        a, (void *const *)m->response_headers_to_add, m->n_response_headers_to_add,
        m->response_headers_to_remove, m->n_response_headers_to_remove, "response_headers_to_add",
        "response_headers_to_remove", e);
    vhost_policies_compile(&policies, &t->index->regexes, a, m, t->mirrors, e);
    v->filters = route_overrides_compile(v->env, (void *const *)m->typed_per_filter_config,
                                         m->n_typed_per_filter_config, e);
    v->num_routes = m->n_routes;
    v->routes = arena_zalloc(a, (m->n_routes + 1) * sizeof(*v->routes));
    for (size_t i = 0; i < m->n_routes; i++) {
        size_t mark = errors_push_index(e, "routes", i);
        route_entry_compile(&v->routes[i], &t->index->regexes, a, m->routes[i], v, max_body, e);
        route_policies_inherit(&v->routes[i].route, m->routes[i], &policies);
        v->routes[i].route.attempt_count = m->include_request_attempt_count;
        v->routes[i].route.attempt_count_response = m->include_attempt_count_in_response;
        errors_pop(e, mark);
    }
    for (size_t i = 0; i < m->n_domains; i++) {
        size_t mark = errors_push_index(e, "domains", i);
        add_domain(t->index, a, v, str_of(m->domains[i]), e);
        errors_pop(e, mark);
    }
}

/* --- the whole --- */

static void check_clusters(const struct vhost *v, const struct route_compile_options *opts,
                           struct errors *e)
{
    for (size_t i = 0; i < v->num_routes; i++) {
        const struct route *r = &v->routes[i].route;
        size_t mark = errors_push_index(e, "routes", i);
        if (r->cluster.len && !opts->cluster_known(opts->arg, r->cluster))
            errors_add(e, "route.cluster", "unknown cluster '%.*s'", STR_ARG(r->cluster));
        for (size_t k = 0; k < r->mirrors.n; k++) {
            struct str name = r->mirrors.v[k].cluster;
            if (name.len && !opts->cluster_known(opts->arg, name))
                errors_add(e, "route.request_mirror_policies", "unknown shadow cluster '%.*s'",
                           STR_ARG(name));
        }
        for (size_t k = 0; k < r->num_weighted; k++) {
            if (!opts->cluster_known(opts->arg, r->weighted[k].name))
                errors_add(e, "route.weighted_clusters", "unknown cluster '%.*s'",
                           STR_ARG(r->weighted[k].name));
        }
        errors_pop(e, mark);
    }
}

static void free_filters(struct vhost *v)
{
    http_filter_overrides_free(v->filters);
    for (size_t i = 0; i < v->num_routes; i++) {
        const struct route *r = &v->routes[i].route;
        http_filter_overrides_free(r->filters);
        for (size_t k = 0; k < r->num_weighted; k++)
            http_filter_overrides_free(r->weighted[k].filters);
    }
}

static void table_free(struct route_table *t)
{
    http_filter_overrides_free(t->filters);
    for (size_t i = 0; i < t->index->num_vhosts; i++)
        free_filters(t->index->vhosts[i]);
    regex_list_free(&t->index->regexes);
    map_cleanup(&t->index->exact, NULL);
    map_cleanup(&t->index->suffixes, NULL);
    map_cleanup(&t->index->prefixes, NULL);
    struct arena *a = t->arena;
    arena_free(&a);
}

struct route_table *route_table_compile(const void *msg, const struct route_compile_options *opts,
                                        struct errors *e)
{
    const RouteConfiguration *m = msg;
    size_t before = e->num_errors;
    struct arena *a = arena_new(4096);
    struct route_table *t = ARENA_NEW(a, struct route_table);
    refcount_init(&t->ref);
    t->arena = a;
    t->name = arena_str(a, str_of(m->name));
    t->index = ARENA_NEW(a, struct vhost_index);
    map_init(&t->index->exact, false);
    map_init(&t->index->suffixes, false);
    map_init(&t->index->prefixes, false);
    t->ignore_port = m->ignore_port_in_host_matching;
    t->most_specific_wins = m->most_specific_header_mutations_wins;
    t->request = headers_mutation_compile(a, (void *const *)m->request_headers_to_add,
                                          m->n_request_headers_to_add, m->request_headers_to_remove,
                                          m->n_request_headers_to_remove, "request_headers_to_add",
                                          "request_headers_to_remove", e);
    t->response = headers_mutation_compile(
        a, (void *const *)m->response_headers_to_add, m->n_response_headers_to_add,
        m->response_headers_to_remove, m->n_response_headers_to_remove, "response_headers_to_add",
        "response_headers_to_remove", e);
    t->mirrors = mirrors_compile(a, (void *const *)m->request_mirror_policies,
                                 m->n_request_mirror_policies, e);
    static const struct compile_env no_env;
    const struct http_filter_env env = {.compile = opts && opts->env ? opts->env : &no_env,
                                        .arena = a};
    t->filters = route_overrides_compile(&env, (void *const *)m->typed_per_filter_config,
                                         m->n_typed_per_filter_config, e);
    t->index->vhosts = arena_zalloc(a, (m->n_virtual_hosts + 1) * sizeof(*t->index->vhosts));
    size_t max_body = wkt_u32(m->max_direct_response_body_size_bytes, DEFAULT_MAX_DIRECT_BODY);
    for (size_t i = 0; i < m->n_virtual_hosts; i++) {
        const VirtualHost *vm = m->virtual_hosts[i];
        struct vhost *v = ARENA_NEW(a, struct vhost);
        t->index->vhosts[t->index->num_vhosts++] = v;
        v->env = &env;
        size_t mark = errors_push_index(e, "virtual_hosts", i);
        compile_vhost(t, v, vm, max_body, e);
        if (opts && opts->cluster_known && wkt_bool(m->validate_clusters, opts->validate_clusters))
            check_clusters(v, opts, e);
        v->env = NULL;
        errors_pop(e, mark);
    }
    t->index->suffix_lens = key_lengths(a, &t->index->suffixes, &t->index->num_suffix_lens);
    t->index->prefix_lens = key_lengths(a, &t->index->prefixes, &t->index->num_prefix_lens);
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

size_t route_filter_overrides(const struct route_table *t, const struct route *r,
                              const struct weighted_cluster *w,
                              const struct http_filter_overrides *out[4])
{
    size_t n = 0;
    if (t && t->filters)
        out[n++] = t->filters;
    if (r->vhost && r->vhost->filters)
        out[n++] = r->vhost->filters;
    if (r->filters)
        out[n++] = r->filters;
    if (w && w->filters)
        out[n++] = w->filters;
    return n;
}
