/* Downstream connection: from accept over the listener filters and the filter chain match to the
 * network filter that speaks on it. Belongs to its worker. */
#pragma once

#include "base/loop.h"
#include "proxy/network/network_filter.h"
#include "proxy/observe/stream_info.h"
#include "tls/conn.h"

struct cluster_config;
struct filter_chain;
struct listener;
struct pool_options;
struct worker;

struct downstream {
    uint32_t magic;
    struct worker *worker;
    struct list link;           /* worker->downstreams */
    struct listener *listener;  /* pinned, and its chains with it */
    struct filter_chain *chain; /* once matched */
    struct conn conn;           /* once the chain is matched */
    int accepted_fd;            /* until then; -1 */
    uint64_t accepted_us;
    struct conn_info info;
    struct str detected_protocol;    /* "tls", "raw_buffer": transport_protocol */
    const struct str *detected_alpn; /* application_protocols offered or detected */
    size_t num_detected_alpn;
    struct arena *arena;
    const struct network_filter_ops *filter;
    void *filter_state; /* the filter's own */
    struct peek *peek;  /* while listener filters look at the first bytes */
    struct task free_task;
    const struct stream_info *stream; /* of a filter that has one a connection, else NULL */
    bool draining;
    bool restored; /* info.local is not where our socket is: hand-over may follow */
    bool handed;   /* the listener is another one than that of the socket */
    bool counted;  /* in the listener's downstream_cx_active */
};

/* downstream_done: the network filter has finished with d (from or after on_closed of d->conn); d
 * is freed at the end of the iteration, its pins are dropped and the listener's counts go down.
 * Worker. */
void downstream_done(struct downstream *d);

/* downstream_buffer_limit is the listener's per_connection_buffer_limit_bytes. */
size_t downstream_buffer_limit(const struct downstream *d);

/* downstream_pool_options says what keeps connections to a cluster's hosts apart: where they come
 * from, if a listener filter (original_src) has decided so, and what a PROXY header towards them
 * says, if the cluster writes one. Fills `out` and returns it, else NULL. `info` and `tlvs` are
 * borrowed as long as out. Any thread. */
const struct pool_options *downstream_pool_options(const struct conn_info *info,
                                                   const struct cluster_config *config,
                                                   const struct proxy_tlv *tlvs,
                                                   struct pool_options *out);
