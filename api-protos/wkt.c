#include "api-protos/wkt.h"

#include "api-protos/scalar_text.h"

bool wkt_duration_valid(const Google__Protobuf__Duration *d)
{
    return scalar_duration_ok(d->seconds, d->nanos);
}

/* In units of `per_second` to the second, rounded up. */
static uint64_t duration(const Google__Protobuf__Duration *d, uint64_t def, uint64_t per_second,
                         struct errors *e, const char *field)
{
    if (!d)
        return def;
    if (!wkt_duration_valid(d)) {
        errors_add(e, field, "not a valid duration: %lld s and %d ns", (long long)d->seconds,
                   d->nanos);
        return def;
    }
    if (d->seconds < 0 || d->nanos < 0) {
        errors_add(e, field, "a duration must not be negative");
        return def;
    }
    /* 315,576,000,000 s in microseconds fit 64 bits */
    uint64_t ns_per_unit = 1000000000 / per_second;
    return (uint64_t)d->seconds * per_second + ((uint64_t)d->nanos + ns_per_unit - 1) / ns_per_unit;
}

uint64_t wkt_duration_us(const Google__Protobuf__Duration *d, uint64_t def, struct errors *e,
                         const char *field)
{
    return duration(d, def, 1000000, e, field);
}

uint64_t wkt_duration_ms(const Google__Protobuf__Duration *d, uint64_t def, struct errors *e,
                         const char *field)
{
    return duration(d, def, 1000, e, field);
}

uint32_t wkt_percent_ppm(const Envoy__Type__V3__Percent *p, uint32_t def)
{
    if (!p)
        return def;
    if (!(p->value > 0))
        return 0;
    return p->value >= 100 ? 1000000 : (uint32_t)(p->value * 10000 + 0.5);
}

uint32_t wkt_fraction_ppm(const Envoy__Type__V3__FractionalPercent *p, uint32_t def)
{
    if (!p)
        return def;
    uint64_t per = 10000;
    if (p->denominator == ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__TEN_THOUSAND)
        per = 100;
    else if (p->denominator == ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__MILLION)
        per = 1;
    uint64_t ppm = p->numerator * per;
    return ppm > 1000000 ? 1000000 : (uint32_t)ppm;
}

const Google__Protobuf__Value *wkt_struct_get(const Google__Protobuf__Struct *s, struct str key)
{
    /* of two entries with one key the last counts */
    for (size_t i = s ? s->n_fields : 0; i > 0; i--) {
        if (str_eq(str_of(s->fields[i - 1]->key), key))
            return s->fields[i - 1]->value;
    }
    return NULL;
}

const Google__Protobuf__Value *wkt_struct_path(const Google__Protobuf__Struct *s, struct str path,
                                               char sep)
{
    const Google__Protobuf__Value *v = NULL;
    struct str key;
    while (str_next(&path, sep, &key)) {
        v = wkt_struct_get(s, key);
        s = wkt_value_struct(v);
        if (!v)
            return NULL;
    }
    return v;
}

struct str wkt_value_str(const Google__Protobuf__Value *v)
{
    if (!v || v->kind_case != GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE)
        return STR_NULL;
    return str_of(v->string_value);
}

const Google__Protobuf__Struct *wkt_value_struct(const Google__Protobuf__Value *v)
{
    bool is_struct = v && v->kind_case == GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
    return is_struct ? v->struct_value : NULL;
}

static bool structs_eq(const Google__Protobuf__Struct *a, const Google__Protobuf__Struct *b)
{
    if (a->n_fields != b->n_fields)
        return false;
    for (size_t i = 0; i < a->n_fields; i++) {
        if (!wkt_value_eq(a->fields[i]->value, wkt_struct_get(b, str_of(a->fields[i]->key))))
            return false;
    }
    return true;
}

static bool lists_eq(const Google__Protobuf__ListValue *a, const Google__Protobuf__ListValue *b)
{
    if (a->n_values != b->n_values)
        return false;
    for (size_t i = 0; i < a->n_values; i++) {
        if (!wkt_value_eq(a->values[i], b->values[i]))
            return false;
    }
    return true;
}

bool wkt_value_eq(const Google__Protobuf__Value *a, const Google__Protobuf__Value *b)
{
    if (!a || !b)
        return a == b;
    if (a->kind_case != b->kind_case)
        return false;
    switch (a->kind_case) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        return a->number_value == b->number_value;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        return strcmp(a->string_value, b->string_value) == 0;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        return !a->bool_value == !b->bool_value;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        return structs_eq(a->struct_value, b->struct_value);
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        return lists_eq(a->list_value, b->list_value);
    case GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE:
    case GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET:
    case _GOOGLE__PROTOBUF__VALUE__KIND__CASE_IS_INT_SIZE:
        return true;
    }
    return false;
}

struct str wkt_timestamp_text(uint64_t wall_us, struct arena *a)
{
    return scalar_timestamp_text((int64_t)(wall_us / 1000000),
                                 (int32_t)(wall_us % 1000000 / 1000 * 1000000), a);
}
