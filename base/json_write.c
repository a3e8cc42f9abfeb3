#include "base/json.h"

#include "base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void json_writer_init(struct json_writer *w, bool pretty)
{
    *w = (struct json_writer){.pretty = pretty};
}

void json_writer_cleanup(struct json_writer *w)
{
    mem_free(w->p);
    *w = (struct json_writer){0};
}

static void put(struct json_writer *w, const char *p, size_t len)
{
    w->p = mem_grow_array(w->p, &w->cap, w->len + len, 1);
    if (len)
        memcpy(w->p + w->len, p, len);
    w->len += len;
}

static void put_line(struct json_writer *w)
{
    static const char spaces[] = "                                ";
    put(w, "\n", 1);
    for (size_t left = w->depth; left > 0;) {
        size_t n = left < sizeof(spaces) - 1 ? left : sizeof(spaces) - 1;
        put(w, spaces, n);
        left -= n;
    }
}

/* What stands before a value or key: a comma, a line. */
static void before(struct json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->need_comma)
        put(w, ",", 1);
    if (w->pretty && w->depth > 0)
        put_line(w);
}

void json_open(struct json_writer *w, char bracket)
{
    before(w);
    put(w, &bracket, 1);
    w->depth++;
    w->need_comma = false;
}

void json_close(struct json_writer *w, char bracket)
{
    bool empty = !w->need_comma;
    CHECK(w->depth > 0 && !w->after_key);
    w->depth--;
    if (w->pretty && !empty)
        put_line(w);
    put(w, &bracket, 1);
    w->need_comma = true;
}

/* The escape of one byte, or 0 for a byte that stands for itself. */
static size_t escape_byte(uint8_t c, char out[8])
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        out[0] = '\\';
        out[1] = to[at - from];
        return 2;
    }
    if (c < 0x20 || c == 0x7f)
        return (size_t)snprintf(out, 8, "\\u%04x", c);
    return 0;
}

size_t json_escape(struct str s, char *out, size_t cap)
{
    size_t len = 0;
    char esc[8];
    /* the bytes of an invalid sequence are replaced one by one */
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_len(s.p + i, s.len - i), w = escape_byte((uint8_t)s.p[i], esc);
        const char *from = w ? esc : n ? s.p + i : "\xef\xbf\xbd";
        size_t from_len = w ? w : n ? n : 3;
        if (len + from_len <= cap)
            memcpy(out + len, from, from_len);
        len += from_len;
        i += n ? n : 1;
    }
    return len;
}

static void put_quoted(struct json_writer *w, struct str s)
{
    put(w, "\"", 1);
    size_t len = json_escape(s, NULL, 0);
    w->p = mem_grow_array(w->p, &w->cap, w->len + len, 1);
    w->len += json_escape(s, w->p + w->len, len);
    put(w, "\"", 1);
}

void json_key(struct json_writer *w, struct str key)
{
    CHECK(!w->after_key);
    before(w);
    put_quoted(w, key);
    put(w, ": ", w->pretty ? 2 : 1);
    w->after_key = true;
}

void json_put_str(struct json_writer *w, struct str s)
{
    before(w);
    put_quoted(w, s);
    w->need_comma = true;
}

void json_put_raw(struct json_writer *w, struct str s)
{
    before(w);
    put(w, s.p, s.len);
    w->need_comma = true;
}

void json_put_u64(struct json_writer *w, uint64_t v)
{
    char num[24];
    int n = snprintf(num, sizeof(num), "%llu", (unsigned long long)v);
    json_put_raw(w, str_n(num, (size_t)n));
}

void json_put_i64(struct json_writer *w, int64_t v)
{
    char num[24];
    int n = snprintf(num, sizeof(num), "%lld", (long long)v);
    json_put_raw(w, str_n(num, (size_t)n));
}

/* NaN and the infinities are strings in the proto3 mapping. */
static bool put_not_finite(struct json_writer *w, double v)
{
    if (isfinite(v))
        return false;
    json_put_str(w, isnan(v) ? STR("NaN") : v > 0 ? STR("Infinity") : STR("-Infinity"));
    return true;
}

void json_put_double(struct json_writer *w, double v)
{
    char num[40];
    int n = 0;
    if (put_not_finite(w, v))
        return;
    for (int precision = 15; precision <= 17; precision++) {
        n = snprintf(num, sizeof(num), "%.*g", precision, v);
        if (strtod(num, NULL) == v)
            break;
    }
    json_put_raw(w, str_n(num, (size_t)n));
}

void json_put_float(struct json_writer *w, float v)
{
    char num[40];
    int n = 0;
    if (put_not_finite(w, v))
        return;
    for (int precision = 6; precision <= 9; precision++) {
        n = snprintf(num, sizeof(num), "%.*g", precision, (double)v);
        if (strtof(num, NULL) == v)
            break;
    }
    json_put_raw(w, str_n(num, (size_t)n));
}

void json_put_bool(struct json_writer *w, bool v)
{
    json_put_raw(w, v ? STR("true") : STR("false"));
}

void json_put_null(struct json_writer *w)
{
    json_put_raw(w, STR("null"));
}

void json_put_tree(struct json_writer *w, const struct json *j)
{
    switch (j->type) {
    case JSON_NULL:
        json_put_null(w);
        return;
    case JSON_BOOL:
        json_put_bool(w, j->boolean);
        return;
    case JSON_NUMBER:
        json_put_raw(w, j->text);
        return;
    case JSON_STRING:
        json_put_str(w, j->text);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        json_open(w, j->type == JSON_OBJECT ? '{' : '[');
        for (const struct json *c = j->first; c; c = c->next) {
            if (j->type == JSON_OBJECT)
                json_key(w, c->key);
            json_put_tree(w, c);
        }
        json_close(w, j->type == JSON_OBJECT ? '}' : ']');
        return;
    }
}
