#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.pb-c.h"
#include "proxy/router/route_private.h"

typedef Envoy__Config__Route__V3__Route Route;
typedef Envoy__Config__Route__V3__RouteAction RouteAction;
typedef Envoy__Config__Route__V3__RetryPolicy RetryPolicy;
#define ROUTE(x) ENVOY__CONFIG__ROUTE__V3__##x

/* --- retry --- */

static uint32_t compile_retry_on(struct str text, struct errors *e)
{
    static const struct {
        struct str word;
        uint32_t bit;
    } known[] = {
#define X(id, word) {{word, sizeof(word) - 1}, RETRY(id)},
        RETRY_ON(X)
#undef X
    };
    uint32_t on = 0;
    struct str word;
    while (str_next(&text, ',', &word)) {
        word = str_trim(word);
        size_t i = 0;
        while (i < ARRAY_LEN(known) && !str_eq(word, known[i].word))
            i++;
        if (i < ARRAY_LEN(known))
            on |= known[i].bit;
        else if (word.len)
            errors_warn(e, "retry_on", "unknown word '%.*s' has no effect", STR_ARG(word));
    }
    return on;
}

static void compile_retry_hosts(struct retry_policy *p, const RetryPolicy *m, struct errors *e)
{
    for (size_t i = 0; i < m->n_retry_host_predicate; i++) {
        const Envoy__Config__Route__V3__RetryPolicy__RetryHostPredicate *h =
            m->retry_host_predicate[i];
        const char *url = h->typed_config ? h->typed_config->type_url : "";
        struct str type = str_of(url);
        if (str_ends(type,
                     STR("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")) ||
            (!type.len && strcmp(h->name, "envoy.retry_host_predicates.previous_hosts") == 0)) {
            p->previous_hosts = true;
            continue;
        }
        size_t mark = errors_push_index(e, "retry_host_predicate", i);
        errors_add(e, NULL, "'%s' is not supported", h->name);
        errors_pop(e, mark);
    }
    p->host_attempts = m->host_selection_retry_max_attempts > 0
                           ? (uint32_t)m->host_selection_retry_max_attempts
                           : 1;
}

struct retry_policy *retry_policy_compile(struct arena *a, const void *msg, struct errors *e)
{
    const RetryPolicy *m = msg;
    struct retry_policy *p = ARENA_NEW(a, struct retry_policy);
    p->on = compile_retry_on(str_of(m->retry_on), e);
    p->num_retries = wkt_u32(m->num_retries, 1);
    p->per_try_timeout_ms = wkt_duration_ms(m->per_try_timeout, 0, e, "per_try_timeout");
    p->per_try_idle_timeout_ms = wkt_duration_ms(m->per_try_idle_timeout, 0, e,
                                                 "per_try_idle_timeout");
    p->backoff_base_ms = 25;
    if (m->retry_back_off) {
        p->backoff_base_ms = wkt_duration_ms(m->retry_back_off->base_interval, 25, e,
                                             "retry_back_off.base_interval");
        if (!p->backoff_base_ms)
            p->backoff_base_ms = 1;
    }
    p->backoff_max_ms = p->backoff_base_ms * 10;
    if (m->retry_back_off && m->retry_back_off->max_interval)
        p->backoff_max_ms = wkt_duration_ms(m->retry_back_off->max_interval, 0, e,
                                            "retry_back_off.max_interval");
    if (p->backoff_max_ms < p->backoff_base_ms)
        errors_add(e, "retry_back_off.max_interval", "must not be shorter than base_interval");
    uint16_t *codes = arena_zalloc(a, (m->n_retriable_status_codes + 1) * sizeof(*codes));
    for (size_t i = 0; i < m->n_retriable_status_codes; i++)
        codes[i] = (uint16_t)m->retriable_status_codes[i];
    p->status_codes = codes;
    p->num_status_codes = m->n_retriable_status_codes;
    compile_retry_hosts(p, m, e);
    return p;
}

/* --- the whole --- */

static void compile_forward(struct route_compiler *c, struct route_entry *en, const RouteAction *m,
                            const struct retry_policy *inherited)
{
    struct route *r = &en->route;
    size_t mark = errors_push(c->e, "route");
    route_action_compile(c, en, m);
    r->retry = inherited;
    if (m->retry_policy) {
        size_t inner = errors_push(c->e, "retry_policy");
        r->retry = retry_policy_compile(c->a, m->retry_policy, c->e);
        errors_pop(c->e, inner);
    }
    errors_pop(c->e, mark);
}

static void compile_action(struct route_compiler *c, struct route_entry *en, const Route *m,
                           const struct retry_policy *vhost_retry)
{
    size_t mark;
    struct route *r = &en->route;
    switch (m->action_case) {
    case ROUTE(ROUTE__ACTION_ROUTE):
        r->action = ROUTE_FORWARD;
        compile_forward(c, en, m->route, vhost_retry);
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
                         struct vhost *vhost, const struct retry_policy *vhost_retry)
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
    r->timeout_retry_header = vhost->timeout_retry_header;
    r->has_body_limit = vhost->has_body_limit;
    r->body_limit = vhost->body_limit;
    if (m->request_body_buffer_limit || m->per_request_buffer_limit_bytes) {
        r->has_body_limit = true;
        r->body_limit = wkt_u64(m->request_body_buffer_limit,
                                wkt_u32(m->per_request_buffer_limit_bytes, 0));
    }
    compile_action(c, en, m, vhost_retry);
}
