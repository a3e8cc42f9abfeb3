#include "base/stats_text.h"
#include "base/stats_prometheus.h"

#include <inttypes.h>
#include <stdio.h>

enum { ROOM = 64 }; /* one quantile, bucket or bin */

struct str stats_text_quantiles(const struct stats_merged *m, struct arena *a)
{
    char interval[32], cumulative[32];
    if (!m)
        return STR("No recorded values");
    size_t cap = HISTOGRAM_QUANTILES * 2 * ROOM, len = 0;
    char *out = arena_bytes(a, cap);
    for (int i = 0; i < HISTOGRAM_QUANTILES; i++) {
        double q = histogram_quantile_list[i];
        int n = snprintf(out + len, cap - len, "%sP%g(%s,%s)", i ? " " : "", 100 * q,
                         histogram_number(histogram_quantile(&m->interval, q), interval),
                         histogram_number(histogram_quantile(&m->cumulative, q), cumulative));
        CHECK(n > 0 && (size_t)n < cap - len);
        len += (size_t)n;
    }
    return str_n(out, len);
}

struct str stats_text_buckets(const struct stats_merged *m, struct str name, bool disjoint,
                              struct arena *a)
{
    size_t num, len = 0;
    const double *bounds = stats_bounds(name, &num);
    uint64_t before_interval = 0, before_cumulative = 0;
    if (!m)
        return STR("No recorded values");
    size_t cap = num * ROOM + 1;
    char *out = arena_bytes(a, cap);
    for (size_t i = 0; i < num; i++) {
        uint64_t interval = histogram_below(&m->interval, bounds[i]);
        uint64_t cumulative = histogram_below(&m->cumulative, bounds[i]);
        int n = snprintf(out + len, cap - len, "%sB%g(%" PRIu64 ",%" PRIu64 ")", i ? " " : "",
                         bounds[i], interval - before_interval, cumulative - before_cumulative);
        CHECK(n > 0 && (size_t)n < cap - len);
        len += (size_t)n;
        if (disjoint) {
            before_interval = interval;
            before_cumulative = cumulative;
        }
    }
    return str_n(out, len);
}

struct str stats_text_bins(const struct stats_merged *m, bool interval, struct arena *a)
{
    double left, width;
    uint64_t count;
    size_t cap = 0, len = 0;
    char l[32], w[32], *buf = NULL;
    const struct histogram_counts *c = m ? (interval ? &m->interval : &m->cumulative) : NULL;
    for (unsigned it = 0; c && histogram_next_bin(c, &it, &left, &width, &count);) {
        buf = mem_grow_array(buf, &cap, len + 2 * ROOM, 1);
        int n = snprintf(buf + len, cap - len, "%s%s,%s:%" PRIu64, len ? ", " : "",
                         histogram_number(left, l), histogram_number(width, w), count);
        len += (size_t)n;
    }
    struct str s = arena_str(a, str_n(buf, len));
    mem_free(buf);
    return s;
}
