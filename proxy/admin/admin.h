/* Admin: the HTTP port for people and tools, with Envoy's paths, parameters and formats. It serves
 * on the main thread's loop and reads what main owns; it never waits for a worker. Everything here:
 * main thread.
 *
 * Whoever reaches the port can read the configuration (secrets redacted) and end the process, so
 * it listens where the bootstrap says, which is loopback unless somebody chose otherwise. */
#pragma once

#include "base/errors.h"
#include "base/stats.h"

struct addr;
struct admin;
struct server;

/* admin_new binds and listens on `addr` (IP, or a Unix path) and serves from the loop of s. NULL
 * after an error in e at "admin.address". `s` is borrowed for its life; its fields may still be
 * NULL then and become set later: each is looked at when a request comes. No callback runs before
 * it returns. */
struct admin *admin_new(struct server *s, const struct addr *addr, struct errors *e);

/* admin_free closes the port and every connection, the ones with a response under way included.
 * Before s->loop is freed. Sets *a to NULL; NULL is fine. */
void admin_free(struct admin **a);

/* admin_address is the address with the port really bound (--admin-address-path). Borrowed. */
const struct addr *admin_address(const struct admin *a);
