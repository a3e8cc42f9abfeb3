/* Printing of stats: all of them in the order of their full names, which exist only while they are
 * printed. Memory: one name for each scope whose prefix contains the current one. Main thread. */
#pragma once

#include "base/arena.h"
#include "base/stats.h"

struct stats_view {
    struct str name; /* full; valid during the call */
    enum stats_kind kind;
    bool used;
    uint64_t value;                       /* counter, gauge */
    struct str text;                      /* text */
    const struct stats_merged *histogram; /* NULL: nothing recorded */
};

enum {
    STATS_SHOW_NUMBERS = 1, /* counters and gauges, sorted together as Envoy does */
    STATS_SHOW_HISTOGRAMS = 2,
    STATS_SHOW_TEXTS = 4,
};

/* stats_visit_cb: false stops. It must not make or free scopes. */
typedef bool (*stats_visit_cb)(void *arg, const struct stats_view *v);

/* stats_visit calls cb for every stat of the kinds in `show` that the matcher accepts, sorted by
 * name bytewise. Returns false if cb stopped it. */
bool stats_visit(unsigned show, stats_visit_cb cb, void *arg);

/* stats_visit_after begins behind the name `after` (empty: with the first), so that a long list can
 * be printed in slices; stats may come and go between two of them. */
bool stats_visit_after(struct str after, unsigned show, stats_visit_cb cb, void *arg);

/* stats_table_sorted gives the indices of a table's defs in the order of their names. */
const uint32_t *stats_table_sorted(struct stats_table *t);

/* stats_dynamic_sum: the dynamic counters of a scope, summed over threads, in the order of their
 * names (family and name together), in the arena. */
struct stats_dynamic_sum {
    const char *family;
    struct str suffix; /* family and name */
    uint32_t code;     /* UINT32_MAX: by name */
    uint64_t value;
};
struct stats_dynamic_sum *stats_dynamic_sums(struct stats_scope *s, struct arena *a, size_t *num);

/* stats_find reads one counter or gauge by its full name; false when there is none. For tests and
 * questions that are rarely asked. */
bool stats_find(struct str name, uint64_t *out) WARN_UNUSED;
