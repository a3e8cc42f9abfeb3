/* How a cluster balances its load: lb_policy with its lb_config, load_balancing_policy and
 * common_lb_config of a Cluster message, compiled. Main thread. */
#pragma once

#include "cluster/cluster_config.h"

/* cluster_compile_policy compiles them from an envoy.config.cluster.v3.Cluster into `out`, whose
 * type is known; errors go to e. `scratch` lives as long as the message. */
void cluster_compile_policy(const void *message, struct cluster_config *out, struct arena *scratch,
                            struct errors *e, const struct pb_opts *pb);
