/* The pools of one worker's cluster, for cluster/ itself. Worker's thread. */
#pragma once

#include "cluster/pool.h"

struct pools;

/* pools_new makes an empty set; nothing is allocated for a host before its first request. */
struct pools *pools_new(struct cluster *c);

/* pools_free closes all connections, used ones too, without callbacks, and sets *p to NULL: for the
 * end of the worker or of a cluster that nobody holds. */
void pools_free(struct pools **p);

/* pools_drain: no connection that is there now gets another request: idle ones are closed, used
 * ones after their last slot. Requests that wait are served. */
void pools_drain(struct pools *p);

/* pools_hosts_changed closes what is idle to hosts that are no longer members (and, as the
 * configuration says, everything to hosts that are not healthy, or all when membership changed). */
void pools_hosts_changed(struct pools *p, bool membership);

/* pools_num_pools and pools_num_conns are for tests. */
size_t pools_num_pools(const struct pools *p);
size_t pools_num_conns(const struct pools *p);
