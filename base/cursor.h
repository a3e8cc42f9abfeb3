/* Bounds-checked reader of untrusted bytes. Each read says whether there were enough bytes and
 * moves on only if so. Borrowed bytes; any thread. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"

struct cursor {
    const uint8_t *p;
    size_t len; /* bytes left */
};

/* cursor_of reads the bytes of s. */
static inline struct cursor cursor_of(struct str s)
{
    return (struct cursor){(const uint8_t *)s.p, s.len};
}

/* cursor_rest views what is left. */
static inline struct str cursor_rest(const struct cursor *c)
{
    return str_n((const char *)c->p, c->len);
}

/* cursor_skip passes over n bytes. */
static inline bool WARN_UNUSED cursor_skip(struct cursor *c, size_t n)
{
    if (c->len < n)
        return false;
    if (n)
        c->p += n;
    c->len -= n;
    return true;
}

/* cursor_bytes views the next n bytes. */
static inline bool WARN_UNUSED cursor_bytes(struct cursor *c, size_t n, struct str *out)
{
    const uint8_t *p = c->p;
    if (!cursor_skip(c, n))
        return false;
    *out = str_n((const char *)p, n);
    return true;
}

/* cursor_sub cuts off a reader of the next n bytes. */
static inline bool WARN_UNUSED cursor_sub(struct cursor *c, size_t n, struct cursor *out)
{
    const uint8_t *p = c->p;
    if (!cursor_skip(c, n))
        return false;
    *out = (struct cursor){p, n};
    return true;
}

/* cursor_be reads an unsigned number of n <= 8 bytes, most significant first. */
static inline bool WARN_UNUSED cursor_be(struct cursor *c, size_t n, uint64_t *out)
{
    if (c->len < n)
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | c->p[i];
    *out = v;
    return cursor_skip(c, n);
}

/* cursor_u8, _u16, _u24, _u32, _u64 read in network order. */
static inline bool WARN_UNUSED cursor_u8(struct cursor *c, uint8_t *out)
{
    uint64_t v;
    if (!cursor_be(c, 1, &v))
        return false;
    *out = (uint8_t)v;
    return true;
}
static inline bool WARN_UNUSED cursor_u16(struct cursor *c, uint16_t *out)
{
    uint64_t v;
    if (!cursor_be(c, 2, &v))
        return false;
    *out = (uint16_t)v;
    return true;
}
static inline bool WARN_UNUSED cursor_u24(struct cursor *c, uint32_t *out)
{
    uint64_t v;
    if (!cursor_be(c, 3, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}
static inline bool WARN_UNUSED cursor_u32(struct cursor *c, uint32_t *out)
{
    uint64_t v;
    if (!cursor_be(c, 4, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}
static inline bool WARN_UNUSED cursor_u64(struct cursor *c, uint64_t *out)
{
    return cursor_be(c, 8, out);
}

/* cursor_vec8, _vec16, _vec24 cut off a vector with a length of 1, 2 or 3 bytes before it (TLS).
 * The cursor stays where it was when the length is there and the bytes are not. */
static inline bool WARN_UNUSED cursor_vec(struct cursor *c, size_t len_bytes, struct cursor *out)
{
    struct cursor at = *c;
    uint64_t n;
    if (!cursor_be(&at, len_bytes, &n) || n > at.len || !cursor_sub(&at, (size_t)n, out))
        return false;
    *c = at;
    return true;
}
static inline bool WARN_UNUSED cursor_vec8(struct cursor *c, struct cursor *out)
{
    return cursor_vec(c, 1, out);
}
static inline bool WARN_UNUSED cursor_vec16(struct cursor *c, struct cursor *out)
{
    return cursor_vec(c, 2, out);
}
static inline bool WARN_UNUSED cursor_vec24(struct cursor *c, struct cursor *out)
{
    return cursor_vec(c, 3, out);
}
