#include "xds/source.h"

#include "api-protos/wkt.h"
#include "envoy/config/core/v3/config_source.pb-c.h"
#include "xds/file_source.h"

static bool decode_api_type(Envoy__Config__Core__V3__ApiConfigSource__ApiType type,
                            struct errors *e)
{
    switch (type) {
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__GRPC:
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__DELTA_GRPC:
        return true;
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__REST:
        errors_add(e, "api_type", "REST is not supported, use GRPC or DELTA_GRPC");
        return false;
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__AGGREGATED_GRPC:
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__AGGREGATED_DELTA_GRPC:
        errors_add(e, "api_type", "aggregated types are for xdstp authorities, use ads");
        return false;
    default:
        errors_add(e, "api_type", "%d is not a type of API that can be used", (int)type);
        return false;
    }
}

static void decode_headers(const Envoy__Config__Core__V3__GrpcService *msg, struct arena *a,
                           struct errors *e, struct xds_server *out)
{
    struct xds_header *headers = arena_alloc(a, (msg->n_initial_metadata + 1) * sizeof(*headers));
    for (size_t i = 0; i < msg->n_initial_metadata; i++) {
        const Envoy__Config__Core__V3__HeaderValue *h = msg->initial_metadata[i];
        size_t mark = errors_push_index(e, "initial_metadata", i);
        struct str value = h->raw_value.len
                               ? str_n((const char *)h->raw_value.data, h->raw_value.len)
                               : str_of(h->value);
        if (!h->key[0])
            errors_add(e, "key", "is empty");
        headers[i].name = arena_str(a, str_of(h->key));
        headers[i].value = arena_str(a, value);
        errors_pop(e, mark);
    }
    out->headers = headers;
    out->num_headers = msg->n_initial_metadata;
}

/* EnvoyGrpc.retry_policy: only its back-off counts, the tries of a stream are without end. */
static void decode_backoff(const Envoy__Config__Core__V3__RetryPolicy *msg, struct errors *e,
                           struct xds_server *out)
{
    if (!msg || !msg->retry_back_off)
        return;
    size_t mark = errors_push(e, "envoy_grpc.retry_policy.retry_back_off");
    const Envoy__Config__Core__V3__BackoffStrategy *b = msg->retry_back_off;
    uint64_t base = wkt_duration_ms(b->base_interval, 0, e, "base_interval");
    uint64_t max = wkt_duration_ms(b->max_interval, base * 10, e, "max_interval");
    if (!base)
        errors_add(e, "base_interval", "must be more than 0");
    if (max < base)
        errors_add(e, "max_interval", "must not be less than base_interval");
    out->backoff_base_ms = base < UINT32_MAX ? (uint32_t)base : UINT32_MAX;
    out->backoff_max_ms = max < UINT32_MAX ? (uint32_t)max : UINT32_MAX;
    errors_pop(e, mark);
}

static void decode_rate(const Envoy__Config__Core__V3__RateLimitSettings *msg, struct errors *e,
                        struct xds_server *out)
{
    if (!msg)
        return;
    out->rate_limited = true;
    out->rate_tokens = wkt_u32(msg->max_tokens, 0);
    out->rate_fill = wkt_double(msg->fill_rate, 0);
    if (msg->max_tokens && !out->rate_tokens)
        errors_add(e, "rate_limit_settings.max_tokens", "must be more than 0");
    /* Less than one token a year would be none, and the wait would overflow. */
    if (msg->fill_rate && !(out->rate_fill > 1e-7))
        errors_add(e, "rate_limit_settings.fill_rate", "must be more than 0");
}

static void decode_service(const Envoy__Config__Core__V3__GrpcService *msg, struct arena *a,
                           struct errors *e, struct xds_server *out)
{
    if (msg->target_specifier_case !=
            ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC ||
        !msg->envoy_grpc->cluster_name[0]) {
        errors_add(e, "envoy_grpc.cluster_name", "is required");
        return;
    }
    out->cluster = arena_str(a, str_of(msg->envoy_grpc->cluster_name));
    out->authority = arena_str(a, str_of(msg->envoy_grpc->authority));
    decode_backoff(msg->envoy_grpc->retry_policy, e, out);
    decode_headers(msg, a, e, out);
    if (msg->timeout)
        errors_warn(e, "timeout", "means nothing for a stream");
}

bool xds_server_decode(const struct Envoy__Config__Core__V3__ApiConfigSource *msg, struct arena *a,
                       struct errors *e, struct xds_server *out)
{
    size_t before = e->num_errors;
    *out = (struct xds_server){.node_on_first_only = msg->set_node_on_first_message_only};
    decode_api_type(msg->api_type, e);
    out->delta = msg->api_type == ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__DELTA_GRPC;
    if (msg->transport_api_version != ENVOY__CONFIG__CORE__V3__API_VERSION__V3)
        errors_add(e, "transport_api_version", "must be V3");
    decode_rate(msg->rate_limit_settings, e, out);
    if (msg->n_grpc_services != 1) {
        errors_add(e, "grpc_services", "exactly one is expected, there are %zu",
                   msg->n_grpc_services);
        return false;
    }
    size_t mark = errors_push_index(e, "grpc_services", 0);
    decode_service(msg->grpc_services[0], a, e, out);
    errors_pop(e, mark);
    return e->num_errors == before;
}

static void decode_path(const char *path, const char *directory, struct arena *a, struct errors *e,
                        struct xds_source *out)
{
    out->kind = XDS_SOURCE_PATH;
    out->path = arena_str(a, str_of(path));
    out->watched_directory = arena_str(a, str_of(directory));
    xds_file_check(out->path, e);
}

static void decode_specifier(const Envoy__Config__Core__V3__ConfigSource *msg,
                             const struct xds_source *parent, bool has_ads, struct arena *a,
                             struct errors *e, struct xds_source *out)
{
    const Envoy__Config__Core__V3__PathConfigSource *file;
    size_t mark;
    switch (msg->config_source_specifier_case) {
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS:
        out->kind = XDS_SOURCE_ADS;
        if (!has_ads)
            errors_add(e, "ads", "needs dynamic_resources.ads_config in the bootstrap");
        return;
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_SELF:
        if (!parent || parent->kind != XDS_SOURCE_ADS)
            errors_add(e, "self", "is only known to resources that come over ADS");
        out->kind = XDS_SOURCE_ADS;
        return;
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE:
        out->kind = XDS_SOURCE_GRPC;
        mark = errors_push(e, "api_config_source");
        if (!xds_server_decode(msg->api_config_source, a, e, &out->server))
            out->server = (struct xds_server){0};
        errors_pop(e, mark);
        return;
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_PATH:
        mark = errors_push(e, "path");
        decode_path(msg->path, "", a, e, out);
        errors_pop(e, mark);
        return;
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_PATH_CONFIG_SOURCE:
        mark = errors_push(e, "path_config_source.path");
        file = msg->path_config_source;
        decode_path(file->path, file->watched_directory ? file->watched_directory->path : "", a, e,
                    out);
        errors_pop(e, mark);
        return;
    default:
        errors_add(e, NULL, "a ConfigSource without a source");
        return;
    }
}

bool xds_source_decode(const struct Envoy__Config__Core__V3__ConfigSource *msg,
                       const struct xds_source *parent, bool has_ads, struct arena *a,
                       struct errors *e, struct xds_source *out)
{
    size_t before = e->num_errors;
    *out = (struct xds_source){.initial_fetch_timeout_ms = XDS_FETCH_TIMEOUT_MS};
    if (!msg) {
        errors_add(e, NULL, "is required");
        return false;
    }
    decode_specifier(msg, parent, has_ads, a, e, out);
    if (msg->resource_api_version == ENVOY__CONFIG__CORE__V3__API_VERSION__V2)
        errors_add(e, "resource_api_version", "V2 is gone, use V3");
    if (msg->initial_fetch_timeout)
        out->initial_fetch_timeout_ms = wkt_duration_ms(
            msg->initial_fetch_timeout, XDS_FETCH_TIMEOUT_MS, e, "initial_fetch_timeout");
    return e->num_errors == before;
}
