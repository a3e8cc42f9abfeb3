/* Cluster messages compiled to struct cluster_config. Main thread. */
#pragma once

#include "cluster/cluster.h"
#include "xds/xds.h"

struct cluster_compile_env;
struct labels;
struct resolver_options;
struct pb_any;
struct event_sink;
struct health_probe_kinds;
struct pb_opts;

struct transport_match { /* one of transport_socket_matches, in their order */
    struct str name;
    const struct labels *labels; /* NULL: matches every endpoint */
};

enum {
    CLUSTER_CONNECT_TIMEOUT_MS = 5000,
    CLUSTER_IDLE_TIMEOUT_MS = 3600 * 1000,
    CLUSTER_BUFFER_LIMIT = 32768, /* Envoy: 1 MiB (docs/differences.md) */
    CLUSTER_PANIC_PER_CENT = 50,
    CLUSTER_CHOICE_COUNT = 2,
    CLUSTER_CLEANUP_MS = 5000,
};

/* Transport sockets other than raw_buffer: tls (cluster_tls.h), and fakes in tests. */
struct cluster_transport_ops {
    /* compile makes the factory from the contents of a typed_config; one reference for the caller.
     * NULL after an error in e. No side effect that transport_factory_unref does not undo. What it
     * will subscribe to is told with cluster_config_need. */
    struct transport_factory *(*compile)(void *arg, struct cluster_config *out,
                                         const struct pb_any *config,
                                         const struct cluster_compile_env *env, struct errors *e);
    /* start subscribes to its secrets; `settled(settled_arg)` runs once, from the loop, when it has
     * them or has given up waiting. */
    void (*start)(void *arg, struct transport_factory *f, struct cluster_state *state,
                  void (*settled)(void *), void *settled_arg);
    /* stop: settled must not run any more. */
    void (*stop)(struct transport_factory *f);
};

/* HTTP filters of a cluster's requests: proxy's, of which a cluster knows no more than this. Main.
 */
struct cluster_filter_ops {
    /* compile compiles HttpFilter messages below the field "http_filters"; NULL after errors. What
     * it makes beside the arena is given back by free. */
    void *(*compile)(void *arg, struct arena *a, void *const *filters, size_t num,
                     const struct pb_opts *pb, struct errors *e);
    void (*free)(void *filters);
};

/* What compiling a cluster depends on. */
struct cluster_compile_env {
    const struct reclaim_home *home;
    const struct pb_opts *pb;        /* NULL: as zeroed */
    bool has_ads;                    /* the bootstrap has an ads_config */
    bool is_static;                  /* the bootstrap lists it */
    const struct xds_source *parent; /* where the cluster comes from; NULL: the bootstrap */
    const struct cluster_transport_ops *transport; /* NULL: raw_buffer only */
    void *transport_arg;
    const struct cluster_filter_ops *filters; /* NULL: there are none */
    void *filters_arg;
    const struct resolver_options *dns;      /* where a cluster says nothing; NULL: the system's */
    const struct health_probe_kinds *probes; /* NULL: TCP only */
    const struct event_sink *sink;           /* NULL: nothing is opened */
};

/* cluster_config_new makes the configuration of a cluster that says nothing but its name, with one
 * reference, the caller's: STATIC, round robin, raw_buffer, no hosts. */
struct cluster_config *cluster_config_new(const struct reclaim_home *home, struct str name);

/* cluster_config_compile walks, unpacks and compiles a serialised envoy.config.cluster.v3.Cluster
 * with all its errors; NULL if there is one. One reference, the caller's. */
struct cluster_config *cluster_config_compile(const struct cluster_compile_env *env,
                                              struct str bytes, struct errors *e) WARN_UNUSED;

/* cluster_name_of finds the name in a serialised Cluster, cluster_name_of_assignment in a
 * serialised ClusterLoadAssignment, both without unpacking; false if there is none. */
bool cluster_name_of(struct str bytes, struct str *out_name);
bool cluster_name_of_assignment(struct str bytes, struct str *out_name);

/* cluster_config_need notes that the cluster needs what `src` provides before it can be used: its
 * endpoints, its secrets. While it is compiled. */
void cluster_config_need(struct cluster_config *c, const struct xds_source *src);
