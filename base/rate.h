/* Token bucket. Time is passed in, in milliseconds that never go back. One user at a time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rate {
    uint64_t max, fill, interval_ms; /* `fill` tokens are added every interval, up to max */
    uint64_t tokens, last_ms;
};

/* rate_init makes a full bucket. interval_ms 0 counts as 1. */
static inline void rate_init(struct rate *r, uint64_t max, uint64_t fill, uint64_t interval_ms,
                             uint64_t now_ms)
{
    *r = (struct rate){max, fill, interval_ms ? interval_ms : 1, max, now_ms};
}

/* rate_refill adds what the whole intervals that passed bring. */
static inline void rate_refill(struct rate *r, uint64_t now_ms)
{
    if (now_ms <= r->last_ms)
        return;
    uint64_t n = (now_ms - r->last_ms) / r->interval_ms, add;
    r->last_ms += n * r->interval_ms;
    if (__builtin_mul_overflow(n, r->fill, &add) || add > r->max - r->tokens)
        r->tokens = r->max;
    else
        r->tokens += add;
}

/* rate_take takes n tokens if there are so many. */
static inline bool rate_take(struct rate *r, uint64_t n, uint64_t now_ms)
{
    rate_refill(r, now_ms);
    if (r->tokens < n)
        return false;
    r->tokens -= n;
    return true;
}

/* rate_wait_ms is how long until n tokens are there: 0 now, UINT64_MAX never. */
static inline uint64_t rate_wait_ms(struct rate *r, uint64_t n, uint64_t now_ms)
{
    rate_refill(r, now_ms);
    if (r->tokens >= n)
        return 0;
    if (n > r->max || r->fill == 0)
        return UINT64_MAX;
    uint64_t rounds = (n - r->tokens - 1) / r->fill + 1, due;
    if (__builtin_mul_overflow(rounds, r->interval_ms, &due) ||
        __builtin_add_overflow(due, r->last_ms, &due))
        return UINT64_MAX;
    return due > now_ms ? due - now_ms : 0;
}
