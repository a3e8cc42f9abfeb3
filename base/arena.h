/* Arena: memory that is freed all at once. One arena a request, a connection, a decoded resource.
 * Not thread-safe: an arena has one user at a time. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"
#include <stdarg.h>

struct arena_block;

struct arena {
    struct arena_block *head;  /* newest first */
    struct arena_block *spare; /* one block kept over a reset */
    char *pos, *end;           /* the free part of head */
    size_t used;               /* bytes handed out since init or reset */
    size_t block_len;          /* size of the next block */
};

/* arena_init prepares an empty arena whose first block will have `block_len` bytes (0: 1 KiB).
 * Takes no memory until the first allocation. */
void arena_init(struct arena *a, size_t block_len);

/* arena_cleanup frees everything; the arena may be used again. */
void arena_cleanup(struct arena *a);

/* arena_reset forgets everything and keeps the largest block for reuse. */
void arena_reset(struct arena *a);

/* arena_new and arena_free are the heap forms. arena_free sets *a to NULL. */
struct arena *arena_new(size_t block_len);
void arena_free(struct arena **a);

/* arena_alloc returns `len` uninitialised bytes aligned to 16, valid until reset or cleanup. */
void *arena_alloc(struct arena *a, size_t len) WARN_UNUSED;

/* arena_zalloc the same, zeroed. */
void *arena_zalloc(struct arena *a, size_t len) WARN_UNUSED;

/* arena_bytes returns `len` uninitialised bytes without alignment (strings). */
char *arena_bytes(struct arena *a, size_t len) WARN_UNUSED;

/* arena_str copies s into the arena; the copy is also NUL-terminated. */
struct str arena_str(struct arena *a, struct str s);

/* arena_strdup copies the NUL-terminated s; NULL gives NULL. */
char *arena_strdup(struct arena *a, const char *s);

/* arena_printf formats into the arena; the result is also NUL-terminated. */
struct str arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
struct str arena_vprintf(struct arena *a, const char *fmt, va_list ap);

#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))
