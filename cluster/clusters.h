/* Clusters of the main thread: takes Cluster and ClusterLoadAssignment resources, warms what they
 * describe and publishes it to the workers.
 *
 * A cluster is warm when its endpoints (EDS) and the secrets of its transports are there, or were
 * given up on for now. Until then the configuration before serves; an update that comes while one
 * is warming takes its place. What changes in one iteration of the loop is published together, at
 * its end. Everything here runs on the main thread. */
#pragma once

#include "cluster/cluster_config.h"
#include "tls/conn.h"

struct clusters;

struct clusters_options {
    struct loop *loop;
    struct mailbox *box; /* main's: where workers send what is to be freed */
    struct xds *xds;
    const struct pb_opts *pb_static, *pb_dynamic;  /* NULL: as zeroed */
    const struct cluster_transport_ops *transport; /* NULL: raw_buffer only */
    void *transport_arg;
    const struct cluster_filter_ops *filters; /* NULL: clusters have no HTTP filters */
    void *filters_arg;
    const struct resolver_options *dns;      /* of clusters that do not say; NULL: the system's */
    const struct health_probe_kinds *probes; /* NULL: TCP only */
    const struct event_sink *sink;           /* NULL: no event logs */
    const struct event_log *outlier_log;     /* NULL: none */
    bool validate;                           /* --mode validate: nothing is subscribed */
};

/* clusters_new registers the two resource types with opts->xds. clusters_free unsubscribes and
 * frees; after the workers have ended and before xds_free; sets *c to NULL. What workers still held
 * is freed when main's mailbox delivers it. */
struct clusters *clusters_new(const struct clusters_options *opts);
void clusters_free(struct clusters **c);

/* clusters_add_static adds a serialised Cluster of the bootstrap; false after errors in e. */
bool clusters_add_static(struct clusters *c, struct str bytes, struct errors *e) WARN_UNUSED;

/* clusters_check_streams refuses a bootstrap that cannot start: the ADS cluster (empty: none),
 * those in `others` and those that static clusters take endpoints or secrets from must be static
 * clusters, and none may wait for what only its own stream, or one that waits for it, can bring.
 * Call it when all static clusters are added. */
bool clusters_check_streams(struct clusters *c, struct str ads_cluster, const struct str *others,
                            size_t num_others, struct errors *e) WARN_UNUSED;

/* clusters_start begins: static clusters of fixed endpoints first; when those are warm, EDS
 * clusters and (cds not NULL) the subscription to all clusters. `initialized(arg)` runs once from
 * the loop when the first response to that is in or was given up on, and every cluster known by
 * then is warm: listeners may come. */
void clusters_start(struct clusters *c, const struct xds_source *cds, void (*initialized)(void *),
                    void *arg);

/* clusters_attach publishes to a worker from now on, beginning with what there is. clusters_detach
 * ends that, before the worker frees its side. */
void clusters_attach(struct clusters *c, struct worker_clusters *w);
void clusters_detach(struct clusters *c, struct worker_clusters *w);

/* clusters_set_own_listeners tells the addresses this process listens on (copied; wildcards too),
 * for the loop guard of ORIGINAL_DST. */
void clusters_set_own_listeners(struct clusters *c, const struct addr *addrs, size_t num);

/* clusters_known says whether there is a cluster of that name, warm or not (validate_clusters). */
bool clusters_known(struct clusters *c, struct str name);

/* --- a connection on the main loop, for control-plane streams --- */

struct clusters_dial {
    struct conn_connect how;       /* for conn_init_connecting; views into the rest */
    struct host *host;             /* referenced */
    struct cluster_config *config; /* referenced */
    struct cluster_state *state;   /* referenced */
};

/* clusters_dial_target chooses a healthy host of a warm cluster. False: there is none; `why` says
 * so in a few words. clusters_dial_release lets go, after the connection is cleaned up. */
bool clusters_dial_target(struct clusters *c, struct str name, struct clusters_dial *out, char *why,
                          size_t why_len) WARN_UNUSED;
void clusters_dial_release(struct clusters_dial *d);

/* clusters_dial_opened, _failed and _closed count the connection in the cluster's statistics. */
void clusters_dial_opened(struct clusters *c, struct clusters_dial *d);
void clusters_dial_failed(struct clusters *c, struct clusters_dial *d, bool timeout);
void clusters_dial_closed(struct clusters *c, struct clusters_dial *d, const struct conn *cn);

/* --- for /clusters and /config_dump --- */

struct cluster_view {
    struct str name;
    bool is_static;
    bool active, warming;                     /* at least one */
    const struct cluster_config *config;      /* active's, or the warming one's */
    const struct host_set *hosts;             /* NULL while there is no active one */
    const struct circuit *circuit;            /* the same */
    const struct outlier *outlier;            /* NULL: no outlier detection, or not active */
    const struct load_assignment *assignment; /* NULL: none */
    struct str version, warming_version;      /* version_info of each */
    uint64_t updated_us, warming_updated_us;  /* wall clock */
};

/* clusters_visit calls fn for every cluster, in the order in which they were added. The bytes of
 * the resource are xds_foreach's. */
void clusters_visit(struct clusters *c, void (*fn)(void *arg, const struct cluster_view *v),
                    void *arg);

/* clusters_resource_ops and clusters_endpoint_ops are the two types, for xds_foreach and
 * xds_version. */
extern const struct resource_ops clusters_resource_ops, clusters_endpoint_ops;

/* clusters_find_config is the active configuration of a name (borrowed), NULL if there is none. */
const struct cluster_config *clusters_find_config(struct clusters *c, struct str name);
