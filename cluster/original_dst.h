/* ORIGINAL_DST: hosts made on the fly from where a connection was going before it was intercepted.
 * Each worker has its own, by address; one that no connection uses is forgotten after
 * cleanup_interval. Worker's thread. */
#pragma once

#include "cluster/table.h"

struct original_dst;

/* original_dst_new makes the hosts of one worker's cluster. original_dst_free frees them and sets
 * *o to NULL; connections keep theirs. */
struct original_dst *original_dst_new(struct cluster *c);
void original_dst_free(struct original_dst **o);

/* original_dst_pick finds or makes the host for rq->original_dst, upstream_port_override applied;
 * borrowed. NULL: there is no address, it is no IP address or has no port (counted
 * original_dst_host_invalid), or the connection would come back to a listener of this process. */
struct host *original_dst_pick(struct original_dst *o, const struct lb_request *rq);

/* original_dst_count is how many hosts there are (tests). */
size_t original_dst_count(const struct original_dst *o);

/* original_dst_is_own says whether a connection to `dst` would reach one of the listeners: its
 * address and port, or the port of a wildcard listener at an address of this machine. */
bool original_dst_is_own(const struct own_listeners *own, const struct addr *dst);
