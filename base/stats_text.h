/* Histograms in the text forms of /stats, as Envoy prints them. Main thread. */
#pragma once

#include "base/arena.h"
#include "base/stats.h"

/* stats_text_quantiles gives "P0(nan,1.05) P25(..) .. P100(..)", interval and cumulative value of
 * each; "No recorded values" when m is NULL. In the arena. */
struct str stats_text_quantiles(const struct stats_merged *m, struct arena *a);

/* stats_text_buckets gives "B0.5(0,2) B1(0,2) ..", the counts at or below each bound of the
 * histogram `name`; or, disjoint, those of each bucket alone. */
struct str stats_text_buckets(const struct stats_merged *m, struct str name, bool disjoint,
                              struct arena *a);

/* stats_text_bins gives the bins "left,width:count, ..": of the last interval or cumulative. */
struct str stats_text_bins(const struct stats_merged *m, bool interval, struct arena *a);
