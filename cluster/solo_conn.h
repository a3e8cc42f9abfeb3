/* A pool connection without a pool, for one user who speaks a pool protocol by itself, off the
 * workers too: health checks. One connection with one slot at a time; none of it counts in the
 * cluster's statistics or breakers. The user's loop. */
#pragma once

#include "cluster/pool.h"

struct solo {
    struct loop *loop;
    struct cluster *cluster; /* what the protocol takes for its cluster; no worker's */
    struct host *host;
    const struct pool_protocol *proto;
    /* A slot on a new connection. */
    void (*ready)(void *arg, struct pool_conn *pc);
    /* It could not be connected. */
    void (*failed)(void *arg);
    void *arg;
    struct list conns;     /* all, those that are ending too */
    struct pool_conn *now; /* NULL: none is fit to be used */
    bool wanted;           /* ready or failed is still to come */
};

/* solo_init prepares one; the fields up to arg are the caller's and set before. */
void solo_init(struct solo *s);

/* solo_acquire gives a slot on the connection that is there, to be given back with pool_release;
 * or NULL, and begins one as `how` says: ready or failed follow from the loop, unless solo_drop
 * comes before. No slot is in use. */
struct pool_conn *solo_acquire(struct solo *s, const struct conn_connect *how) WARN_UNUSED;

/* solo_drop closes the connection, or stops connecting. Slots in use are ended by their user. */
void solo_drop(struct solo *s);

/* solo_cleanup frees everything at once; no callback. Not from within one of the protocol's. */
void solo_cleanup(struct solo *s);

/* For pool.c: what pool_release, pool_conn_changed and pool_conn_ended mean here. */
void solo_released(struct pool_conn *pc, bool reusable);
void solo_changed(struct pool_conn *pc);
void solo_ended(struct pool_conn *pc);
