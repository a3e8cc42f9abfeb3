#include "proxy/observe/metadata.h"

#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include <stdio.h>

/* --- metadata --- */

static struct metadata_namespace *find(const struct metadata *m, struct str ns)
{
    for (struct metadata_namespace *n = m->first; n; n = n->next) {
        if (str_eq(n->name, ns))
            return n;
    }
    return NULL;
}

static struct metadata_namespace *find_or_add(struct metadata *m, struct arena *a, struct str ns)
{
    struct metadata_namespace *n = find(m, ns), **end = &m->first;
    if (n)
        return n;
    while (*end)
        end = &(*end)->next;
    n = ARENA_NEW(a, struct metadata_namespace);
    n->name = ns;
    n->object = ARENA_NEW(a, struct json);
    n->object->type = JSON_OBJECT;
    *end = n;
    return n;
}

const struct json *metadata_object(const struct metadata *m, struct str ns)
{
    const struct metadata_namespace *n = find(m, ns);
    return n ? n->object : NULL;
}

static struct json **member(struct json *object, struct str key)
{
    struct json **at = &object->first;
    while (*at && !str_eq((*at)->key, key))
        at = &(*at)->next;
    return at;
}

const struct json *metadata_path(const struct metadata *m, struct str ns, const struct str *keys,
                                 size_t num_keys)
{
    struct metadata_namespace *n = find(m, ns);
    struct json *at = n ? n->object : NULL;
    for (size_t i = 0; at && i < num_keys; i++)
        at = at->type == JSON_OBJECT ? *member(at, keys[i]) : NULL;
    return at;
}

static void put(struct json *object, struct str key, struct json *value)
{
    struct json **at = member(object, key);
    value->key = key;
    value->next = *at ? (*at)->next : NULL;
    if (!*at)
        object->count++;
    *at = value;
}

void metadata_set(struct metadata *m, struct arena *a, struct str ns, struct str key,
                  struct json *value)
{
    put(find_or_add(m, a, ns)->object, key, value);
}

static void append(struct json *list, struct json *element)
{
    struct json **end = &list->first;
    while (*end)
        end = &(*end)->next;
    *end = element;
    list->count++;
}

static void merge(struct json *to, struct arena *a, const struct json *from)
{
    for (const struct json *j = from->first; j; j = j->next) {
        struct json *had = *member(to, j->key);
        if (had && had->type == JSON_OBJECT && j->type == JSON_OBJECT) {
            merge(had, a, j);
        } else if (had && had->type == JSON_ARRAY && j->type == JSON_ARRAY) {
            for (const struct json *k = j->first; k; k = k->next)
                append(had, metadata_copy(a, k));
        } else {
            put(to, arena_str(a, j->key), metadata_copy(a, j));
        }
    }
}

void metadata_merge(struct metadata *m, struct arena *a, struct str ns, const struct json *object)
{
    merge(find_or_add(m, a, ns)->object, a, object);
}

/* --- values --- */

static struct json *value_of(struct arena *a, enum json_type type)
{
    struct json *j = ARENA_NEW(a, struct json);
    j->type = type;
    return j;
}

struct json *metadata_string(struct arena *a, struct str s)
{
    struct json *j = value_of(a, JSON_STRING);
    j->text = s;
    return j;
}

struct json *metadata_number(struct arena *a, double d)
{
    struct json *j = value_of(a, JSON_NUMBER);
    j->text = arena_printf(a, "%.17g", d);
    for (int digits = 1; digits < 17; digits++) { /* the shortest text that reads as the number */
        double back;
        struct str t = arena_printf(a, "%.*g", digits, d);
        struct json tried = {.type = JSON_NUMBER, .text = t};
        if (json_double(&tried, &back) && back == d) {
            j->text = t;
            break;
        }
    }
    return j;
}

struct json *metadata_bool(struct arena *a, bool b)
{
    struct json *j = value_of(a, JSON_BOOL);
    j->boolean = b;
    return j;
}

struct json *metadata_copy(struct arena *a, const struct json *from)
{
    struct json *j = value_of(a, from->type);
    j->key = arena_str(a, from->key);
    j->text = arena_str(a, from->text);
    j->boolean = from->boolean;
    j->line = from->line;
    for (const struct json *k = from->first; k; k = k->next)
        append(j, metadata_copy(a, k));
    return j;
}

/* --- messages --- */

struct json *metadata_from_value(struct arena *a, const Google__Protobuf__Value *v)
{
    switch (v ? v->kind_case : GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        return metadata_number(a, v->number_value);
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        return metadata_string(a, arena_str(a, str_of(v->string_value)));
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        return metadata_bool(a, v->bool_value);
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        return metadata_from_struct(a, v->struct_value);
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE: {
        struct json *list = value_of(a, JSON_ARRAY);
        for (size_t i = 0; i < v->list_value->n_values; i++)
            append(list, metadata_from_value(a, v->list_value->values[i]));
        return list;
    }
    default:
        return value_of(a, JSON_NULL);
    }
}

struct json *metadata_from_struct(struct arena *a, const Google__Protobuf__Struct *s)
{
    struct json *object = value_of(a, JSON_OBJECT);
    for (size_t i = 0; s && i < s->n_fields; i++)
        put(object, arena_str(a, str_of(s->fields[i]->key)),
            metadata_from_value(a, s->fields[i]->value));
    return object;
}

void metadata_from_message(struct metadata *m, struct arena *a,
                           const Envoy__Config__Core__V3__Metadata *msg)
{
    for (size_t i = 0; msg && i < msg->n_filter_metadata; i++) {
        const Envoy__Config__Core__V3__Metadata__FilterMetadataEntry *f = msg->filter_metadata[i];
        find_or_add(m, a, arena_str(a, str_of(f->key)))->object = metadata_from_struct(a, f->value);
    }
}

/* --- filter state --- */

void filter_state_set(struct filter_state *f, struct arena *a, struct str key, struct str value)
{
    struct filter_state_entry **at = &f->first;
    while (*at && !str_eq((*at)->key, key))
        at = &(*at)->next;
    if (!*at) {
        *at = ARENA_NEW(a, struct filter_state_entry);
        (*at)->key = key;
    }
    (*at)->value = value;
}

struct str filter_state_get(const struct filter_state *f, struct str key)
{
    for (const struct filter_state_entry *at = f->first; at; at = at->next) {
        if (str_eq(at->key, key))
            return at->value;
    }
    return STR_NULL;
}
