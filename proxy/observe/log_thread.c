#include "proxy/observe/log_thread.h"

#include "base/alloc.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { WORDS = LOG_THREADS_MAX / 64 };

static _Atomic(uint64_t) used[WORDS];
static _Atomic(unsigned) count;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local unsigned own; /* 1 + the number, 0: none yet */

/* Release: whoever takes the number sees all that this thread did under it. */
static void give_back(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg - 1;
    atomic_fetch_and_explicit(&used[i / 64], ~(1ULL << (i % 64)), memory_order_release);
}

static void make_key(void)
{
    CHECK(pthread_key_create(&key, give_back) == 0);
}

static void raise_count(unsigned to)
{
    unsigned n = atomic_load_explicit(&count, memory_order_relaxed);
    while (n < to && !atomic_compare_exchange_weak_explicit(&count, &n, to, memory_order_release,
                                                            memory_order_relaxed))
        continue;
}

static bool take_in(unsigned word, unsigned *out)
{
    uint64_t bits = atomic_load_explicit(&used[word], memory_order_relaxed);
    while (~bits) {
        unsigned bit = (unsigned)__builtin_ctzll(~bits);
        if (!atomic_compare_exchange_weak_explicit(&used[word], &bits, bits | 1ULL << bit,
                                                   memory_order_acquire, memory_order_relaxed))
            continue;
        *out = word * 64 + bit;
        return true;
    }
    return false;
}

static bool take(unsigned *out)
{
    pthread_once(&once, make_key);
    for (unsigned word = 0; word < WORDS; word++) {
        if (!take_in(word, out))
            continue;
        own = *out + 1;
        pthread_setspecific(key, (void *)(uintptr_t)own);
        raise_count(own);
        return true;
    }
    return false;
}

bool log_thread_index(unsigned *out)
{
    if (LIKELY(own)) {
        *out = own - 1;
        return true;
    }
    return take(out);
}

unsigned log_thread_count(void)
{
    return atomic_load_explicit(&count, memory_order_acquire);
}
