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
};

/* Its compile returns a struct router_config. (proxy/router/router_config.c) */
extern const struct http_filter_ops router_filter;
