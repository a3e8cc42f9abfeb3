/* Hashes. hash_xxh64 is XXH64, the value Envoy uses for ring hash and Maglev; hash_bytes is for
 * tables in memory and is seeded per process, so that a peer cannot choose colliding keys. The only
 * user of libxxhash. Any thread. */
#pragma once

#include "base/str.h"

/* hash_xxh64 is XXH64 of the bytes: the same in every process, and the same as Envoy's. */
uint64_t hash_xxh64(const void *p, size_t len, uint64_t seed);

/* hash_bytes and hash_str: fast, with this process's random seed. Not for the wire or the disk. */
uint64_t hash_bytes(const void *p, size_t len);
static inline uint64_t hash_str(struct str s)
{
    return hash_bytes(s.p, s.len);
}

/* hash_mix spreads one word (bijective); hash_combine folds h into `seed`, order matters. */
static inline uint64_t hash_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}
static inline uint64_t hash_combine(uint64_t seed, uint64_t h)
{
    return hash_mix(seed + 0x9e3779b97f4a7c15u) ^ h * 0xff51afd7ed558ccdu;
}
