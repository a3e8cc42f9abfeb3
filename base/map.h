/* Map from strings to pointers: open addressing over a dense array of entries, which are iterated
 * in the order they were put. A value is never NULL. Not thread-safe. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"

struct map_entry {
    struct str key;
    void *value; /* NULL: removed */
    uint64_t hash;
};

struct map {
    struct map_entry *entries;
    uint32_t *index;    /* slot -> entry number + 2; 0 empty, 1 removed */
    size_t num;         /* live entries */
    size_t num_entries; /* used places of `entries`, removed ones included */
    size_t cap_entries;
    size_t num_slots;  /* a power of two, or 0 */
    size_t used_slots; /* not empty */
    bool own_keys;
};

/* map_init makes an empty map, which holds no memory. With own_keys it copies keys; else a key must
 * live as long as its entry. */
void map_init(struct map *m, bool own_keys);

/* map_cleanup frees the map, calling free_value (may be NULL) on each value. It is empty and usable
 * afterwards. */
void map_cleanup(struct map *m, void (*free_value)(void *));

/* map_get returns the value of `key`, or NULL. */
void *map_get(const struct map *m, struct str key);

/* map_put sets the value and returns the one it replaces, or NULL. A replaced value keeps its key
 * and its place in the order. */
void *map_put(struct map *m, struct str key, void *value);

/* map_remove takes the entry out and returns its value, or NULL. */
void *map_remove(struct map *m, struct str key);

/* map_next steps through the entries: *it starts at 0; false at the end. The current entry may be
 * removed; entries put meanwhile may or may not be seen (a put can move them: do not). */
bool map_next(const struct map *m, size_t *it, struct str *key, void **value);

/* map_count is the number of entries. */
static inline size_t map_count(const struct map *m)
{
    return m->num;
}
