#include "api-protos/official.h"

const struct official_message *official_find(struct str full_name)
{
    uint32_t low = 0, high = official_num_messages;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int c = str_cmp(full_name, official_text(official_messages[mid].name));
        if (c == 0)
            return &official_messages[mid];
        if (c < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

const struct official_field *official_by_number(const struct official_message *m, uint32_t number)
{
    const struct official_field *fields = &official_fields[m->first_field];
    /* most messages number their fields from 1 without gaps at first */
    if (number - 1 < m->num_fields && fields[number - 1].number == number)
        return &fields[number - 1];
    uint32_t low = 0, high = m->num_fields;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (fields[mid].number == number)
            return &fields[mid];
        if (number < fields[mid].number)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

/* The official rule for JSON names: an underscore goes, and what follows becomes a capital. */
static bool is_camel_of(struct str camel, const char *snake)
{
    size_t i = 0;
    for (; *snake; snake++, i++) {
        char c = *snake;
        if (c == '_' && snake[1]) {
            c = *++snake;
            c = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
        }
        if (i >= camel.len || camel.p[i] != c)
            return false;
    }
    return i == camel.len;
}

const struct official_field *official_by_name(const struct official_message *m, struct str name)
{
    for (uint32_t i = 0; i < m->num_fields; i++) {
        const struct official_field *f = &official_fields[m->first_field + i];
        const char *snake = official_strings + f->name;
        if (str_eq(name, str_of(snake)) || is_camel_of(name, snake))
            return f;
    }
    return NULL;
}

const struct official_message *official_target(const struct official_field *f)
{
    return f->type == TYPE_MESSAGE ? &official_messages[f->target] : NULL;
}

bool official_enum_number(const struct official_field *f, struct str name, int32_t *out)
{
    const struct official_enum *e = &official_enums[f->target];
    for (uint32_t i = 0; i < e->num_values; i++) {
        const struct official_value *v = &official_values[e->first_value + i];
        if (str_ieq(name, official_text(v->name))) {
            *out = v->number;
            return true;
        }
    }
    return false;
}

struct str official_enum_name(const struct official_field *f, int32_t number)
{
    const struct official_enum *e = &official_enums[f->target];
    for (uint32_t i = 0; i < e->num_values; i++) {
        const struct official_value *v = &official_values[e->first_value + i];
        if (v->number == number)
            return official_text(v->name);
    }
    return STR_NULL;
}
