#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, len) ASAN_POISON_MEMORY_REGION((p), (len))
#define UNPOISON(p, len) ASAN_UNPOISON_MEMORY_REGION((p), (len))
#else
#define POISON(p, len) ((void)0)
#define UNPOISON(p, len) ((void)0)
#endif

enum {
    FIRST_BLOCK = 1024,
    MAX_BLOCK = 64 * 1024,
    ALIGN = 16,
};

struct arena_block {
    struct arena_block *next;
    size_t len; /* of the payload */
    _Alignas(ALIGN) char payload[];
};

void arena_init(struct arena *a, size_t block_len)
{
    *a = (struct arena){.block_len = block_len ? block_len : FIRST_BLOCK};
}

static void free_block(struct arena_block *b)
{
    UNPOISON(b->payload, b->len);
    mem_free(b);
}

void arena_cleanup(struct arena *a)
{
    while (a->head) {
        struct arena_block *b = a->head;
        a->head = b->next;
        free_block(b);
    }
    if (a->spare)
        free_block(a->spare);
    arena_init(a, a->block_len);
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->spare;
    while (a->head) {
        struct arena_block *b = a->head;
        a->head = b->next;
        if (keep && keep->len >= b->len) {
            free_block(b);
            continue;
        }
        if (keep)
            free_block(keep);
        keep = b;
    }
    if (keep) {
        keep->next = NULL;
        POISON(keep->payload, keep->len);
    }
    a->spare = keep;
    a->pos = a->end = NULL;
    a->used = 0;
}

struct arena *arena_new(size_t block_len)
{
    struct arena *a = NEW(struct arena);
    arena_init(a, block_len);
    return a;
}

void arena_free(struct arena **a)
{
    if (!*a)
        return;
    arena_cleanup(*a);
    mem_free(*a);
    *a = NULL;
}

static struct arena_block *block_new(size_t len)
{
    CHECK(len <= SIZE_MAX - sizeof(struct arena_block));
    struct arena_block *b = mem_alloc(sizeof(*b) + len);
    b->len = len;
    POISON(b->payload, len);
    return b;
}

/* A request larger than a block gets a block of its own behind the head, so that the free part of
 * the head is not lost. */
static char *add_big(struct arena *a, size_t len)
{
    struct arena_block *b = block_new(len);
    if (a->head) {
        b->next = a->head->next;
        a->head->next = b;
    } else {
        b->next = NULL;
        a->head = b;
        a->pos = a->end = b->payload + len;
    }
    a->used += len;
    UNPOISON(b->payload, len);
    return b->payload;
}

static char *add_block(struct arena *a, size_t len)
{
    struct arena_block *b = a->spare;
    if (b && b->len >= len) {
        a->spare = NULL;
    } else {
        if (len > a->block_len / 2 && a->head)
            return add_big(a, len);
        b = block_new(len > a->block_len ? len : a->block_len);
        if (a->block_len < MAX_BLOCK)
            a->block_len *= 2;
    }
    b->next = a->head;
    a->head = b;
    a->pos = b->payload + len;
    a->end = b->payload + b->len;
    a->used += len;
    UNPOISON(b->payload, len);
    return b->payload;
}

void *arena_alloc(struct arena *a, size_t len)
{
    size_t pad = (size_t)(-(uintptr_t)a->pos & (ALIGN - 1));
    size_t room = (size_t)(a->end - a->pos);
    if (UNLIKELY(room < pad || room - pad < len || !a->pos))
        return add_block(a, len);
    char *p = a->pos + pad;
    a->pos = p + len;
    a->used += pad + len;
    UNPOISON(p, len);
    return p;
}

void *arena_zalloc(struct arena *a, size_t len)
{
    return memset(arena_alloc(a, len), 0, len);
}

char *arena_bytes(struct arena *a, size_t len)
{
    if (UNLIKELY((size_t)(a->end - a->pos) < len || !a->pos))
        return add_block(a, len);
    char *p = a->pos;
    a->pos += len;
    a->used += len;
    UNPOISON(p, len);
    return p;
}

struct str arena_str(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    if (s.len)
        memcpy(p, s.p, s.len);
    p[s.len] = '\0';
    return str_n(p, s.len);
}

char *arena_strdup(struct arena *a, const char *s)
{
    if (!s)
        return NULL;
    size_t len = strlen(s) + 1;
    return memcpy(arena_bytes(a, len), s, len);
}

struct str arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct str s = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return s;
}

struct str arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    CHECK(n >= 0);
    size_t len = (size_t)n;
    char *p = arena_bytes(a, len + 1);
    if (len < sizeof(small))
        memcpy(p, small, len + 1);
    else
        (void)vsnprintf(p, len + 1, fmt, again);
    va_end(again);
    return str_n(p, len);
}
