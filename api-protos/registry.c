#include "api-protos/registry.h"

#include "api-protos/descriptors.h"
#include "api-protos/message.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <threads.h>

/* Generated descriptors by address, open addressing. */
struct slot {
    const ProtobufCMessageDescriptor *type;
    const struct official_message *official;
};

static struct {
    once_flag once;
    struct slot *slots;
    size_t num_slots;                          /* a power of two */
    const ProtobufCMessageDescriptor **listed; /* by index of the official message */
    bool *has_rules, *has_maps;                /* likewise */
    bool *honoured;                            /* by index of the official field */
    _Atomic bool *warned;                      /* likewise */
} registry = {.once = ONCE_FLAG_INIT};

static size_t slot_of(const ProtobufCMessageDescriptor *type)
{
    uint64_t h = (uint64_t)(uintptr_t)type * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(h >> 32) & (registry.num_slots - 1);
}

static void add_slot(const ProtobufCMessageDescriptor *type, const struct official_message *m)
{
    size_t i = slot_of(type);
    while (registry.slots[i].type)
        i = (i + 1) & (registry.num_slots - 1);
    registry.slots[i] = (struct slot){type, m};
}

static void add_listed(const ProtobufCMessageDescriptor *type)
{
    const struct official_message *m = official_find(str_of(type->name));
    if (!m) {
        fprintf(stderr, "%s is not in official_table.c: run `make protos-table`\n", type->name);
        abort();
    }
    add_slot(type, m);
    registry.listed[m - official_messages] = type;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const struct official_field *f = official_by_number(m, type->fields[i].id);
        if (!f || !str_eq(official_text(f->name), str_of(type->fields[i].name))) {
            fprintf(stderr, "%s.%s is not as in official_table.c\n", type->name,
                    type->fields[i].name);
            abort();
        }
        registry.honoured[f - official_fields] = true;
        /* the generated entries of a map are not in the list themselves */
        if (f->flags & OFFICIAL_MAP)
            add_listed(type->fields[i].descriptor);
    }
}

/* One round of the fixpoint over what messages hold; says whether anything changed. */
static bool spread_marks(void)
{
    bool changed = false;
    for (uint32_t i = 0; i < official_num_messages; i++) {
        const struct official_message *m = &official_messages[i];
        bool rules = registry.has_rules[i], maps = registry.has_maps[i];
        for (uint32_t k = 0; k < m->num_oneofs; k++)
            rules = rules || official_oneofs[m->first_oneof + k].required;
        for (uint32_t k = 0; k < m->num_fields; k++) {
            uint32_t index = m->first_field + k;
            const struct official_field *f = &official_fields[index];
            bool message = f->type == TYPE_MESSAGE;
            if (registry.honoured[index] &&
                (f->rules || (message && registry.has_rules[f->target])))
                rules = true;
            if ((f->flags & OFFICIAL_MAP) || (message && registry.has_maps[f->target]))
                maps = true;
        }
        maps = maps || m->kind == OFFICIAL_ANY;
        changed = changed || rules != registry.has_rules[i] || maps != registry.has_maps[i];
        registry.has_rules[i] = rules;
        registry.has_maps[i] = maps;
    }
    return changed;
}

static void build(void)
{
    registry.num_slots = 64;
    /* map entries take slots too; there are fewer of them than messages */
    while (registry.num_slots < 4 * pb_num_descriptors)
        registry.num_slots *= 2;
    registry.slots = mem_zalloc(registry.num_slots * sizeof(*registry.slots));
    registry.listed = mem_zalloc(official_num_messages * sizeof(*registry.listed));
    registry.has_rules = mem_zalloc(official_num_messages * sizeof(*registry.has_rules));
    registry.has_maps = mem_zalloc(official_num_messages * sizeof(*registry.has_maps));
    registry.honoured = mem_zalloc(official_num_fields * sizeof(*registry.honoured));
    registry.warned = mem_zalloc(official_num_fields * sizeof(*registry.warned));
    for (size_t i = 0; i < pb_num_descriptors; i++)
        add_listed(pb_descriptors[i]);
    while (spread_marks())
        ;
}

static void ready(void)
{
    call_once(&registry.once, build);
}

const struct official_message *registry_official(const ProtobufCMessageDescriptor *type)
{
    ready();
    for (size_t i = slot_of(type); registry.slots[i].type; i = (i + 1) & (registry.num_slots - 1)) {
        if (registry.slots[i].type == type)
            return registry.slots[i].official;
    }
    CHECK(!"a descriptor that is not generated from api-protos");
    return NULL;
}

const ProtobufCMessageDescriptor *registry_listed(const struct official_message *m)
{
    ready();
    return registry.listed[m - official_messages];
}

bool registry_honoured(const struct official_field *f)
{
    ready();
    return registry.honoured[f - official_fields];
}

bool registry_has_rules(const struct official_message *m)
{
    ready();
    return registry.has_rules[m - official_messages];
}

bool registry_has_maps(const struct official_message *m)
{
    ready();
    return registry.has_maps[m - official_messages];
}

bool registry_first_warning(const struct official_field *f)
{
    ready();
    return !atomic_exchange_explicit(&registry.warned[f - official_fields], true,
                                     memory_order_relaxed);
}

struct str registry_strip(struct str type_url)
{
    for (size_t i = type_url.len; i > 0; i--) {
        if (type_url.p[i - 1] == '/')
            return str_n(type_url.p + i, type_url.len - i);
    }
    return type_url;
}

const ProtobufCMessageDescriptor *pb_find(struct str name_or_url)
{
    const struct official_message *m = official_find(registry_strip(name_or_url));
    return m && m->kind != OFFICIAL_MAP_ENTRY ? registry_listed(m) : NULL;
}

bool pb_is_official(struct str name_or_url)
{
    const struct official_message *m = official_find(registry_strip(name_or_url));
    return m && m->kind != OFFICIAL_MAP_ENTRY;
}
