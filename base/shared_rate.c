#include "base/shared_rate.h"

#define SECOND_NS UINT64_C(1000000000)

void shared_rate_init(struct shared_rate *r, uint64_t per_s)
{
    r->per_s = per_s < 1 ? 1 : per_s > SHARED_RATE_MAX ? SHARED_RATE_MAX : per_s;
    atomic_init(&r->empty_ns, 0);
}

void shared_rate_start(struct shared_rate *r, uint64_t first_ms, uint64_t now_us)
{
    uint64_t never = 0, now_ns = now_us * 1000, first_ns = first_ms * 1000000;
    uint64_t at = now_ns > first_ns ? now_ns - first_ns : 1;
    (void)atomic_compare_exchange_strong_explicit(&r->empty_ns, &never, at, memory_order_relaxed,
                                                  memory_order_relaxed);
}

uint64_t shared_rate_take(struct shared_rate *r, uint64_t n, uint64_t now_us)
{
    uint64_t now = now_us * 1000, old = atomic_load_explicit(&r->empty_ns, memory_order_relaxed);
    for (;;) {
        uint64_t from = now > SECOND_NS && old < now - SECOND_NS ? now - SECOND_NS : old;
        if (now <= from) /* another thread's clock is ahead */
            return 0;
        uint64_t there = (now - from) * r->per_s / SECOND_NS, got = there < n ? there : n;
        if (got == 0)
            return 0;
        uint64_t to = from + got * SECOND_NS / r->per_s;
        if (atomic_compare_exchange_weak_explicit(&r->empty_ns, &old, to, memory_order_relaxed,
                                                  memory_order_relaxed))
            return got;
    }
}
