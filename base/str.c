#include "base/str.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

/* Locale-independent, unlike tolower(3). */
static inline unsigned char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : (unsigned char)c;
}

bool str_ieq(struct str a, struct str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    }
    return true;
}

int str_cmp(struct str a, struct str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int r = n ? memcmp(a.p, b.p, n) : 0;
    if (r != 0)
        return r;
    return a.len < b.len ? -1 : a.len > b.len;
}

bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_eq(str_n(s.p, prefix.len), prefix);
}

bool str_istarts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_ieq(str_n(s.p, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    if (suffix.len == 0)
        return true;
    return s.len >= suffix.len && str_eq(str_n(s.p + (s.len - suffix.len), suffix.len), suffix);
}

ptrdiff_t str_chr(struct str s, char c)
{
    const char *at = s.len ? memchr(s.p, c, s.len) : NULL;
    return at ? at - s.p : -1;
}

ptrdiff_t str_find(struct str s, struct str needle)
{
    if (needle.len == 0)
        return 0;
    if (s.len < needle.len)
        return -1;
    const char *at = memmem(s.p, s.len, needle.p, needle.len);
    return at ? at - s.p : -1;
}

struct str str_trim(struct str s)
{
    while (s.len && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.len--;
    }
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* The end is told by p == NULL, so that "a," gives "a" and then an empty token. */
bool str_next(struct str *rest, char sep, struct str *tok)
{
    if (!rest->p)
        return false;
    ptrdiff_t at = str_chr(*rest, sep);
    if (at < 0) {
        *tok = *rest;
        *rest = STR_NULL;
        return true;
    }
    *tok = str_n(rest->p, (size_t)at);
    rest->p += at + 1;
    rest->len -= (size_t)at + 1;
    return true;
}

bool str_to_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned d = (unsigned char)s.p[i] - (unsigned)'0';
        if (d > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v))
            return false;
    }
    *out = v;
    return true;
}

bool str_to_i64(struct str s, int64_t *out)
{
    bool neg = s.len && s.p[0] == '-';
    uint64_t v;
    if (!str_to_u64(neg ? str_n(s.p + 1, s.len - 1) : s, &v))
        return false;
    if (v > (uint64_t)INT64_MAX + neg)
        return false;
    *out = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* Only [-+]digits[.digits][e[-+]digits]: strtod alone would also take hex, "inf" and spaces. */
static bool is_decimal(struct str s)
{
    size_t i = 0, digits = 0;
    if (i < s.len && (s.p[i] == '-' || s.p[i] == '+'))
        i++;
    for (; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        digits++;
    if (i < s.len && s.p[i] == '.') {
        for (i++; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++)
            digits++;
    }
    if (!digits)
        return false;
    if (i == s.len)
        return true;
    if (s.p[i] != 'e' && s.p[i] != 'E')
        return false;
    i++;
    if (i < s.len && (s.p[i] == '-' || s.p[i] == '+'))
        i++;
    size_t start = i;
    while (i < s.len && s.p[i] >= '0' && s.p[i] <= '9')
        i++;
    return i == s.len && i > start;
}

bool str_to_double(struct str s, double *out)
{
    static locale_t c_locale;
    char buf[512];
    if (s.len >= sizeof(buf) || !is_decimal(s))
        return false;
    memcpy(buf, s.p, s.len);
    buf[s.len] = '\0';
    locale_t loc = __atomic_load_n(&c_locale, __ATOMIC_ACQUIRE);
    if (!loc) {
        locale_t fresh = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (__atomic_compare_exchange_n(&c_locale, &loc, fresh, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            loc = fresh;
        else
            freelocale(fresh);
    }
    double v = strtod_l(buf, NULL, loc);
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}
