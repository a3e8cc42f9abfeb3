#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct str base64_encode(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, (s.len + 2) / 3 * 4 + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i += 3) {
        uint32_t v = (uint32_t)(unsigned char)s.p[i] << 16;
        v |= i + 1 < s.len ? (uint32_t)(unsigned char)s.p[i + 1] << 8 : 0;
        v |= i + 2 < s.len ? (unsigned char)s.p[i + 2] : 0;
        p[n++] = alphabet[v >> 18];
        p[n++] = alphabet[v >> 12 & 63];
        p[n++] = i + 1 < s.len ? alphabet[v >> 6 & 63] : '=';
        p[n++] = i + 2 < s.len ? alphabet[v & 63] : '=';
    }
    return str_n(p, n);
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct arena *a, struct str s, struct str *out)
{
    size_t n = 0, padding = 0;
    if (s.len % 4)
        return false;
    while (padding < 2 && padding < s.len && s.p[s.len - 1 - padding] == '=')
        padding++;
    char *p = arena_bytes(a, s.len / 4 * 3 + 1);
    uint32_t bits = 0;
    for (size_t i = 0; i < s.len - padding; i++) {
        int v = value_of(s.p[i]);
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4 == 0)
            continue;
        unsigned rest = 6 - 2 * (unsigned)(i % 4); /* bits that belong to the next byte */
        p[n++] = (char)(bits >> rest);
    }
    unsigned unused = padding == 2 ? 15 : padding == 1 ? 3 : 0;
    if (bits & unused)
        return false;
    *out = str_n(p, n);
    return true;
}
