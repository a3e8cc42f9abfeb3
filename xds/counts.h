/* Counters by Envoy's names: of a subscription (update_attempt ...) and of a stream
 * (control_plane.connected_state ...). Those with the same prefix are one object, counted by
 * reference, so that a cluster that is replaced goes on counting. Main thread, internal to xds. */
#pragma once

#include "base/map.h"
#include "base/stats.h"
#include "xds/xds.h"

struct xds_counts;
struct xds_stream_counts;

/* xds_counts_get finds or makes the counters of a prefix, with a reference; NULL gives NULL, which
 * every function here takes. `all` maps prefixes to counters. `reloads`: config_reload too. */
struct xds_counts *xds_counts_get(struct map *all, const struct xds_stats_prefix *prefix,
                                  bool reloads);

/* xds_counts_put gives the reference back and sets *c to NULL. */
void xds_counts_put(struct map *all, struct xds_counts **c);

/* One function an event: the subscription began; a version was accepted, was refused; the source
 * could not be reached; the initial fetch timeout passed. Each but the first begins another
 * attempt. `us` is how long taking it in took. */
void xds_counts_attempt(struct xds_counts *c);
void xds_counts_success(struct xds_counts *c, struct str version, uint64_t wall_us, uint64_t us);
void xds_counts_rejected(struct xds_counts *c);
void xds_counts_failure(struct xds_counts *c);
void xds_counts_timeout(struct xds_counts *c);

/* xds_counts_reload: what is in use changed (config_reload). */
void xds_counts_reload(struct xds_counts *c, uint64_t wall_us);

/* xds_stream_counts_new makes the counters of a stream: the prefix's parts and "control_plane". */
struct xds_stream_counts *xds_stream_counts_new(const struct xds_stats_prefix *prefix);
void xds_stream_counts_free(struct xds_stream_counts **c);

/* xds_stream_counts_connected: the stream is up or not. _pending: requests that wait for the rate
 * limit. _limited: a request met it. _identifier: what the server calls itself. */
void xds_stream_counts_connected(struct xds_stream_counts *c, bool up);
void xds_stream_counts_pending(struct xds_stream_counts *c, size_t num);
void xds_stream_counts_limited(struct xds_stream_counts *c);
void xds_stream_counts_identifier(struct xds_stream_counts *c, struct str id);
