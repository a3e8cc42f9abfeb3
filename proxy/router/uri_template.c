#include "proxy/router/uri_template.h"

#include <ctype.h>

/* pchar of RFC 3986 with '%' as it is, the escapes unchecked; '*' too. */
#define PCHARS "a-zA-Z0-9-._~%!$&'()+,;:@=*"
static const char ONE_SEGMENT[] = "[" PCHARS "]+";
static const char MANY_SEGMENTS[] = "[" PCHARS "/]*";

/* A template being read. */
struct reader {
    struct str rest;
    struct uri_template *t;
    struct arena *a;
    struct errors *e;
    char *out; /* the expression made so far */
    size_t len, cap;
    bool many; /* "**" was there: nothing else of unknown length may follow */
};

static bool fail(struct reader *r, const char *why)
{
    errors_add(r->e, NULL, "%s, at '%.*s'", why, STR_ARG(r->rest));
    return false;
}

static void put(struct reader *r, const char *s, size_t len)
{
    CHECK(r->len + len <= r->cap);
    memcpy(r->out + r->len, s, len);
    r->len += len;
}

static bool is_pchar(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-._~%!$&'()+,;:@=", c));
}

static bool literal(struct reader *r)
{
    while (r->rest.len && is_pchar(r->rest.p[0])) {
        bool special = !isalnum((unsigned char)r->rest.p[0]);
        put(r, "\\", special);
        put(r, r->rest.p, 1);
        r->rest = str_n(r->rest.p + 1, r->rest.len - 1);
    }
    return true;
}

static bool glob(struct reader *r)
{
    bool many = str_starts(r->rest, STR("**"));
    if (r->many)
        return fail(r, "nothing of variable length may follow '**'");
    r->many = many;
    if (many)
        put(r, MANY_SEGMENTS, sizeof(MANY_SEGMENTS) - 1);
    else
        put(r, ONE_SEGMENT, sizeof(ONE_SEGMENT) - 1);
    size_t n = many ? 2 : 1;
    r->rest = str_n(r->rest.p + n, r->rest.len - n);
    return true;
}

static bool add_name(struct reader *r, struct str name)
{
    struct uri_template *t = r->t;
    bool ok = name.len && isalpha((unsigned char)name.p[0]);
    for (size_t i = 0; i < name.len; i++)
        ok &= isalnum((unsigned char)name.p[i]) || name.p[i] == '_';
    if (!ok || name.len > URI_TEMPLATE_NAME)
        return fail(r, "a variable's name is a letter and at most 15 more, digits or '_'");
    for (size_t i = 0; i < t->num; i++) {
        if (str_eq(t->names[i], name))
            return fail(r, "the name of this variable was there before");
    }
    if (t->num == URI_TEMPLATE_VARIABLES)
        return fail(r, "more than 5 variables");
    t->names[t->num++] = arena_str(r->a, name);
    return true;
}

/* What stands for a variable: whole segments, each a literal or a wildcard. */
static bool pattern(struct reader *r)
{
    for (;;) {
        struct str before = r->rest;
        if (r->rest.len && r->rest.p[0] == '*') {
            if (!glob(r))
                return false;
        } else {
            (void)literal(r);
        }
        if (before.len == r->rest.len)
            return fail(r, "a segment must not be empty");
        if (!r->rest.len || r->rest.p[0] != '/')
            return true;
        put(r, "/", 1);
        r->rest = str_n(r->rest.p + 1, r->rest.len - 1);
    }
}

static bool variable(struct reader *r)
{
    size_t n = 1;
    while (n < r->rest.len && r->rest.p[n] != '=' && r->rest.p[n] != '}')
        n++;
    if (n == r->rest.len)
        return fail(r, "a bracket is not closed");
    if (!add_name(r, str_n(r->rest.p + 1, n - 1)))
        return false;
    bool has_pattern = r->rest.p[n] == '=';
    put(r, "(", 1);
    r->rest = str_n(r->rest.p + n + has_pattern, r->rest.len - n - has_pattern);
    if (!has_pattern && r->many)
        return fail(r, "nothing of variable length may follow '**'");
    if (!has_pattern)
        put(r, ONE_SEGMENT, sizeof(ONE_SEGMENT) - 1);
    else if (!pattern(r))
        return false;
    put(r, ")", 1);
    if (!r->rest.len || r->rest.p[0] != '}')
        return fail(r, "a variable must end with '}' here");
    r->rest = str_n(r->rest.p + 1, r->rest.len - 1);
    return true;
}

/* A literal, and one wildcard or variable that a literal may follow. */
static bool segment(struct reader *r)
{
    struct str before = r->rest;
    (void)literal(r);
    bool has_literal = before.len != r->rest.len;
    if (r->rest.len && r->rest.p[0] == '*') {
        if (has_literal)
            return fail(r, "a wildcard must begin its segment");
        if (!glob(r))
            return false;
        (void)literal(r);
    } else if (r->rest.len && r->rest.p[0] == '{') {
        if (!variable(r))
            return false;
        (void)literal(r);
    } else if (!has_literal && r->rest.len) {
        return fail(r, "a segment must not be empty, and has no such character");
    }
    return !r->rest.len || r->rest.p[0] == '/' || fail(r, "a '/' must follow here");
}

static bool read_template(struct reader *r)
{
    if (!r->rest.len || r->rest.p[0] != '/')
        return fail(r, "must begin with '/'");
    while (r->rest.len) {
        put(r, "/", 1);
        r->rest = str_n(r->rest.p + 1, r->rest.len - 1);
        if (!segment(r))
            return false;
    }
    return true;
}

struct uri_template *uri_template_compile(struct regex_list *l, struct arena *a, struct str text,
                                          struct errors *e)
{
    struct uri_template *t = ARENA_NEW(a, struct uri_template);
    struct reader r = {.rest = text, .t = t, .a = a, .e = e};
    r.cap = text.len * (sizeof(MANY_SEGMENTS) + 2) + 3;
    r.out = arena_bytes(a, r.cap);
    put(&r, "^", 1); /* for the groups, which a search finds */
    if (!read_template(&r))
        return NULL;
    put(&r, "$", 2);
    t->regex = regex_list_add_text(l, a, str_n(r.out, r.len - 1), 0, e);
    return t->regex ? t : NULL;
}

bool uri_template_match(const struct uri_template *t, struct str path)
{
    return regex_full(t->regex, path);
}

/* --- rewriting --- */

struct uri_rewrite {
    const struct uri_template *t;
    struct uri_part {
        struct str literal; /* p NULL: a variable */
        size_t group;
    } * parts;
    size_t num;
};

static bool rewrite_variable(struct uri_rewrite *w, struct str *rest, struct errors *e)
{
    ptrdiff_t end = str_chr(*rest, '}');
    struct str name = str_n(rest->p + 1, end < 0 ? 0 : (size_t)end - 1);
    for (size_t i = 0; end > 0 && i < w->t->num; i++) {
        if (!str_eq(w->t->names[i], name))
            continue;
        w->parts[w->num++].group = i + 1;
        *rest = str_n(rest->p + end + 1, rest->len - (size_t)end - 1);
        return true;
    }
    errors_add(e, NULL, "the template has no variable '%.*s'", STR_ARG(name));
    return false;
}

struct uri_rewrite *uri_rewrite_compile(struct arena *a, struct str text,
                                        const struct uri_template *t, struct errors *e)
{
    struct uri_rewrite *w = ARENA_NEW(a, struct uri_rewrite);
    struct str rest = arena_str(a, text);
    w->t = t;
    w->parts = arena_zalloc(a, (text.len + 1) * sizeof(*w->parts));
    if (!t) {
        errors_add(e, NULL, "needs path_match_policy with a URI template in the route's match");
        return NULL;
    }
    if (!text.len || text.p[0] != '/' || str_find(text, STR("//")) >= 0) {
        errors_add(e, NULL, "must begin with '/' and have no empty segment");
        return NULL;
    }
    while (rest.len) {
        size_t n = 0;
        while (n < rest.len && (rest.p[n] == '/' || rest.p[n] == '*' || is_pchar(rest.p[n])))
            n++;
        if (n) {
            w->parts[w->num++].literal = str_n(rest.p, n);
            rest = str_n(rest.p + n, rest.len - n);
        } else if (rest.p[0] != '{') {
            errors_add(e, NULL, "'%c' may not stand in a path", rest.p[0]);
            return NULL;
        } else if (!rewrite_variable(w, &rest, e)) {
            return NULL;
        }
    }
    return w;
}

struct str uri_rewrite_apply(const struct uri_rewrite *w, struct str path, struct arena *a)
{
    struct str groups[URI_TEMPLATE_VARIABLES + 1];
    size_t len = 0, at = 0;
    if (!uri_template_match(w->t, path) || !regex_search(w->t->regex, path, groups, w->t->num + 1))
        return STR_NULL;
    for (size_t i = 0; i < w->num; i++)
        len += w->parts[i].literal.p ? w->parts[i].literal.len : groups[w->parts[i].group].len;
    char *p = arena_bytes(a, len + 1);
    for (size_t i = 0; i < w->num; i++) {
        struct str s = w->parts[i].literal.p ? w->parts[i].literal : groups[w->parts[i].group];
        if (s.len)
            memcpy(p + at, s.p, s.len);
        at += s.len;
    }
    return str_n(p, len);
}
