#include "api-protos/scalar_text.h"

#include <math.h>
#include <time.h>

#define DURATION_MAX_S INT64_C(315576000000)
#define TIME_MIN_S INT64_C(-62135596800) /* 0001-01-01 */
#define TIME_MAX_S INT64_C(253402300799) /* 9999-12-31T23:59:59 */

/* Integers written with a point or exponent; exact up to 2^53. */
static bool integral_double(struct str s, double *d)
{
    return str_to_double(s, d) && *d == floor(*d) && fabs(*d) <= 9007199254740992.0;
}

bool scalar_i64(struct str s, int64_t *out)
{
    double d;
    if (str_to_i64(s, out))
        return true;
    if (!integral_double(s, &d))
        return false;
    *out = (int64_t)d;
    return true;
}

bool scalar_u64(struct str s, uint64_t *out)
{
    double d;
    if (str_to_u64(s, out))
        return true;
    if (!integral_double(s, &d) || d < 0)
        return false;
    *out = (uint64_t)d;
    return true;
}

bool scalar_double(struct str s, bool words, double *out)
{
    if (words && str_eq(s, STR("NaN"))) {
        *out = (double)NAN;
        return true;
    }
    if (words && (str_eq(s, STR("Infinity")) || str_eq(s, STR("-Infinity")))) {
        *out = s.p[0] == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    return str_to_double(s, out) && isfinite(*out);
}

/* Up to nine digits after a point, as nanoseconds; takes them off s. */
static bool take_fraction(struct str *s, int32_t *nanos)
{
    int digits = 0;
    *nanos = 0;
    if (s->len == 0 || s->p[0] != '.')
        return true;
    *s = str_n(s->p + 1, s->len - 1);
    for (; s->len > 0 && s->p[0] >= '0' && s->p[0] <= '9'; digits++) {
        if (digits == 9)
            return false;
        *nanos = *nanos * 10 + (s->p[0] - '0');
        *s = str_n(s->p + 1, s->len - 1);
    }
    for (int i = digits; i < 9; i++)
        *nanos *= 10;
    return digits > 0;
}

bool scalar_duration_ok(int64_t seconds, int32_t nanos)
{
    if (seconds < -DURATION_MAX_S || seconds > DURATION_MAX_S || nanos <= -1000000000 ||
        nanos >= 1000000000)
        return false;
    return !(seconds < 0 && nanos > 0) && !(seconds > 0 && nanos < 0);
}

bool scalar_duration(struct str s, int64_t *seconds, int32_t *nanos)
{
    bool negative = s.len > 0 && s.p[0] == '-';
    uint64_t whole;
    size_t n = 0;
    if (!str_ends(s, STR("s")))
        return false;
    s = str_n(s.p + negative, s.len - 1 - negative);
    while (n < s.len && s.p[n] >= '0' && s.p[n] <= '9')
        n++;
    if (!str_to_u64(str_n(s.p, n), &whole) || whole > (uint64_t)DURATION_MAX_S)
        return false;
    s = str_n(s.p + n, s.len - n);
    if (!take_fraction(&s, nanos) || s.len > 0)
        return false;
    *seconds = negative ? -(int64_t)whole : (int64_t)whole;
    *nanos = negative ? -*nanos : *nanos;
    return scalar_duration_ok(*seconds, *nanos);
}

/* `n` digits at offset `at`, -1 if they are none. */
static int digits_at(struct str s, size_t at, size_t n)
{
    int v = 0;
    if (s.len < at + n)
        return -1;
    for (size_t i = at; i < at + n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        v = v * 10 + (s.p[i] - '0');
    }
    return v;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400, of_era = y % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool date_ok(int year, int month, int day)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1 || month < 1 || month > 12 || day < 1)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= lengths[month - 1] + (month == 2 && leap);
}

/* "Z" or "+01:00" */
static bool zone_seconds(struct str s, int64_t *out)
{
    if (str_eq(s, STR("Z"))) {
        *out = 0;
        return true;
    }
    int hours = digits_at(s, 1, 2), minutes = digits_at(s, 4, 2);
    if (s.len != 6 || (s.p[0] != '+' && s.p[0] != '-') || s.p[3] != ':' || hours < 0 ||
        hours > 23 || minutes < 0 || minutes > 59)
        return false;
    *out = (s.p[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

bool scalar_timestamp(struct str s, int64_t *seconds, int32_t *nanos)
{
    int year = digits_at(s, 0, 4), month = digits_at(s, 5, 2), day = digits_at(s, 8, 2);
    int hour = digits_at(s, 11, 2), minute = digits_at(s, 14, 2), second = digits_at(s, 17, 2);
    int64_t zone;
    if (second < 0 || s.p[4] != '-' || s.p[7] != '-' || s.p[10] != 'T' || s.p[13] != ':' ||
        s.p[16] != ':')
        return false;
    if (!date_ok(year, month, day) || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second > 59)
        return false;
    s = str_n(s.p + 19, s.len - 19);
    if (!take_fraction(&s, nanos) || !zone_seconds(s, &zone))
        return false;
    *seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone;
    return *seconds >= TIME_MIN_S && *seconds <= TIME_MAX_S;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

bool scalar_base64(struct str s, struct arena *a, struct str *out)
{
    size_t padding = 0;
    uint32_t bits = 0;
    int have = 0;
    while (s.len > 0 && padding < 2 && s.p[s.len - 1] == '=') {
        s.len--;
        padding++;
    }
    if (s.len % 4 == 1 || (padding && (s.len + padding) % 4 != 0))
        return false;
    char *p = arena_bytes(a, s.len / 4 * 3 + 3), *at = p;
    for (size_t i = 0; i < s.len; i++) {
        int d = base64_digit(s.p[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *at++ = (char)(bits >> have);
        }
    }
    *out = str_n(p, (size_t)(at - p));
    return true;
}

struct str scalar_base64_text(struct str s, struct arena *a)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *p = arena_bytes(a, (s.len + 2) / 3 * 4 + 1), *at = p;
    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = (uint32_t)(uint8_t)s.p[i] << 16;
        v |= n > 1 ? (uint32_t)(uint8_t)s.p[i + 1] << 8 : 0;
        v |= n > 2 ? (uint8_t)s.p[i + 2] : 0;
        *at++ = alphabet[v >> 18];
        *at++ = alphabet[v >> 12 & 63];
        *at++ = n > 1 ? alphabet[v >> 6 & 63] : '=';
        *at++ = n > 2 ? alphabet[v & 63] : '=';
    }
    return str_n(p, (size_t)(at - p));
}

struct str scalar_snake(struct str s, struct arena *a)
{
    char *p = arena_bytes(a, 2 * s.len + 1), *at = p;
    for (size_t i = 0; i < s.len; i++) {
        bool upper = s.p[i] >= 'A' && s.p[i] <= 'Z';
        if (upper)
            *at++ = '_';
        *at++ = upper ? (char)(s.p[i] - 'A' + 'a') : s.p[i];
    }
    return str_n(p, (size_t)(at - p));
}

struct str scalar_camel(struct str s, struct arena *a)
{
    char *p = arena_bytes(a, s.len + 1), *at = p;
    for (size_t i = 0; i < s.len; i++) {
        bool raise = s.p[i] == '_' && i + 1 < s.len && s.p[i + 1] >= 'a' && s.p[i + 1] <= 'z';
        i += raise;
        *at++ = raise ? (char)(s.p[i] - 'a' + 'A') : s.p[i];
    }
    return str_n(p, (size_t)(at - p));
}

/* The fraction with 0, 3, 6 or 9 digits. */
static struct str fraction(int32_t nanos, struct arena *a)
{
    if (nanos == 0)
        return STR("");
    if (nanos % 1000000 == 0)
        return arena_printf(a, ".%03d", nanos / 1000000);
    if (nanos % 1000 == 0)
        return arena_printf(a, ".%06d", nanos / 1000);
    return arena_printf(a, ".%09d", nanos);
}

struct str scalar_duration_text(int64_t seconds, int32_t nanos, struct arena *a)
{
    if (!scalar_duration_ok(seconds, nanos))
        return STR_NULL;
    bool negative = seconds < 0 || nanos < 0;
    struct str f = fraction(negative ? -nanos : nanos, a);
    return arena_printf(a, "%s%lld%.*ss", negative ? "-" : "",
                        (long long)(negative ? -seconds : seconds), STR_ARG(f));
}

struct str scalar_timestamp_text(int64_t seconds, int32_t nanos, struct arena *a)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (seconds < TIME_MIN_S || seconds > TIME_MAX_S || nanos < 0 || nanos >= 1000000000 ||
        !gmtime_r(&t, &tm))
        return STR_NULL;
    struct str f = fraction(nanos, a);
    return arena_printf(a, "%04d-%02d-%02dT%02d:%02d:%02d%.*sZ", tm.tm_year + 1900, tm.tm_mon + 1,
                        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, STR_ARG(f));
}
