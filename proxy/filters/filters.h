/* The HTTP filters, one a file of this folder; each is listed in proxy/extensions.c. */
#pragma once

#include "proxy/http/http_filter.h"

extern const struct http_filter_ops admission_control_filter;
extern const struct http_filter_ops bandwidth_limit_filter;
extern const struct http_filter_ops buffer_filter;
extern const struct http_filter_ops compressor_filter;
extern const struct http_filter_ops cors_filter;
extern const struct http_filter_ops csrf_filter;
extern const struct http_filter_ops decompressor_filter;
extern const struct http_filter_ops fault_filter;
extern const struct http_filter_ops grpc_stats_filter;
extern const struct http_filter_ops grpc_web_filter;
extern const struct http_filter_ops header_mutation_filter;
extern const struct http_filter_ops header_to_metadata_filter;
extern const struct http_filter_ops health_check_filter;
extern const struct http_filter_ops json_to_metadata_filter;
extern const struct http_filter_ops set_filter_state_filter;
extern const struct http_filter_ops set_metadata_filter;
extern const struct http_filter_ops stateful_session_filter;
