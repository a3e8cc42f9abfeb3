#include "base/hash.h"
#include "base/random.h"

#include <pthread.h>
#include <xxhash.h>

static uint64_t process_seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
    random_secure(&process_seed, sizeof(process_seed));
}

uint64_t hash_xxh64(const void *p, size_t len, uint64_t seed)
{
    return XXH64(len ? p : "", len, seed);
}

uint64_t hash_bytes(const void *p, size_t len)
{
    (void)pthread_once(&seed_once, make_seed);
    return XXH3_64bits_withSeed(len ? p : "", len, process_seed);
}
