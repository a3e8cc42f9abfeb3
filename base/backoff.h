/* Back-off with full jitter, as Envoy's: the n-th wait is uniform in [0, min(base * 2^n, max)), n
 * from 0, and at least 1 ms. One user at a time. */
#pragma once

#include "base/random.h"

struct backoff {
    uint64_t base_ms, max_ms;
    uint64_t next_ms; /* upper bound of the next wait */
};

/* backoff_init starts at base_ms (at least 1), never above max_ms (at least base_ms). */
static inline void backoff_init(struct backoff *b, uint64_t base_ms, uint64_t max_ms)
{
    base_ms = base_ms ? base_ms : 1;
    *b = (struct backoff){base_ms, max_ms > base_ms ? max_ms : base_ms, base_ms};
}

/* backoff_reset starts over, after a success. */
static inline void backoff_reset(struct backoff *b)
{
    b->next_ms = b->base_ms;
}

/* backoff_next_ms returns how long to wait now and doubles the bound of the next wait. */
static inline uint64_t backoff_next_ms(struct backoff *b)
{
    uint64_t wait = random_below(b->next_ms);
    b->next_ms = b->next_ms > b->max_ms / 2 ? b->max_ms : b->next_ms * 2;
    return wait ? wait : 1;
}
