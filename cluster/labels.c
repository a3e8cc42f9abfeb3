#include "api-protos/message.h"
#include "api-protos/wire.h"
#include "base/alloc.h"
#include "cluster/load_assignment.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include <stdlib.h>

static int by_key(const void *a, const void *b)
{
    return str_cmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

struct labels *labels_of(const Google__Protobuf__Struct *s, struct arena *a)
{
    struct labels *l;
    if (!s || s->n_fields == 0)
        return NULL;
    l = arena_zalloc(a, sizeof(*l) + s->n_fields * sizeof(l->v[0]));
    for (size_t i = 0; i < s->n_fields; i++) {
        const Google__Protobuf__Struct__FieldsEntry *f = s->fields[i];
        struct str packed = f->value ? pb_pack(&f->value->base, a) : STR_NULL;
        l->v[l->num].key = arena_str(a, str_of(f->key));
        l->v[l->num].value = pb_canonical(&google__protobuf__value__descriptor, packed, a);
        l->num++;
    }
    labels_sort(l);
    return l;
}

bool labels_equal(const struct labels *a, const struct labels *b)
{
    if (!a || !b)
        return a == b;
    if (a->num != b->num)
        return false;
    for (uint32_t i = 0; i < a->num; i++) {
        if (!str_eq(a->v[i].key, b->v[i].key) || !str_eq(a->v[i].value, b->v[i].value))
            return false;
    }
    return true;
}

bool labels_match(const struct labels *want, const struct labels *have)
{
    uint32_t h = 0;
    for (uint32_t i = 0; want && i < want->num; i++) {
        while (have && h < have->num && str_cmp(have->v[h].key, want->v[i].key) < 0)
            h++;
        if (!have || h == have->num || !str_eq(have->v[h].key, want->v[i].key) ||
            !str_eq(have->v[h].value, want->v[i].value))
            return false;
    }
    return true;
}

void labels_sort(struct labels *l)
{
    qsort(l->v, l->num, sizeof(l->v[0]), by_key);
}

struct labels *labels_copy(const struct labels *l)
{
    size_t len = 0;
    struct labels *copy;
    char *at;
    if (!l)
        return NULL;
    for (uint32_t i = 0; i < l->num; i++)
        len += l->v[i].key.len + l->v[i].value.len;
    copy = mem_alloc(sizeof(*l) + l->num * sizeof(l->v[0]) + len);
    copy->num = l->num;
    at = (char *)&copy->v[l->num];
    for (uint32_t i = 0; i < l->num; i++) {
        const struct label *from = &l->v[i];
        copy->v[i].key = str_n(at, from->key.len);
        memcpy(at, from->key.p, from->key.len);
        at += from->key.len;
        copy->v[i].value = str_n(at, from->value.len);
        if (from->value.len)
            memcpy(at, from->value.p, from->value.len);
        at += from->value.len;
    }
    return copy;
}

struct str labels_get(const struct labels *l, struct str key)
{
    for (uint32_t i = 0; l && i < l->num; i++) {
        if (str_eq(l->v[i].key, key))
            return l->v[i].value;
    }
    return STR_NULL;
}

struct str labels_text(const struct labels *l, struct str key)
{
    enum { VALUE_STRING = 3 }; /* google.protobuf.Value.string_value */
    struct wire_field f;
    struct wire w;
    const char *why;
    wire_init(&w, labels_get(l, key));
    if (wire_next(&w, &f, &why) != WIRE_FIELD || f.number != VALUE_STRING || f.type != WIRE_LEN)
        return STR_NULL;
    return f.bytes;
}
