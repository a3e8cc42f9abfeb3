/* The transport socket upstream_proxy_protocol of a cluster, compiled. Main thread. */
#pragma once

#include "api-protos/message.h"
#include "cluster/cluster_config.h"

typedef struct transport_factory *(*cluster_transport_compile)(
    void *arg, struct cluster_config *out, const struct pb_any *config,
    const struct cluster_compile_env *env, struct errors *e);

/* cluster_proxy_is says whether an extension is one. */
bool cluster_proxy_is(const struct pb_any *config);

/* cluster_proxy_compile makes the factory, and notes in `out` that connections carry the origin of
 * what they are opened for; `inner` compiles the socket below. NULL after errors. */
struct transport_factory *cluster_proxy_compile(cluster_transport_compile inner, void *arg,
                                                struct cluster_config *out,
                                                const struct pb_any *config,
                                                const struct cluster_compile_env *env,
                                                struct errors *e);
