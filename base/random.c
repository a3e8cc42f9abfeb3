#include "base/random.h"
#include "base/alloc.h"

#include <errno.h>
#include <sys/random.h>

static _Thread_local struct {
    uint64_t s[4];
    bool seeded;
} rng;

void random_secure(void *p, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = getrandom((char *)p + done, len - done, 0);
        CHECK(n > 0 || errno == EINTR);
        if (n > 0)
            done += (size_t)n;
    }
}

static inline uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t random_u64(void)
{
    if (UNLIKELY(!rng.seeded)) {
        /* An all-zero state would give zeros for ever. */
        do {
            random_secure(rng.s, sizeof(rng.s));
        } while (!(rng.s[0] | rng.s[1] | rng.s[2] | rng.s[3]));
        rng.seeded = true;
    }
    uint64_t result = rotl(rng.s[1] * 5, 7) * 9, t = rng.s[1] << 17;
    rng.s[2] ^= rng.s[0];
    rng.s[3] ^= rng.s[1];
    rng.s[1] ^= rng.s[2];
    rng.s[0] ^= rng.s[3];
    rng.s[2] ^= t;
    rng.s[3] = rotl(rng.s[3], 45);
    return result;
}

/* Multiply and reject the few values that would favour some results (Lemire). */
uint64_t random_below(uint64_t n)
{
    if (n == 0)
        return 0;
    unsigned __int128 m = (unsigned __int128)random_u64() * n;
    if ((uint64_t)m < n) {
        uint64_t floor = (0 - n) % n;
        while ((uint64_t)m < floor)
            m = (unsigned __int128)random_u64() * n;
    }
    return (uint64_t)(m >> 64);
}

void random_seed_for_test(uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        rng.s[i] = z ^ z >> 31;
    }
    rng.seeded = true;
}

void random_uuid(char *out)
{
    static const char hex[16] = "0123456789abcdef";
    uint64_t hi = (random_u64() & ~0xf000ull) | 0x4000;        /* version 4 */
    uint64_t lo = (random_u64() & ~(3ull << 62)) | 2ull << 62; /* variant 10 */
    for (int i = 0; i < 16; i++) {
        uint64_t word = i < 8 ? hi : lo;
        unsigned byte = (unsigned)(word >> (56 - (i & 7) * 8)) & 0xff;
        *out++ = hex[byte >> 4];
        *out++ = hex[byte & 15];
        if (i == 3 || i == 5 || i == 7 || i == 9)
            *out++ = '-';
    }
}
