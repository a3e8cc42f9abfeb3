/* Sharing of equal immutable objects: a weak table from the SHA-256 of what an object was made of
 * to the object. Thousands of clusters that use the same certificate, roots or parameters hold one.
 * Main thread only. */
#pragma once

#include "base/list.h"
#include "base/str.h"
#include <openssl/sha.h>
#include <stdint.h>

struct dedup_key {
    uint8_t bytes[SHA256_DIGEST_LENGTH];
};

struct dedup_entry { /* embedded in the object */
    struct list link;
    struct dedup_key key;
};

enum { DEDUP_BUCKETS = 256 };

struct dedup {
    struct list buckets[DEDUP_BUCKETS];
    size_t num;
};

/* dedup_find returns the entry of that key, or NULL. */
struct dedup_entry *dedup_find(struct dedup *d, const struct dedup_key *key);

/* dedup_add enters e under `key`, which must be new. */
void dedup_add(struct dedup *d, struct dedup_entry *e, const struct dedup_key *key);

/* dedup_remove takes e out. */
void dedup_remove(struct dedup *d, struct dedup_entry *e);

/* A key is hashed from fields, each preceded by its length so that no two lists of fields give the
 * same bytes. */
struct dedup_hash {
    SHA256_CTX sha;
};

/* dedup_hash_init starts a hash; dedup_hash_str, dedup_hash_u64 and dedup_hash_key add one field;
 * dedup_hash_final gives the key. */
void dedup_hash_init(struct dedup_hash *h);
void dedup_hash_str(struct dedup_hash *h, struct str s);
void dedup_hash_u64(struct dedup_hash *h, uint64_t v);
void dedup_hash_key(struct dedup_hash *h, const struct dedup_key *key);
void dedup_hash_final(struct dedup_hash *h, struct dedup_key *out);
