/* The JSON form of /stats, written piece by piece. Main thread. */
#pragma once

#include "base/buffer.h"
#include "base/json.h"
#include "base/stats_visit.h"

enum admin_buckets {
    ADMIN_BUCKETS_SUMMARY,
    ADMIN_BUCKETS_CUMULATIVE,
    ADMIN_BUCKETS_DISJOINT,
    ADMIN_BUCKETS_DETAILED,
};

/* Beside STATS_SHOW_HISTOGRAMS and STATS_SHOW_TEXTS: numbers, told apart. */
enum { ADMIN_COUNTERS = 16, ADMIN_GAUGES = 32 };

struct admin_stats_json {
    struct json_writer w;
    bool begun, histograms;
    enum admin_buckets buckets;
};

/* admin_stats_json_init and _cleanup: nothing is written yet. */
void admin_stats_json_init(struct admin_stats_json *j);
void admin_stats_json_cleanup(struct admin_stats_json *j);

/* admin_stats_json_put writes one statistic; histograms come last, all with the same `buckets`. */
void admin_stats_json_put(struct admin_stats_json *j, const struct stats_view *v,
                          enum admin_buckets buckets);

/* admin_stats_json_end closes what is open. */
void admin_stats_json_end(struct admin_stats_json *j);

/* admin_stats_json_take moves the text written so far to the end of out. */
void admin_stats_json_take(struct admin_stats_json *j, struct buffer *out);
