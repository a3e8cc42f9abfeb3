/* The router's own configuration: the terminal HTTP filter. */
#pragma once

#include "proxy/http/http_filter.h"

struct router_config {
    bool suppress_envoy_headers;
    bool dynamic_stats; /* response codes of clusters are counted */
    bool respect_expected_timeout, suppress_grpc_codes;
    const struct str *strict_headers; /* strict_check_headers */
    size_t num_strict;
    struct access_log **upstream_logs; /* one entry a try; the connection manager releases them */
    size_t num_upstream_logs;
    struct http_filter_list upstream_filters;
};

/* router_upstream_filters is the list of each try, of the router's configuration; NULL gives NULL.
 */
static inline const struct http_filter_list *router_upstream_filters(const struct router_config *c)
{
    return c ? &c->upstream_filters : NULL;
}

/* Its compile returns a struct router_config. (proxy/router/router_config.c) */
extern const struct http_filter_ops router_filter;
