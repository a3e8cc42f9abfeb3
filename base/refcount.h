/* Reference counts for objects that cross threads (configuration nodes, TLS contexts). */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct refcount {
    _Atomic uint32_t n;
};

/* refcount_init sets the count to one, the creator's. */
static inline void refcount_init(struct refcount *r)
{
    atomic_init(&r->n, 1);
}

/* refcount_inc adds a reference; the caller holds one already. Any thread. */
static inline void refcount_inc(struct refcount *r)
{
    atomic_fetch_add_explicit(&r->n, 1, memory_order_relaxed);
}

/* refcount_dec drops one and returns true to the one that dropped the last. Any thread. */
static inline bool refcount_dec(struct refcount *r)
{
    return atomic_fetch_sub_explicit(&r->n, 1, memory_order_acq_rel) == 1;
}
