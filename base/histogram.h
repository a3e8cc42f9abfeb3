/* Log-linear histograms, as Envoy's: two significant decimal digits, so 90 bins for each power of
 * ten, and one for zero. A live histogram has one writing thread and any readers; counts are a
 * reader's own copy. Memory comes a decade at a time: one that sees times of 1 to 999 ms holds
 * three. */
#pragma once

#include "base/alloc.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    HISTOGRAM_BINS = 90,    /* 1.0, 1.1 .. 9.9 times the power of ten */
    HISTOGRAM_DECADES = 20, /* 10^0 .. 10^19 hold every uint64_t */
    HISTOGRAM_QUANTILES = 10,
    HISTOGRAM_BUCKETS = 19, /* Envoy's default bounds */
};

/* 0 .25 .5 .75 .9 .95 .99 .995 .999 1 */
extern const double histogram_quantile_list[HISTOGRAM_QUANTILES];
extern const double histogram_default_bounds[HISTOGRAM_BUCKETS];

struct histogram_decade {
    _Atomic(uint64_t) bins[HISTOGRAM_BINS];
};

struct histogram {
    _Atomic(uint64_t) count, sum, zeros;
    _Atomic(struct histogram_decade *) decades[HISTOGRAM_DECADES];
};

struct histogram_counts {
    uint64_t count, sum, zeros;
    uint64_t *decades[HISTOGRAM_DECADES]; /* HISTOGRAM_BINS each, NULL: all 0 */
};

/* histogram_new makes an empty live one; histogram_free frees it and sets *h to NULL. */
struct histogram *histogram_new(void);
void histogram_free(struct histogram **h);

/* histogram_record puts one value in. Its one writing thread. */
void histogram_record(struct histogram *h, uint64_t value);

/* histogram_counts_add adds what the live histogram has so far to c. Any thread. */
void histogram_counts_add(struct histogram_counts *c, const struct histogram *h);

/* histogram_counts_copy makes the empty `to` equal to `from`. */
void histogram_counts_copy(struct histogram_counts *to, const struct histogram_counts *from);

/* histogram_counts_sub takes `less` off c, bin by bin. `less` must be an earlier state of c. */
void histogram_counts_sub(struct histogram_counts *c, const struct histogram_counts *less);

/* histogram_counts_cleanup frees the bins; c is then empty. */
void histogram_counts_cleanup(struct histogram_counts *c);

/* histogram_quantile: the value at rank q (0..1) by nearest rank, the values of one bin taken as
 * spread evenly in it. NaN when there are none. */
double histogram_quantile(const struct histogram_counts *c, double q);

/* histogram_below counts the values in bins that begin at or below `bound`, as Envoy's buckets do.
 */
uint64_t histogram_below(const struct histogram_counts *c, double bound);

/* histogram_next_bin steps through the bins that are not empty, from the smallest: *it starts at 0;
 * false at the end. */
bool histogram_next_bin(const struct histogram_counts *c, unsigned *it, double *left, double *width,
                        uint64_t *count);

/* histogram_number writes v as Envoy prints it, the shortest text that reads back the same ("1.05",
 * "nan", "1e+16"), and a NUL to buf of 32 bytes. Returns buf. */
char *histogram_number(double v, char *buf);
