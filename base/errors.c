#include "base/errors.h"

#include <stdio.h>

void errors_init(struct errors *e)
{
    *e = (struct errors){0};
    arena_init(&e->arena, 0);
    e->tail = &e->first;
    e->warn_tail = &e->warn_first;
}

void errors_cleanup(struct errors *e)
{
    arena_cleanup(&e->arena);
    mem_free(e->path);
    *e = (struct errors){0};
}

static void path_add(struct errors *e, struct str s)
{
    e->path = mem_grow_array(e->path, &e->path_cap, e->path_len + s.len, 1);
    if (s.len)
        memcpy(e->path + e->path_len, s.p, s.len);
    e->path_len += s.len;
}

static void path_add_field(struct errors *e, const char *field)
{
    if (!field || !*field)
        return;
    if (e->path_len)
        path_add(e, STR("."));
    path_add(e, str_of(field));
}

size_t errors_push(struct errors *e, const char *field)
{
    size_t mark = e->path_len;
    path_add_field(e, field);
    return mark;
}

size_t errors_push_index(struct errors *e, const char *field, size_t index)
{
    size_t mark = e->path_len;
    char num[32];
    path_add_field(e, field);
    int n = snprintf(num, sizeof(num), "[%zu]", index);
    path_add(e, str_n(num, (size_t)n));
    return mark;
}

size_t errors_push_key(struct errors *e, const char *field, struct str key)
{
    size_t mark = e->path_len;
    path_add_field(e, field);
    path_add(e, STR("["));
    path_add(e, key);
    path_add(e, STR("]"));
    return mark;
}

void errors_pop(struct errors *e, size_t mark)
{
    CHECK(mark <= e->path_len);
    e->path_len = mark;
}

static struct error_item *item_new(struct errors *e, const char *field, const char *fmt, va_list ap)
{
    struct error_item *it = ARENA_NEW(&e->arena, struct error_item);
    size_t mark = errors_push(e, field);
    it->path = arena_str(&e->arena, str_n(e->path, e->path_len));
    errors_pop(e, mark);
    it->text = arena_vprintf(&e->arena, fmt, ap);
    return it;
}

void errors_add(struct errors *e, const char *field, const char *fmt, ...)
{
    if (e->num_errors++ >= ERRORS_MAX)
        return;
    va_list ap;
    va_start(ap, fmt);
    *e->tail = item_new(e, field, fmt, ap);
    va_end(ap);
    e->tail = &(*e->tail)->next;
}

void errors_warn(struct errors *e, const char *field, const char *fmt, ...)
{
    if (e->num_warnings++ >= ERRORS_MAX)
        return;
    va_list ap;
    va_start(ap, fmt);
    *e->warn_tail = item_new(e, field, fmt, ap);
    va_end(ap);
    e->warn_tail = &(*e->warn_tail)->next;
}

struct str errors_text(const struct errors *e, struct arena *a)
{
    size_t len = 0;
    char more[64] = "";
    for (const struct error_item *it = e->first; it; it = it->next)
        len += it->path.len + it->text.len + 4;
    if (e->num_errors > ERRORS_MAX)
        (void)snprintf(more, sizeof(more), "; and %zu more", e->num_errors - ERRORS_MAX);
    char *p = arena_bytes(a, len + sizeof(more)), *at = p;
    size_t room = len + sizeof(more);
    *p = '\0';
    for (const struct error_item *it = e->first; it; it = it->next) {
        int n = snprintf(at, room, "%s%.*s%s%.*s", it == e->first ? "" : "; ", STR_ARG(it->path),
                         it->path.len ? ": " : "", STR_ARG(it->text));
        CHECK(n >= 0 && (size_t)n < room);
        at += n;
        room -= (size_t)n;
    }
    int n = snprintf(at, room, "%s", more);
    CHECK(n >= 0 && (size_t)n < room);
    return str_n(p, (size_t)(at - p) + (size_t)n);
}
