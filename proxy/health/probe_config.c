#include "proxy/health/probe_config.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "envoy/config/core/v3/health_check.pb-c.h"

typedef Envoy__Config__Core__V3__HealthCheck health_message;
typedef Envoy__Config__Core__V3__HealthCheck__HttpHealthCheck http_message;
typedef Envoy__Config__Core__V3__HealthCheck__GrpcHealthCheck grpc_message;

enum {
    ANSWER_DEFAULT = 1024,
    ANSWER_MAX = 1 << 20, /* response_buffer_size 0, "all of it", ends somewhere too */
};

static struct status_ranges compile_ranges(Envoy__Type__V3__Int64Range *const *msgs, size_t n,
                                           const char *field, struct arena *a, struct errors *e)
{
    struct status_range *v = arena_zalloc(a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, field, i);
        v[i] = (struct status_range){msgs[i]->start, msgs[i]->end};
        if (v[i].from >= v[i].to)
            errors_add(e, NULL, "start must be smaller than end");
        if (v[i].from < 100 || v[i].to > 600)
            errors_add(e, NULL, "must lie between 100 and 600");
        errors_pop(e, mark);
    }
    return (struct status_ranges){v, n};
}

bool status_in(const struct status_ranges *r, unsigned status)
{
    for (size_t i = 0; i < r->n; i++) {
        if (status >= r->v[i].from && status < r->v[i].to)
            return true;
    }
    return false;
}

static void compile_payload(struct probe_config *out, const http_message *m, struct arena *a,
                            struct errors *e)
{
    size_t mark;
    if (m->send) {
        mark = errors_push(e, "send");
        out->send = health_payload_compile(m->send, a, e);
        if (!str_eq(out->method, STR("POST")) && !str_eq(out->method, STR("PUT")) &&
            !str_eq(out->method, STR("PATCH")) && !str_eq(out->method, STR("OPTIONS")))
            errors_add(e, NULL, "a payload cannot be sent with method %.*s", STR_ARG(out->method));
        errors_pop(e, mark);
    }
    out->receive = health_payloads_compile((void *const *)m->receive, m->n_receive, "receive", a,
                                           e);
    uint64_t max = wkt_u64(m->response_buffer_size, ANSWER_DEFAULT);
    out->answer_max = max == 0 || max > ANSWER_MAX ? ANSWER_MAX : (size_t)max;
    if (max > ANSWER_MAX)
        errors_warn(e, "response_buffer_size", "is cut to %d", ANSWER_MAX);
}

/* CONNECT asks for a tunnel. */
static void compile_method(struct probe_config *out, const http_message *m, struct errors *e)
{
    static const char *const names[] = {"GET",    "GET", "HEAD",    "POST",  "PUT",
                                        "DELETE", NULL,  "OPTIONS", "TRACE", "PATCH"};
    size_t n = (size_t)m->method;
    out->method = STR("GET");
    if (n < ARRAY_LEN(names) && names[n])
        out->method = str_of(names[n]);
    else
        errors_add(e, "method", "cannot be used for a health check");
}

static void compile_http(struct probe_config *out, const http_message *m, struct arena *a,
                         struct errors *e)
{
    size_t mark;

    out->host = arena_str(a, str_of(m->host));
    out->path = arena_str(a, str_of(m->path));
    compile_method(out, m, e);
    if (out->path.len == 0)
        errors_add(e, "path", "is required");
    compile_payload(out, m, a, e);
    out->mutation = REQUEST_MUTATION(a, m, e);
    out->expected = compile_ranges(m->expected_statuses, m->n_expected_statuses,
                                   "expected_statuses", a, e);
    out->retriable = compile_ranges(m->retriable_statuses, m->n_retriable_statuses,
                                    "retriable_statuses", a, e);
    out->http2 = m->codec_client_type == ENVOY__TYPE__V3__CODEC_CLIENT_TYPE__HTTP2;
    if (m->codec_client_type == ENVOY__TYPE__V3__CODEC_CLIENT_TYPE__HTTP3)
        errors_add(e, "codec_client_type", "HTTP3 is not supported");
    if (!m->service_name_matcher)
        return;
    struct string_match *match = ARENA_NEW(a, struct string_match);
    mark = errors_push(e, "service_name_matcher");
    if (string_match_compile(match, &out->regexes, a, m->service_name_matcher, e))
        out->service = match;
    errors_pop(e, mark);
}

static void compile_grpc(struct probe_config *out, const grpc_message *m, struct arena *a,
                         struct errors *e)
{
    out->host = arena_str(a, str_of(m->authority));
    out->service_name = arena_str(a, str_of(m->service_name));
    out->mutation = headers_mutation_compile(a, (void *const *)m->initial_metadata,
                                             m->n_initial_metadata, NULL, 0, "initial_metadata", "",
                                             e);
}

void *probe_config_compile(const void *health_check, struct cluster_config *out,
                           struct arena *scratch, struct errors *e)
{
    const health_message *m = health_check;
    struct probe_config *c = ARENA_NEW(&out->arena, struct probe_config);
    bool http = m->health_checker_case ==
                ENVOY__CONFIG__CORE__V3__HEALTH_CHECK__HEALTH_CHECKER_HTTP_HEALTH_CHECK;
    size_t mark = errors_push(e, http ? "http_health_check" : "grpc_health_check");
    if (http)
        compile_http(c, m->http_health_check, &out->arena, e);
    else
        compile_grpc(c, m->grpc_health_check, &out->arena, e);
    errors_pop(e, mark);
    return c; /* after errors too: it owns the expressions */
}

void probe_config_release(void *special)
{
    struct probe_config *c = special;
    regex_list_free(&c->regexes);
}
