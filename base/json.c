#include "base/json.h"

#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct parser {
    const char *p, *end, *line_start;
    uint32_t line;
    unsigned flags, depth;
    struct arena *arena;
    struct json_error *err;
};

static bool fail(struct parser *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fail(struct parser *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(s->err->text, sizeof(s->err->text), fmt, ap);
    va_end(ap);
    s->err->line = s->line;
    s->err->column = (uint32_t)(s->p - s->line_start) + 1;
    return false;
}

static void skip_space(struct parser *s)
{
    for (; s->p < s->end; s->p++) {
        if (*s->p == '\n') {
            s->line++;
            s->line_start = s->p + 1;
        } else if (*s->p != ' ' && *s->p != '\t' && *s->p != '\r') {
            return;
        }
    }
}

static char *utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

static bool parse_hex4(struct parser *s, uint32_t *out)
{
    if (s->end - s->p < 4)
        return fail(s, "\\u needs four hexadecimal digits");
    uint32_t v = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        char c = *s->p;
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                            : 16;
        if (d == 16)
            return fail(s, "\\u needs four hexadecimal digits");
        v = v << 4 | d;
    }
    *out = v;
    return true;
}

/* After "\u": one code point, of two surrogates if need be. */
static bool parse_unicode(struct parser *s, uint32_t *out)
{
    uint32_t c, low;
    if (!parse_hex4(s, &c))
        return false;
    if (c >= 0xdc00 && c <= 0xdfff)
        return fail(s, "a low surrogate without a high one");
    if (c == 0 && (s->flags & JSON_REJECT_NUL))
        return fail(s, "a NUL byte in a string");
    if (c >= 0xd800 && c <= 0xdbff) {
        if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u')
            return fail(s, "a high surrogate without a low one");
        s->p += 2;
        if (!parse_hex4(s, &low))
            return false;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(s, "a high surrogate without a low one");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *out = c;
    return true;
}

/* Finds the closing quote, checking every byte; says whether there are escapes. */
static bool scan_string(struct parser *s, const char **close, bool *escapes)
{
    const char *start = s->p;
    *escapes = false;
    while (s->p < s->end && *s->p != '"') {
        uint8_t c = (uint8_t)*s->p;
        if (c < 0x20)
            return fail(s, "a control character in a string");
        if (c == '\\') {
            *escapes = true;
            if (s->end - s->p < 2)
                break;
            s->p += 2;
            continue;
        }
        size_t n = utf8_len(s->p, (size_t)(s->end - s->p));
        if (n == 0)
            return fail(s, "invalid UTF-8");
        s->p += n;
    }
    if (s->p >= s->end || *s->p != '"')
        return fail(s, "a string that does not end");
    *close = s->p;
    s->p = start;
    return true;
}

static bool parse_escape(struct parser *s, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = *s->p++;
    if (c == 'u') {
        uint32_t code = 0;
        if (!parse_unicode(s, &code))
            return false;
        *out = utf8_put(*out, code);
        return true;
    }
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return fail(s, "an unknown escape");
    *(*out)++ = to[at - from];
    return true;
}

/* At the byte after the opening quote. */
static bool parse_string(struct parser *s, struct str *out)
{
    const char *close = s->p;
    bool escapes;
    if (!scan_string(s, &close, &escapes))
        return false;
    if (!escapes) {
        *out = str_n(s->p, (size_t)(close - s->p));
        s->p = close + 1;
        return true;
    }
    /* no escape decodes to more bytes than it has */
    char *text = arena_bytes(s->arena, (size_t)(close - s->p) + 1), *at = text;
    while (s->p < close) {
        if (*s->p != '\\') {
            *at++ = *s->p++;
            continue;
        }
        s->p++;
        if (!parse_escape(s, &at))
            return false;
    }
    *at = '\0';
    *out = str_n(text, (size_t)(at - text));
    s->p = close + 1;
    return true;
}

static bool digits(struct parser *s)
{
    const char *start = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > start;
}

static bool parse_number(struct parser *s, struct str *out)
{
    const char *start = s->p;
    if (*s->p == '-')
        s->p++;
    const char *first = s->p;
    if (!digits(s))
        return fail(s, "not a JSON value");
    if (*first == '0' && s->p - first > 1)
        return fail(s, "a number with a leading zero");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!digits(s))
            return fail(s, "a number without digits after the point");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!digits(s))
            return fail(s, "a number without digits in its exponent");
    }
    *out = str_n(start, (size_t)(s->p - start));
    return true;
}

static bool take_word(struct parser *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
        return false;
    s->p += n;
    return true;
}

static bool parse_value(struct parser *s, struct json *j);

static int member_cmp(const void *a, const void *b)
{
    const struct json *x = *(const struct json *const *)a, *y = *(const struct json *const *)b;
    return str_cmp(x->key, y->key);
}

struct str json_duplicate(const struct json *o)
{
    struct str found = STR_NULL;
    if (o->type != JSON_OBJECT || o->count < 2)
        return found;
    /* sorted, so that no input costs a square */
    const struct json **all = mem_alloc(o->count * sizeof(*all));
    size_t n = 0;
    for (const struct json *j = o->first; j; j = j->next)
        all[n++] = j;
    qsort(all, n, sizeof(*all), member_cmp);
    for (size_t i = 1; i < n && !found.p; i++)
        found = str_eq(all[i - 1]->key, all[i]->key) ? all[i]->key : found;
    mem_free(all);
    return found;
}

struct keyed {
    struct json *member;
    size_t order;
};

static int keyed_cmp(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int c = str_cmp(x->member->key, y->member->key);
    return c != 0 ? c : x->order < y->order ? -1 : x->order > y->order;
}

static int order_cmp(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Keeps the last of the members that share a name. */
static void drop_duplicates(struct json *o)
{
    struct keyed *all = mem_alloc(o->count * sizeof(*all));
    size_t n = 0, kept = 0;
    for (struct json *j = o->first; j; j = j->next, n++)
        all[n] = (struct keyed){j, n};
    qsort(all, n, sizeof(*all), keyed_cmp);
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n && str_eq(all[i].member->key, all[i + 1].member->key))
            continue;
        all[kept++] = all[i];
    }
    qsort(all, kept, sizeof(*all), order_cmp);
    struct json **tail = &o->first;
    for (size_t i = 0; i < kept; i++) {
        *tail = all[i].member;
        tail = &all[i].member->next;
    }
    *tail = NULL;
    o->count = kept;
    mem_free(all);
}

static bool check_duplicates(struct parser *s, struct json *o)
{
    struct str twice = json_duplicate(o);
    if (!twice.p)
        return true;
    if (s->flags & JSON_DUPLICATES_LAST) {
        drop_duplicates(o);
        return true;
    }
    return fail(s, "duplicate member \"%.*s\"", (int)(twice.len < 80 ? twice.len : 80), twice.p);
}

static bool parse_key(struct parser *s, struct json *member)
{
    if (s->p >= s->end || *s->p != '"')
        return fail(s, "a member's name in quotes is missing");
    s->p++;
    if (!parse_string(s, &member->key))
        return false;
    skip_space(s);
    if (s->p >= s->end || *s->p != ':')
        return fail(s, "':' is missing");
    s->p++;
    return true;
}

/* After the opening bracket: elements or members up to `close`. */
static bool parse_children(struct parser *s, struct json *j, char close)
{
    struct json **tail = &j->first;
    if (++s->depth > JSON_DEPTH_MAX)
        return fail(s, "nested deeper than %d", JSON_DEPTH_MAX);
    skip_space(s);
    for (bool comma = false;;) {
        if (s->p < s->end && *s->p == close) {
            if (comma && !(s->flags & JSON_TRAILING_COMMAS))
                return fail(s, "a comma before '%c'", close);
            s->p++;
            break;
        }
        if (j->count > 0 && !comma)
            return fail(s, "',' or '%c' is missing", close);
        struct json *child = ARENA_NEW(s->arena, struct json);
        if (close == '}' && !parse_key(s, child))
            return false;
        if (!parse_value(s, child))
            return false;
        *tail = child;
        tail = &child->next;
        j->count++;
        skip_space(s);
        comma = s->p < s->end && *s->p == ',';
        if (comma) {
            s->p++;
            skip_space(s);
        }
    }
    s->depth--;
    return close == ']' || check_duplicates(s, j);
}

static bool parse_value(struct parser *s, struct json *j)
{
    skip_space(s);
    j->line = s->line;
    if (s->p >= s->end)
        return fail(s, "a value is missing");
    switch (*s->p) {
    case '{':
    case '[':
        j->type = *s->p == '{' ? JSON_OBJECT : JSON_ARRAY;
        s->p++;
        return parse_children(s, j, j->type == JSON_OBJECT ? '}' : ']');
    case '"':
        j->type = JSON_STRING;
        s->p++;
        return parse_string(s, &j->text);
    case 't':
    case 'f':
        j->type = JSON_BOOL;
        j->boolean = *s->p == 't';
        return take_word(s, j->boolean ? "true" : "false") || fail(s, "not a JSON value");
    case 'n':
        j->type = JSON_NULL;
        return take_word(s, "null") || fail(s, "not a JSON value");
    default:
        j->type = JSON_NUMBER;
        return parse_number(s, &j->text);
    }
}

struct json *json_parse(struct str text, unsigned flags, struct arena *a, struct json_error *err)
{
    struct parser s = {text.p, text.p + text.len, text.p, 1, flags, 0, a, err};
    *err = (struct json_error){0};
    if (str_starts(text, STR("\xef\xbb\xbf")))
        s.p = s.line_start = text.p + 3;
    struct json *root = ARENA_NEW(a, struct json);
    if (!parse_value(&s, root))
        return NULL;
    skip_space(&s);
    if (s.p < s.end) {
        fail(&s, "something follows the value");
        return NULL;
    }
    return root;
}

const struct json *json_get(const struct json *o, const char *key)
{
    if (!o || o->type != JSON_OBJECT)
        return NULL;
    struct str k = str_of(key);
    const struct json *j = o->first;
    while (j && !str_eq(j->key, k))
        j = j->next;
    return j;
}

struct str json_str(const struct json *j)
{
    return j && j->type == JSON_STRING ? j->text : STR_NULL;
}

bool json_u64(const struct json *j, uint64_t *out)
{
    return j && j->type == JSON_NUMBER && str_to_u64(j->text, out);
}

bool json_double(const struct json *j, double *out)
{
    return j && j->type == JSON_NUMBER && str_to_double(j->text, out);
}
