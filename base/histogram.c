#include "base/histogram.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double histogram_quantile_list[HISTOGRAM_QUANTILES] = {0,    0.25, 0.5,   0.75,  0.9,
                                                             0.95, 0.99, 0.995, 0.999, 1};
const double histogram_default_bounds[HISTOGRAM_BUCKETS] = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};

static const uint64_t pow10_table[HISTOGRAM_DECADES] = {1u,
                                                        10u,
                                                        100u,
                                                        1000u,
                                                        10000u,
                                                        100000u,
                                                        1000000u,
                                                        10000000u,
                                                        100000000u,
                                                        1000000000u,
                                                        10000000000u,
                                                        100000000000u,
                                                        1000000000000u,
                                                        10000000000000u,
                                                        100000000000000u,
                                                        1000000000000000u,
                                                        10000000000000000u,
                                                        100000000000000000u,
                                                        1000000000000000000u,
                                                        10000000000000000000u};

struct histogram *histogram_new(void)
{
    return NEW(struct histogram);
}

void histogram_free(struct histogram **h)
{
    if (!*h)
        return;
    for (int d = 0; d < HISTOGRAM_DECADES; d++)
        mem_free(atomic_load_explicit(&(*h)->decades[d], memory_order_acquire));
    mem_free(*h);
    *h = NULL;
}

/* The power of ten of v > 0: 1233 / 4096 is a little more than log10(2). */
static unsigned decade_of(uint64_t v)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(v);
    unsigned d = bits * 1233 >> 12;
    return d < HISTOGRAM_DECADES && v >= pow10_table[d] ? d : d - 1;
}

static inline void bump(_Atomic(uint64_t) *v, uint64_t n)
{
    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void histogram_record(struct histogram *h, uint64_t value)
{
    if (value == 0) {
        bump(&h->zeros, 1);
    } else {
        unsigned d = decade_of(value);
        uint64_t two_digits = d == 0 ? value * 10 : value / pow10_table[d - 1];
        struct histogram_decade *dec = atomic_load_explicit(&h->decades[d], memory_order_relaxed);
        if (!dec) {
            dec = NEW(struct histogram_decade);
            atomic_store_explicit(&h->decades[d], dec, memory_order_release);
        }
        bump(&dec->bins[two_digits - 10], 1);
    }
    bump(&h->sum, value);
    bump(&h->count, 1);
}

/* The count is taken from the bins, so that bins and count agree although the writer goes on. */
void histogram_counts_add(struct histogram_counts *c, const struct histogram *h)
{
    uint64_t zeros = atomic_load_explicit(&h->zeros, memory_order_relaxed);
    c->sum += atomic_load_explicit(&h->sum, memory_order_relaxed);
    c->zeros += zeros;
    c->count += zeros;
    for (int d = 0; d < HISTOGRAM_DECADES; d++) {
        const struct histogram_decade *dec = atomic_load_explicit(&h->decades[d],
                                                                  memory_order_acquire);
        if (!dec)
            continue;
        if (!c->decades[d])
            c->decades[d] = mem_zalloc(HISTOGRAM_BINS * sizeof(uint64_t));
        for (int b = 0; b < HISTOGRAM_BINS; b++) {
            uint64_t n = atomic_load_explicit(&dec->bins[b], memory_order_relaxed);
            c->decades[d][b] += n;
            c->count += n;
        }
    }
}

void histogram_counts_copy(struct histogram_counts *to, const struct histogram_counts *from)
{
    *to = *from;
    for (int d = 0; d < HISTOGRAM_DECADES; d++) {
        if (!from->decades[d])
            continue;
        to->decades[d] = mem_alloc(HISTOGRAM_BINS * sizeof(uint64_t));
        memcpy(to->decades[d], from->decades[d], HISTOGRAM_BINS * sizeof(uint64_t));
    }
}

void histogram_counts_sub(struct histogram_counts *c, const struct histogram_counts *less)
{
    c->count -= less->count;
    c->sum -= less->sum;
    c->zeros -= less->zeros;
    for (int d = 0; d < HISTOGRAM_DECADES; d++) {
        if (!c->decades[d] || !less->decades[d])
            continue;
        for (int b = 0; b < HISTOGRAM_BINS; b++)
            c->decades[d][b] -= less->decades[d][b];
    }
}

void histogram_counts_cleanup(struct histogram_counts *c)
{
    for (int d = 0; d < HISTOGRAM_DECADES; d++)
        mem_free(c->decades[d]);
    *c = (struct histogram_counts){0};
}

bool histogram_next_bin(const struct histogram_counts *c, unsigned *it, double *left, double *width,
                        uint64_t *count)
{
    if (*it == 0) {
        *it = 1;
        if (c->zeros) {
            *left = *width = 0;
            *count = c->zeros;
            return true;
        }
    }
    while (*it <= HISTOGRAM_DECADES * HISTOGRAM_BINS) {
        unsigned d = (*it - 1) / HISTOGRAM_BINS, b = (*it - 1) % HISTOGRAM_BINS;
        if (!c->decades[d]) {
            *it += HISTOGRAM_BINS - b;
            continue;
        }
        ++*it;
        if (!c->decades[d][b])
            continue;
        /* Dividing gives 1.1 where multiplying by 0.1 gives 1.1000000000000001. */
        *left = d == 0 ? (double)(b + 10) / 10 : (double)(b + 10) * (double)pow10_table[d - 1];
        *width = d == 0 ? 0.1 : (double)pow10_table[d - 1];
        *count = c->decades[d][b];
        return true;
    }
    return false;
}

double histogram_quantile(const struct histogram_counts *c, double q)
{
    double left, width, rank = ceil((double)c->count * q), before = 0;
    uint64_t count;
    if (rank < 1)
        rank = 1;
    for (unsigned it = 0; histogram_next_bin(c, &it, &left, &width, &count);) {
        if (before + (double)count >= rank)
            return left + width * ((rank - before) / (double)(count + 1));
        before += (double)count;
    }
    return NAN;
}

uint64_t histogram_below(const struct histogram_counts *c, double bound)
{
    double left, width;
    uint64_t count, sum = 0;
    for (unsigned it = 0; histogram_next_bin(c, &it, &left, &width, &count) && left <= bound;)
        sum += count;
    return sum;
}

char *histogram_number(double v, char *buf)
{
    enum { LEN = 32 };
    if (isnan(v)) {
        memcpy(buf, "nan", 4);
        return buf;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(buf, LEN, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    /* %g changes to the exponent at 10^15 with 15 digits, Envoy at 10^16. */
    if (strchr(buf, 'e') && fabs(v) >= 1 && fabs(v) < 1e16)
        (void)snprintf(buf, LEN, "%.0f", v);
    return buf;
}
