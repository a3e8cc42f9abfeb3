/* Listeners. Main: struct listeners owns the Listener resource type: compile, bind before ACK,
 * warm, publish to the workers, update in place, drain, remove. Worker: struct worker_listeners
 * holds its accept sockets. A listener and its filter chains are immutable, reference counted and
 * pinned by connections. */
#pragma once

#include "base/errors.h"
#include "base/loop.h"
#include "base/str.h"
#include "proxy/network/network_filter.h"

struct addr;
struct listeners;
struct resource_ops;
struct server;
struct worker;
struct worker_listeners;

/* The Listener resource type, for xds_static, xds_collect and xds_foreach. */
extern const struct resource_ops listener_resource;

/* listeners_new registers the Listener type with env->xds. `env` is borrowed for the life of it. */
struct listeners *listeners_new(struct server *s, const struct compile_env *env);
void listeners_free(struct listeners **l);

/* listeners_start lets warm listeners accept: called when the clusters are ready. The workers must
 * run. */
void listeners_start(struct listeners *l);

/* listeners_recheck looks whether a warming listener has become warm (a route table or secret
 * came). */
void listeners_recheck(struct listeners *l);

/* listeners_all_warm says whether every listener of the first configuration is active: part of
 * readiness. */
bool listeners_all_warm(const struct listeners *l);

/* listeners_drain: stops accepting (unless `graceful`, then at the end of drain_ms) and tells
 * connections to end; `inbound_only` only those with traffic_direction INBOUND. */
void listeners_drain(struct listeners *l, bool inbound_only, bool graceful, uint64_t drain_ms);

/* listeners_stop_accepting closes all accept sockets now. */
void listeners_stop_accepting(struct listeners *l);

/* What admin shows. */
struct listener_view {
    struct str name;
    struct str version;
    uint64_t updated_us;          /* wall time */
    const struct addr *addresses; /* with the ports really bound */
    size_t num_addresses;
    struct str bytes; /* serialized Listener */
    bool is_static, warming, draining;
};
void listeners_visit(const struct listeners *l,
                     void (*visit)(void *arg, const struct listener_view *v), void *arg);

/* worker_listeners_new makes a worker's side, empty; filled by messages from main. _stop lets none
 * of it accept any more; _free closes its sockets. Worker. */
struct worker_listeners *worker_listeners_new(struct worker *w);
void worker_listeners_stop(struct worker_listeners *wl);
void worker_listeners_free(struct worker_listeners **wl);
