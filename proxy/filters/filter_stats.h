/* Scopes of HTTP filters' stats: below the prefix of the list they stand in. */
#pragma once

#include "base/stats.h"
#include "proxy/filters/filter_common.h"

/* filter_stats_new makes a scope whose prefix is that of the list, "http.ingress" with the tag of
 * the connection manager, and the parts that follow; empty parts are left out. NULL where there is
 * no such prefix, and while a configuration is only validated, which filter_stats_inc and _add
 * take. Owned by the caller. Main. */
struct stats_scope *filter_stats_new(const struct http_filter_env *env, struct stats_table *table,
                                     const struct str *parts, size_t num);

/* filter_stats_named is the short form for one part. */
struct stats_scope *filter_stats_named(const struct http_filter_env *env, struct stats_table *table,
                                       struct str name);

/* filter_thread is the stats' index of the thread that a filter runs on. */
unsigned filter_thread(const struct http_filter *f);

/* filter_stats_add counts for a filter. Worker. */
static inline void filter_stats_add(const struct http_filter *f, struct stats_scope *s,
                                    uint32_t idx, uint64_t n)
{
    if (s)
        stats_add(s, filter_thread(f), idx, n);
}
static inline void filter_stats_inc(const struct http_filter *f, struct stats_scope *s,
                                    uint32_t idx)
{
    filter_stats_add(f, s, idx, 1);
}
