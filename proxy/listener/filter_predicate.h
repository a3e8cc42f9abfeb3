/* ListenerFilterChainMatchPredicate: for which connections a listener filter is disabled. Compiled
 * on main, immutable; asked by workers. */
#pragma once

#include "base/addr.h"
#include "base/arena.h"
#include "base/errors.h"

struct filter_predicate;
struct Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate;

/* filter_predicate_compile compiles it into the arena; NULL after errors. Main. */
struct filter_predicate *filter_predicate_compile(
    struct arena *a, const struct Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate *m,
    struct errors *e);

/* filter_predicate_matches says whether a connection to `local` fits. Any thread. */
bool filter_predicate_matches(const struct filter_predicate *p, const struct addr *local);
