#include "api-protos/message.h"

#include "api-protos/registry.h"
#include "api-protos/wire.h"
#include <stdlib.h>

struct entry {
    struct str whole, key;
    uint64_t number_key;
    size_t order;
};

/* A run of neighbouring entries of one map. */
struct run {
    struct entry *entries;
    size_t len, cap;
    uint32_t number;
};

static int entry_cmp(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = str_cmp(x->key, y->key);
    if (c != 0)
        return c;
    if (x->number_key != y->number_key)
        return x->number_key < y->number_key ? -1 : 1;
    /* of equal keys the last one counts, so their order stays */
    return x->order < y->order ? -1 : x->order > y->order;
}

static void run_add(struct run *r, const struct wire_field *map_field)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    r->entries = mem_grow_array(r->entries, &r->cap, r->len + 1, sizeof(*r->entries));
    struct entry *e = &r->entries[r->len];
    *e = (struct entry){.whole = map_field->whole, .order = r->len};
    r->len++;
    r->number = map_field->number;
    wire_init(&w, map_field->bytes);
    while (wire_next(&w, &f, &why) == WIRE_FIELD) {
        if (f.number == 1) {
            e->key = f.bytes;
            e->number_key = f.value;
        }
    }
}

/* Writes the entries of a run back in order, over where they were. */
static void run_end(struct run *r)
{
    if (r->len > 1) {
        char *start = (char *)(uintptr_t)r->entries[0].whole.p;
        size_t total = 0;
        for (size_t i = 0; i < r->len; i++)
            total += r->entries[i].whole.len;
        qsort(r->entries, r->len, sizeof(*r->entries), entry_cmp);
        char *sorted = mem_alloc(total), *at = sorted;
        for (size_t i = 0; i < r->len; i++) {
            memcpy(at, r->entries[i].whole.p, r->entries[i].whole.len);
            at += r->entries[i].whole.len;
        }
        memcpy(start, sorted, total);
        mem_free(sorted);
    }
    r->len = 0;
}

static void sort_message(const struct official_message *m, struct str bytes, unsigned depth);

static void sort_any(struct str bytes, unsigned depth)
{
    const struct official_message *m = NULL;
    struct wire w;
    struct wire_field f;
    const char *why;
    struct str value = STR_NULL;
    wire_init(&w, bytes);
    while (wire_next(&w, &f, &why) == WIRE_FIELD) {
        if (f.number == 1 && f.type == WIRE_LEN)
            m = official_find(registry_strip(f.bytes));
        else if (f.number == 2 && f.type == WIRE_LEN)
            value = f.bytes;
    }
    if (m && value.len)
        sort_message(m, value, depth + 1);
}

/* Sorts in place: the bytes are our own copy. Stops where they do not parse. */
static void sort_message(const struct official_message *m, struct str bytes, unsigned depth)
{
    struct wire w;
    struct wire_field wf;
    const char *why;
    struct run run = {0};
    if (depth > PB_DEPTH_MAX || !registry_has_maps(m))
        return;
    if (m->kind == OFFICIAL_ANY) {
        sort_any(bytes, depth);
        return;
    }
    wire_init(&w, bytes);
    while (wire_next(&w, &wf, &why) == WIRE_FIELD) {
        const struct official_field *f = wf.type == WIRE_LEN ? official_by_number(m, wf.number)
                                                             : NULL;
        if (f && official_target(f))
            sort_message(official_target(f), wf.bytes, depth + 1);
        if (run.len && (!f || run.number != wf.number))
            run_end(&run);
        if (f && (f->flags & OFFICIAL_MAP))
            run_add(&run, &wf);
    }
    run_end(&run);
    mem_free(run.entries);
}

struct str pb_canonical(const ProtobufCMessageDescriptor *type, struct str bytes, struct arena *a)
{
    const struct official_message *m = registry_official(type);
    if (!registry_has_maps(m) || bytes.len == 0)
        return bytes;
    struct str copy = arena_str(a, bytes);
    sort_message(m, copy, 1);
    return copy;
}
