#include "base/timefmt.h"

#include <time.h>

static const uint64_t LAST_SECOND = 253402300799u; /* 9999-12-31T23:59:59Z */

/* Thread-local text is never freed; + 1 so that zeroed memory is no second. */
static _Thread_local struct {
    uint64_t iso_second, http_second;
    char iso[TIMEFMT_ISO_LEN], http[TIMEFMT_HTTP_LEN];
} cache;

static char *put2(char *p, int n)
{
    *p++ = (char)('0' + n / 10 % 10);
    *p++ = (char)('0' + n % 10);
    return p;
}

static struct tm split(uint64_t second)
{
    time_t t = (time_t)second;
    struct tm tm = {0};
    (void)gmtime_r(&t, &tm);
    return tm;
}

static char *put_clock(char *p, const struct tm *tm)
{
    p = put2(p, tm->tm_hour);
    *p++ = ':';
    p = put2(p, tm->tm_min);
    *p++ = ':';
    return put2(p, tm->tm_sec);
}

static char *put_year(char *p, const struct tm *tm)
{
    int year = tm->tm_year + 1900;
    return put2(put2(p, year / 100), year % 100);
}

static void fill_iso(uint64_t second)
{
    struct tm tm = split(second);
    char *p = put_year(cache.iso, &tm);
    *p++ = '-';
    p = put2(p, tm.tm_mon + 1);
    *p++ = '-';
    p = put2(p, tm.tm_mday);
    *p++ = 'T';
    p = put_clock(p, &tm);
    memcpy(p, ".000Z", 5);
    cache.iso_second = second + 1;
}

void timefmt_iso(uint64_t wall_us, char *out)
{
    uint64_t second = wall_us / 1000000;
    int ms = (int)(wall_us / 1000 % 1000);
    if (second > LAST_SECOND) {
        second = LAST_SECOND;
        ms = 999;
    }
    if (cache.iso_second != second + 1)
        fill_iso(second);
    memcpy(out, cache.iso, TIMEFMT_ISO_LEN);
    out[20] = (char)('0' + ms / 100);
    (void)put2(out + 21, ms % 100);
}

static void fill_http(uint64_t second)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm = split(second);
    char *p = cache.http;
    memcpy(p, days + (size_t)tm.tm_wday * 3, 3);
    memcpy(p + 3, ", ", 2);
    p = put2(p + 5, tm.tm_mday);
    *p++ = ' ';
    memcpy(p, months + (size_t)tm.tm_mon * 3, 3);
    p[3] = ' ';
    p = put_year(p + 4, &tm);
    *p++ = ' ';
    p = put_clock(p, &tm);
    memcpy(p, " GMT", 4);
    cache.http_second = second + 1;
}

void timefmt_http(uint64_t wall_us, char *out)
{
    uint64_t second = wall_us / 1000000;
    if (second > LAST_SECOND)
        second = LAST_SECOND;
    if (cache.http_second != second + 1)
        fill_http(second);
    memcpy(out, cache.http, TIMEFMT_HTTP_LEN);
}
