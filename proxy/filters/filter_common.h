/* What several HTTP filters share: the scope of their statistics and the dice of fractions. */
#pragma once

#include "base/stats.h"
#include "proxy/http/http_filter.h"

struct Envoy__Config__Core__V3__RuntimeFractionalPercent;

/* filter_scope_new makes the scope "http.<stat_prefix>.<name>.", owned by the caller; NULL while a
 * configuration is only validated. Main. */
struct stats_scope *filter_scope_new(const struct http_filter_env *env, struct stats_table *table,
                                     struct str name);

/* filter_worker is the index of the filter's worker among the threads of statistics. Worker. */
unsigned filter_worker(const struct http_filter *f);

/* filter_count adds one to a counter; a scope that is NULL counts nothing. Worker. */
void filter_count(const struct http_filter *f, struct stats_scope *s, uint32_t idx);

/* filter_fraction_ppm reads a runtime fraction's default value in parts per million; unset gives
 * `def`. Main. */
uint32_t filter_fraction_ppm(const struct Envoy__Config__Core__V3__RuntimeFractionalPercent *p,
                             uint32_t def);

enum { FILTER_ALWAYS_PPM = 1000000 };

/* filter_chance is true with a probability of ppm parts in a million. Any thread. */
bool filter_chance(uint32_t ppm);

/* filter_lower copies s in lower case into an arena. */
struct str filter_lower(struct arena *a, struct str s);

/* filter_cookie finds a cookie in the request's Cookie fields (RFC 6265 section 5.4), without the
 * quotes around its value. False: there is none of that name. */
bool filter_cookie(const struct headers *h, struct str name, struct str *out);
