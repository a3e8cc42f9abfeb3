/* The router's own configuration: the terminal HTTP filter. */
#pragma once

#include "proxy/http/http_filter.h"

struct router_config {
    bool suppress_envoy_headers;
    bool dynamic_stats; /* response codes of clusters are counted */
};

/* Its compile returns a struct router_config. (proxy/router/router_config.c) */
extern const struct http_filter_ops router_filter;
