/* Connection pools: per worker, host, priority and protocol, connections with N stream slots. The
 * pool knows connections and slots; what speaks on a connection is a struct pool_protocol that
 * proxy implements (HTTP/1, HTTP/2) or the plain TCP one here.
 *
 * All on the worker's thread. Callbacks come from the loop, never inside the call. */
#pragma once

#include "cluster/cluster.h"
#include "tls/conn.h"

enum pool_result {
    POOL_READY,
    POOL_OVERFLOW,        /* a circuit breaker, of pools too: flag UO */
    POOL_CONNECT_FAILED,  /* UF; detail: "delayed connect error: Connection refused" or the
                             transport's failure */
    POOL_CONNECT_TIMEOUT, /* UF; detail: "connection timeout" */
};

struct pool;
struct pool_conn;

/* pool_slot_cb: with POOL_READY the caller owns one slot on pc until pool_release; otherwise pc is
 * NULL and detail says why (borrowed for the call). The cluster given to pool_acquire and the host
 * of the connection live as long as the slot. */
typedef void (*pool_slot_cb)(void *arg, struct pool_conn *pc, enum pool_result r,
                             struct str detail);

/* A protocol on a pooled connection. */
struct pool_protocol {
    const char *name; /* "http1", "tcp" */
    uint32_t stat;    /* CLUSTER_UPSTREAM_CX_HTTP1_TOTAL, ...; 0: none */
    /* client_new: the connection is ready; returns the protocol's own state for it. From now on the
     * connection's callbacks are the client's (conn_set_owner, called by client_new) while slots
     * are in use. The pool takes them back when the last slot is released, and restores the
     * client's just before the next slot is handed over. NULL for tcp: the slot's user sets them
     * itself, in its pool_slot_cb. */
    void *(*client_new)(struct pool_conn *pc);
    void (*client_free)(void *client);
    /* streams_allowed: how many slots the connection has in all; NULL: 1, as for HTTP/1 and TCP. */
    uint32_t (*streams_allowed)(void *client);
    /* streams_expected: how many a connection that is being opened will probably have; NULL: 1. */
    uint32_t (*streams_expected)(const struct cluster_config *config);
    /* keeps_callbacks: the connection's callbacks stay the client's, slots or not, because the
     * protocol speaks between requests too. Its on_closed ends in pool_conn_ended, after it has
     * released the slots in use. */
    bool keeps_callbacks;
    const struct str *alpn; /* offered where the TLS context names none */
    size_t num_alpn;
};

extern const struct pool_protocol pool_protocol_tcp;

struct pool_conn {
    uint32_t magic;
    struct conn conn;
    struct pool *pool;
    struct solo *solo;                 /* NULL: a pool's; else pool is NULL (solo_conn.h) */
    const struct pool_protocol *proto; /* the pool's; client_new may set a more special one */
    struct host *host;                 /* referenced */
    struct cluster *cluster;           /* held */
    void *client;
    uint32_t slots_used;
    uint64_t requests; /* slots ever given */
    struct list link;
    struct timer idle, age;
    uint8_t state;
    bool streams_known; /* the peer has said how many it allows */
    bool draining;  /* gets no more slots; closed with its last one. A client may set it (GOAWAY) */
    bool immediate; /* connecting failed inside the call */
    uint8_t priority;                  /* whose breaker it is counted in */
    const struct conn_ops *client_ops; /* kept while the pool has the callbacks */
    void *client_owner;
    uint64_t started_us;
    uint64_t parked_us;                     /* when it became idle */
    uint64_t counted_in, counted_out;       /* of bytes_read and bytes_written, in the stats */
    size_t counted_in_len, counted_out_len; /* of what is buffered */
    struct task free_task;
    struct conn_race *race; /* connecting to one of several addresses; conn is not open yet */
};

/* Embedded in the asker, zeroed before first use. */
struct pool_request {
    struct list link;
    struct pool *pool;
    struct pool_conn *ready; /* slot that will be handed over */
    struct cluster *cluster; /* held until cb ran or pool_cancel */
    struct task task;
    pool_slot_cb cb;
    void *arg;
    enum priority priority;
    enum pool_result result;
    bool fresh; /* only a connection that nobody used before */
    uint64_t asked_us;
    char detail[128];
};

struct pool_options { /* what else keys a pool; borrowed for the call */
    struct transport_options transport;
    const struct addr *source;  /* connections come from there, with IP_TRANSPARENT; NULL: any */
    uint32_t mark;              /* their SO_MARK; 0 none */
    uint64_t key;               /* hash of anything here that differs from the default; 0 none */
    struct proxy_origin origin; /* what transport.origin points to, if it is set */
    bool fresh; /* a connection that was used before will not do; not part of the key */
};

/* pool_acquire asks for one slot on a connection to h (referenced by the pool as long as it needs
 * it). cb runs exactly once unless pool_cancel is called first. Counts upstream_rq_pending_* and,
 * when the slot is given, upstream_rq_total and _active of cluster and host; a slot counts against
 * the breaker's requests. opts may be NULL. */
void pool_acquire(struct cluster *c, struct host *h, const struct pool_protocol *proto,
                  const struct pool_options *opts, enum priority p, struct pool_request *rq,
                  pool_slot_cb cb, void *arg);

/* pool_cancel withdraws a request whose callback has not run; the connection that was begun for it
 * serves the next one. Safe on a zeroed or finished one. */
void pool_cancel(struct pool_request *rq);

/* pool_release gives a slot back. `reusable`: the connection is in a state in which another request
 * may follow; otherwise it is closed: what the user has begun with conn_close goes on, else at
 * once. Call it also for a connection that was closed: on_closed of the user must end in
 * pool_release(pc, false). The callbacks are the pool's again afterwards; the user does not touch
 * pc any more. */
void pool_release(struct pool_conn *pc, bool reusable);

/* pool_conn_count brings the byte counters of the cluster up to date with the connection; the pool
 * does so with every slot that is given or released. For users that stay long: after reads. */
void pool_conn_count(struct pool_conn *pc);

/* pool_conn_changed: the client has set `draining`, or allows another number of streams. The
 * connection may be closed by it. pool_conn_ended: it is over (protocols that keep callbacks). */
void pool_conn_changed(struct pool_conn *pc);
void pool_conn_ended(struct pool_conn *pc, enum conn_close_reason why);

/* pool_conn_of returns the pool connection around a conn. */
static inline struct pool_conn *pool_conn_of(struct conn *c)
{
    return CONTAINER_OF(c, struct pool_conn, conn);
}
