#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "proxy/router/route_private.h"
#include <stdlib.h>

typedef Envoy__Config__Route__V3__Route Route;
typedef Envoy__Config__Route__V3__RouteMatch RouteMatch;
typedef Envoy__Config__Route__V3__RouteAction RouteAction;
typedef Envoy__Config__Route__V3__RedirectAction Redirect;
typedef Envoy__Config__Core__V3__HeaderValueOption HeaderOption;
#define ROUTE(x) ENVOY__CONFIG__ROUTE__V3__##x

static struct str lower(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
    p[s.len] = '\0';
    return str_n(p, s.len);
}

/* --- header mutations --- */

static bool may_change(struct str name, const char *field, struct errors *e)
{
    if (!name.len)
        errors_add(e, field, "must not be empty");
    else if (name.p[0] == ':' || str_eq(name, STR("host")))
        errors_add(e, field, ":-prefixed or host headers may not be modified");
    else
        return true;
    return false;
}

static void compile_add(struct header_add *out, struct arena *a, const HeaderOption *m,
                        struct errors *e)
{
    if (!m->header) {
        errors_add(e, "header", "is required");
        return;
    }
    out->name = lower(a, str_of(m->header->key));
    (void)may_change(out->name, "header.key", e);
    size_t mark = errors_push(e, "header.value");
    out->value = format_compile(a, str_of(m->header->value), true, e);
    errors_pop(e, mark);
    out->action = (enum add_action)m->append_action;
    if (m->append && m->append_action)
        errors_add(e, "append_action", "and append cannot both be set");
    else if (m->append)
        out->action = m->append->value ? ADD_APPEND : ADD_OVERWRITE;
    out->keep_empty = m->keep_empty_value;
}

struct headers_mutation *headers_mutation_compile(struct arena *a, void *const *add, size_t num_add,
                                                  char *const *remove, size_t num_remove,
                                                  const char *adds, const char *removes,
                                                  struct errors *e)
{
    if (!num_add && !num_remove)
        return NULL;
    struct headers_mutation *m = ARENA_NEW(a, struct headers_mutation);
    m->add = arena_zalloc(a, (num_add + 1) * sizeof(*m->add));
    m->num_add = num_add;
    for (size_t i = 0; i < num_add; i++) {
        size_t mark = errors_push_index(e, adds, i);
        compile_add(&m->add[i], a, add[i], e);
        errors_pop(e, mark);
    }
    m->remove = arena_zalloc(a, (num_remove + 1) * sizeof(*m->remove));
    m->num_remove = num_remove;
    for (size_t i = 0; i < num_remove; i++) {
        size_t mark = errors_push_index(e, removes, i);
        m->remove[i] = lower(a, str_of(remove[i]));
        (void)may_change(m->remove[i], NULL, e);
        errors_pop(e, mark);
    }
    return m;
}

struct http_filter_overrides *route_overrides_compile(const struct http_filter_env *env,
                                                      void *const *entries, size_t num,
                                                      struct errors *e)
{
    size_t mark = errors_push(e, "typed_per_filter_config");
    struct http_filter_overrides *o = http_filter_overrides_compile(env, entries, num, e);
    errors_pop(e, mark);
    return o;
}

/* --- match --- */

static void compile_path(struct route_entry *r, struct regex_list *l, struct arena *a,
                         const RouteMatch *m, struct errors *e)
{
    const char *path = NULL;
    r->ignore_case = !wkt_bool(m->case_sensitive, true);
    switch (m->path_specifier_case) {
    case ROUTE(ROUTE_MATCH__PATH_SPECIFIER_PREFIX):
        r->kind = PATH_PREFIX;
        path = m->prefix;
        break;
    case ROUTE(ROUTE_MATCH__PATH_SPECIFIER_PATH):
        r->kind = PATH_EXACT;
        path = m->path;
        break;
    case ROUTE(ROUTE_MATCH__PATH_SPECIFIER_PATH_SEPARATED_PREFIX):
        r->kind = PATH_SEPARATED_PREFIX;
        path = m->path_separated_prefix;
        break;
    case ROUTE(ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX): {
        size_t mark = errors_push(e, "safe_regex");
        r->kind = PATH_REGEX;
        r->regex = regex_list_add(l, a, m->safe_regex, e);
        errors_pop(e, mark);
        return;
    }
    default:
        errors_add(e, NULL, "a path specifier is required");
        return;
    }
    r->path = r->ignore_case ? lower(a, str_of(path)) : arena_str(a, str_of(path));
}

static void compile_query(struct route_entry *r, struct regex_list *l, struct arena *a,
                          const RouteMatch *m, struct errors *e)
{
    r->num_query = m->n_query_parameters;
    r->query = arena_zalloc(a, (r->num_query + 1) * sizeof(*r->query));
    for (size_t i = 0; i < r->num_query; i++) {
        const Envoy__Config__Route__V3__QueryParameterMatcher *q = m->query_parameters[i];
        struct query_match *out = &r->query[i];
        size_t mark = errors_push_index(e, "query_parameters", i);
        out->name = arena_str(a, str_of(q->name));
        out->present = true;
        if (q->query_parameter_match_specifier_case ==
            ROUTE(QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH)) {
            size_t inner = errors_push(e, "string_match");
            out->has_string = string_match_compile(&out->string, l, a, q->string_match, e);
            errors_pop(e, inner);
        } else if (q->query_parameter_match_specifier_case ==
                   ROUTE(QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH)) {
            out->present = q->present_match;
        }
        errors_pop(e, mark);
    }
}

static void compile_match(struct route_entry *r, struct regex_list *l, struct arena *a,
                          const RouteMatch *m, struct errors *e)
{
    size_t mark = errors_push(e, "match");
    r->fraction_ppm = 1000000;
    if (!m) {
        errors_add(e, NULL, "is required");
        errors_pop(e, mark);
        return;
    }
    compile_path(r, l, a, m, e);
    compile_query(r, l, a, m, e);
    r->headers = header_matches_compile(l, a, (void *const *)m->headers, m->n_headers, "headers",
                                        e);
    r->num_headers = m->n_headers;
    r->grpc_only = m->grpc != NULL;
    if (m->runtime_fraction)
        r->fraction_ppm = wkt_fraction_ppm(m->runtime_fraction->default_value, 1000000);
    errors_pop(e, mark);
}

/* --- actions --- */

static void compile_regex_rewrite(struct rewrite *w, struct regex_list *l, struct arena *a,
                                  const void *msg, struct errors *e)
{
    const Envoy__Type__Matcher__V3__RegexMatchAndSubstitute *m = msg;
    size_t mark = errors_push(e, "regex_rewrite");
    struct str why;
    if (m->pattern)
        w->regex = regex_list_add(l, a, m->pattern, e);
    else
        errors_add(e, "pattern", "is required");
    w->substitution = arena_str(a, str_of(m->substitution));
    if (w->regex && !regex_check_rewrite(w->regex, w->substitution, a, &why))
        errors_add(e, "substitution", "%.*s", STR_ARG(why));
    errors_pop(e, mark);
}

static void compile_weighted(struct route *r, struct arena *a,
                             const Envoy__Config__Route__V3__WeightedCluster *m, struct errors *e)
{
    struct weighted_cluster *v = arena_zalloc(a, (m->n_clusters + 1) * sizeof(*v));
    size_t outer = errors_push(e, "weighted_clusters");
    for (size_t i = 0; i < m->n_clusters; i++) {
        const Envoy__Config__Route__V3__WeightedCluster__ClusterWeight *c = m->clusters[i];
        size_t mark = errors_push_index(e, "clusters", i);
        v[i].name = arena_str(a, str_of(c->name));
        if (!v[i].name.len)
            errors_add(e, "name", "must not be empty");
        v[i].weight = wkt_u32(c->weight, 0);
        v[i].request = headers_mutation_compile(
            a, (void *const *)c->request_headers_to_add, c->n_request_headers_to_add,
            c->request_headers_to_remove, c->n_request_headers_to_remove, "request_headers_to_add",
            "request_headers_to_remove", e);
        v[i].response = headers_mutation_compile(
            a, (void *const *)c->response_headers_to_add, c->n_response_headers_to_add,
            c->response_headers_to_remove, c->n_response_headers_to_remove,
            "response_headers_to_add", "response_headers_to_remove", e);
        v[i].host_rewrite = arena_str(a, str_of(c->host_rewrite_literal));
        v[i].filters = route_overrides_compile(r->vhost->env,
                                               (void *const *)c->typed_per_filter_config,
                                               c->n_typed_per_filter_config, e);
        r->total_weight += v[i].weight;
        errors_pop(e, mark);
    }
    if (!r->total_weight)
        errors_add(e, NULL, "the sum of the weights must be greater than 0");
    if (r->total_weight > UINT32_MAX)
        errors_add(e, NULL, "the sum of the weights exceeds 4294967295");
    errors_pop(e, outer);
    r->weighted = v;
    r->num_weighted = m->n_clusters;
}

static void compile_cluster(struct route *r, struct arena *a, const RouteAction *m,
                            struct errors *e)
{
    static const unsigned not_found[] = {503, 404, 500};
    r->cluster_not_found_code = not_found[m->cluster_not_found_response_code];
    switch (m->cluster_specifier_case) {
    case ROUTE(ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER):
        r->cluster = arena_str(a, str_of(m->cluster));
        return;
    case ROUTE(ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER_HEADER):
        r->cluster_header = lower(a, str_of(m->cluster_header));
        return;
    case ROUTE(ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS):
        compile_weighted(r, a, m->weighted_clusters, e);
        return;
    default:
        errors_add(e, NULL, "a cluster, cluster_header or weighted_clusters is required");
    }
}

static void compile_forward(struct route_entry *en, struct regex_list *l, struct arena *a,
                            const RouteAction *m, struct errors *e)
{
    struct route *r = &en->route;
    size_t mark = errors_push(e, "route");
    compile_cluster(r, a, m, e);
    r->priority = m->priority == ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH ? PRIORITY_HIGH
                                                                                 : PRIORITY_DEFAULT;
    r->has_timeout = m->timeout != NULL;
    r->timeout_ms = wkt_duration_ms(m->timeout, 15000, e, "timeout");
    r->has_idle_timeout = m->idle_timeout != NULL;
    r->idle_timeout_ms = wkt_duration_ms(m->idle_timeout, 0, e, "idle_timeout");
    if (m->max_stream_duration && m->max_stream_duration->max_stream_duration) {
        r->has_max_stream_duration = true;
        r->max_stream_duration_ms = wkt_duration_ms(m->max_stream_duration->max_stream_duration, 0,
                                                    e, "max_stream_duration.max_stream_duration");
    }
    if (m->prefix_rewrite[0])
        en->rewrite.prefix = arena_str(a, str_of(m->prefix_rewrite));
    if (m->regex_rewrite)
        compile_regex_rewrite(&en->rewrite, l, a, m->regex_rewrite, e);
    if (m->prefix_rewrite[0] && m->regex_rewrite)
        errors_add(e, "regex_rewrite", "and prefix_rewrite cannot both be set");
    if (m->host_rewrite_specifier_case ==
        ROUTE(ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL))
        en->host_rewrite = arena_str(a, str_of(m->host_rewrite_literal));
    route_action_policies_compile(r, l, a, m, e);
    errors_pop(e, mark);
}

static void compile_redirect(struct route_entry *en, struct regex_list *l, struct arena *a,
                             const Redirect *m, struct errors *e)
{
    static const unsigned codes[] = {301, 302, 303, 307, 308};
    struct redirect *d = ARENA_NEW(a, struct redirect);
    size_t mark = errors_push(e, "redirect");
    en->route.redirect = d;
    d->https = m->scheme_rewrite_specifier_case ==
                   ROUTE(REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_HTTPS_REDIRECT) &&
               m->https_redirect;
    if (m->scheme_rewrite_specifier_case ==
        ROUTE(REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT))
        d->scheme = arena_str(a, str_of(m->scheme_redirect));
    d->host = arena_str(a, str_of(m->host_redirect));
    d->port = m->port_redirect;
    d->status = codes[m->response_code];
    d->strip_query = m->strip_query;
    switch (m->path_rewrite_specifier_case) {
    case ROUTE(REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PATH_REDIRECT):
        d->path = arena_str(a, str_of(m->path_redirect));
        break;
    case ROUTE(REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PREFIX_REWRITE):
        d->rewrite.prefix = arena_str(a, str_of(m->prefix_rewrite));
        break;
    case ROUTE(REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_REGEX_REWRITE):
        compile_regex_rewrite(&d->rewrite, l, a, m->regex_rewrite, e);
        break;
    default:
        break;
    }
    errors_pop(e, mark);
}

static void compile_direct(struct route *r, struct arena *a,
                           const Envoy__Config__Route__V3__DirectResponseAction *m, size_t max_body,
                           struct errors *e)
{
    size_t mark = errors_push(e, "direct_response");
    r->direct_status = m->status;
    if (m->body) {
        switch (m->body->specifier_case) {
        case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING:
            r->direct_body = arena_str(a, str_of(m->body->inline_string));
            break;
        case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES:
            r->direct_body = arena_str(
                a, str_n((const char *)m->body->inline_bytes.data, m->body->inline_bytes.len));
            break;
        case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_ENVIRONMENT_VARIABLE: {
            const char *v = getenv(m->body->environment_variable);
            if (!v)
                errors_add(e, "body.environment_variable", "%s is not set",
                           m->body->environment_variable);
            r->direct_body = arena_str(a, str_of(v));
            break;
        }
        default:
            errors_add(e, "body",
                       "only inline_string, inline_bytes and environment_variable are supported");
        }
        if (r->direct_body.len > max_body)
            errors_add(e, "body", "has %zu bytes, more than the limit of %zu", r->direct_body.len,
                       max_body);
    }
    errors_pop(e, mark);
}

void route_entry_compile(struct route_entry *en, struct regex_list *l, struct arena *a,
                         const void *route_msg, struct vhost *vhost, size_t max_body,
                         struct errors *e)
{
    const Route *m = route_msg;
    struct route *r = &en->route;
    r->name = arena_str(a, str_of(m->name));
    r->vhost = vhost;
    compile_match(en, l, a, m->match, e);
    if (m->decorator)
        r->decorator = arena_str(a, str_of(m->decorator->operation));
    r->request = headers_mutation_compile(a, (void *const *)m->request_headers_to_add,
                                          m->n_request_headers_to_add, m->request_headers_to_remove,
                                          m->n_request_headers_to_remove, "request_headers_to_add",
                                          "request_headers_to_remove", e);
    r->response = headers_mutation_compile(
        a, (void *const *)m->response_headers_to_add, m->n_response_headers_to_add,
        m->response_headers_to_remove, m->n_response_headers_to_remove, "response_headers_to_add",
        "response_headers_to_remove", e);
    r->filters = route_overrides_compile(vhost->env, (void *const *)m->typed_per_filter_config,
                                         m->n_typed_per_filter_config, e);
    switch (m->action_case) {
    case ROUTE(ROUTE__ACTION_ROUTE):
        r->action = ROUTE_FORWARD;
        compile_forward(en, l, a, m->route, e);
        return;
    case ROUTE(ROUTE__ACTION_REDIRECT):
        r->action = ROUTE_REDIRECT;
        compile_redirect(en, l, a, m->redirect, e);
        return;
    case ROUTE(ROUTE__ACTION_DIRECT_RESPONSE):
        r->action = ROUTE_DIRECT;
        compile_direct(r, a, m->direct_response, max_body, e);
        return;
    default:
        errors_add(e, NULL, "an action (route, redirect or direct_response) is required");
    }
}
