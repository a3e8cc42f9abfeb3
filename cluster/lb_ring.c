/* Ketama's ring: every host has points on it in proportion to its weight; a hash belongs to the
 * first point that is not below it. */
#include "base/alloc.h"
#include "base/hash.h"
#include "cluster/lb_table.h"
#include <math.h>
#include <stdio.h>

enum ring_phase { RING_HASHING, RING_PLACING, RING_SORTING, RING_DONE };

/* The points are sorted by dropping them into as many buckets as there are points; the buckets stay
 * for the lookups, which are then a few comparisons instead of a search over the whole ring. */
struct ring {
    struct lb_table table;
    uint64_t *hashes; /* sorted in the end */
    uint32_t *owners;
    uint32_t *starts; /* num_buckets + 1: where each bucket's points begin */
    uint32_t num_points, num_buckets;
    /* while it is built */
    enum ring_phase phase;
    struct lb_table_entry *entries;
    uint32_t num_entries;
    bool murmur;
    double scale, target;
    uint32_t at;       /* entry, point or bucket, by phase */
    uint32_t of_entry; /* points of the present entry */
    bool begun;        /* the present entry is in `target` */
    uint64_t *raw_hashes;
    uint32_t *raw_owners;
};

/* The least weight gets a whole number of points; the others what is in proportion. */
static double scale_of(const struct lb_table_config *config, const struct lb_table_entry *entries,
                       uint32_t num)
{
    double least = 1, scale, max = (double)config->max_size;
    for (uint32_t i = 0; i < num; i++)
        least = entries[i].weight < least ? entries[i].weight : least;
    scale = ceil(least * (double)config->min_size) / least;
    return scale < max ? scale : max;
}

static struct lb_table *ring_new(const struct lb_table_config *config,
                                 const struct lb_table_entry *entries, uint32_t num)
{
    struct ring *r = NEW(struct ring);
    uint32_t cap;
    if (num == 0) {
        r->phase = RING_DONE;
        return &r->table;
    }
    r->murmur = config->murmur;
    r->scale = scale_of(config, entries, num);
    r->num_entries = num;
    r->entries = mem_alloc(num * sizeof(*entries));
    memcpy(r->entries, entries, num * sizeof(*entries));
    r->num_buckets = (uint32_t)ceil(r->scale);
    cap = r->num_buckets + 1; /* one more by rounding */
    r->raw_hashes = mem_alloc(cap * sizeof(*r->raw_hashes));
    r->raw_owners = mem_alloc(cap * sizeof(*r->raw_owners));
    r->starts = mem_zalloc((r->num_buckets + 1) * sizeof(*r->starts));
    r->table.size.least = r->num_buckets;
    return &r->table;
}

static void drop_scratch(struct ring *r)
{
    mem_free(r->entries);
    mem_free(r->raw_hashes);
    mem_free(r->raw_owners);
    r->entries = NULL;
    r->raw_hashes = NULL;
    r->raw_owners = NULL;
}

static void ring_free(struct lb_table *t)
{
    struct ring *r = (struct ring *)t;
    drop_scratch(r);
    mem_free(r->hashes);
    mem_free(r->owners);
    mem_free(r->starts);
    mem_free(r);
}

/* In order: a greater hash is never in a lower bucket. */
static uint32_t bucket_of(const struct ring *r, uint64_t hash)
{
    return (uint32_t)((unsigned __int128)hash * r->num_buckets >> 64);
}

static void add_point(struct ring *r, struct str key, uint32_t n)
{
    char room[512], *text = room;
    uint64_t hash;
    size_t len;
    if (key.len + 12 > sizeof(room))
        text = mem_alloc(key.len + 12);
    memcpy(text, key.p, key.len);
    len = key.len + (size_t)snprintf(text + key.len, 12, "_%u", n);
    hash = r->murmur ? murmur_hash2(text, len) : hash_xxh64(text, len, 0);
    if (text != room)
        mem_free(text);
    r->raw_hashes[r->num_points] = hash;
    r->raw_owners[r->num_points++] = r->at;
    r->starts[bucket_of(r, hash)]++;
}

static void entry_done(struct ring *r)
{
    r->table.size.least = r->of_entry < r->table.size.least ? r->of_entry : r->table.size.least;
    r->table.size.most = r->of_entry > r->table.size.most ? r->of_entry : r->table.size.most;
    r->of_entry = 0;
    r->begun = false;
    r->at++;
}

/* Running sums over the hosts: what one gets too much by rounding, a later one gets less. */
static void hash_some(struct ring *r, uint64_t *budget)
{
    for (; r->at < r->num_entries; entry_done(r)) {
        const struct lb_table_entry *e = &r->entries[r->at];
        if (!r->begun)
            r->target += r->scale * e->weight;
        r->begun = true;
        while ((double)r->num_points < r->target && r->num_points <= r->num_buckets) {
            if (*budget == 0)
                return;
            --*budget;
            add_point(r, e->key, r->of_entry++);
        }
    }
    for (uint32_t i = 0, sum = 0; i <= r->num_buckets; i++) {
        uint32_t n = r->starts[i];
        sum += n;
        r->starts[i] = sum; /* where it ends: placing counts it down */
    }
    r->hashes = mem_alloc(r->num_points * sizeof(*r->hashes));
    r->owners = mem_alloc(r->num_points * sizeof(*r->owners));
    r->table.size.size = r->num_points;
    r->at = r->num_points;
    r->phase = RING_PLACING;
}

static void place_some(struct ring *r, uint64_t *budget)
{
    for (; r->at > 0; --*budget) {
        uint32_t to;
        if (*budget == 0)
            return;
        r->at--;
        to = --r->starts[bucket_of(r, r->raw_hashes[r->at])];
        r->hashes[to] = r->raw_hashes[r->at];
        r->owners[to] = r->raw_owners[r->at];
    }
    drop_scratch(r);
    r->phase = RING_SORTING;
}

static void sort_bucket(struct ring *r, uint32_t from, uint32_t to)
{
    for (uint32_t i = from + 1; i < to; i++) {
        uint64_t hash = r->hashes[i];
        uint32_t owner = r->owners[i], j = i;
        for (; j > from && r->hashes[j - 1] > hash; j--) {
            r->hashes[j] = r->hashes[j - 1];
            r->owners[j] = r->owners[j - 1];
        }
        r->hashes[j] = hash;
        r->owners[j] = owner;
    }
}

static void sort_some(struct ring *r, uint64_t *budget)
{
    for (; r->at < r->num_buckets; --*budget) {
        if (*budget == 0)
            return;
        sort_bucket(r, r->starts[r->at], r->starts[r->at + 1]);
        r->at++;
    }
    r->phase = RING_DONE;
}

static bool ring_step(struct lb_table *t, uint64_t *budget)
{
    struct ring *r = (struct ring *)t;
    if (r->phase == RING_HASHING)
        hash_some(r, budget);
    if (r->phase == RING_PLACING)
        place_some(r, budget);
    if (r->phase == RING_SORTING)
        sort_some(r, budget);
    return r->phase == RING_DONE;
}

static uint32_t ring_find(const struct lb_table *t, uint64_t hash, uint32_t attempt)
{
    const struct ring *r = (const struct ring *)t;
    uint32_t i = r->starts[bucket_of(r, hash)];
    while (i < r->num_points && r->hashes[i] < hash)
        i++;
    if (i == r->num_points)
        i = 0;
    if (attempt)
        i = (uint32_t)(((uint64_t)i + attempt) % r->num_points);
    return r->owners[i];
}

const struct lb_table_ops lb_ring = {
    .make = ring_new, .free = ring_free, .step = ring_step, .find = ring_find};

/* --- MurmurHash64A --- */

static uint64_t load(const unsigned char *p, size_t n) /* little-endian on every machine */
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint64_t murmur_hash2(const void *data, size_t len)
{
    const uint64_t m = 0xc6a4a7935bd1e995u;
    const unsigned char *p = data;
    uint64_t h = 0xc70f6907u ^ (len * m);
    size_t left = len;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t k = load(p, 8) * m;
        k = (k ^ k >> 47) * m;
        h = (h ^ k) * m;
    }
    if (left)
        h = (h ^ load(p, left)) * m;
    h = (h ^ h >> 47) * m;
    return h ^ h >> 47;
}
