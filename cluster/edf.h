/* Weighted schedule, earliest deadline first: each entry is due again 1/weight after it was picked,
 * so that picks are in proportion to the weights and interleaved. O(log n) a pick, O(n) to build.
 * One user at a time. */
#pragma once

#include "base/alloc.h"
#include <stdint.h>

struct edf_entry {
    double deadline;
    uint64_t order; /* among equal deadlines the one filed first */
    uint32_t index;
};

struct edf {
    struct edf_entry *heap;
    uint32_t num;
    double now;
    uint64_t next_order;
};

typedef double (*edf_weight_fn)(const void *arg, uint32_t index); /* greater than 0 */

/* edf_build schedules entries 0 .. num-1. Each starts at a random point of its period, as if the
 * schedule had been running for a while, so that workers and rebuilt schedules do not all begin
 * with the same host. */
void edf_build(struct edf *e, uint32_t num, edf_weight_fn weight, const void *arg);

/* edf_cleanup frees the schedule; zeroed ones are fine. */
void edf_cleanup(struct edf *e);

/* edf_pick returns the index that is due, of a schedule that is not empty, and files it again with
 * the weight it has now. */
uint32_t edf_pick(struct edf *e, edf_weight_fn weight, const void *arg);
