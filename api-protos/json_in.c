#include "api-protos/mapping.h"

#include "api-protos/encode.h"
#include "api-protos/registry.h"
#include "api-protos/scalar_text.h"
#include <math.h>

struct reader {
    struct encoder out;
    struct arena *arena;
    struct errors *e;
    const struct pb_opts *opts;
};

static void fail(struct reader *r, const struct json *j, const char *text)
{
    errors_add(r->e, NULL, "%s (line %u)", text, (unsigned)j->line);
}

static void read_message(struct reader *r, const struct official_message *m, const struct json *j,
                         unsigned depth);

/* --- scalars ------------------------------------------------------------------------------- */

static void read_integer(struct reader *r, const struct official_field *f, const struct json *j)
{
    bool is_signed = f->type != TYPE_UINT32 && f->type != TYPE_UINT64 && f->type != TYPE_FIXED32 &&
                     f->type != TYPE_FIXED64;
    bool wide = f->type == TYPE_INT64 || f->type == TYPE_UINT64 || f->type == TYPE_FIXED64 ||
                f->type == TYPE_SFIXED64 || f->type == TYPE_SINT64;
    int64_t i = 0;
    uint64_t u = 0;
    if (j->type != JSON_NUMBER && j->type != JSON_STRING) {
        fail(r, j, "a number is expected");
        return;
    }
    bool ok = is_signed ? scalar_i64(j->text, &i) : scalar_u64(j->text, &u);
    if (!wide)
        ok = ok && (is_signed ? i >= INT32_MIN && i <= INT32_MAX : u <= UINT32_MAX);
    if (!ok) {
        fail(r, j, "not a number, or one out of range");
        return;
    }
    encode_number(&r->out, f, is_signed ? (uint64_t)i : u);
}

static void read_floating(struct reader *r, const struct official_field *f, const struct json *j)
{
    double d;
    if ((j->type != JSON_NUMBER && j->type != JSON_STRING) ||
        !scalar_double(j->text, j->type == JSON_STRING, &d)) {
        fail(r, j, "a number is expected");
        return;
    }
    if (f->type == TYPE_FLOAT && isfinite(d) && !isfinite((float)d)) {
        fail(r, j, "not a number, or one out of range");
        return;
    }
    encode_floating(&r->out, f, d);
}

static bool is_null_value(const struct official_field *f)
{
    return f->type == TYPE_ENUM &&
           str_eq(official_text(official_enums[f->target].name), STR("google.protobuf.NullValue"));
}

static void read_enum(struct reader *r, const struct official_field *f, const struct json *j)
{
    int32_t number = 0;
    int64_t i;
    bool ok = j->type == JSON_NULL && is_null_value(f);
    if (j->type == JSON_STRING)
        ok = official_enum_number(f, j->text, &number);
    if (!ok && (j->type == JSON_NUMBER || j->type == JSON_STRING)) {
        ok = scalar_i64(j->text, &i) && i >= INT32_MIN && i <= INT32_MAX;
        number = ok ? (int32_t)i : 0;
    }
    if (!ok) {
        errors_add(r->e, NULL, "not a value of the enum: \"%.*s\" (line %u)",
                   (int)(j->text.len < 64 ? j->text.len : 64), j->text.p ? j->text.p : "",
                   (unsigned)j->line);
        return;
    }
    encode_number(&r->out, f, (uint64_t)(int64_t)number);
}

static void read_text(struct reader *r, const struct official_field *f, const struct json *j)
{
    struct str bytes = j->text;
    if (j->type != JSON_STRING) {
        fail(r, j, "a string is expected");
        return;
    }
    if (f->type == TYPE_BYTES && !scalar_base64(j->text, r->arena, &bytes)) {
        fail(r, j, "not base64");
        return;
    }
    encode_bytes(&r->out, f, bytes);
}

/* Quoted too, and as the words that Envoy's parser takes. */
static void read_bool(struct reader *r, const struct official_field *f, const struct json *j)
{
    static const struct {
        struct str word;
        bool value;
    } words[] = {{{"true", 4}, true}, {{"t", 1}, true},      {{"yes", 3}, true}, {{"y", 1}, true},
                 {{"1", 1}, true},    {{"false", 5}, false}, {{"f", 1}, false},  {{"no", 2}, false},
                 {{"n", 1}, false},   {{"0", 1}, false}};
    if (j->type == JSON_BOOL) {
        encode_number(&r->out, f, j->boolean);
        return;
    }
    for (size_t i = 0; j->type == JSON_STRING && i < ARRAY_LEN(words); i++) {
        if (str_ieq(j->text, words[i].word)) {
            encode_number(&r->out, f, words[i].value);
            return;
        }
    }
    fail(r, j, "true or false is expected");
}

static void read_scalar(struct reader *r, const struct official_field *f, const struct json *j)
{
    switch ((enum official_type)f->type) {
    case TYPE_STRING:
    case TYPE_BYTES:
        read_text(r, f, j);
        return;
    case TYPE_BOOL:
        read_bool(r, f, j);
        return;
    case TYPE_ENUM:
        read_enum(r, f, j);
        return;
    case TYPE_DOUBLE:
    case TYPE_FLOAT:
        read_floating(r, f, j);
        return;
    case TYPE_INT64:
    case TYPE_UINT64:
    case TYPE_INT32:
    case TYPE_FIXED64:
    case TYPE_FIXED32:
    case TYPE_UINT32:
    case TYPE_SFIXED32:
    case TYPE_SFIXED64:
    case TYPE_SINT32:
    case TYPE_SINT64:
        read_integer(r, f, j);
        return;
    case TYPE_MESSAGE:
    case TYPE_GROUP:
        return;
    }
}

/* --- well-known types ------------------------------------------------------------------------ */

static const struct official_field *nth_field(const struct official_message *m, uint32_t i)
{
    return &official_fields[m->first_field + i];
}

/* Duration and Timestamp have the same fields. */
static void read_time(struct reader *r, const struct official_message *m, const struct json *j)
{
    int64_t seconds;
    int32_t nanos;
    bool duration = m->kind == OFFICIAL_DURATION;
    if (j->type != JSON_STRING || !(duration ? scalar_duration(j->text, &seconds, &nanos)
                                             : scalar_timestamp(j->text, &seconds, &nanos))) {
        fail(r, j,
             duration ? "a duration is expected, such as \"1.5s\""
                      : "a time is expected, such as \"2026-01-31T12:00:00Z\"");
        return;
    }
    encode_number(&r->out, nth_field(m, 0), (uint64_t)seconds);
    encode_number(&r->out, nth_field(m, 1), (uint64_t)(int64_t)nanos);
}

static void read_field_mask(struct reader *r, const struct official_message *m,
                            const struct json *j)
{
    struct str rest = j->text, path;
    if (j->type != JSON_STRING) {
        fail(r, j, "a string of field names is expected");
        return;
    }
    while (rest.len > 0 && str_next(&rest, ',', &path)) {
        if (path.len > 0)
            encode_bytes(&r->out, nth_field(m, 0), scalar_snake(path, r->arena));
    }
}

static void read_value(struct reader *r, const struct official_message *m, const struct json *j,
                       unsigned depth)
{
    /* null 1, number 2, string 3, bool 4, struct 5, list 6 */
    static const uint8_t index[] = {[JSON_NULL] = 0,   [JSON_BOOL] = 3,  [JSON_NUMBER] = 1,
                                    [JSON_STRING] = 2, [JSON_ARRAY] = 5, [JSON_OBJECT] = 4};
    const struct official_field *f = nth_field(m, index[j->type]);
    double d;
    switch (j->type) {
    case JSON_NULL:
        encode_number(&r->out, f, 0);
        return;
    case JSON_NUMBER:
        if (!scalar_double(j->text, false, &d))
            fail(r, j, "not a number, or one out of range");
        else
            encode_floating(&r->out, f, d);
        return;
    case JSON_STRING:
        encode_bytes(&r->out, f, j->text);
        return;
    case JSON_BOOL:
        encode_number(&r->out, f, j->boolean);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT: {
        size_t mark = encode_open(&r->out, f);
        read_message(r, official_target(f), j, depth + 1);
        encode_close(&r->out, mark);
        return;
    }
    }
}

static void read_list(struct reader *r, const struct official_message *m, const struct json *j,
                      unsigned depth)
{
    size_t i = 0;
    if (j->type != JSON_ARRAY) {
        fail(r, j, "a list is expected");
        return;
    }
    for (const struct json *c = j->first; c; c = c->next) {
        size_t path = errors_push_index(r->e, NULL, i++);
        size_t mark = encode_open(&r->out, nth_field(m, 0));
        read_message(r, official_target(nth_field(m, 0)), c, depth + 1);
        encode_close(&r->out, mark);
        errors_pop(r->e, path);
    }
}

static void read_members(struct reader *r, const struct official_message *m, const struct json *j,
                         bool in_any, unsigned depth);

/* What an Any of type `m` holds; types with a JSON form of their own have it under "value". */
static void read_any_content(struct reader *r, const struct official_message *m,
                             const struct json *j, unsigned depth)
{
    if (m->kind == OFFICIAL_NONE || m->kind == OFFICIAL_TYPED_STRUCT) {
        read_members(r, m, j, true, depth);
        return;
    }
    const struct json *value = json_get(j, "value");
    if (!value)
        fail(r, j, "\"value\" is missing");
    else
        read_message(r, m, value, depth);
}

static void fail_type(struct reader *r, const struct json *j, const struct json *url)
{
    struct str name = json_str(url);
    if (!url)
        fail(r, j, "no \"@type\"");
    else
        errors_add(r->e, NULL, "unknown \"@type\" \"%.*s\" (line %u)",
                   (int)(name.len < 128 ? name.len : 128), name.len ? name.p : "",
                   (unsigned)j->line);
}

static void read_any(struct reader *r, const struct official_message *m, const struct json *j,
                     unsigned depth)
{
    const struct json *url = json_get(j, "@type");
    if (j->type != JSON_OBJECT) {
        fail(r, j, "an object with \"@type\" is expected");
        return;
    }
    if (j->count == 0)
        return;
    const struct official_message *inner = url ? official_find(registry_strip(json_str(url)))
                                               : NULL;
    if (!inner || inner->kind == OFFICIAL_MAP_ENTRY) {
        fail_type(r, j, url);
        return;
    }
    encode_bytes(&r->out, nth_field(m, 0), json_str(url));
    size_t mark = encode_open(&r->out, nth_field(m, 1));
    read_any_content(r, inner, j, depth + 1);
    encode_close(&r->out, mark);
}

/* --- fields ---------------------------------------------------------------------------------- */

static bool nullable(const struct official_field *f)
{
    const struct official_message *target = official_target(f);
    return (target && target->kind == OFFICIAL_VALUE) || is_null_value(f);
}

static void read_single(struct reader *r, const struct official_field *f, const struct json *j,
                        unsigned depth)
{
    const struct official_message *target = official_target(f);
    if (!target) {
        read_scalar(r, f, j);
        return;
    }
    size_t mark = encode_open(&r->out, f);
    read_message(r, target, j, depth + 1);
    encode_close(&r->out, mark);
}

static void read_repeated(struct reader *r, const struct official_field *f, const struct json *j,
                          unsigned depth)
{
    size_t i = 0;
    /* Envoy's parser takes a single element without its brackets; a list of lists stays one */
    const struct json alone = {.type = j->type,
                               .line = j->line,
                               .boolean = j->boolean,
                               .text = j->text,
                               .first = j->first,
                               .count = j->count};
    const struct json *first = j->type == JSON_ARRAY ? j->first : &alone;
    if (!first)
        return;
    bool packed = encode_begin_packed(&r->out, f);
    size_t mark = packed ? encode_open(&r->out, f) : 0;
    for (const struct json *c = first; c; c = c->next) {
        size_t path = errors_push_index(r->e, NULL, i++);
        if (c->type == JSON_NULL && !nullable(f))
            fail(r, c, "null in a list");
        else
            read_single(r, f, c, depth);
        errors_pop(r->e, path);
    }
    if (packed)
        encode_end_packed(&r->out, mark);
}

/* Keys of maps are strings in JSON whatever they are in the message. */
static void read_map_key(struct reader *r, const struct official_field *key,
                         const struct json *member)
{
    struct json text = {.type = JSON_STRING, .line = member->line, .text = member->key};
    read_scalar(r, key, &text);
}

static void read_map(struct reader *r, const struct official_field *f, const struct json *j,
                     unsigned depth)
{
    const struct official_message *entry = official_target(f);
    if (j->type != JSON_OBJECT) {
        fail(r, j, "an object is expected");
        return;
    }
    for (const struct json *c = j->first; c; c = c->next) {
        size_t path = errors_push_key(r->e, NULL, c->key);
        size_t mark = encode_open(&r->out, f);
        read_map_key(r, nth_field(entry, 0), c);
        if (c->type == JSON_NULL && !nullable(nth_field(entry, 1)))
            fail(r, c, "null in a map");
        else
            read_single(r, nth_field(entry, 1), c, depth + 1);
        encode_close(&r->out, mark);
        errors_pop(r->e, path);
    }
}

static void read_field(struct reader *r, const struct official_field *f, const struct json *j,
                       unsigned depth)
{
    if (f->flags & OFFICIAL_MAP) {
        read_map(r, f, j, depth);
        return;
    }
    if (f->flags & OFFICIAL_REPEATED) {
        read_repeated(r, f, j, depth);
        return;
    }
    r->out.omit_zero = !(f->flags & OFFICIAL_PRESENCE);
    read_single(r, f, j, depth);
    r->out.omit_zero = false;
}

/* A null is an unset field, but for a Value and a NullValue, which can be null. */
static bool is_unset(const struct official_field *f, const struct json *j)
{
    bool many = f->flags & (OFFICIAL_REPEATED | OFFICIAL_MAP);
    return j->type == JSON_NULL && (many || !nullable(f));
}

static size_t push_unknown(struct reader *r, struct str key)
{
    struct str name = arena_str(r->arena, str_n(key.p, key.len < 100 ? key.len : 100));
    return errors_push(r->e, name.p);
}

static void meet_unknown(struct reader *r, const struct json *j)
{
    if (r->opts->counts)
        r->opts->counts->unknown_fields++;
    if (r->opts->reject_unknown)
        fail(r, j, "unknown field");
}

static void read_members(struct reader *r, const struct official_message *m, const struct json *j,
                         bool in_any, unsigned depth)
{
    if (j->type != JSON_OBJECT) {
        fail(r, j, "an object is expected");
        return;
    }
    bool *seen = mem_zalloc(m->num_fields + m->num_oneofs + 1u);
    for (const struct json *c = j->first; c; c = c->next) {
        if (in_any && str_eq(c->key, STR("@type")))
            continue;
        const struct official_field *f = official_by_name(m, c->key);
        size_t path = f ? errors_push(r->e, official_strings + f->name) : push_unknown(r, c->key);
        size_t index = f ? (size_t)(f - nth_field(m, 0)) : 0;
        if (!f) {
            meet_unknown(r, c);
        } else if (is_unset(f, c)) {
            /* as if it were not there */
        } else if (seen[index] || (f->oneof && seen[m->num_fields + f->oneof])) {
            fail(r, c, seen[index] ? "set twice" : "another choice of the same oneof is set");
        } else {
            seen[index] = true;
            if (f->oneof)
                seen[m->num_fields + f->oneof] = true;
            read_field(r, f, c, depth);
        }
        errors_pop(r->e, path);
    }
    mem_free(seen);
}

static void read_message(struct reader *r, const struct official_message *m, const struct json *j,
                         unsigned depth)
{
    if (depth > PB_DEPTH_MAX) {
        fail(r, j, "messages nested deeper than 100");
        return;
    }
    bool omit_zero = r->out.omit_zero;
    r->out.omit_zero = m->kind == OFFICIAL_DURATION || m->kind == OFFICIAL_TIMESTAMP ||
                       m->kind == OFFICIAL_WRAPPER;
    switch ((enum official_kind)m->kind) {
    case OFFICIAL_ANY:
        read_any(r, m, j, depth);
        break;
    case OFFICIAL_DURATION:
    case OFFICIAL_TIMESTAMP:
        read_time(r, m, j);
        break;
    case OFFICIAL_STRUCT:
        read_map(r, nth_field(m, 0), j, depth);
        break;
    case OFFICIAL_VALUE:
        read_value(r, m, j, depth);
        break;
    case OFFICIAL_LIST:
        read_list(r, m, j, depth);
        break;
    case OFFICIAL_FIELD_MASK:
        read_field_mask(r, m, j);
        break;
    case OFFICIAL_WRAPPER:
        if (j->type == JSON_OBJECT) /* {"value": 5}, which Envoy's parser takes */
            read_members(r, m, j, false, depth);
        else
            read_scalar(r, nth_field(m, 0), j);
        break;
    case OFFICIAL_NONE:
    case OFFICIAL_MAP_ENTRY:
    case OFFICIAL_TYPED_STRUCT:
        read_members(r, m, j, false, depth);
        break;
    }
    r->out.omit_zero = omit_zero;
}

bool pb_json_to_wire(const ProtobufCMessageDescriptor *type, const struct json *tree,
                     struct arena *a, struct errors *e, const struct pb_opts *opts, struct str *out)
{
    static const struct pb_opts none;
    struct reader r = {.arena = a, .e = e, .opts = opts ? opts : &none};
    size_t before = e->num_errors;
    read_message(&r, registry_official(type), tree, 1);
    *out = arena_str(a, str_n(r.out.p, r.out.len));
    mem_free(r.out.p);
    return e->num_errors == before;
}

ProtobufCMessage *pb_from_json(const ProtobufCMessageDescriptor *type, const struct json *tree,
                               struct arena *a, struct errors *e, const struct pb_opts *opts)
{
    struct str bytes;
    if (!pb_json_to_wire(type, tree, a, e, opts, &bytes))
        return NULL;
    return pb_unpack(type, bytes, a, e, opts);
}
