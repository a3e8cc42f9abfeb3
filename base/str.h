/* String views: a pointer and a length, never owned, not NUL-terminated. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p;
    size_t len;
};

/* STR makes a view of a string literal; STR_ARG feeds "%.*s", STR_NULL too. */
#define STR(lit) ((struct str){(lit), sizeof(lit) - 1})
#define STR_NULL ((struct str){NULL, 0})
#define STR_ARG(s) (int)(s).len, (s).p ? (s).p : ""

/* str_of views the NUL-terminated `s`; NULL gives an empty view. */
static inline struct str str_of(const char *s)
{
    return (struct str){s, s ? strlen(s) : 0};
}

/* str_n views `len` bytes at `p`. */
static inline struct str str_n(const char *p, size_t len)
{
    return (struct str){p, len};
}

/* str_eq says whether the bytes of a and b are equal. */
static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

/* str_ieq compares ignoring ASCII case. */
bool str_ieq(struct str a, struct str b);

/* str_cmp orders bytewise, shorter first on a common prefix. */
int str_cmp(struct str a, struct str b);

/* str_starts and str_ends test for a prefix or suffix; str_istarts ignores ASCII case. */
bool str_starts(struct str s, struct str prefix);
bool str_istarts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);

/* str_chr returns the offset of the first `c` in s, or -1. */
ptrdiff_t str_chr(struct str s, char c);

/* str_find returns the offset of the first `needle` in s, or -1. */
ptrdiff_t str_find(struct str s, struct str needle);

/* str_trim drops leading and trailing spaces and tabs (RFC 9110 OWS). */
struct str str_trim(struct str s);

/* str_next cuts the next `sep`-separated token off *rest into *tok; false when none is left. An
 * empty token between two separators is returned. */
bool str_next(struct str *rest, char sep, struct str *tok);

/* str_to_u64 parses all of s as an unsigned decimal number; false on anything else, overflow
 * included. */
bool str_to_u64(struct str s, uint64_t *out);

/* str_to_i64 the same with an optional leading minus. */
bool str_to_i64(struct str s, int64_t *out);

/* str_to_double parses all of s as a decimal floating-point number, independent of the locale. */
bool str_to_double(struct str s, double *out);
