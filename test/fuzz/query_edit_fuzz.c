// covers: proxy/filters/query_edit.c
/* Changing the query of a path: a name, a NUL, a value, a NUL, and the path. */
#include "base/alloc.h"
#include "proxy/filters/query_edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct str cut(struct str *rest)
{
    struct str part = STR("");
    (void)str_next(rest, '\0', &part);
    return part;
}

/* Nothing that is added may end the request line. */
static size_t blanks(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += (unsigned char)s.p[i] <= ' ';
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct str rest = str_n((const char *)data, len), name = cut(&rest), value = cut(&rest);
    struct arena a;
    struct query_edit q, again;
    arena_init(&a, 0);
    query_edit_begin(&q, &a, rest);
    struct str once = query_edit_end(&q);
    CHECK(blanks(once) <= blanks(rest));
    query_edit_begin(&again, &a, once);
    CHECK(str_eq(query_edit_end(&again), once));
    query_edit_add(&q, name, value);
    CHECK(query_edit_has(&q, name));
    struct str added = query_edit_end(&q);
    CHECK(blanks(added) == blanks(once));
    query_edit_begin(&again, &a, added);
    CHECK(query_edit_has(&again, name));
    query_edit_remove(&again, name);
    CHECK(!query_edit_has(&again, name));
    arena_cleanup(&a);
    return 0;
}
