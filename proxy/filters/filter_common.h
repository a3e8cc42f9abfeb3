/* What several HTTP filters share: the dice of fractions, names in lower case, cookies. */
#pragma once

#include "proxy/http/http_filter.h"

struct Envoy__Config__Core__V3__RuntimeFractionalPercent;

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
