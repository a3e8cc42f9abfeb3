/* What the parts of the worker's side of listeners share: accept, peek, hand-over. Worker's thread.
 */
#pragma once

#include "proxy/listener/downstream.h"
#include "proxy/listener/listener.h"

struct worker_listeners;

/* downstream_accepted takes a just accepted socket through the listener filters and the chain match
 * to its network filter. `draining`: it should end as soon as it can. */
void downstream_accepted(struct worker *w, struct listener *l, int fd, const struct addr *peer,
                         bool draining);

/* worker_listeners_hand_over finds the listener for an original destination: of exactly that
 * address, else the wildcard of its port, else NULL (use_original_dst). Borrowed. */
struct listener *worker_listeners_hand_over(struct worker_listeners *wl, const struct addr *dst);

/* downstream_drain tells the connection to end when it can; downstream_kill ends it now (drain time
 * is over). */
void downstream_drain(struct downstream *d);
void downstream_kill(struct downstream *d);

/* --- peek: the TLS inspector --- */

enum peek_result { PEEK_DONE, PEEK_TIMEOUT, PEEK_CLOSED, PEEK_ERROR };

/* peek_start looks at the first bytes of d's socket without taking them, until they show whether it
 * is TLS and what it asks for; fills d->detected_*, d->info.sni. `done` runs from the loop, once.
 */
void peek_start(struct downstream *d, int fd, uint64_t timeout_ms,
                void (*done)(struct downstream *d, enum peek_result r));

/* peek_stop gives up; no callback. Safe when none is under way. */
void peek_stop(struct downstream *d);
