#include "cluster/cluster_limits.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "cluster/cluster_config.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb-c.h"

/* --- circuit breakers ------------------------------------------------------------------------ */

static void compile_threshold(const Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *msg,
                              struct circuit_limits *l)
{
    const Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds__RetryBudget *b =
        msg->retry_budget;
    l->max[CIRCUIT_CX] = wkt_u32(msg->max_connections, CIRCUIT_DEFAULT_MAX);
    l->max[CIRCUIT_PENDING] = wkt_u32(msg->max_pending_requests, CIRCUIT_DEFAULT_MAX);
    l->max[CIRCUIT_RQ] = wkt_u32(msg->max_requests, CIRCUIT_DEFAULT_MAX);
    l->max[CIRCUIT_RETRIES] = wkt_u32(msg->max_retries, CIRCUIT_DEFAULT_RETRIES);
    l->max[CIRCUIT_POOLS] = msg->max_connection_pools ? msg->max_connection_pools->value
                                                      : UINT64_MAX;
    l->track_remaining = msg->track_remaining;
    if (!b && msg->max_retries)
        l->has_retry_budget = false;
    if (!b)
        return;
    l->budget_per_cent = b->budget_percent ? b->budget_percent->value : CIRCUIT_DEFAULT_BUDGET;
    l->budget_min = wkt_u32(b->min_retry_concurrency, CIRCUIT_DEFAULT_BUDGET_MIN);
}

static bool priority_of(const Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *msg,
                        enum priority *out, struct errors *e)
{
    switch (msg->priority) {
    case ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__DEFAULT:
        *out = PRIORITY_DEFAULT;
        return true;
    case ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH:
        *out = PRIORITY_HIGH;
        return true;
    default:
        errors_add(e, "priority", "%d is not a priority", (int)msg->priority);
        return false;
    }
}

static void
compile_host_threshold(const Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *msg,
                       struct circuit_limits *l, struct errors *e)
{
    if (msg->max_pending_requests || msg->max_requests || msg->max_retries || msg->retry_budget ||
        msg->track_remaining || msg->max_connection_pools)
        errors_add(e, NULL, "only max_connections is supported for each host");
    l->max_cx_per_host = wkt_u32(msg->max_connections, UINT32_MAX);
}

void cluster_compile_circuit(const void *circuit_breakers, struct circuit_limits limits[2],
                             struct errors *e)
{
    const Envoy__Config__Cluster__V3__CircuitBreakers *msg = circuit_breakers;
    unsigned seen = 0, seen_host = 0;
    enum priority p;

    for (size_t i = 0; msg && i < msg->n_thresholds; i++) {
        size_t mark = errors_push_index(e, "thresholds", i);
        if (!priority_of(msg->thresholds[i], &p, e)) {
        } else if (seen & (1u << p)) {
            errors_warn(e, "priority", "listed before; the first one counts");
        } else {
            seen |= 1u << p;
            compile_threshold(msg->thresholds[i], &limits[p]);
        }
        errors_pop(e, mark);
    }
    for (size_t i = 0; msg && i < msg->n_per_host_thresholds; i++) {
        size_t mark = errors_push_index(e, "per_host_thresholds", i);
        if (!priority_of(msg->per_host_thresholds[i], &p, e)) {
        } else if (seen_host & (1u << p)) {
            errors_warn(e, "priority", "listed before; the first one counts");
        } else {
            seen_host |= 1u << p;
            compile_host_threshold(msg->per_host_thresholds[i], &limits[p], e);
        }
        errors_pop(e, mark);
    }
}

/* --- outlier detection --------------------------------------------------------------------------
 */

static uint32_t per_cent(const Google__Protobuf__UInt32Value *v, uint32_t def, struct errors *e,
                         const char *field)
{
    uint32_t n = wkt_u32(v, def);
    if (n <= 100)
        return n;
    errors_add(e, field, "must be at most 100");
    return 100;
}

static uint64_t positive_ms(const Google__Protobuf__Duration *d, uint64_t def, struct errors *e,
                            const char *field)
{
    uint64_t ms = wkt_duration_ms(d, def, e, field);
    if (ms > 0)
        return ms;
    errors_add(e, field, "must be greater than 0");
    return def;
}

static void compile_statistical(const Envoy__Config__Cluster__V3__OutlierDetection *msg,
                                struct outlier_config *out, struct errors *e)
{
    const struct {
        const Google__Protobuf__UInt32Value *v;
        const char *field;
        uint32_t *out;
    } shares[] = {
        {msg->enforcing_success_rate, "enforcing_success_rate", &out->enforcing[OUTLIER_RATE]},
        {msg->enforcing_local_origin_success_rate, "enforcing_local_origin_success_rate",
         &out->enforcing[OUTLIER_LOCAL_RATE]},
        {msg->enforcing_failure_percentage, "enforcing_failure_percentage",
         &out->enforcing[OUTLIER_PERCENTAGE]},
        {msg->enforcing_failure_percentage_local_origin,
         "enforcing_failure_percentage_local_origin", &out->enforcing[OUTLIER_LOCAL_PERCENTAGE]},
        {msg->failure_percentage_threshold, "failure_percentage_threshold", &out->percentage},
    };
    for (size_t i = 0; i < ARRAY_LEN(shares); i++)
        *shares[i].out = per_cent(shares[i].v, *shares[i].out, e, shares[i].field);
    out->rate_min_hosts = wkt_u32(msg->success_rate_minimum_hosts, out->rate_min_hosts);
    out->rate_volume = wkt_u32(msg->success_rate_request_volume, out->rate_volume);
    out->rate_factor = wkt_u32(msg->success_rate_stdev_factor, out->rate_factor);
    out->percentage_min_hosts = wkt_u32(msg->failure_percentage_minimum_hosts,
                                        out->percentage_min_hosts);
    out->percentage_volume = wkt_u32(msg->failure_percentage_request_volume,
                                     out->percentage_volume);
    out->uneject_on_check = wkt_bool(msg->successful_active_health_check_uneject_host, true);
}

void cluster_compile_outlier(const void *outlier_detection, struct outlier_config *out,
                             struct errors *e)
{
    const Envoy__Config__Cluster__V3__OutlierDetection *msg = outlier_detection;
    struct outlier_config d;

    outlier_config_default(&d);
    *out = d;
    out->consecutive[OUTLIER_5XX] = wkt_u32(msg->consecutive_5xx, d.consecutive[OUTLIER_5XX]);
    out->consecutive[OUTLIER_GATEWAY] = wkt_u32(msg->consecutive_gateway_failure,
                                                d.consecutive[OUTLIER_GATEWAY]);
    out->consecutive[OUTLIER_LOCAL] = wkt_u32(msg->consecutive_local_origin_failure,
                                              d.consecutive[OUTLIER_LOCAL]);
    out->enforcing[OUTLIER_5XX] = per_cent(msg->enforcing_consecutive_5xx, d.enforcing[OUTLIER_5XX],
                                           e, "enforcing_consecutive_5xx");
    out->enforcing[OUTLIER_GATEWAY] = per_cent(msg->enforcing_consecutive_gateway_failure,
                                               d.enforcing[OUTLIER_GATEWAY], e,
                                               "enforcing_consecutive_gateway_failure");
    out->enforcing[OUTLIER_LOCAL] = per_cent(msg->enforcing_consecutive_local_origin_failure,
                                             d.enforcing[OUTLIER_LOCAL], e,
                                             "enforcing_consecutive_local_origin_failure");
    out->interval_ms = positive_ms(msg->interval, d.interval_ms, e, "interval");
    out->base_ejection_ms = positive_ms(msg->base_ejection_time, d.base_ejection_ms, e,
                                        "base_ejection_time");
    out->max_ejection_ms = d.max_ejection_ms;
    if (out->max_ejection_ms < out->base_ejection_ms)
        out->max_ejection_ms = out->base_ejection_ms;
    out->max_ejection_ms = positive_ms(msg->max_ejection_time, out->max_ejection_ms, e,
                                       "max_ejection_time");
    if (out->max_ejection_ms < out->base_ejection_ms)
        errors_add(e, "max_ejection_time", "must not be smaller than base_ejection_time");
    out->jitter_ms = wkt_duration_ms(msg->max_ejection_time_jitter, 0, e,
                                     "max_ejection_time_jitter");
    out->max_ejection_per_cent = per_cent(msg->max_ejection_percent, d.max_ejection_per_cent, e,
                                          "max_ejection_percent");
    out->always_eject_one = wkt_bool(msg->always_eject_one_host, false);
    out->split_local = msg->split_external_local_origin_errors;
    compile_statistical(msg, out, e);
}

/* --- HTTP options --- */

typedef Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions http_options;

enum { MAX_HEADERS_KB = 8192 };

static void compile_common(const Envoy__Config__Core__V3__HttpProtocolOptions *msg,
                           struct cluster_config *out, struct errors *e)
{
    if (!msg)
        return;
    out->idle_timeout_ms = wkt_duration_ms(msg->idle_timeout, out->idle_timeout_ms, e,
                                           "idle_timeout");
    out->max_connection_duration_ms = wkt_duration_ms(msg->max_connection_duration, 0, e,
                                                      "max_connection_duration");
    out->max_stream_ms = wkt_duration_ms(msg->max_stream_duration, 0, e, "max_stream_duration");
    out->max_headers_count = wkt_u32(msg->max_headers_count, 0);
    out->max_headers_kb = wkt_u32(msg->max_response_headers_kb, 0);
    if (out->max_headers_kb > MAX_HEADERS_KB)
        errors_add(e, "max_response_headers_kb", "must be at most %d", MAX_HEADERS_KB);
    if (msg->max_requests_per_connection && out->max_requests_per_connection)
        errors_add(e, "max_requests_per_connection", "is given by the cluster too");
    else if (msg->max_requests_per_connection)
        out->max_requests_per_connection = msg->max_requests_per_connection->value;
    if (msg->headers_with_underscores_action)
        errors_warn(e, "headers_with_underscores_action", "has no effect on responses");
}

static void compile_http1(const Envoy__Config__Core__V3__Http1ProtocolOptions *msg,
                          struct cluster_config *out, struct errors *e)
{
    http1_options_compile(&out->http1, msg, e);
    if (!msg)
        return;
    if (msg->allow_chunked_length)
        errors_warn(e, "allow_chunked_length", "has no effect on an upstream");
    if (msg->n_ignore_http_11_upgrade)
        errors_warn(e, "ignore_http_11_upgrade", "has no effect on an upstream");
    if (msg->accept_http_10 || msg->default_host_for_http_10[0])
        errors_warn(e, "accept_http_10", "has no effect on an upstream");
}

typedef Envoy__Config__Core__V3__Http2ProtocolOptions http2_message;

static void compile_http2(const http2_message *msg, struct cluster_config *out, struct errors *e)
{
    size_t mark = errors_push(e, "http2_protocol_options");
    http2_options_compile(msg, &out->http2_options, &out->arena, e);
    errors_pop(e, mark);
}

#define OPTIONS(x) ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__##x

static void compile_explicit(
    const Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions__ExplicitHttpConfig *msg,
    struct cluster_config *out, struct errors *e)
{
    switch (msg->protocol_config_case) {
    case OPTIONS(EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS):
        out->http = UPSTREAM_HTTP2;
        compile_http2(msg->http2_protocol_options, out, e);
        return;
    case OPTIONS(EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS):
        compile_http1(msg->http_protocol_options, out, e);
        return;
    default:
        errors_add(e, NULL, "a protocol is required");
    }
}

static void compile_protocol(const http_options *msg, struct cluster_config *out, struct errors *e)
{
    size_t mark;

    switch (msg->upstream_protocol_options_case) {
    case OPTIONS(UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG):
        mark = errors_push(e, "explicit_http_config");
        compile_explicit(msg->explicit_http_config, out, e);
        errors_pop(e, mark);
        return;
    case OPTIONS(UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG):
        mark = errors_push(e, "use_downstream_protocol_config");
        out->http = UPSTREAM_DOWNSTREAM;
        compile_http1(msg->use_downstream_protocol_config->http_protocol_options, out, e);
        compile_http2(msg->use_downstream_protocol_config->http2_protocol_options, out, e);
        errors_pop(e, mark);
        return;
    case OPTIONS(UPSTREAM_PROTOCOL_OPTIONS_AUTO_CONFIG):
        mark = errors_push(e, "auto_config");
        out->http = UPSTREAM_AUTO;
        compile_http1(msg->auto_config->http_protocol_options, out, e);
        compile_http2(msg->auto_config->http2_protocol_options, out, e);
        errors_pop(e, mark);
        return;
    default:
        errors_add(e, NULL,
                   "one of explicit_http_config, use_downstream_protocol_config, auto_config is "
                   "required");
    }
}

static void compile_filters(const http_options *msg, struct cluster_config *out, struct errors *e,
                            const struct cluster_compile_env *env)
{
    if (!msg->n_http_filters)
        return;
    if (!env->filters) {
        errors_add(e, "http_filters", "are not supported here");
        return;
    }
    out->filter_ops = env->filters;
    out->http_filters = env->filters->compile(env->filters_arg, &out->arena,
                                              (void *const *)msg->http_filters, msg->n_http_filters,
                                              env->pb, e);
}

static const char options_name[] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

static void compile_typed(const Google__Protobuf__Any *any, struct cluster_config *out,
                          struct arena *scratch, struct errors *e,
                          const struct cluster_compile_env *env)
{
    const http_options *msg;
    struct pb_any got;
    size_t mark;

    switch (pb_any_unpack(any, scratch, e, env->pb, &got)) {
    case PB_ANY_OK:
        if (got.type == &envoy__extensions__upstreams__http__v3__http_protocol_options__descriptor)
            break;
        /* fall through */
    case PB_ANY_EMPTY:
    case PB_ANY_UNKNOWN:
        errors_add(e, NULL, "%.*s is not %s", STR_ARG(got.type_name), options_name);
        return;
    case PB_ANY_INVALID:
        return;
    }
    msg = (const http_options *)(const void *)got.message;
    mark = errors_push(e, "common_http_protocol_options");
    compile_common(msg->common_http_protocol_options, out, e);
    errors_pop(e, mark);
    compile_protocol(msg, out, e);
    compile_filters(msg, out, e, env);
}

void cluster_compile_http(const void *cluster, struct cluster_config *out, struct arena *scratch,
                          struct errors *e, const struct cluster_compile_env *env)
{
    const Envoy__Config__Cluster__V3__Cluster *msg = cluster;
    bool typed = false;
    size_t mark;

    http2_options_default(&out->http2_options);
    for (size_t i = 0; i < msg->n_typed_extension_protocol_options; i++) {
        struct str key = str_of(msg->typed_extension_protocol_options[i]->key);
        mark = errors_push_key(e, "typed_extension_protocol_options", key);
        if (str_eq(key, str_of(options_name))) {
            compile_typed(msg->typed_extension_protocol_options[i]->value, out, scratch, e, env);
            typed = true;
        } else {
            errors_add(e, NULL, "is not known; %s is", options_name);
        }
        errors_pop(e, mark);
    }
    if (typed)
        return;
    mark = errors_push(e, "common_http_protocol_options");
    compile_common(msg->common_http_protocol_options, out, e);
    errors_pop(e, mark);
    mark = errors_push(e, "http_protocol_options");
    compile_http1(msg->http_protocol_options, out, e);
    errors_pop(e, mark);
    if (msg->http2_protocol_options) {
        out->http = UPSTREAM_HTTP2;
        compile_http2(msg->http2_protocol_options, out, e);
    }
}
