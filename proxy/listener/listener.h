/* Listener: what a Listener message was compiled to. Immutable, reference counted, pinned by its
 * connections; freed on main. Sockets live apart, so that an update of the listener keeps them. */
#pragma once

#include "base/addr.h"
#include "base/mailbox.h"
#include "base/refcount.h"
#include "base/stats.h"
#include "tls/socket_options.h"
#include "proxy/network/network_filter.h"
#include "tls/transport.h"

#define LISTENER_STATS(X)                                                                          \
    X(LISTENER_CX_TOTAL, "downstream_cx_total", COUNTER)                                           \
    X(LISTENER_CX_ACTIVE, "downstream_cx_active", GAUGE)                                           \
    X(LISTENER_CX_DESTROY, "downstream_cx_destroy", COUNTER)                                       \
    X(LISTENER_CX_OVERFLOW, "downstream_cx_overflow", COUNTER)                                     \
    X(LISTENER_CX_LENGTH, "downstream_cx_length_ms", HISTOGRAM)                                    \
    X(LISTENER_CX_HANDSHAKE_TIMEOUT, "downstream_cx_transport_socket_connect_timeout", COUNTER)    \
    X(LISTENER_PRE_CX_ACTIVE, "downstream_pre_cx_active", GAUGE)                                   \
    X(LISTENER_PRE_CX_TIMEOUT, "downstream_pre_cx_timeout", COUNTER)                               \
    X(LISTENER_FILTER_ERROR, "downstream_listener_filter_error", COUNTER)                          \
    X(LISTENER_FILTER_REMOTE_CLOSE, "downstream_listener_filter_remote_close", COUNTER)            \
    X(LISTENER_NO_CHAIN, "no_filter_chain_match", COUNTER)                                         \
    X(LISTENER_ACCEPTS, "connections_accepted_per_socket_event", HISTOGRAM)

enum { LISTENER_STATS(STATS_ENUM) LISTENER_NUM_STATS };

/* "listener.<address>.worker_<n>." */
#define LISTENER_WORKER_STATS(X)                                                                   \
    X(LISTENER_WORKER_CX_TOTAL, "downstream_cx_total", COUNTER)                                    \
    X(LISTENER_WORKER_CX_ACTIVE, "downstream_cx_active", GAUGE)

enum { LISTENER_WORKER_STATS(STATS_ENUM) LISTENER_WORKER_NUM_STATS };

struct chain_match;
struct listener_filter;

struct filter_chain {
    struct listener *listener;
    struct str name;
    struct transport_factory *transport; /* NULL: raw */
    const struct network_filter_ops *filter;
    void *filter_config;
    uint64_t handshake_ms; /* transport_socket_connect_timeout */
    bool settled;          /* its secrets are there or will not come for now; main */
};

/* Where it listens: `address`, then additional_addresses. */
struct listen_address {
    struct addr addr; /* as configured */
    uint32_t mode;    /* of a Unix socket's file; 0: as the umask has it */
    struct socket_options options;
};

/* A bound address: one socket a worker (SO_REUSEPORT), or one for all. */
struct listen_socket {
    struct addr addr; /* with the port really bound */
    int *fds;         /* by worker */
    bool shared;      /* all entries are the same socket */
};

/* The sockets of a listener. Opened on main; shared by the listener while it accepts and by the
 * workers' acceptors, but not by its connections: when the last of those lets go, of whatever
 * thread, the sockets are closed. */
struct listen_sockets {
    struct refcount ref;
    struct listen_socket *v;
    size_t num;
    unsigned num_workers;
    bool listening;
};

struct listener {
    struct refcount ref;
    struct message free_msg;
    struct server *server;
    struct arena *arena;
    struct str name;
    struct addr addr; /* as configured: addresses[0] */
    struct listen_address *addresses;
    size_t num_addresses;
    struct listen_sockets *sockets; /* NULL: bind_to_port false, or no more; main */
    bool bind_to_port, use_original_dst;
    bool inbound, outbound;
    bool transparent, reuse_port, freebind, mptcp;
    bool set_fast_open; /* tcp_fast_open_queue_length is said: fast_open, 0 turns it off */
    uint32_t fast_open;
    bool no_global_limit, no_overload; /* exempt from limits of the whole process */
    _Atomic(uint32_t) *loads;          /* connections by worker, for exact_balance; else NULL */
    unsigned accept_worker;            /* exact_balance: who accepts for all; from 1 */
    struct listener_filter *filters;
    size_t num_filters;
    bool continue_on_timeout;
    uint64_t filters_timeout_ms;
    size_t buffer_limit;
    int backlog;
    uint32_t accepts_per_event;
    struct filter_chain *chains;
    size_t num_chains;
    struct filter_chain *default_chain;
    struct chain_match *match;
    struct access_log **logs;
    size_t num_logs;
    struct stats_scope *stats; /* "listener.<address>." */
    struct stats_scope *tls_stats;
    struct stats_scope **worker_stats; /* by worker, from 0 */
    unsigned num_workers;
};

/* listener_compile compiles an unpacked Listener message; NULL after errors. One reference. Nothing
 * is bound. Main. */
struct listener *listener_compile(struct server *s, const struct compile_env *env, const void *msg,
                                  struct errors *e);

/* listener_ref and listener_unref: any thread; the last one frees on main. */
struct listener *listener_ref(struct listener *l);
void listener_unref(struct listener *l);

/* listener_start subscribes to what its chains wait for, when it is applied. Main. */
void listener_start(struct listener *l);

/* listener_ready: route tables and secrets of all chains are there. Main. */
bool listener_ready(const struct listener *l);

/* listener_load_inc and listener_load_dec count a connection of worker `thread` (exact_balance).
 * Any thread. */
static inline void listener_load_inc(struct listener *l, unsigned thread)
{
    if (l->loads)
        atomic_fetch_add_explicit(&l->loads[thread - 1], 1, memory_order_relaxed);
}
static inline void listener_load_dec(struct listener *l, unsigned thread)
{
    if (l->loads)
        atomic_fetch_sub_explicit(&l->loads[thread - 1], 1, memory_order_relaxed);
}

/* listen_sockets_open binds (without listening) the sockets of each address; NULL and an error in e
 * if one cannot be had. listen_sockets_listen starts to listen; 0 or an errno. listen_sockets_fit
 * says whether the sockets of `had` serve for l as they are. References: any thread; the last unref
 * closes. NULL is fine. */
struct listen_sockets *listen_sockets_open(const struct listener *l, unsigned num_workers,
                                           struct errors *e);
int listen_sockets_listen(struct listen_sockets *s, const struct listener *l);
bool listen_sockets_fit(const struct listener *had, const struct listener *l);
struct listen_sockets *listen_sockets_ref(struct listen_sockets *s);
void listen_sockets_unref(struct listen_sockets *s);
