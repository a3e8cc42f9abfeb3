/* The text form of Prometheus (version 0.0.4), with Envoy's names: "envoy_" and the name without
 * its tags, one TYPE line a metric, counters, then gauges, then histograms, each sorted. Main
 * thread. */
#pragma once

#include "base/stats.h"

struct stats_prometheus {
    bool used_only;
    bool texts; /* also text readouts, as gauges of 0 with a text_value label */
    bool (*keep)(void *arg, struct str name); /* by full name; NULL: all */
    void (*emit)(void *arg, struct str text); /* some lines at a time */
    void *arg;
};

/* stats_prometheus_write prints all stats that are accepted, kept and, with used_only, used. */
void stats_prometheus_write(const struct stats_prometheus *p);

/* The same in slices: stats_prometheus_begin copies *p (what it points to is borrowed) and notes
 * what there is to print; stats_prometheus_more prints about `lines` more, or looks at
 * as many stats that are not to be printed; false: that was all. Numbers are those of the moment in
 * which they are printed; scopes that come meanwhile are not seen, those that go stay until
 * stats_prometheus_end, which must be called and sets *r to NULL. */
struct stats_prometheus_run;
struct stats_prometheus_run *stats_prometheus_begin(const struct stats_prometheus *p);
bool stats_prometheus_more(struct stats_prometheus_run *r, size_t lines);
void stats_prometheus_end(struct stats_prometheus_run **r);

/* stats_prometheus_add_namespace: metrics whose name begins with `ns` and a dot lose both that and
 * the "envoy_" ("istiocustom"). stats_prometheus_reset forgets namespaces and bounds. */
void stats_prometheus_add_namespace(struct str ns);
void stats_prometheus_reset(void);

/* stats_bounds_cb gives the upper bounds of the buckets of a histogram by its full name and their
 * number, or NULL for the default ones. Borrowed for ever. stats_set_bounds sets it
 * (histogram_bucket_settings); stats_bounds asks it. */
typedef const double *(*stats_bounds_cb)(void *arg, struct str name, size_t *num);
void stats_set_bounds(stats_bounds_cb cb, void *arg);
const double *stats_bounds(struct str name, size_t *num);
