/* Allocation that cannot fail: out of memory ends the process with a message, so callers never
 * test for NULL. What keeps memory bounded are the limits of the buffers, queues and tables
 * above, checked before the memory is asked for. Any thread. */
#pragma once

#include <stddef.h>

#define WARN_UNUSED __attribute__((warn_unused_result))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define UNUSED __attribute__((unused))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* CHECK ends the process when an invariant that only this program can break does not hold. */
#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

/* check_failed prints the condition and its place to stderr and aborts. */
void check_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

/* mem_alloc returns `len` uninitialised bytes, owned by the caller. */
void *mem_alloc(size_t len) __attribute__((malloc, returns_nonnull)) WARN_UNUSED;

/* mem_zalloc returns `len` zeroed bytes, owned by the caller. */
void *mem_zalloc(size_t len) __attribute__((malloc, returns_nonnull)) WARN_UNUSED;

/* mem_realloc resizes `p` (NULL allowed) to `len` bytes and returns it. Takes p. */
void *mem_realloc(void *p, size_t len) WARN_UNUSED;

/* mem_grow_array makes room for `need` elements of `size` bytes in an array of *cap, doubling;
 * returns the (moved) array and updates *cap. Takes p. */
void *mem_grow_array(void *p, size_t *cap, size_t need, size_t size) WARN_UNUSED;

/* mem_strdup returns an owned copy of the NUL-terminated `s`; NULL gives NULL. */
char *mem_strdup(const char *s) WARN_UNUSED;

/* mem_strndup returns an owned, NUL-terminated copy of `len` bytes at `p`. */
char *mem_strndup(const char *p, size_t len) WARN_UNUSED;

/* mem_free frees `p`; NULL is fine. */
void mem_free(void *p);

/* NEW allocates a zeroed object of `type`. */
#define NEW(type) ((type *)mem_zalloc(sizeof(type)))
