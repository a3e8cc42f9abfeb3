/* Subset configurations compiled, from either of the two messages that say the same. Main thread.
 */
#pragma once

#include "base/errors.h"
#include "cluster/lb_subset.h"

/* subset_config_of compiles an envoy.extensions.load_balancing_policies.subset.v3.Subset (but its
 * subset_lb_policy), subset_config_of_cluster an envoy.config.cluster.v3.Cluster.LbSubsetConfig,
 * into the arena. NULL without selectors: the hosts are not divided; or after errors. */
const struct subset_config *subset_config_of(const void *message, struct arena *a,
                                             struct errors *e);
const struct subset_config *subset_config_of_cluster(const void *message, struct arena *a,
                                                     struct errors *e);
