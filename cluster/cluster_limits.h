/* The parts of a Cluster message that stand for themselves: breakers, outlier detection, HTTP
 * options. Each adds its errors below the current path. Private to cluster_config.c. */
#pragma once

#include "cluster/cluster.h"
#include "cluster/outlier.h"

struct cluster_compile_env;

/* cluster_compile_circuit reads circuit_breakers (NULL: the defaults). */
void cluster_compile_circuit(const void *circuit_breakers, struct circuit_limits limits[2],
                             struct errors *e);

/* cluster_compile_outlier reads outlier_detection, which is not NULL. */
void cluster_compile_outlier(const void *outlier_detection, struct outlier_config *out,
                             struct errors *e);

/* cluster_compile_http reads typed_extension_protocol_options or, if there are none, the deprecated
 * options of the cluster message itself. */
void cluster_compile_http(const void *cluster, struct cluster_config *out, struct arena *scratch,
                          struct errors *e, const struct cluster_compile_env *env);
