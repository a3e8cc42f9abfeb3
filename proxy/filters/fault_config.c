#include "api-protos/wkt.h"
#include "envoy/extensions/filters/common/fault/v3/fault.pb-c.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb-c.h"
#include "proxy/filters/fault.h"
#include "proxy/filters/filter_stats.h"
#include "proxy/observe/metadata.h"

typedef Envoy__Extensions__Filters__Http__Fault__V3__HTTPFault HttpFault;
typedef Envoy__Extensions__Filters__Http__Fault__V3__FaultAbort FaultAbort;
typedef Envoy__Extensions__Filters__Common__Fault__V3__FaultDelay FaultDelay;
typedef Envoy__Extensions__Filters__Common__Fault__V3__FaultRateLimit FaultRateLimit;
#define ABORT(x) ENVOY__EXTENSIONS__FILTERS__HTTP__FAULT__V3__FAULT_ABORT__ERROR_TYPE_##x
#define DELAY(x)                                                                                   \
    ENVOY__EXTENSIONS__FILTERS__COMMON__FAULT__V3__FAULT_DELAY__FAULT_DELAY_SECIFIER_##x
#define LIMIT(x) ENVOY__EXTENSIONS__FILTERS__COMMON__FAULT__V3__FAULT_RATE_LIMIT__LIMIT_TYPE_##x

static const struct stats_def stat_defs[] = {FAULT_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

static struct fault_share share(const Envoy__Type__V3__FractionalPercent *p, const char *header)
{
    static const uint32_t denominators[] = {100, 10000, 1000000};
    struct fault_share s = {0, 100, header};
    if (p && p->denominator < ARRAY_LEN(denominators)) {
        s.numerator = p->numerator;
        s.denominator = denominators[p->denominator];
    }
    return s;
}

static void compile_delay(struct fault_config *c, const FaultDelay *m, struct errors *e)
{
    size_t mark = errors_push(e, "delay");
    const char *header = NULL;
    switch (m->fault_delay_secifier_case) {
    case DELAY(FIXED_DELAY):
        c->delay = FAULT_FIXED;
        c->delay_ms = wkt_duration_ms(m->fixed_delay, 0, e, "fixed_delay");
        if (!c->delay_ms)
            errors_add(e, "fixed_delay", "must be greater than 0");
        break;
    case DELAY(HEADER_DELAY):
        c->delay = FAULT_BY_HEADER;
        header = "x-envoy-fault-delay-request-percentage";
        break;
    default:
        errors_add(e, NULL, "fixed_delay or header_delay is required");
    }
    c->delay_share = share(m->percentage, header);
    errors_pop(e, mark);
}

static void compile_abort(struct fault_config *c, const FaultAbort *m, struct errors *e)
{
    size_t mark = errors_push(e, "abort");
    const char *header = NULL;
    switch (m->error_type_case) {
    case ABORT(HTTP_STATUS):
        c->abort = FAULT_FIXED;
        c->http_status = m->http_status;
        if (m->http_status < 200 || m->http_status >= 600)
            errors_add(e, "http_status", "must be 200 to 599");
        break;
    case ABORT(GRPC_STATUS):
        c->abort = FAULT_FIXED;
        c->abort_grpc = true;
        c->grpc_status = m->grpc_status;
        break;
    case ABORT(HEADER_ABORT):
        c->abort = FAULT_BY_HEADER;
        header = "x-envoy-fault-abort-request-percentage";
        break;
    default:
        errors_add(e, NULL, "http_status, grpc_status or header_abort is required");
    }
    c->abort_share = share(m->percentage, header);
    errors_pop(e, mark);
}

static void compile_limit(struct fault_config *c, const FaultRateLimit *m, struct errors *e)
{
    size_t mark = errors_push(e, "response_rate_limit");
    const char *header = NULL;
    switch (m->limit_type_case) {
    case LIMIT(FIXED_LIMIT):
        c->limit = FAULT_FIXED;
        c->limit_kbps = m->fixed_limit->limit_kbps;
        if (!c->limit_kbps)
            errors_add(e, "fixed_limit.limit_kbps", "must be greater than 0");
        break;
    case LIMIT(HEADER_LIMIT):
        c->limit = FAULT_BY_HEADER;
        header = "x-envoy-fault-throughput-response-percentage";
        break;
    default:
        errors_add(e, NULL, "fixed_limit or header_limit is required");
    }
    c->limit_share = share(m->percentage, header);
    errors_pop(e, mark);
}

void *fault_compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const HttpFault *m = msg;
    struct arena *a = env->arena;
    struct fault_config *c = ARENA_NEW(a, struct fault_config);
    if (!m)
        return c;
    if (m->delay)
        compile_delay(c, m->delay, e);
    if (m->abort)
        compile_abort(c, m->abort, e);
    if (m->response_rate_limit)
        compile_limit(c, m->response_rate_limit, e);
    c->any = m->delay || m->abort || m->response_rate_limit;
    c->upstream_cluster = arena_str(a, str_of(m->upstream_cluster));
    c->num_headers = m->n_headers;
    c->headers = header_matches_compile(&c->regexes, a, (void *const *)m->headers, m->n_headers,
                                        "headers", e);
    c->num_nodes = m->n_downstream_nodes;
    c->nodes = arena_zalloc(a, (c->num_nodes + 1) * sizeof(*c->nodes));
    for (size_t i = 0; i < c->num_nodes; i++)
        c->nodes[i] = arena_str(a, str_of(m->downstream_nodes[i]));
    c->has_max_active = m->max_active_faults != NULL;
    c->max_active = wkt_u32(m->max_active_faults, 0);
    c->no_cluster_stats = m->disable_downstream_cluster_stats;
    if (m->filter_metadata)
        c->metadata = metadata_from_struct(a, m->filter_metadata);
    return c;
}

void *fault_compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    struct fault_config *c = fault_compile_route(env, msg, e);
    c->stats = filter_stats_named(env, &stat_table, STR("fault"));
    return c;
}

void fault_free(void *config)
{
    struct fault_config *c = config;
    regex_list_free(&c->regexes);
    stats_scope_free(&c->stats);
}
