/* Route slots: a place for each route table a connection manager uses, inline or by RDS name, with
 * each worker's current pointer. Main subscribes, compiles and publishes; a worker swaps its
 * pointer between two events. Slots are shared by all connection managers that name the same table
 * of the same source. */
#pragma once

#include "base/errors.h"
#include "proxy/router/route.h"

struct loop;
struct server;
struct xds;
struct xds_source;
struct route_slot;
struct route_slots;

/* route_slots_new registers the RouteConfiguration type with x (NULL in --mode validate).
 * `on_change(arg)` runs on main when a slot got its first table (listeners_recheck). */
struct route_slots *route_slots_new(struct server *s, struct xds *x, void (*on_change)(void *),
                                    void *arg);
void route_slots_free(struct route_slots **r);

/* route_slot_static makes a slot that holds `t` for good (takes the reference). */
struct route_slot *route_slot_static(struct route_slots *r, struct route_table *t);

/* route_slot_rds finds or makes the slot of a name; subscribes. `stat_prefix` is
 * "http.<prefix>.rds.<name>.". */
struct route_slot *route_slot_rds(struct route_slots *r, const struct xds_source *src,
                                  struct str name, struct str stat_prefix);
void route_slot_unref(struct route_slot *s); /* main */

/* route_slot_ready: a table is there, or it is known that none will come for now (fetch timeout).
 * Main. */
bool route_slot_ready(const struct route_slot *s);

/* route_slot_get returns the table in force on the calling thread (loop_thread_index), with a
 * reference for the caller, or NULL: none yet. Worker. */
struct route_table *route_slot_get(struct route_slot *s, unsigned thread);

/* route_slots_visit: for config_dump. */
struct route_view {
    struct str name, version, bytes;
    uint64_t updated_us;
    bool is_static;
};
void route_slots_visit(const struct route_slots *r,
                       void (*visit)(void *arg, const struct route_view *v), void *arg);
