/* What the admin port counts of itself: "http.admin." and "listener.admin.", as Envoy. Main thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct admin_stats_scope {
    struct stats_scope *http, *listener;
};

/* admin_stats_init makes the scopes, admin_stats_cleanup frees them. */
void admin_stats_init(struct admin_stats_scope *s);
void admin_stats_cleanup(struct admin_stats_scope *s);

/* One function an event: a connection came; there were too many; one is over, after `ms`, with so
 * many bytes taken in and sent. */
void admin_stats_conn(struct admin_stats_scope *s);
void admin_stats_overflow(struct admin_stats_scope *s);
void admin_stats_conn_over(struct admin_stats_scope *s, bool local, uint64_t ms, uint64_t rx,
                           uint64_t tx);

/* A request came; it is over with `status` (0: the client went before the response); bytes were no
 * request and were answered with `status` (0: with nothing). */
void admin_stats_exchange(struct admin_stats_scope *s);
void admin_stats_exchange_over(struct admin_stats_scope *s, unsigned status, uint64_t ms);
void admin_stats_malformed(struct admin_stats_scope *s, unsigned status);
