/* Counters, gauges, histograms and text readouts.
 *
 * An owner (a cluster, a listener) describes its stats once by a table and makes a scope for each
 * of its objects: a prefix and, for each thread, a block of numbers that the thread allocates at
 * its first use. A number has one writer, its thread: a relaxed load and store, no lock and no
 * shared cache line. Readers sum over the threads, modulo 2^64, so a gauge may go up on one thread
 * and down on another. Full names are put together when printed (base/stats_visit.h) and stored
 * nowhere.
 *
 *     #define CLUSTER_STATS(X) X(CLUSTER_RQ_TOTAL, "upstream_rq_total", COUNTER) ...
 *     enum { CLUSTER_STATS(STATS_ENUM) CLUSTER_NUM_STATS };
 *     static const struct stats_def defs[] = {CLUSTER_STATS(STATS_DEF)};
 *     static struct stats_table table = STATS_TABLE(defs);
 *     stats_inc(cluster->stats, thread, CLUSTER_RQ_TOTAL);
 *
 * Scopes are made and freed on the main thread, and freed only when no thread uses them any more.
 */
#pragma once

#include "base/alloc.h"
#include "base/list.h"
#include "base/str.h"
#include <stdatomic.h>

enum stats_kind { STATS_COUNTER, STATS_GAUGE, STATS_HISTOGRAM, STATS_TEXT };

struct stats_def {
    const char *name; /* what follows the prefix */
    enum stats_kind kind;
};

struct stats_table {
    const struct stats_def *defs;
    uint32_t num;
    uint32_t *sorted; /* made at first printing, main thread */
};

#define STATS_ENUM(id, name, kind) id,
#define STATS_DEF(id, name, kind) {name, STATS_##kind},
#define STATS_TABLE(defs)                                                                          \
    {                                                                                              \
        (defs), ARRAY_LEN(defs), NULL                                                              \
    }

/* One number of one thread. Counter: its value. Gauge: value * 2 + 1 once written, so that "ever
 * set" needs no room. Histogram: pointer to struct histogram. Text: pointer to an owned string. */
struct stats_block {
    _Atomic(struct stats_dynamic *) dynamic; /* counters by code or name, newest first */
    _Atomic(uint64_t) values[];
};

/* A part of a prefix, joined by dots: {"cluster", NULL}, {name, "envoy_cluster_name"}. A part with
 * a tag is a label for Prometheus, and left out of the metric's name there. */
struct stats_part {
    struct str text;
    const char *tag; /* static text, or NULL */
};

/* A reader gives the value of a stat that is kept elsewhere (circuit breakers): true and *out, or
 * false to use the scope's own numbers. Main thread, while printing. */
typedef bool (*stats_read_cb)(void *arg, uint32_t idx, uint64_t *out);

struct stats_scope {
    struct list link; /* registry */
    struct stats_table *table;
    struct str prefix;       /* "cluster.NAME.", also NUL-terminated, owned */
    struct str base;         /* "cluster.": the prefix without tagged parts, owned */
    struct stats_part *tags; /* the tagged parts, in order; owned */
    uint32_t num_tags;
    bool lazy;                        /* not shown until some thread has used it */
    bool judged;                      /* rejected_bits is valid */
    uint64_t *rejected;               /* bit per def that the stats matcher left out; NULL: none */
    struct histogram_merged **merged; /* per def, made by stats_flush; NULL: none yet */
    stats_read_cb read;
    void *read_arg;
    _Atomic(struct stats_block *) blocks[]; /* one per thread, NULL until used */
};

/* stats_init sets how many threads there are (main is 0, workers 1..); once, before the first
 * scope. stats_cleanup undoes it; all scopes must be freed (tests). */
void stats_init(unsigned num_threads);
void stats_cleanup(void);

/* stats_num_threads is what stats_init set. */
unsigned stats_num_threads(void);

/* stats_scope_new registers a scope. Parts are copied; each text is cleaned of ':' and such as
 * Envoy does (stats_clean_name). Owned by the caller. Main thread. */
struct stats_scope *stats_scope_new(struct stats_table *table, const struct stats_part *parts,
                                    size_t num_parts);

/* stats_scope_named is the short form for a prefix of one part without a tag: STR("server"). Main
 * thread. */
struct stats_scope *stats_scope_named(struct stats_table *table, struct str prefix);

/* stats_scope_free unregisters and frees; *s becomes NULL. No thread may use it any more. Main. */
void stats_scope_free(struct stats_scope **s);

/* stats_scope_set_lazy hides the scope until it is used; stats_scope_set_reader attaches a reader.
 * Main thread. */
void stats_scope_set_lazy(struct stats_scope *s);
void stats_scope_set_reader(struct stats_scope *s, stats_read_cb read, void *arg);

/* stats_clean_name writes s with "://", ":/", ':' and NUL each as one '_' to out, of at least s.len
 * bytes; returns the view. */
struct str stats_clean_name(struct str s, char *out);

/* stats_block_new makes the block of this thread (slow path of stats_block_of). */
struct stats_block *stats_block_new(struct stats_scope *s, unsigned thread);

/* stats_block_of returns the thread's own block. Only that thread. */
static inline struct stats_block *stats_block_of(struct stats_scope *s, unsigned thread)
{
    struct stats_block *b = atomic_load_explicit(&s->blocks[thread], memory_order_relaxed);
    return LIKELY(b != NULL) ? b : stats_block_new(s, thread);
}

/* stats_add and stats_inc count. `thread` is the calling thread's index. */
static inline void stats_add(struct stats_scope *s, unsigned thread, uint32_t idx, uint64_t n)
{
    _Atomic(uint64_t) *v = &stats_block_of(s, thread)->values[idx];
    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void stats_inc(struct stats_scope *s, unsigned thread, uint32_t idx)
{
    stats_add(s, thread, idx, 1);
}

/* stats_gauge_add moves a gauge by n, which may be negative; _inc and _dec by one. */
static inline void stats_gauge_add(struct stats_scope *s, unsigned thread, uint32_t idx, int64_t n)
{
    _Atomic(uint64_t) *v = &stats_block_of(s, thread)->values[idx];
    uint64_t now = atomic_load_explicit(v, memory_order_relaxed) + (uint64_t)n * 2;
    atomic_store_explicit(v, now | 1, memory_order_relaxed);
}
static inline void stats_gauge_inc(struct stats_scope *s, unsigned thread, uint32_t idx)
{
    stats_gauge_add(s, thread, idx, 1);
}
static inline void stats_gauge_dec(struct stats_scope *s, unsigned thread, uint32_t idx)
{
    stats_gauge_add(s, thread, idx, -1);
}

/* stats_gauge_set sets this thread's share of a gauge; the others' are added when read. */
static inline void stats_gauge_set(struct stats_scope *s, unsigned thread, uint32_t idx, uint64_t n)
{
    atomic_store_explicit(&stats_block_of(s, thread)->values[idx], n * 2 + 1, memory_order_relaxed);
}

/* stats_record puts a value into a histogram (milliseconds, bytes, ...). */
void stats_record(struct stats_scope *s, unsigned thread, uint32_t idx, uint64_t value);

/* stats_count_code counts under the name `family` followed by the code, "upstream_rq_" and 200.
 * family must be a static text. */
void stats_count_code(struct stats_scope *s, unsigned thread, const char *family, uint32_t code);

/* stats_count_name counts under `family` followed by `name`, "ssl.ciphers." and a cipher. For names
 * out of a small set: at most STATS_MAX_DYNAMIC are kept a thread, further ones count as "_other".
 */
enum { STATS_MAX_DYNAMIC = 1024 };
void stats_count_name(struct stats_scope *s, unsigned thread, const char *family, struct str name);

/* stats_text_set sets a text readout; the text is copied. Main thread. */
void stats_text_set(struct stats_scope *s, uint32_t idx, struct str text);

/* stats_sum is the value of a counter or gauge over all threads, the reader's if it gives one. Main
 * thread. */
uint64_t stats_sum(struct stats_scope *s, uint32_t idx);

/* stats_used says whether it was ever written: a counter above 0, a gauge set (also to 0), a
 * histogram with a value, a text set. Main thread. */
bool stats_used(struct stats_scope *s, uint32_t idx);

/* stats_text_get views a text readout; empty when never set. Main thread. */
struct str stats_text_get(struct stats_scope *s, uint32_t idx);

/* stats_flush closes the interval of all histograms: cumulative values become what has been
 * recorded by now, interval values what came since the flush before. Main thread, every
 * stats_flush_interval. */
void stats_flush(void);

/* stats_set_matcher sets the stats matcher: accept(arg, full name) false means that the stat is not
 * shown. Asked once a name. Before the first scope is printed. Main thread. NULL: all. */
typedef bool (*stats_accept_cb)(void *arg, struct str name);
void stats_set_matcher(stats_accept_cb accept, void *arg);
