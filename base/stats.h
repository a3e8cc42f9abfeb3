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
#include "base/histogram.h"
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

/* The numbers of one thread. Counter and gauge: the value. Histogram: pointer to struct histogram.
 * Text: pointer to an owned string. */
struct stats_block {
    _Atomic(struct stats_dynamic *) dynamic; /* counters by code or name, newest first */
    size_t num_dynamic;                      /* the writer's own */
    _Atomic(uint64_t) *set;                  /* bit per gauge that was ever written */
    _Atomic(uint64_t) values[];
};

/* A part of a prefix, joined by dots: {STR("cluster")}, {name, "envoy_cluster_name"}. A part with a
 * tag is a label for Prometheus, and left out of the metric's name there. With a stem, {STR("0"),
 * "envoy_worker_id", "worker"}, the part is "worker_0" and leaves "worker" in the metric's name. */
struct stats_part {
    struct str text;
    const char *tag;  /* static text, or NULL */
    const char *stem; /* static text, or NULL */
};

/* A reader gives the value of a stat that is kept elsewhere (circuit breakers): true and *out, or
 * false to use the scope's own numbers. Main thread, while printing. */
typedef bool (*stats_read_cb)(void *arg, uint32_t idx, uint64_t *out);

/* A counter that came up at run time, in one thread's list. */
struct stats_dynamic {
    struct stats_dynamic *next; /* fixed once published */
    const char *family;
    struct str name; /* what follows the family; owned */
    uint32_t code;   /* of stats_count_code; UINT32_MAX: counted by name */
    _Atomic(uint64_t) value;
    uint64_t before_reset; /* main's: what stats_reset_counters took off */
};

/* The state of a histogram at the last stats_flush. Main thread's. */
struct stats_merged {
    struct histogram_counts cumulative; /* since the start */
    struct histogram_counts interval;   /* between the last two flushes */
};

struct stats_scope {
    struct list link; /* registry */
    uint32_t refs;
    uint32_t holds; /* of refs: those of stats_scope_hold */
    struct stats_table *table;
    struct str prefix;       /* "cluster.NAME.", owned */
    struct str base;         /* "cluster.": the prefix without tagged parts, owned */
    struct stats_part *tags; /* the tagged parts, in order; owned */
    uint32_t num_tags;
    bool lazy;                   /* not shown until some thread has used it */
    bool judged;                 /* `rejected` is valid */
    uint64_t *rejected;          /* bit per def that the stats matcher left out; NULL: none */
    struct stats_merged *merged; /* per def, made by stats_flush; NULL: none yet */
    uint64_t *before_reset;      /* per def: taken off by stats_reset_counters; NULL: never */
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

/* stats_scope_hold keeps the memory of a scope until stats_scope_release, although its owners may
 * free it meanwhile; its reader is then not asked any more. Main thread. */
void stats_scope_hold(struct stats_scope *s);
void stats_scope_release(struct stats_scope *s);

/* stats_scope_free drops the reference, *s becomes NULL; the last one unregisters and frees, and no
 * thread may use the scope any more. Main thread. */
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

/* stats_gauge_put writes a gauge's number and remembers that it was set. */
static inline void stats_gauge_put(struct stats_block *b, uint32_t idx, uint64_t value)
{
    uint64_t set = atomic_load_explicit(&b->set[idx / 64], memory_order_relaxed);
    uint64_t bit = 1ull << (idx % 64);
    if (UNLIKELY(!(set & bit)))
        atomic_store_explicit(&b->set[idx / 64], set | bit, memory_order_relaxed);
    atomic_store_explicit(&b->values[idx], value, memory_order_relaxed);
}

/* stats_gauge_add moves a gauge by n, which may be negative; _inc and _dec by one. */
static inline void stats_gauge_add(struct stats_scope *s, unsigned thread, uint32_t idx, int64_t n)
{
    struct stats_block *b = stats_block_of(s, thread);
    uint64_t old = atomic_load_explicit(&b->values[idx], memory_order_relaxed);
    stats_gauge_put(b, idx, old + (uint64_t)n);
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
    stats_gauge_put(stats_block_of(s, thread), idx, n);
}

/* stats_record puts a value into a histogram (milliseconds, bytes, ...). */
void stats_record(struct stats_scope *s, unsigned thread, uint32_t idx, uint64_t value);

/* stats_count_code counts under the name `family` followed by the code, "upstream_rq_" and 200.
 * family must be a static text. */
void stats_count_code(struct stats_scope *s, unsigned thread, const char *family, uint32_t code);

/* stats_count_group the same for the class of a code, "upstream_rq_" and "2xx" for 2, or
 * "completed" for 0. */
void stats_count_group(struct stats_scope *s, unsigned thread, const char *family, unsigned group);

/* stats_count_name counts under `family` followed by `name`, "ssl.ciphers." and a cipher. For names
 * out of a small set: at most STATS_MAX_DYNAMIC are kept a thread, further ones count as "_other".
 */
enum { STATS_MAX_DYNAMIC = 1024 };
void stats_count_name(struct stats_scope *s, unsigned thread, const char *family, struct str name);

/* stats_add_name the same by n. */
void stats_add_name(struct stats_scope *s, unsigned thread, const char *family, struct str name,
                    uint64_t n);

/* stats_text_set sets a text readout; the text is copied. Main thread. */
void stats_text_set(struct stats_scope *s, uint32_t idx, struct str text);

/* stats_accepted says whether the stats matcher lets this one be shown. Main thread. */
bool stats_accepted(struct stats_scope *s, uint32_t idx);

/* stats_shown says whether the scope is to be printed: in use, or not lazy. Main thread. */
bool stats_shown(struct stats_scope *s);

/* stats_histogram is the state at the last flush; NULL when nothing was recorded by then. Main
 * thread. */
const struct stats_merged *stats_histogram(struct stats_scope *s, uint32_t idx);

/* stats_scopes is the head of the registry's list of scopes (base/stats_visit.c). Main thread. */
struct list *stats_scopes(void);

/* stats_sum is the value of a counter or gauge over all threads, the reader's if it gives one. Main
 * thread. */
uint64_t stats_sum(struct stats_scope *s, uint32_t idx);

/* stats_gauge_now is what the threads have set a gauge to, together, as far as the caller can see.
 * Any thread. */
uint64_t stats_gauge_now(struct stats_scope *s, uint32_t idx);

/* stats_used says whether it was ever written: a counter above 0, a gauge set (also to 0), a
 * histogram with a value, a text set. Main thread. */
bool stats_used(struct stats_scope *s, uint32_t idx);

/* stats_text_get views a text readout; empty when never set. Main thread. */
struct str stats_text_get(struct stats_scope *s, uint32_t idx);

/* stats_flush closes the interval of all histograms: cumulative values become what has been
 * recorded by now, interval values what came since the flush before. Main thread, every
 * stats_flush_interval. */
void stats_flush(void);

/* stats_reset_counters makes every counter read 0 now (/reset_counters). The threads go on with
 * their numbers; what is read is the difference, so a counter that was used stays used. Main
 * thread. */
void stats_reset_counters(void);

/* stats_set_matcher sets the stats matcher: accept(arg, full name) false means that the stat is not
 * shown. Asked once a name. Before the first scope is printed. Main thread. NULL: all. */
typedef bool (*stats_accept_cb)(void *arg, struct str name);
void stats_set_matcher(stats_accept_cb accept, void *arg);

/* stats_matches asks the matcher about any name. Main thread. */
bool stats_matches(struct str name);
