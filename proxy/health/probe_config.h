/* What is special in the health checks of HTTP and gRPC, compiled. Immutable, in the arena of the
 * cluster's configuration. Main thread. */
#pragma once

#include "cluster/health_config.h"
#include "proxy/router/headers_mutation.h"
#include "proxy/router/matchers.h"

struct status_range {
    int64_t from, to; /* end exclusive */
};

struct status_ranges {
    const struct status_range *v;
    size_t n;
};

struct probe_config {
    struct regex_list regexes;
    struct headers_mutation *mutation; /* NULL: none */
    /* HTTP */
    struct str host, path, method, send;
    struct health_payloads receive;
    size_t answer_max;
    struct status_ranges expected, retriable;
    bool http2;
    const struct string_match *service; /* NULL: not looked at */
    /* gRPC; host is its authority */
    struct str service_name;
};

/* probe_config_compile and probe_config_release are those of struct health_probe_kinds. */
void *probe_config_compile(const void *health_check, struct cluster_config *out,
                           struct arena *scratch, struct errors *e);
void probe_config_release(void *special);

/* status_in says whether one of the ranges holds the status. */
bool status_in(const struct status_ranges *r, unsigned status);
