/* The seam of network filters: what happens to the bytes of a downstream connection after its
 * transport. For now a chain holds one terminal filter (tcp_proxy or the HTTP connection manager).
 */
#pragma once

#include "base/errors.h"
#include "base/str.h"

struct access_log;
struct clusters;
struct downstream;
struct log_files;
struct pb_opts;
struct route_slots;
struct server;
struct tls_secrets;
struct xds;

/* What compile functions of listeners and filters may refer to. In --mode validate `validate` is
 * set and nothing is opened, subscribed or bound. */
struct compile_env {
    struct xds *xds;
    struct tls_secrets *tls;
    struct clusters *clusters;
    struct log_files *files;
    struct route_slots *routes;
    unsigned num_threads; /* main and workers */
    bool validate;
    const struct pb_opts *pb; /* how unknown and unsupported fields are treated */
    struct str listener_name; /* being compiled */
    bool inbound, outbound;   /* traffic_direction */
    struct str node_id, node_cluster;
};

struct network_filter_ops {
    const char *name;      /* "envoy.filters.network.tcp_proxy" */
    const char *type_name; /* of the configuration message */
    /* compile makes the immutable configuration from the unpacked message; NULL after errors. Main.
     */
    void *(*compile)(const struct compile_env *env, const void *msg, struct errors *e);
    /* free gives it back. Main. */
    void (*free)(void *config);
    /* ready says whether what it waits for (a route table) is there: the listener is warm when all
     * are. Main. May be NULL. */
    bool (*ready)(void *config);
    /* start takes over the callbacks of d->conn (conn_set_owner); `d` lives until the filter has
     * called downstream_done from its on_closed. Called once the transport is ready; bytes may be
     * in d->conn.in already, then conn_read_again brings them. Worker. */
    void (*start)(void *config, struct downstream *d);
    /* drain: the connection should end when it can (listener removed, server draining). Worker. */
    void (*drain)(struct downstream *d);
};

/* network_filter_find looks a filter up by the full name of its configuration message; NULL:
 * unknown. (proxy/extensions.c) */
const struct network_filter_ops *network_filter_find(struct str type_name);
