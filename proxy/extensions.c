/* Everything that is looked up by name in a configuration, in one place. A row makes it known. */
#include "proxy/filters/filters.h"
#include "proxy/network/hcm.h"
#include "proxy/network/network_filter.h"
#include "proxy/network/tcp_proxy.h"
#include "proxy/router/router_config.h"
#include "proxy/router/upstream_filters.h"

static const struct network_filter_ops *const network_filters[] = {
    &hcm_filter,
    &tcp_proxy_filter,
};

const struct network_filter_ops *network_filter_find(struct str type_name)
{
    for (size_t i = 0; i < ARRAY_LEN(network_filters); i++) {
        if (str_eq(str_of(network_filters[i]->type_name), type_name))
            return network_filters[i];
    }
    return NULL;
}

/* clang-format off: one a line */
static const struct http_filter_ops *const http_filters[] = {
    &admission_control_filter,
    &bandwidth_limit_filter,
    &buffer_filter,
    &compressor_filter,
    &cors_filter,
    &csrf_filter,
    &decompressor_filter,
    &fault_filter,
    &grpc_stats_filter,
    &grpc_web_filter,
    &header_mutation_filter,
    &header_to_metadata_filter,
    &health_check_filter,
    &json_to_metadata_filter,
    &router_filter,
    &set_filter_state_filter,
    &set_metadata_filter,
    &stateful_session_filter,
    &upstream_codec_filter,
};
/* clang-format on */

const struct http_filter_ops *http_filter_find(struct str type_name, struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(http_filters); i++) {
        const struct http_filter_ops *ops = http_filters[i];
        if (type_name.len ? str_eq(str_of(ops->type_name), type_name)
                          : str_eq(str_of(ops->name), name))
            return ops;
    }
    return NULL;
}

const struct http_filter_ops *http_filter_find_route(struct str type_name)
{
    for (size_t i = 0; i < ARRAY_LEN(http_filters); i++) {
        const char *own = http_filters[i]->route_type_name;
        if (own && str_eq(str_of(own), type_name))
            return http_filters[i];
    }
    return NULL;
}
