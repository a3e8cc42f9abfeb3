/* Random numbers: xoshiro256** per thread, seeded by getrandom(2) at its first use. Fast, not for
 * keys: secrets come from random_secure. */
#pragma once

#include "base/str.h"

enum { UUID_LEN = 36 };

/* random_u64 returns 64 random bits of this thread's generator. */
uint64_t random_u64(void);

/* random_below returns 0..n-1 without bias; n 0 gives 0. */
uint64_t random_below(uint64_t n);

/* random_seed_for_test makes this thread's sequence repeatable. */
void random_seed_for_test(uint64_t seed);

/* random_secure fills p from the kernel; aborts if the kernel has none. */
void random_secure(void *p, size_t len);

/* random_uuid writes a version 4 UUID (RFC 9562, lower case) of UUID_LEN bytes, no NUL. */
void random_uuid(char *out);
