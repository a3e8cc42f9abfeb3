/* Which hosts a request may go to, by their metadata: metadata_match of the route and the weighted
 * cluster, and over it the request's own dynamic metadata, all of "envoy.lb". Worker. */
#pragma once

#include "cluster/load_assignment.h"

struct metadata;
struct stream;

struct lb_match {
    const struct labels *labels;
    const struct labels **fallbacks; /* its fallback_list, if it has one */
    uint32_t num_fallbacks;
};

/* lb_match_new finds out what the stream's request asks for, in the stream's arena; NULL: nothing.
 */
struct lb_match *lb_match_new(struct stream *s);

/* lb_match_of is what the metadata (NULL: there is none) asks for, in the arena; NULL: nothing. Any
 * thread. */
struct lb_match *lb_match_of(const struct metadata *md, struct arena *a);
