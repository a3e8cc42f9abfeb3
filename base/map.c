#include "base/map.h"
#include "base/hash.h"

enum {
    SLOT_EMPTY = 0,
    SLOT_REMOVED = 1,
    SLOT_FIRST = 2, /* entry n is stored as n + SLOT_FIRST */
    MIN_SLOTS = 8,
};

void map_init(struct map *m, bool own_keys)
{
    *m = (struct map){.own_keys = own_keys};
}

static void free_key(struct map *m, struct map_entry *e)
{
    if (m->own_keys)
        mem_free((void *)(uintptr_t)e->key.p);
}

void map_cleanup(struct map *m, void (*free_value)(void *))
{
    for (size_t i = 0; i < m->num_entries; i++) {
        struct map_entry *e = &m->entries[i];
        if (!e->value)
            continue;
        if (free_value)
            free_value(e->value);
        free_key(m, e);
    }
    mem_free(m->entries);
    mem_free(m->index);
    map_init(m, m->own_keys);
}

/* Returns the slot of `key`, or SIZE_MAX. */
static size_t find_slot(const struct map *m, struct str key, uint64_t hash)
{
    if (m->num_slots == 0)
        return SIZE_MAX;
    size_t mask = m->num_slots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        uint32_t at = m->index[i];
        if (at == SLOT_EMPTY)
            return SIZE_MAX;
        if (at == SLOT_REMOVED)
            continue;
        const struct map_entry *e = &m->entries[at - SLOT_FIRST];
        if (e->hash == hash && str_eq(e->key, key))
            return i;
    }
}

void *map_get(const struct map *m, struct str key)
{
    if (m->num == 0)
        return NULL;
    size_t slot = find_slot(m, key, hash_str(key));
    return slot == SIZE_MAX ? NULL : m->entries[m->index[slot] - SLOT_FIRST].value;
}

static void index_entry(struct map *m, size_t n)
{
    size_t mask = m->num_slots - 1, i = m->entries[n].hash & mask;
    while (m->index[i] != SLOT_EMPTY)
        i = (i + 1) & mask;
    m->index[i] = (uint32_t)(n + SLOT_FIRST);
    m->used_slots++;
}

/* Closes the gaps that removals left and makes an index at most half full. */
static void rebuild(struct map *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->num_entries; i++) {
        if (m->entries[i].value)
            m->entries[n++] = m->entries[i];
    }
    m->num_entries = n;
    size_t slots = MIN_SLOTS;
    while (slots < (n + 1) * 2)
        slots *= 2;
    CHECK(n < UINT32_MAX / 4);
    if (slots != m->num_slots) {
        mem_free(m->index);
        m->index = mem_zalloc(slots * sizeof(*m->index));
        m->num_slots = slots;
    } else {
        memset(m->index, 0, slots * sizeof(*m->index));
    }
    m->used_slots = 0;
    for (size_t i = 0; i < n; i++)
        index_entry(m, i);
}

void *map_put(struct map *m, struct str key, void *value)
{
    CHECK(value != NULL);
    uint64_t hash = hash_str(key);
    size_t slot = find_slot(m, key, hash);
    if (slot != SIZE_MAX) {
        struct map_entry *e = &m->entries[m->index[slot] - SLOT_FIRST];
        void *old = e->value;
        e->value = value;
        return old;
    }
    /* At most 3/4 full, so that a search ends soon; also when entries pile up behind removals. */
    if ((m->used_slots + 1) * 4 > m->num_slots * 3)
        rebuild(m);
    m->entries = mem_grow_array(m->entries, &m->cap_entries, m->num_entries + 1,
                                sizeof(*m->entries));
    if (m->own_keys)
        key.p = mem_strndup(key.p, key.len);
    m->entries[m->num_entries] = (struct map_entry){key, value, hash};
    index_entry(m, m->num_entries++);
    m->num++;
    return NULL;
}

void *map_remove(struct map *m, struct str key)
{
    if (m->num == 0)
        return NULL;
    size_t slot = find_slot(m, key, hash_str(key));
    if (slot == SIZE_MAX)
        return NULL;
    struct map_entry *e = &m->entries[m->index[slot] - SLOT_FIRST];
    void *value = e->value;
    m->index[slot] = SLOT_REMOVED;
    free_key(m, e);
    e->value = NULL;
    e->key = STR_NULL;
    m->num--;
    return value;
}

bool map_next(const struct map *m, size_t *it, struct str *key, void **value)
{
    while (*it < m->num_entries) {
        const struct map_entry *e = &m->entries[(*it)++];
        if (!e->value)
            continue;
        if (key)
            *key = e->key;
        if (value)
            *value = e->value;
        return true;
    }
    return false;
}
