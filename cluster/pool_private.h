/* The inside of pools, shared by pool.c (which request gets which connection) and pool_conn.c (the
 * life of one connection). Private to cluster/. Worker's thread. */
#pragma once

#include "base/map.h"
#include "cluster/pools.h"

enum { POOL_CONN_MAGIC = 0x504c434e };

enum pool_conn_state {
    POOL_CONN_CONNECTING,
    POOL_CONN_READY,   /* a slot is free */
    POOL_CONN_FULL,    /* no slot is free, or it is to get no more */
    POOL_CONN_CLOSING, /* no user; waits for on_closed */
};

struct pool_key { /* compared bytewise; no padding */
    const struct host *host;
    const struct pool_protocol *proto;
    uint64_t options;
    uint64_t priority;
};

struct pool {
    struct pools *owner;
    struct pool_key key;
    struct host *host; /* referenced */
    const struct pool_protocol *proto;
    enum priority priority;
    struct arena arena;
    struct transport_options transport; /* copied to the arena */
    struct list ready;                  /* struct pool_conn, most recently used first */
    struct list full, connecting, closing;
    struct list pending; /* struct pool_request, oldest first */
    struct list granted; /* have a slot; their callback is in the run queue */
    uint32_t num_connecting, num_pending, num_conns;
    uint32_t streams_seen; /* what the host allowed last on a connection; 0: not known */
    struct task free_task;
};

struct pools {
    struct cluster *cluster;
    struct map map;    /* struct pool_key -> struct pool */
    struct pool *last; /* the one asked last */
    struct list dying; /* struct pool_conn: over, freed at the end of the iteration */
};

/* pool_conn_start begins a connection for the pool. The caller has counted it in the breaker. */
void pool_conn_start(struct pool *p);

/* pool_conn_shut closes a connection that has no slots in use, or is connecting. */
void pool_conn_shut(struct pool_conn *pc);

/* pool_conn_destroy frees it at once, in whatever state; no callback. */
void pool_conn_destroy(struct pool_conn *pc);

/* pool_conn_take_back makes the callbacks the pool's; pool_conn_hand_over restores the client's. */
void pool_conn_take_back(struct pool_conn *pc);
void pool_conn_hand_over(struct pool_conn *pc);

/* pool_conn_park puts a connection with a free slot where the next request finds it. */
void pool_conn_park(struct pool_conn *pc);

/* pool_conn_over accounts for a connection whose fd is gone, tells the pool and frees it later. */
void pool_conn_over(struct pool_conn *pc, enum conn_close_reason why);

/* pool_conn_alive says whether nothing speaks against another request on a parked connection: one
 * system call if no slot is in use. */
bool pool_conn_alive(struct pool_conn *pc);

/* pool_on_connected: a new connection may serve requests. */
void pool_on_connected(struct pool *p, struct pool_conn *pc);

/* pool_on_connect_failed: the requests that no other connection is being opened for have failed. */
void pool_on_connect_failed(struct pool *p, enum pool_result r, struct str detail);

/* pool_on_gone: a connection is over (and no longer on any list): requests that waited for it get a
 * new one. pool_requeue takes the granted requests of a dying connection back: those for its first
 * use have failed, others wait for another connection. */
void pool_on_gone(struct pool *p);
void pool_requeue(struct pool *p, struct pool_conn *pc);

/* pool_maybe_free frees the pool at the end of the iteration if nothing is left in it. */
void pool_maybe_free(struct pool *p);

/* pool_stat and pool_gauge count in the cluster's statistics. */
static inline void pool_stat(const struct pool *p, uint32_t stat)
{
    struct cluster *c = p->owner->cluster;
    stats_inc(c->stats, c->thread, stat);
}
static inline void pool_gauge(const struct pool *p, uint32_t stat, int64_t n)
{
    struct cluster *c = p->owner->cluster;
    stats_gauge_add(c->stats, c->thread, stat, n);
}
