#include "proxy/filters/query_edit.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct str decode(struct arena *a, struct str s)
{
    if (str_chr(s, '%') < 0)
        return s;
    char *p = arena_bytes(a, s.len);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        int high = s.p[i] == '%' && i + 2 < s.len ? hex(s.p[i + 1]) : -1;
        int low = high >= 0 ? hex(s.p[i + 2]) : -1;
        p[n++] = low >= 0 ? (char)(high << 4 | low) : s.p[i];
        i += low >= 0 ? 2 : 0;
    }
    return str_n(p, n);
}

static bool unreserved(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '.' || c == '_';
}

static struct str encode(struct arena *a, struct str s)
{
    static const char digits[] = "0123456789ABCDEF";
    char *p = arena_bytes(a, 3 * s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (unreserved(s.p[i])) {
            p[n++] = s.p[i];
            continue;
        }
        p[n++] = '%';
        p[n++] = digits[c >> 4];
        p[n++] = digits[c & 15];
    }
    return str_n(p, n);
}

/* Behind all whose name is not greater. */
static void insert(struct query_edit *q, struct query_param *p)
{
    struct query_param **at = &q->first;
    while (*at && str_cmp((*at)->name, p->name) <= 0)
        at = &(*at)->next;
    p->next = *at;
    *at = p;
}

static int by_name(const struct query_param *a, const struct query_param *b)
{
    return str_cmp(a->name, b->name);
}

/* Merge sort: a query of many parameters must not cost the square of their number. */
static struct query_param *sort(struct query_param *list)
{
    struct query_param *half = list, *end, *out = NULL, **at = &out;
    if (!list || !list->next)
        return list;
    for (end = list->next; end && end->next; end = end->next->next)
        half = half->next;
    struct query_param *b = half->next;
    half->next = NULL;
    struct query_param *a = sort(list);
    for (b = sort(b); a && b; at = &(*at)->next) {
        struct query_param **from = by_name(a, b) <= 0 ? &a : &b;
        *at = *from;
        *from = (*from)->next;
    }
    *at = a ? a : b;
    return out;
}

void query_edit_begin(struct query_edit *q, struct arena *a, struct str path)
{
    ptrdiff_t mark = str_chr(path, '?');
    struct query_param **end = &q->first;
    *q = (struct query_edit){.arena = a, .path = path};
    if (mark < 0)
        return;
    struct str rest = str_n(path.p + mark + 1, path.len - (size_t)mark - 1), part;
    q->path.len = (size_t)mark;
    while (rest.len && str_next(&rest, '&', &part)) {
        ptrdiff_t eq = str_chr(part, '=');
        struct query_param *p = ARENA_NEW(a, struct query_param);
        p->raw = eq < 0 ? part : str_n(part.p, (size_t)eq);
        p->value = eq < 0 ? STR("") : str_n(part.p + eq + 1, part.len - (size_t)eq - 1);
        p->name = decode(a, p->raw);
        *end = p;
        end = &p->next;
    }
    q->first = sort(q->first);
}

bool query_edit_has(const struct query_edit *q, struct str name)
{
    for (const struct query_param *p = q->first; p; p = p->next) {
        if (str_eq(p->name, name))
            return true;
    }
    return false;
}

void query_edit_remove(struct query_edit *q, struct str name)
{
    struct query_param **at = &q->first;
    while (*at) {
        if (str_eq((*at)->name, name))
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
}

void query_edit_add(struct query_edit *q, struct str name, struct str value)
{
    struct query_param *p = ARENA_NEW(q->arena, struct query_param);
    p->name = name;
    p->raw = encode(q->arena, name);
    p->value = encode(q->arena, value);
    insert(q, p);
}

static size_t put(char *out, size_t at, struct str s)
{
    if (s.len)
        memcpy(out + at, s.p, s.len);
    return at + s.len;
}

struct str query_edit_end(const struct query_edit *q)
{
    size_t len = q->path.len, n;
    for (const struct query_param *p = q->first; p; p = p->next)
        len += p->raw.len + p->value.len + 2;
    char *out = arena_bytes(q->arena, len + 1);
    n = put(out, 0, q->path);
    for (const struct query_param *p = q->first; p; p = p->next) {
        out[n++] = p == q->first ? '?' : '&';
        n = put(out, n, p->raw);
        out[n++] = '=';
        n = put(out, n, p->value);
    }
    return str_n(out, n);
}
