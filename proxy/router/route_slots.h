/* Route slots: a place for the route table of a connection manager, inline or by RDS name, with
 * each worker's current pointer. Main subscribes and publishes; a worker swaps its pointer between
 * two events. */
#pragma once

#include "base/errors.h"
#include "proxy/router/route.h"

struct pb_opts;
struct resource_ops;
struct server;
struct xds;
struct xds_source;
struct route_slot;
struct route_slots;

extern const struct resource_ops route_resource;

/* route_slots_new registers the RouteConfiguration type with x. `on_change(arg)` runs on main when
 * a slot has nothing more to wait for (listeners_recheck). route_slots_free: all slots are gone. */
struct route_slots *route_slots_new(struct server *s, struct xds *x, const struct pb_opts *pb,
                                    void (*on_change)(void *), void *arg);
void route_slots_free(struct route_slots **r);

/* route_slot_static makes a slot that holds `t` for good (takes the reference). */
struct route_slot *route_slot_static(struct route_slots *r, struct route_table *t);

/* route_slot_rds makes the slot of a name and subscribes. Counted under
 * "http.<stat_prefix>.rds.<name>.". */
struct route_slot *route_slot_rds(struct route_slots *r, const struct xds_source *src,
                                  struct str name, struct str stat_prefix);

/* route_slot_unref ends the subscription; the slot is freed when no message to a worker is under
 * way. NULL is fine. Main. */
void route_slot_unref(struct route_slot *s);

/* route_slot_ready: a table is there, or it is known that none will come for now (refused, fetch
 * timeout). Main. */
bool route_slot_ready(const struct route_slot *s);

/* route_slot_get returns the table in force on the calling thread, with a reference for the caller,
 * or NULL: none yet. Worker. */
struct route_table *route_slot_get(struct route_slot *s, unsigned thread);
