/* UTF-8, one sequence at a time (RFC 3629). Any thread. */
#pragma once

#include "base/str.h"

/* utf8_len returns the length of the valid sequence at the start of the `left` (> 0) bytes at p, 0
 * if it is none: no surrogates, nothing over U+10FFFF, shortest form only. */
static inline size_t utf8_len(const void *bytes, size_t left)
{
    const uint8_t *p = bytes;
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

/* utf8_ok says whether all of s is valid. */
static inline bool utf8_ok(struct str s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_len(s.p + i, s.len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}
