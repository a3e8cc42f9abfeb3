/* Cluster messages compiled to struct cluster_config. Main thread. */
#pragma once

#include "cluster/cluster.h"

enum {
    CLUSTER_CONNECT_TIMEOUT_MS = 5000,
    CLUSTER_IDLE_TIMEOUT_MS = 3600 * 1000,
    CLUSTER_BUFFER_LIMIT = 32768, /* Envoy: 1 MiB (docs/differences.md) */
    CLUSTER_PANIC_PER_CENT = 50,
    CLUSTER_CHOICE_COUNT = 2,
    CLUSTER_CLEANUP_MS = 5000,
};

/* cluster_config_new makes the configuration of a cluster that says nothing but its name, with one
 * reference, the caller's: STATIC, round robin, raw_buffer, no hosts. */
struct cluster_config *cluster_config_new(const struct reclaim_home *home, struct str name);
