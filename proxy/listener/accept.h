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

/* --- peek: the run of listener filters --- */

enum peek_result {
    PEEK_WAITING, /* `done` comes later */
    PEEK_DONE,
    PEEK_TIMEOUT,
    PEEK_CLOSED, /* the peer ended before the filters had what they wanted */
    PEEK_ERROR,  /* the socket failed */
    PEEK_REFUSED /* a filter ends the connection */
};

enum { PEEK_MAX = 65536 + 512 }; /* bytes that a filter may look at */

/* peek_start runs the listener filters of d->listener, in their order, over the socket
 * d->accepted_fd; bytes are looked at without taking them. Returns the result, or PEEK_WAITING:
 * then `done` runs from the loop, once, unless peek_stop is called first. */
enum peek_result peek_start(struct downstream *d,
                            void (*done)(struct downstream *d, enum peek_result r)) WARN_UNUSED;

/* peek_stop gives up; no callback. Safe when none is under way. */
void peek_stop(struct downstream *d);
