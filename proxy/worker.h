/* Worker: one thread with its loop, accept sockets, connections, pools, balancers and counters. A
 * connection never changes its worker. Main talks to it by mailbox only. */
#pragma once

#include "base/loop.h"
#include "base/mailbox.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

struct arena;
struct server;
struct worker_clusters;
struct worker_listeners;

enum {
    WORKER_ARENAS = 32,
    WORKER_ARENA_KEEP = 32768
}; /* kept ready; those that grew larger are not */

struct worker {
    struct server *server;
    struct loop *loop;
    unsigned index; /* 1.. ; thread index of stats */
    struct mailbox box;
    pthread_t thread;
    struct worker_clusters *clusters;
    struct worker_listeners *listeners;
    struct list downstreams; /* struct downstream */
    struct list shadows;     /* struct shadow */
    _Atomic uint64_t num_downstreams;
    uint64_t next_connection;
    _Atomic uint64_t num_active;  /* requests, and connections of tcp_proxy, under way */
    _Atomic uint64_t num_started; /* of them, ever */
    bool draining;                /* connections are told to end */
    uint64_t drain_start_ms, drain_ms;
    bool drain_gradual;
    char date[32]; /* the Date header's text, of second date_s */
    uint64_t date_s;
    struct arena *arenas[WORKER_ARENAS]; /* empty ones, for the next requests */
    unsigned num_arenas;
    struct message stop_msg, quiet_msg;
    sem_t quiet; /* posted when quiet_msg was done */
};

/* worker_count changes one of the numbers that main reads; the worker is its only writer. */
static inline void worker_count(_Atomic uint64_t *n, int64_t by)
{
    uint64_t now = atomic_load_explicit(n, memory_order_relaxed);
    atomic_store_explicit(n, now + (uint64_t)by, memory_order_relaxed);
}

/* worker_arena_get returns an empty arena, from the few kept ready; worker_arena_put takes it back.
 * Worker's thread. */
struct arena *worker_arena_get(struct worker *w);
void worker_arena_put(struct worker *w, struct arena *a);

/* worker_date returns the text of the Date header for now (RFC 9110 section 5.6.7). Worker's
 * thread. */
struct str worker_date(struct worker *w);

/* worker_drain_close says whether a response sent now should end its connection: while draining,
 * all with --drain-strategy immediate, else with a probability that rises to one over the drain
 * time. Worker's thread. */
bool worker_drain_close(struct worker *w);

/* worker_init prepares worker `index` (1..) on the main thread. Main. */
void worker_init(struct worker *w, struct server *s, unsigned index);

/* worker_start runs its thread; false if there is none to be had. Main. */
bool worker_start(struct worker *w);

/* worker_quiet makes it accept no more, and waits until that is so: before any worker is stopped,
 * since they hand connections to each other. Main. */
void worker_quiet(struct worker *w);

/* worker_stop ends its thread, which frees what is the worker's, and waits for it. Main. */
void worker_stop(struct worker *w);

/* worker_cleanup frees a worker whose thread was never started. Main. */
void worker_cleanup(struct worker *w);
