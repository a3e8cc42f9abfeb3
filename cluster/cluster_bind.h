/* upstream_bind_config: where connections to a cluster's hosts come from, and what is set on their
 * sockets. Compiled on main, immutable; any thread. */
#pragma once

#include "base/addr.h"
#include "tls/conn.h"

struct Envoy__Config__Core__V3__BindConfig;
struct pb_opts;

struct cluster_source {
    struct addr addr;
    struct socket_options options;
};

struct cluster_bind {
    struct cluster_source sources[2]; /* source_address, and one of the other family */
    uint32_t num_sources;
    struct socket_options options; /* of connections that no source fits */
    bool has_freebind, freebind;
};

/* cluster_bind_compile compiles a BindConfig (NULL: none) into arena a; its path has been pushed.
 */
const struct cluster_bind *cluster_bind_compile(const struct Envoy__Config__Core__V3__BindConfig *m,
                                                struct arena *a, struct errors *e,
                                                const struct pb_opts *pb);

/* cluster_bind_source is the source for connections to `peer`, by its family; NULL: none is
 * configured, or none fits. */
const struct cluster_source *cluster_bind_source(const struct cluster_bind *b,
                                                 const struct addr *peer);

/* cluster_bind_fill completes how a connection to how->peer is made. Borrowed as long as b. */
void cluster_bind_fill(const struct cluster_bind *b, struct conn_connect *how);
