#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.pb-c.h"
#include "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.pb-c.h"
#include "proxy/router/matchers.h"
#include "proxy/router/policies.h"

typedef Envoy__Config__Route__V3__RetryPolicy RetryPolicy;
typedef Envoy__Config__Route__V3__RetryPolicy__RetryHostPredicate HostPredicate;
typedef Envoy__Config__Route__V3__RetryPolicy__RateLimitedRetryBackOff RateLimited;

typedef Envoy__Extensions__Retry__Priority__PreviousPriorities__V3__PreviousPrioritiesConfig
    PreviousPriorities;

enum { RESET_MAX_MS = 300000 };

static struct str lower(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
    p[s.len] = '\0';
    return str_n(p, s.len);
}

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

/* --- extensions --- */

/* Whether an extension is `type`, by its configuration or, without one, by its name. */
static bool is_extension(const Google__Protobuf__Any *config, const char *name, struct str type,
                         const char *known_as)
{
    struct str url = str_of(config ? config->type_url : "");
    return str_ends(url, type) || (!url.len && strcmp(name, known_as) == 0);
}

static void compile_hosts(struct retry_policy *p, const RetryPolicy *m, struct errors *e)
{
    for (size_t i = 0; i < m->n_retry_host_predicate; i++) {
        const HostPredicate *h = m->retry_host_predicate[i];
        if (is_extension(
                h->typed_config, h->name,
                STR("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
                "envoy.retry_host_predicates.previous_hosts")) {
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
    for (size_t i = 0; i < m->n_retry_options_predicates; i++) {
        size_t mark = errors_push_index(e, "retry_options_predicates", i);
        errors_add(e, NULL, "'%s' is not supported", m->retry_options_predicates[i]->name);
        errors_pop(e, mark);
    }
}

static void compile_priority(struct retry_policy *p, struct arena *a, const RetryPolicy *m,
                             struct errors *e)
{
    static const struct pb_opts opts;
    struct pb_any any;
    if (!m->retry_priority)
        return;
    size_t mark = errors_push(e, "retry_priority.typed_config");
    enum pb_any_status st = pb_any_unpack(m->retry_priority->typed_config, a, e, &opts, &any);
    if (st == PB_ANY_OK &&
        any.type ==
            &envoy__extensions__retry__priority__previous_priorities__v3__previous_priorities_config__descriptor) {
        p->update_frequency = (uint32_t)((const PreviousPriorities *)any.message)->update_frequency;
        if ((int32_t)p->update_frequency <= 0)
            errors_add(e, "update_frequency", "must be greater than 0");
    } else if (st != PB_ANY_INVALID) {
        errors_add(e, NULL, "'%s' is not supported", m->retry_priority->name);
    }
    errors_pop(e, mark);
}

/* --- pauses --- */

static void compile_backoff(struct retry_policy *p, const RetryPolicy *m, struct errors *e)
{
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
}

static void compile_rate_limited(struct retry_policy *p, struct arena *a, const RateLimited *m,
                                 struct errors *e)
{
    size_t mark = errors_push(e, "rate_limited_retry_back_off");
    struct reset_header *v = arena_zalloc(a, (m->n_reset_headers + 1) * sizeof(*v));
    if (!m->n_reset_headers)
        errors_add(e, "reset_headers", "must not be empty");
    for (size_t i = 0; i < m->n_reset_headers; i++) {
        v[i].name = lower(a, str_of(m->reset_headers[i]->name));
        v[i].timestamp =
            m->reset_headers[i]->format ==
            ENVOY__CONFIG__ROUTE__V3__RETRY_POLICY__RESET_HEADER_FORMAT__UNIX_TIMESTAMP;
    }
    p->reset_headers = v;
    p->num_reset_headers = m->n_reset_headers;
    p->reset_max_ms = wkt_duration_ms(m->max_interval, RESET_MAX_MS, e, "max_interval");
    if (m->max_interval && !p->reset_max_ms)
        errors_add(e, "max_interval", "must be greater than 0");
    errors_pop(e, mark);
}

struct retry_policy *retry_policy_compile(struct regex_list *l, struct arena *a, const void *msg,
                                          struct errors *e)
{
    const RetryPolicy *m = msg;
    struct retry_policy *p = ARENA_NEW(a, struct retry_policy);
    p->on = compile_retry_on(str_of(m->retry_on), e);
    p->num_retries = wkt_u32(m->num_retries, 1);
    p->per_try_timeout_ms = wkt_duration_ms(m->per_try_timeout, 0, e, "per_try_timeout");
    p->per_try_idle_timeout_ms = wkt_duration_ms(m->per_try_idle_timeout, 0, e,
                                                 "per_try_idle_timeout");
    compile_backoff(p, m, e);
    if (m->rate_limited_retry_back_off)
        compile_rate_limited(p, a, m->rate_limited_retry_back_off, e);
    uint16_t *codes = arena_zalloc(a, (m->n_retriable_status_codes + 1) * sizeof(*codes));
    for (size_t i = 0; i < m->n_retriable_status_codes; i++)
        codes[i] = (uint16_t)m->retriable_status_codes[i];
    p->status_codes = codes;
    p->num_status_codes = m->n_retriable_status_codes;
    p->response_headers = header_matches_compile(l, a, (void *const *)m->retriable_headers,
                                                 m->n_retriable_headers, "retriable_headers", e);
    p->num_response_headers = m->n_retriable_headers;
    p->request_headers = header_matches_compile(l, a, (void *const *)m->retriable_request_headers,
                                                m->n_retriable_request_headers,
                                                "retriable_request_headers", e);
    p->num_request_headers = m->n_retriable_request_headers;
    compile_hosts(p, m, e);
    compile_priority(p, a, m, e);
    return p;
}
