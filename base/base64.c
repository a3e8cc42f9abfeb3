#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_write(const char *in, size_t n, char *out)
{
    const unsigned char *p = (const unsigned char *)in;
    size_t len = 0;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        v |= i + 2 < n ? p[i + 2] : 0;
        out[len++] = alphabet[v >> 18];
        out[len++] = alphabet[v >> 12 & 63];
        out[len++] = i + 1 < n ? alphabet[v >> 6 & 63] : '=';
        out[len++] = i + 2 < n ? alphabet[v & 63] : '=';
    }
    return len;
}

struct str base64_encode(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, (s.len + 2) / 3 * 4 + 1);
    return str_n(p, base64_write(s.p, s.len, p));
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

int base64_group(const char in[4], char out[3])
{
    int n = in[3] != '=' ? 3 : in[2] != '=' ? 2 : 1;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int x = i <= n ? value_of(in[i]) : 0;
        if (x < 0)
            return -1;
        v = v << 6 | (uint32_t)x;
    }
    if (v & (n == 3 ? 0u : n == 2 ? 0xffu : 0xffffu))
        return -1;
    out[0] = (char)(v >> 16);
    out[1] = (char)(v >> 8);
    out[2] = (char)v;
    return n;
}

bool base64_decode(struct arena *a, struct str s, struct str *out)
{
    char *p = arena_bytes(a, s.len / 4 * 3 + 1);
    size_t n = 0;
    if (s.len % 4)
        return false;
    for (size_t i = 0; i < s.len; i += 4) {
        char group[3];
        int got = base64_group(s.p + i, group);
        if (got < 0 || (got < 3 && i + 4 < s.len)) /* padding is for the end */
            return false;
        memcpy(p + n, group, (size_t)got);
        n += (size_t)got;
    }
    *out = str_n(p, n);
    return true;
}
