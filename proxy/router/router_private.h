/* The inside of the router, shared by its files: router.c (start, end, the request's body),
 * router_tries.c (starting, failing, trying again), router_response.c, router_stats.c, timeouts.c,
 * internal_redirect.c, shadow.c. Worker's thread. */
#pragma once

#include "cluster/cluster_stats.h"
#include "proxy/http/stream.h"
#include "proxy/router/retry.h"
#include "proxy/router/router.h"
#include "proxy/router/test_faults.h"
#include "proxy/router/upstream_request.h"
#include "proxy/worker.h"

/* router_count adds one to a statistic of the cluster. */
static inline void router_count(const struct router *r, uint32_t stat)
{
    stats_inc(r->cluster->stats, r->stream->worker->index, stat);
}

/* router_count_code counts a response code in all its families: the upstream's, or of ours in its
 * place. router_count_retried one that is not passed on. */
void router_count_code(struct router *r, unsigned status, bool canary);
void router_count_retried(struct router *r, unsigned status);

/* router_body_limit is how much of a body may wait, router_replay_limit how much is kept. */
size_t router_body_limit(const struct router *r);
size_t router_replay_limit(const struct router *r);

/* router_copy appends a copy. router_rewind: the next try gets the whole body so far once more, if
 * no other try is under way. router_drop_replay: no retry, mirror or redirect any more. */
void router_copy(struct buffer *to, const struct buffer *from);
void router_rewind(struct router *r);
void router_drop_replay(struct router *r);

/* router_start_try starts the first or the next try. */
void router_start_try(struct router *r);

/* router_try_again starts another try after a pause, if one is left and the breaker allows it; says
 * so in the flags if not. `u` is not dropped. The pause is wait_ms, or by back-off if 0. */
bool router_try_again(struct router *r, uint64_t wait_ms);

/* router_settle_retry: an outcome that is not tried again: it was a success, if there was a retry.
 */
void router_settle_retry(struct router *r);
void router_release_retry(struct router *r);

/* router_waits says whether another try may still answer. */
bool router_waits(const struct router *r);

/* router_drop gives one try up; router_drop_all all of them, but `keep` (may be NULL). */
void router_drop(struct router *r, struct upstream_request *u);
void router_drop_all(struct router *r, struct upstream_request *keep);

/* --- timeouts.c --- */

/* timeouts_init sets the timeouts of r from route and request headers, which are taken out where
 * they are for us, and tells the upstream the one that holds. timeouts_tell does so for a retry. */
void timeouts_init(struct router *r);
void timeouts_tell(struct router *r);

/* timeouts_start: the request is complete, the route's timeout begins. */
void timeouts_start(struct router *r);
void timeouts_expired(void *router);

/* --- internal_redirect.c --- */

/* internal_redirect follows a response to where it points, if the route's policy wants that: true,
 * and the stream has begun again with another request. False: it is passed on. */
bool internal_redirect(struct router *r, struct headers *response);

/* --- shadow.c --- */

/* shadow_choose decides which mirrors get a copy of this request. shadow_keep_head keeps its head
 * as it is now for them, before a try changes it. shadow_send sends the copies: the request is
 * complete and r->replay whole. */
void shadow_choose(struct router *r);
void shadow_keep_head(struct router *r);
void shadow_send(struct router *r);
