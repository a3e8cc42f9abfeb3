/* Token bucket that several threads draw from, without a lock: its state is one moment, that at
 * which it was empty. It holds at most what comes in a second. Any thread; each brings its own
 * clock, in microseconds of one monotonic clock. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct shared_rate {
    uint64_t per_s; /* tokens a second, 1 to SHARED_RATE_MAX */
    _Atomic uint64_t empty_ns;
};

enum { SHARED_RATE_MAX_SHIFT = 33 };
#define SHARED_RATE_MAX (UINT64_C(1) << SHARED_RATE_MAX_SHIFT) /* times 10^9 fits in 64 bits */

/* shared_rate_init sets the rate. */
void shared_rate_init(struct shared_rate *r, uint64_t per_s);

/* shared_rate_start fills in what comes in first_ms, once, at the first call. */
void shared_rate_start(struct shared_rate *r, uint64_t first_ms, uint64_t now_us);

/* shared_rate_take takes up to n tokens and returns how many it got. */
uint64_t shared_rate_take(struct shared_rate *r, uint64_t n, uint64_t now_us);
