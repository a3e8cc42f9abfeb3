/* The inside of the fault filter: its configuration, compiled by fault_config.c, and what a stream
 * keeps. */
#pragma once

#include "base/loop.h"
#include "base/stats.h"
#include "proxy/http/http_filter.h"
#include "proxy/router/matchers.h"

#define FAULT_STATS(X)                                                                             \
    X(FAULT_ABORTS, "aborts_injected", COUNTER)                                                    \
    X(FAULT_ACTIVE, "active_faults", GAUGE)                                                        \
    X(FAULT_DELAYS, "delays_injected", COUNTER)                                                    \
    X(FAULT_OVERFLOW, "faults_overflow", COUNTER)                                                  \
    X(FAULT_RATE_LIMITED, "response_rl_injected", COUNTER)
enum { FAULT_STATS(STATS_ENUM) FAULT_NUM_STATS };

enum fault_kind { FAULT_NONE, FAULT_FIXED, FAULT_BY_HEADER };

struct fault_share {
    uint32_t numerator, denominator;
    const char *header; /* a request may ask for less of it; NULL: it may not */
};

struct fault_config {
    struct stats_scope *stats; /* of the filter; NULL per route */
    struct regex_list regexes;
    bool any; /* there is a fault at all */
    enum fault_kind delay, abort, limit;
    struct fault_share delay_share, abort_share, limit_share;
    uint64_t delay_ms, limit_kbps;
    unsigned http_status;
    bool abort_grpc;
    uint32_t grpc_status;
    struct str upstream_cluster; /* empty: any */
    struct header_match *headers;
    size_t num_headers;
    struct str *nodes;
    size_t num_nodes;
    bool has_max_active;
    uint32_t max_active;
    bool no_cluster_stats;
    struct json *metadata; /* NULL: none */
};

struct fault_state {
    const struct fault_config *c;
    struct str from; /* x-envoy-downstream-service-cluster */
    bool active;     /* counted as a fault that is going on */
    bool done;
    bool has_grpc_status;
    uint32_t grpc_status;
    struct timer delay;
    /* the response's rate; bytes_a_tick 0: no limit */
    struct timer tick;
    struct buffer body;
    size_t bytes_a_tick, limit;
    uint64_t last_tick_ms;
    bool end, trailers, source_paused;
};

/* See struct http_filter_ops. */
void *fault_compile(const struct http_filter_env *env, const void *msg, struct errors *e);
void *fault_compile_route(const struct http_filter_env *env, const void *msg, struct errors *e);
void fault_free(void *config);
