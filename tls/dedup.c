#include "tls/dedup.h"

#include "base/alloc.h"

static struct list *bucket_of(struct dedup *d, const struct dedup_key *key)
{
    struct list *b = &d->buckets[key->bytes[0] % DEDUP_BUCKETS];
    if (!b->next)
        list_init(b);
    return b;
}

struct dedup_entry *dedup_find(struct dedup *d, const struct dedup_key *key)
{
    LIST_FOREACH(it, bucket_of(d, key)) {
        struct dedup_entry *e = CONTAINER_OF(it, struct dedup_entry, link);
        if (memcmp(&e->key, key, sizeof(*key)) == 0)
            return e;
    }
    return NULL;
}

void dedup_add(struct dedup *d, struct dedup_entry *e, const struct dedup_key *key)
{
    e->key = *key;
    list_push_tail(bucket_of(d, key), &e->link);
    d->num++;
}

void dedup_remove(struct dedup *d, struct dedup_entry *e)
{
    CHECK(list_linked(&e->link));
    list_remove(&e->link);
    d->num--;
}

void dedup_hash_init(struct dedup_hash *h)
{
    SHA256_Init(&h->sha);
}

void dedup_hash_str(struct dedup_hash *h, struct str s)
{
    dedup_hash_u64(h, s.len);
    SHA256_Update(&h->sha, s.p, s.len);
}

void dedup_hash_u64(struct dedup_hash *h, uint64_t v)
{
    SHA256_Update(&h->sha, &v, sizeof(v));
}

void dedup_hash_key(struct dedup_hash *h, const struct dedup_key *key)
{
    SHA256_Update(&h->sha, key->bytes, sizeof(key->bytes));
}

void dedup_hash_final(struct dedup_hash *h, struct dedup_key *out)
{
    SHA256_Final(out->bytes, &h->sha);
}
