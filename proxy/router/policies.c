#include "proxy/router/policies.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/internal_redirect/allow_listed_routes/v3/allow_listed_routes_config.pb-c.h"
#include "envoy/extensions/internal_redirect/previous_routes/v3/previous_routes_config.pb-c.h"
#include "envoy/extensions/internal_redirect/safe_cross_scheme/v3/safe_cross_scheme_config.pb-c.h"
#include "proxy/router/route.h"

typedef Envoy__Config__Route__V3__Route Route;
typedef Envoy__Config__Route__V3__RouteAction RouteAction;
typedef Envoy__Config__Route__V3__RouteAction__RequestMirrorPolicy Mirror;
typedef Envoy__Config__Route__V3__VirtualHost VirtualHost;
typedef Envoy__Config__Route__V3__InternalRedirectPolicy InternalRedirect;
typedef Envoy__Config__Route__V3__HedgePolicy HedgePolicy;
typedef Envoy__Extensions__InternalRedirect__AllowListedRoutes__V3__AllowListedRoutesConfig
    AllowListed;

static struct str lower(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
    p[s.len] = '\0';
    return str_n(p, s.len);
}

/* --- hedging --- */

/* Envoy reads no more of the message than this either: the rest of it has no effect there. */
static struct hedge_policy *compile_hedge(struct arena *a, const HedgePolicy *m, struct errors *e)
{
    struct hedge_policy *p = ARENA_NEW(a, struct hedge_policy);
    size_t mark = errors_push(e, "hedge_policy");
    p->on_per_try_timeout = m->hedge_on_per_try_timeout;
    if (m->initial_requests && m->initial_requests->value != 1)
        errors_warn(e, "initial_requests", "has no effect: one request is sent at first");
    if (m->additional_request_chance && m->additional_request_chance->numerator)
        errors_warn(e, "additional_request_chance", "has no effect");
    errors_pop(e, mark);
    return p;
}

/* --- mirrors --- */

static void compile_mirror(struct mirror *out, struct regex_list *l, struct arena *a,
                           const Mirror *m, struct errors *e)
{
    out->cluster = arena_str(a, str_of(m->cluster));
    out->header = lower(a, str_of(m->cluster_header));
    if (out->cluster.len && out->header.len)
        errors_add(e, "cluster_header", "and cluster cannot both be set");
    if (!out->cluster.len && !out->header.len)
        errors_add(e, NULL, "exactly one of cluster and cluster_header is required");
    out->ppm = m->runtime_fraction ? wkt_fraction_ppm(m->runtime_fraction->default_value, 0)
                                   : 1000000;
    out->plain_host = m->disable_shadow_host_suffix_append;
    out->host = arena_str(a, str_of(m->host_rewrite_literal));
    header_steps_add(&out->changes, l, a, (void *const *)m->request_headers_mutations,
                     m->n_request_headers_mutations, "request_headers_mutations", e);
}

struct mirrors mirrors_compile(struct regex_list *l, struct arena *a, void *const *msgs, size_t n,
                               struct errors *e)
{
    struct mirror *v = arena_zalloc(a, (n + 1) * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, "request_mirror_policies", i);
        compile_mirror(&v[i], l, a, msgs[i], e);
        errors_pop(e, mark);
    }
    return (struct mirrors){v, n};
}

/* --- internal redirects --- */

static void compile_allowed(struct redirect_check *c, struct arena *a, const AllowListed *m)
{
    struct str *v = arena_zalloc(a, (m->n_allowed_route_names + 1) * sizeof(*v));
    for (size_t i = 0; i < m->n_allowed_route_names; i++)
        v[i] = arena_str(a, str_of(m->allowed_route_names[i]));
    c->routes = v;
    c->num_routes = m->n_allowed_route_names;
}

static void compile_check(struct redirect_check *c, struct arena *a,
                          const Envoy__Config__Core__V3__TypedExtensionConfig *m, struct errors *e)
{
    static const struct pb_opts opts;
    struct pb_any any;
    size_t mark = errors_push(e, "typed_config");
    enum pb_any_status st = pb_any_unpack(m->typed_config, a, e, &opts, &any);
    errors_pop(e, mark);
    if (st == PB_ANY_INVALID)
        return;
#define IS(name) (any.type == &envoy__extensions__internal_redirect__##name##__descriptor)
    if (st == PB_ANY_OK && IS(allow_listed_routes__v3__allow_listed_routes_config)) {
        c->kind = REDIRECT_ALLOW_LISTED_ROUTES;
        compile_allowed(c, a, (const AllowListed *)any.message);
    } else if (st == PB_ANY_OK && IS(previous_routes__v3__previous_routes_config)) {
        c->kind = REDIRECT_PREVIOUS_ROUTES;
    } else if (st == PB_ANY_OK && IS(safe_cross_scheme__v3__safe_cross_scheme_config)) {
        c->kind = REDIRECT_SAFE_CROSS_SCHEME;
    } else {
        errors_add(e, NULL, "'%s' is not supported", m->name);
    }
#undef IS
}

static void compile_copied(struct internal_redirects *p, struct arena *a, const InternalRedirect *m,
                           struct errors *e)
{
    struct str *v = arena_zalloc(a, (m->n_response_headers_to_copy + 1) * sizeof(*v));
    for (size_t i = 0; i < m->n_response_headers_to_copy; i++) {
        v[i] = lower(a, str_of(m->response_headers_to_copy[i]));
        if (v[i].len && v[i].p[0] != ':' && !str_eq(v[i], STR("host")))
            continue;
        size_t mark = errors_push_index(e, "response_headers_to_copy", i);
        errors_add(e, NULL, ":-prefixed headers or Host may not be copied");
        errors_pop(e, mark);
    }
    p->copy = v;
    p->num_copy = m->n_response_headers_to_copy;
}

static const struct internal_redirects *
compile_redirects(struct arena *a, const InternalRedirect *m, struct errors *e)
{
    struct internal_redirects *p = ARENA_NEW(a, struct internal_redirects);
    size_t mark = errors_push(e, "internal_redirect_policy");
    p->max = wkt_u32(m->max_internal_redirects, 1);
    p->codes[2] = !m->n_redirect_response_codes;
    for (size_t i = 0; i < m->n_redirect_response_codes; i++) {
        uint32_t code = m->redirect_response_codes[i];
        if ((code >= 301 && code <= 303) || code == 307 || code == 308)
            p->codes[code - 300] = true;
    }
    p->cross_scheme = m->allow_cross_scheme_redirect;
    struct redirect_check *v = arena_zalloc(a, (m->n_predicates + 1) * sizeof(*v));
    for (size_t i = 0; i < m->n_predicates; i++) {
        size_t inner = errors_push_index(e, "predicates", i);
        compile_check(&v[i], a, m->predicates[i], e);
        errors_pop(e, inner);
    }
    p->checks = v;
    p->num_checks = m->n_predicates;
    compile_copied(p, a, m, e);
    errors_pop(e, mark);
    return p;
}

/* --- the levels --- */

void route_action_policies_compile(struct route *r, struct regex_list *l, struct arena *a,
                                   const void *action_msg, struct errors *e)
{
    const RouteAction *m = action_msg;
    if (m->retry_policy) {
        size_t mark = errors_push(e, "retry_policy");
        r->retry = retry_policy_compile(l, a, m->retry_policy, e);
        errors_pop(e, mark);
    }
    r->own_durations = m->max_stream_duration != NULL;
    if (m->hedge_policy)
        r->hedge = compile_hedge(a, m->hedge_policy, e);
    r->mirrors = mirrors_compile(l, a, (void *const *)m->request_mirror_policies,
                                 m->n_request_mirror_policies, e);
    if (m->internal_redirect_policy)
        r->redirects = compile_redirects(a, m->internal_redirect_policy, e);
}

void vhost_policies_compile(struct route_policies *p, struct regex_list *l, struct arena *a,
                            const void *vhost_msg, struct mirrors above, struct errors *e)
{
    const VirtualHost *m = vhost_msg;
    if (m->retry_policy) {
        size_t mark = errors_push(e, "retry_policy");
        p->retry = retry_policy_compile(l, a, m->retry_policy, e);
        errors_pop(e, mark);
    }
    if (m->hedge_policy)
        p->hedge = compile_hedge(a, m->hedge_policy, e);
    p->mirrors = m->n_request_mirror_policies
                     ? mirrors_compile(l, a, (void *const *)m->request_mirror_policies,
                                       m->n_request_mirror_policies, e)
                     : above;
    p->has_body_limit = m->request_body_buffer_limit || m->per_request_buffer_limit_bytes;
    p->body_limit = m->request_body_buffer_limit ? m->request_body_buffer_limit->value
                                                 : wkt_u32(m->per_request_buffer_limit_bytes, 0);
    if (m->request_body_buffer_limit && m->per_request_buffer_limit_bytes)
        errors_add(e, "request_body_buffer_limit",
                   "and per_request_buffer_limit_bytes cannot both be set");
    p->timeout_retry_header = m->include_is_timeout_retry_header;
}

void route_policies_inherit(struct route *r, const void *route_msg,
                            const struct route_policies *above)
{
    const Route *m = route_msg;
    if (!r->retry)
        r->retry = above->retry;
    if (!r->hedge)
        r->hedge = above->hedge;
    if (!r->mirrors.n)
        r->mirrors = above->mirrors;
    r->timeout_retry_header = above->timeout_retry_header;
    r->has_body_limit = above->has_body_limit;
    r->body_limit = above->body_limit;
    if (m->request_body_buffer_limit || m->per_request_buffer_limit_bytes) {
        r->has_body_limit = true;
        r->body_limit = m->request_body_buffer_limit
                            ? m->request_body_buffer_limit->value
                            : wkt_u32(m->per_request_buffer_limit_bytes, 0);
    }
}
