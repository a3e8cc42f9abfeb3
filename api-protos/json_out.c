#include "api-protos/mapping.h"

#include "api-protos/registry.h"
#include "api-protos/scalar_text.h"
#include "api-protos/wire.h"
#include <stdio.h>
#include <stdlib.h>

struct printer {
    struct json_writer *out;
    struct arena arena; /* text of the values being written */
    unsigned flags;
    const struct official_message *typed; /* what the Struct being written stands for, or NULL */
};

/* A field as it stands in the bytes, with its place among the others. */
struct item {
    const struct official_field *field;
    struct wire_field wire;
    size_t order;
};

struct items {
    struct item *list;
    size_t len, cap;
};

static bool print_message(struct printer *p, const struct official_message *m, struct str bytes,
                          bool sensitive, unsigned depth);
static bool print_members(struct printer *p, const struct official_message *m, struct str bytes,
                          bool sensitive, unsigned depth);

static int item_cmp(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->field != y->field)
        return x->field->number < y->field->number ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* All fields the official API knows, sorted by number; false if the bytes are malformed. */
static bool collect(const struct official_message *m, struct str bytes, struct items *items)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    enum wire_result r;
    wire_init(&w, bytes);
    while ((r = wire_next(&w, &f, &why)) == WIRE_FIELD) {
        const struct official_field *of = official_by_number(m, f.number);
        if (f.type == WIRE_GROUP_START || f.type == WIRE_GROUP_END)
            return false;
        if (!of)
            continue;
        items->list = mem_grow_array(items->list, &items->cap, items->len + 1,
                                     sizeof(*items->list));
        items->list[items->len] = (struct item){of, f, items->len};
        items->len++;
    }
    if (items->len > 1)
        qsort(items->list, items->len, sizeof(*items->list), item_cmp);
    return r == WIRE_END;
}

/* Of the members of a oneof the one set last stands. */
static bool overruled(const struct items *items, const struct item *it)
{
    for (size_t i = 0; it->field->oneof && i < items->len; i++) {
        const struct item *other = &items->list[i];
        if (other->field != it->field && other->field->oneof == it->field->oneof &&
            other->order > it->order)
            return true;
    }
    return false;
}

/* Reads the fields 1 to n of a small message. */
static bool read_fields(struct str bytes, struct wire_field *out, uint32_t n)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    enum wire_result r;
    memset(out, 0, n * sizeof(*out));
    wire_init(&w, bytes);
    while ((r = wire_next(&w, &f, &why)) == WIRE_FIELD) {
        if (f.number <= n)
            out[f.number - 1] = f;
    }
    return r == WIRE_END;
}

/* --- scalars ------------------------------------------------------------------------------- */

static struct str quoted(struct printer *p, const char *fmt, long long v)
{
    return arena_printf(&p->arena, fmt, v);
}

static void print_floating(struct printer *p, const struct official_field *f, uint64_t bits)
{
    double d;
    float s;
    uint32_t low = (uint32_t)bits;
    memcpy(&d, &bits, sizeof(d));
    memcpy(&s, &low, sizeof(s));
    if (f->type == TYPE_FLOAT)
        json_put_float(p->out, s);
    else
        json_put_double(p->out, d);
}

static void print_enum(struct printer *p, const struct official_field *f, int32_t number)
{
    struct str name = official_enum_name(f, number);
    if (str_eq(name, STR("NULL_VALUE")))
        json_put_null(p->out);
    else if (name.p)
        json_put_str(p->out, name);
    else
        json_put_i64(p->out, number);
}

static void print_number(struct printer *p, const struct official_field *f, uint64_t v)
{
    int64_t zigzag = (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
    switch ((enum official_type)f->type) {
    case TYPE_DOUBLE:
    case TYPE_FLOAT:
        print_floating(p, f, v);
        return;
    case TYPE_INT64:
    case TYPE_SFIXED64:
        json_put_str(p->out, quoted(p, "%lld", (long long)v));
        return;
    case TYPE_SINT64:
        json_put_str(p->out, quoted(p, "%lld", zigzag));
        return;
    case TYPE_UINT64:
    case TYPE_FIXED64:
        json_put_str(p->out, quoted(p, "%llu", (long long)v));
        return;
    case TYPE_INT32:
    case TYPE_SFIXED32:
        json_put_i64(p->out, (int32_t)v);
        return;
    case TYPE_SINT32:
        json_put_i64(p->out, (int32_t)zigzag);
        return;
    case TYPE_UINT32:
    case TYPE_FIXED32:
        json_put_u64(p->out, (uint32_t)v);
        return;
    case TYPE_BOOL:
        json_put_bool(p->out, v != 0);
        return;
    case TYPE_ENUM:
        print_enum(p, f, (int32_t)v);
        return;
    case TYPE_STRING:
    case TYPE_BYTES:
    case TYPE_MESSAGE:
    case TYPE_GROUP:
        return;
    }
}

static bool print_value(struct printer *p, const struct official_field *f,
                        const struct wire_field *w, bool sensitive, unsigned depth)
{
    bool is_len = f->type == TYPE_STRING || f->type == TYPE_BYTES || f->type == TYPE_MESSAGE;
    if (is_len != (w->type == WIRE_LEN))
        return false;
    if (f->type == TYPE_MESSAGE)
        return print_message(p, official_target(f), w->bytes, sensitive, depth + 1);
    struct str text = sensitive ? STR("[redacted]") : w->bytes;
    if (f->type == TYPE_STRING)
        json_put_str(p->out, text);
    else if (f->type == TYPE_BYTES)
        json_put_str(p->out, scalar_base64_text(text, &p->arena));
    else
        print_number(p, f, w->value);
    return true;
}

static bool print_packed(struct printer *p, const struct official_field *f, struct str bytes)
{
    struct wire w;
    struct wire_field one = {0};
    size_t width = f->type == TYPE_DOUBLE || f->type == TYPE_FIXED64 || f->type == TYPE_SFIXED64 ? 8
                   : f->type == TYPE_FLOAT || f->type == TYPE_FIXED32 || f->type == TYPE_SFIXED32
                       ? 4
                       : 0;
    wire_init(&w, bytes);
    while (w.p < w.end) {
        if (width == 0) {
            if (!wire_varint(&w, &one.value))
                return false;
        } else {
            if ((size_t)(w.end - w.p) < width)
                return false;
            one.value = 0;
            for (size_t i = 0; i < width; i++)
                one.value |= (uint64_t)w.p[i] << (8 * i);
            w.p += width;
        }
        print_number(p, f, one.value);
    }
    return true;
}

/* --- fields ---------------------------------------------------------------------------------- */

/* A number that must not be shown is left out, as Envoy does. */
static bool left_out(const struct official_field *f, bool sensitive)
{
    return sensitive && f->type != TYPE_STRING && f->type != TYPE_BYTES && f->type != TYPE_MESSAGE;
}

/* Inside the Struct of a TypedStruct: takes the step to the member `name` of what the Struct stands
 * for and says whether that is sensitive. */
static bool enter_typed(struct printer *p, struct str name)
{
    if (!p->typed)
        return false;
    if (p->typed->kind == OFFICIAL_MAP_ENTRY) {
        p->typed = official_target(&official_fields[p->typed->first_field + 1]);
        return false;
    }
    const struct official_field *f = official_by_name(p->typed, name);
    p->typed = f ? official_target(f) : NULL;
    return f && (f->flags & OFFICIAL_SENSITIVE);
}

static bool print_map_entry(struct printer *p, const struct official_message *entry,
                            struct str bytes, bool sensitive, unsigned depth)
{
    const struct official_field *key = &official_fields[entry->first_field], *value = key + 1;
    struct wire_field k = {.type = WIRE_LEN}, v = {0}, f;
    struct wire w;
    const char *why;
    enum wire_result r;
    char number[24];
    bool have_value = false;
    wire_init(&w, bytes);
    while ((r = wire_next(&w, &f, &why)) == WIRE_FIELD) {
        if (f.number == 1)
            k = f;
        else if (f.number == 2) {
            v = f;
            have_value = true;
        }
    }
    if (r == WIRE_BAD)
        return false;
    struct str name = k.bytes;
    if (key->type != TYPE_STRING) {
        bool is_unsigned = key->type == TYPE_UINT32 || key->type == TYPE_UINT64;
        int n = snprintf(number, sizeof(number), is_unsigned ? "%llu" : "%lld", (long long)k.value);
        name = key->type == TYPE_BOOL ? (k.value ? STR("true") : STR("false"))
                                      : str_n(number, (size_t)n);
    }
    if (!have_value) {
        bool is_len = value->type == TYPE_STRING || value->type == TYPE_BYTES ||
                      value->type == TYPE_MESSAGE;
        v.type = is_len ? WIRE_LEN : WIRE_VARINT;
    }
    json_key(p->out, name);
    const struct official_message *typed = p->typed;
    bool ok = print_value(p, value, &v, enter_typed(p, name) || sensitive, depth);
    p->typed = typed;
    return ok;
}

static bool print_map(struct printer *p, const struct items *items, size_t first, size_t end,
                      bool sensitive, unsigned depth)
{
    const struct official_message *entry = official_target(items->list[first].field);
    json_open(p->out, '{');
    for (size_t i = first; i < end; i++) {
        if (!print_map_entry(p, entry, items->list[i].wire.bytes, sensitive, depth))
            return false;
    }
    json_close(p->out, '}');
    return true;
}

static bool print_repeated(struct printer *p, const struct items *items, size_t first, size_t end,
                           bool sensitive, unsigned depth)
{
    const struct official_field *f = items->list[first].field;
    bool is_len = f->type == TYPE_STRING || f->type == TYPE_BYTES || f->type == TYPE_MESSAGE;
    json_open(p->out, '[');
    for (size_t i = first; i < end; i++) {
        const struct wire_field *w = &items->list[i].wire;
        bool packed = w->type == WIRE_LEN && !is_len;
        if (packed ? !print_packed(p, f, w->bytes) : !print_value(p, f, w, sensitive, depth))
            return false;
    }
    json_close(p->out, ']');
    return true;
}

/* A message that is there more than once is one message of all their bytes. */
static struct wire_field merged(struct printer *p, const struct items *items, size_t first,
                                size_t end)
{
    struct wire_field w = items->list[end - 1].wire;
    if (items->list[first].field->type != TYPE_MESSAGE || end - first == 1)
        return w;
    size_t total = 0, at = 0;
    for (size_t i = first; i < end; i++)
        total += items->list[i].wire.bytes.len;
    char *all = arena_bytes(&p->arena, total + 1);
    for (size_t i = first; i < end; i++) {
        struct str b = items->list[i].wire.bytes;
        if (b.len)
            memcpy(all + at, b.p, b.len);
        at += b.len;
    }
    w.bytes = str_n(all, total);
    return w;
}

/* The items of one field, from `first` to before `end`. */
static bool print_group(struct printer *p, const struct items *items, size_t first, size_t end,
                        bool sensitive, unsigned depth)
{
    const struct official_field *f = items->list[first].field;
    sensitive = sensitive || ((p->flags & PB_JSON_REDACT) && (f->flags & OFFICIAL_SENSITIVE));
    if (overruled(items, &items->list[end - 1]) || left_out(f, sensitive))
        return true;
    json_key(p->out, official_text(f->name));
    if (f->flags & OFFICIAL_MAP)
        return print_map(p, items, first, end, sensitive, depth);
    if (f->flags & OFFICIAL_REPEATED)
        return print_repeated(p, items, first, end, sensitive, depth);
    struct wire_field w = merged(p, items, first, end);
    return print_value(p, f, &w, sensitive, depth);
}

static void print_default(struct printer *p, const struct official_field *f)
{
    static const struct wire_field zero;
    if (f->flags & (OFFICIAL_MAP | OFFICIAL_REPEATED)) {
        bool map = f->flags & OFFICIAL_MAP;
        json_key(p->out, official_text(f->name));
        json_open(p->out, map ? '{' : '[');
        json_close(p->out, map ? '}' : ']');
    } else if (!(f->flags & OFFICIAL_PRESENCE)) {
        json_key(p->out, official_text(f->name));
        if (f->type == TYPE_STRING || f->type == TYPE_BYTES)
            json_put_str(p->out, STR(""));
        else
            print_number(p, f, zero.value);
    }
}

static size_t group_end(const struct items *items, size_t first)
{
    size_t end = first + 1;
    while (end < items->len && items->list[end].field == items->list[first].field)
        end++;
    return end;
}

static bool print_members(struct printer *p, const struct official_message *m, struct str bytes,
                          bool sensitive, unsigned depth)
{
    struct items items = {0};
    struct wire_field url;
    bool ok = collect(m, bytes, &items);
    size_t at = 0;
    const struct official_message *typed = p->typed;
    if ((p->flags & PB_JSON_REDACT) && m->kind == OFFICIAL_TYPED_STRUCT &&
        read_fields(bytes, &url, 1))
        p->typed = official_find(registry_strip(url.bytes));
    for (uint32_t i = 0; ok && i < m->num_fields; i++) {
        const struct official_field *f = &official_fields[m->first_field + i];
        if (at < items.len && items.list[at].field == f) {
            size_t end = group_end(&items, at);
            ok = print_group(p, &items, at, end, sensitive, depth);
            at = end;
        } else if (p->flags & PB_JSON_DEFAULTS) {
            print_default(p, f);
        }
    }
    p->typed = typed;
    mem_free(items.list);
    return ok;
}

/* --- well-known types ------------------------------------------------------------------------ */

static bool print_time(struct printer *p, const struct official_message *m, struct str bytes)
{
    struct wire_field f[2];
    if (!read_fields(bytes, f, 2))
        return false;
    int64_t seconds = (int64_t)f[0].value;
    int32_t nanos = (int32_t)f[1].value;
    struct str text = m->kind == OFFICIAL_DURATION
                          ? scalar_duration_text(seconds, nanos, &p->arena)
                          : scalar_timestamp_text(seconds, nanos, &p->arena);
    /* what is out of range is shown rather than failing the whole dump */
    json_put_str(p->out, text.p ? text
                                : arena_printf(&p->arena, "invalid: %lld s %d ns",
                                               (long long)seconds, (int)nanos));
    return true;
}

static bool print_wrapper(struct printer *p, const struct official_message *m, struct str bytes,
                          bool sensitive, unsigned depth)
{
    const struct official_field *f = &official_fields[m->first_field];
    struct wire_field v[2];
    bool is_len = f->type == TYPE_STRING || f->type == TYPE_BYTES;
    if (!read_fields(bytes, v, 2))
        return false;
    if (!v[0].number)
        v[0].type = is_len ? WIRE_LEN : WIRE_VARINT;
    if (left_out(f, sensitive)) {
        json_put_null(p->out);
        return true;
    }
    return print_value(p, f, &v[0], sensitive, depth);
}

static bool print_field_mask(struct printer *p, struct str bytes)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    enum wire_result r;
    struct str all = STR("");
    wire_init(&w, bytes);
    while ((r = wire_next(&w, &f, &why)) == WIRE_FIELD) {
        if (f.number != 1 || f.type != WIRE_LEN)
            continue;
        struct str path = scalar_camel(f.bytes, &p->arena);
        all = arena_printf(&p->arena, "%.*s%s%.*s", STR_ARG(all), all.len ? "," : "",
                           STR_ARG(path));
    }
    json_put_str(p->out, all);
    return r == WIRE_END;
}

/* The type that an Any written as a Struct names. */
static const struct official_message *typed_any(const struct items *items)
{
    for (size_t i = 0; i < items->len; i++) {
        struct wire_field entry[2], value[3];
        if (!read_fields(items->list[i].wire.bytes, entry, 2) ||
            !str_eq(entry[0].bytes, STR("@type")))
            continue;
        if (read_fields(entry[1].bytes, value, 3) && value[2].bytes.len)
            return official_find(registry_strip(value[2].bytes));
    }
    return NULL;
}

/* A Struct, Value or ListValue: their fields without names around them. */
static bool print_struct(struct printer *p, const struct official_message *m, struct str bytes,
                         bool sensitive, unsigned depth)
{
    struct items items = {0};
    bool ok = collect(m, bytes, &items);
    size_t last = 0;
    for (size_t i = 0; i < items.len; i++)
        last = items.list[i].order >= items.list[last].order ? i : last;
    const struct official_message *typed = p->typed;
    if (typed && typed->kind == OFFICIAL_ANY && m->kind == OFFICIAL_STRUCT)
        p->typed = typed_any(&items);
    if (ok && m->kind == OFFICIAL_VALUE) {
        struct wire_field w = items.len ? items.list[last].wire : (struct wire_field){0};
        if (items.len == 0 || left_out(items.list[last].field, sensitive))
            json_put_null(p->out);
        else
            ok = print_value(p, items.list[last].field, &w, sensitive, depth);
    } else if (ok && items.len) {
        ok = m->kind == OFFICIAL_STRUCT ? print_map(p, &items, 0, items.len, sensitive, depth)
                                        : print_repeated(p, &items, 0, items.len, sensitive, depth);
    } else if (ok) {
        json_open(p->out, m->kind == OFFICIAL_STRUCT ? '{' : '[');
        json_close(p->out, m->kind == OFFICIAL_STRUCT ? '}' : ']');
    }
    p->typed = typed;
    mem_free(items.list);
    return ok;
}

/* Takes back what was written since `before`; the text may have moved meanwhile. */
static void rewind_to(struct json_writer *w, struct json_writer before)
{
    before.p = w->p;
    before.cap = w->cap;
    *w = before;
}

static bool print_any_content(struct printer *p, struct str url, struct str value, bool sensitive,
                              unsigned depth)
{
    const struct official_message *m = official_find(registry_strip(url));
    if (!m || m->kind == OFFICIAL_MAP_ENTRY)
        return false;
    if (m->kind == OFFICIAL_NONE || m->kind == OFFICIAL_TYPED_STRUCT)
        return print_members(p, m, value, sensitive, depth);
    json_key(p->out, STR("value"));
    return print_message(p, m, value, sensitive, depth);
}

/* Content that is unknown or malformed is shown as bytes: it must not spoil a whole dump. */
static bool print_any(struct printer *p, struct str bytes, bool sensitive, unsigned depth)
{
    struct wire_field f[2];
    if (!read_fields(bytes, f, 2))
        return false;
    struct str value = f[1].bytes;
    json_open(p->out, '{');
    if (f[0].bytes.len) {
        json_key(p->out, STR("@type"));
        json_put_str(p->out, f[0].bytes);
    }
    struct json_writer before = *p->out;
    if (!print_any_content(p, f[0].bytes, value, sensitive, depth + 1)) {
        rewind_to(p->out, before);
        if (value.len) {
            value = p->flags & PB_JSON_REDACT ? STR("[redacted]") : value;
            json_key(p->out, STR("value"));
            json_put_str(p->out, scalar_base64_text(value, &p->arena));
        }
    }
    json_close(p->out, '}');
    return true;
}

static bool print_message(struct printer *p, const struct official_message *m, struct str bytes,
                          bool sensitive, unsigned depth)
{
    if (depth > PB_DEPTH_MAX)
        return false;
    switch ((enum official_kind)m->kind) {
    case OFFICIAL_ANY:
        return print_any(p, bytes, sensitive, depth);
    case OFFICIAL_DURATION:
    case OFFICIAL_TIMESTAMP:
        return print_time(p, m, bytes);
    case OFFICIAL_STRUCT:
    case OFFICIAL_VALUE:
    case OFFICIAL_LIST:
        return print_struct(p, m, bytes, sensitive, depth);
    case OFFICIAL_FIELD_MASK:
        return print_field_mask(p, bytes);
    case OFFICIAL_WRAPPER:
        return print_wrapper(p, m, bytes, sensitive, depth);
    case OFFICIAL_NONE:
    case OFFICIAL_MAP_ENTRY:
    case OFFICIAL_TYPED_STRUCT:
        break;
    }
    json_open(p->out, '{');
    if (!print_members(p, m, bytes, sensitive, depth))
        return false;
    json_close(p->out, '}');
    return true;
}

bool pb_to_json(const ProtobufCMessageDescriptor *type, struct str bytes, unsigned flags,
                struct json_writer *out)
{
    struct printer p = {.out = out, .flags = flags};
    struct json_writer before = *out;
    arena_init(&p.arena, 4096);
    bool ok = print_message(&p, registry_official(type), bytes, false, 1);
    arena_cleanup(&p.arena);
    if (!ok)
        rewind_to(out, before);
    return ok;
}

struct str pb_message_to_json(const ProtobufCMessage *message, unsigned flags, struct arena *a)
{
    struct json_writer w;
    struct arena bytes;
    json_writer_init(&w, flags & PB_JSON_PRETTY);
    arena_init(&bytes, 0);
    struct str text = STR_NULL;
    if (pb_to_json(message->descriptor, pb_pack(message, &bytes), flags, &w))
        text = arena_str(a, json_writer_text(&w));
    json_writer_cleanup(&w);
    arena_cleanup(&bytes);
    return text;
}
