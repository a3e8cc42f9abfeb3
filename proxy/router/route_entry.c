#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "proxy/router/route_private.h"

typedef Envoy__Config__Route__V3__Route Route;
typedef Envoy__Config__Route__V3__RouteAction RouteAction;
#define ROUTE(x) ENVOY__CONFIG__ROUTE__V3__##x

/* --- the whole --- */

static void compile_forward(struct route_compiler *c, struct route_entry *en, const RouteAction *m)
{
    struct route *r = &en->route;
    size_t mark = errors_push(c->e, "route");
    route_action_compile(c, en, m);
    route_action_policies_compile(r, c->regexes, c->a, m, c->e);
    errors_pop(c->e, mark);
}

static void compile_action(struct route_compiler *c, struct route_entry *en, const Route *m)
{
    size_t mark;
    struct route *r = &en->route;
    switch (m->action_case) {
    case ROUTE(ROUTE__ACTION_ROUTE):
        r->action = ROUTE_FORWARD;
        compile_forward(c, en, m->route);
        return;
    case ROUTE(ROUTE__ACTION_NON_FORWARDING_ACTION):
        r->action = ROUTE_FORWARD;
        r->cluster_not_found_code = 503;
        return;
    case ROUTE(ROUTE__ACTION_REDIRECT):
        r->action = ROUTE_REDIRECT;
        mark = errors_push(c->e, "redirect");
        route_redirect_compile(c, en, m->redirect);
        errors_pop(c->e, mark);
        return;
    case ROUTE(ROUTE__ACTION_DIRECT_RESPONSE):
        r->action = ROUTE_DIRECT;
        mark = errors_push(c->e, "direct_response");
        route_direct_compile(c, r, m->direct_response);
        errors_pop(c->e, mark);
        return;
    default:
        errors_add(c->e, NULL,
                   "an action (route, redirect, direct_response or non_forwarding_action) is "
                   "required");
    }
}

void route_entry_compile(struct route_compiler *c, struct route_entry *en, const void *route_msg,
                         struct vhost *vhost)
{
    const Route *m = route_msg;
    struct route *r = &en->route;
    r->name = arena_str(c->a, str_of(m->name));
    r->vhost = vhost;
    route_conditions_compile(c, en, m->match);
    if (m->decorator) {
        r->decorator = arena_str(c->a, str_of(m->decorator->operation));
        r->decorator_propagate = wkt_bool(m->decorator->propagate, true);
    }
    r->metadata = route_metadata_compile(c->a, m->metadata);
    r->request = REQUEST_MUTATION(c->a, m, c->e);
    r->response = RESPONSE_MUTATION(c->a, m, c->e);
    r->filters = route_overrides_compile(c, (void *const *)m->typed_per_filter_config,
                                         m->n_typed_per_filter_config);
    r->attempt_count = vhost->attempt_count;
    r->attempt_count_response = vhost->attempt_count_response;
    compile_action(c, en, m);
    route_policies_inherit(r, m, &vhost->policies);
}
