#include "base/alloc.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void check_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "attache: check failed: %s (%s:%d)\n", cond, file, line);
    abort();
}

static _Noreturn void mem_out_of(size_t len)
{
    fprintf(stderr, "attache: out of memory asking for %zu bytes\n", len);
    abort();
}

void *mem_alloc(size_t len)
{
    void *p = malloc(len ? len : 1);
    if (UNLIKELY(!p))
        mem_out_of(len);
    return p;
}

void *mem_zalloc(size_t len)
{
    void *p = calloc(1, len ? len : 1);
    if (UNLIKELY(!p))
        mem_out_of(len);
    return p;
}

void *mem_realloc(void *p, size_t len)
{
    void *q = realloc(p, len ? len : 1);
    if (UNLIKELY(!q))
        mem_out_of(len);
    return q;
}

void *mem_grow_array(void *p, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return p;
    size_t n = *cap ? *cap : 4;
    while (n < need) {
        if (UNLIKELY(n > SIZE_MAX / 2))
            mem_out_of(SIZE_MAX);
        n *= 2;
    }
    if (UNLIKELY(size && n > SIZE_MAX / size))
        mem_out_of(SIZE_MAX);
    p = mem_realloc(p, n * size);
    *cap = n;
    return p;
}

char *mem_strdup(const char *s)
{
    return s ? mem_strndup(s, strlen(s)) : NULL;
}

char *mem_strndup(const char *p, size_t len)
{
    char *s = mem_alloc(len + 1);
    if (len)
        memcpy(s, p, len);
    s[len] = '\0';
    return s;
}

void mem_free(void *p)
{
    free(p);
}
