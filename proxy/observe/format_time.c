#include "proxy/observe/format_time.h"

#include "base/timefmt.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Conversions given to strftime: C17's, and %k %l %P of everybody's. The rest stays as written. */
static const char strftime_plain[] = "aAbBcCdDeFgGhHIjklmMpPrRTuUVwWxXyYzZn%t";

/* What the parts of a conversion mean: %[digits]f, %[digits]s, %E<digits or *>{S,f}, %E4Y, %:z. */
static size_t parse_conversion(struct str s, struct format_time_part *out)
{
    size_t i = 1;
    bool extended = false;
    out->digits = 0;
    if (i < s.len && (s.p[i] == 'E' || s.p[i] == 'O')) {
        extended = s.p[i] == 'E';
        i++;
    }
    size_t at = i;
    if (i < s.len && s.p[i] >= '1' && s.p[i] <= '9')
        out->digits = (uint8_t)(s.p[i++] - '0');
    bool all = extended && at == i && i < s.len && s.p[i] == '*';
    i += all;
    if (i >= s.len)
        return 0;
    char c = s.p[i];
    bool counted = i > at;
    if (c == 'f' || c == 's') {
        if (c == 'f' && !counted)
            out->digits = 9;
    } else if (c == 'S' && extended && counted) {
        c = 'E';
    } else if (c == 'Y' && extended && out->digits == 4) {
        c = 'Y';
    } else if (c == 'z' && (extended || s.p[i - 1] == ':')) {
        c = ':';
    } else if (counted || !strchr(strftime_plain, c)) {
        return 0;
    }
    out->conversion = c;
    return i + 1;
}

static size_t parse_part(struct str s, struct format_time_part *out)
{
    out->conversion = 0;
    if (s.p[0] != '%') {
        ptrdiff_t at = str_chr(s, '%');
        out->text = str_n(s.p, at < 0 ? s.len : (size_t)at);
        return out->text.len;
    }
    if (s.len >= 3 && s.p[1] == ':' && s.p[2] == 'z') {
        out->conversion = ':';
        return 3;
    }
    size_t used = parse_conversion(s, out);
    if (used)
        return used;
    out->text = str_n(s.p, 1); /* no conversion: the text itself */
    return 1;
}

void format_time_compile(struct format_time *t, struct arena *a, struct str param, bool local)
{
    *t = (struct format_time){.local = local};
    if (!param.len && !local)
        return;
    static const char iso_local[] = "%Y-%m-%dT%H:%M:%E3S%z";
    struct str rest = param.len ? arena_str(a, param) : str_of(iso_local);
    t->parts = arena_zalloc(a, rest.len * sizeof(*t->parts)); /* a part takes at least one byte */
    while (rest.len) {
        size_t used = parse_part(rest, &t->parts[t->num_parts++]);
        rest = str_n(rest.p + used, rest.len - used);
    }
}

static void put_fraction(uint32_t nanos, unsigned digits, struct format_out *o)
{
    char buf[9];
    for (unsigned i = 9; i-- > 0; nanos /= 10)
        buf[i] = (char)('0' + nanos % 10);
    if (digits == 0) { /* as many as there are, at least one */
        for (digits = 9; digits > 1 && buf[digits - 1] == '0';)
            digits--;
    }
    format_out_put(o, str_n(buf, digits));
}

/* "+00:00": strftime has no conversion for it. */
static void put_zone(const struct tm *tm, struct format_out *o)
{
    char buf[16];
    long minutes = labs(tm->tm_gmtoff) / 60;
    int n = snprintf(buf, sizeof(buf), "%c%02ld:%02ld", tm->tm_gmtoff < 0 ? '-' : '+', minutes / 60,
                     minutes % 60);
    format_out_put(o, str_n(buf, (size_t)n));
}

static void put_part(const struct format_time_part *p, const struct tm *tm, uint64_t wall_us,
                     struct format_out *o)
{
    char buf[128];
    uint32_t nanos = (uint32_t)(wall_us % 1000000) * 1000;
    switch (p->conversion) {
    case 0:
        format_out_put(o, p->text);
        return;
    case 'f':
        put_fraction(nanos, p->digits, o);
        return;
    case 's':
        format_out_put(o, format_u64(wall_us / 1000000, buf));
        return;
    case ':':
        put_zone(tm, o);
        return;
    }
    char conversion[3] = {'%', p->conversion == 'E' ? 'S' : p->conversion, '\0'};
    size_t n = strftime(buf, sizeof(buf), conversion, tm);
    format_out_put(o, str_n(buf, n));
    if (p->conversion == 'E') {
        format_out_put(o, STR("."));
        put_fraction(nanos, p->digits, o);
    }
}

void format_time_put(const struct format_time *t, uint64_t wall_us, struct format_out *o)
{
    if (!t->parts) {
        char iso[TIMEFMT_ISO_LEN];
        timefmt_iso(wall_us, iso);
        format_out_put(o, str_n(iso, sizeof(iso)));
        return;
    }
    struct tm tm;
    time_t seconds = (time_t)(wall_us / 1000000);
    if (!(t->local ? localtime_r(&seconds, &tm) : gmtime_r(&seconds, &tm)))
        memset(&tm, 0, sizeof(tm)); /* a year that does not fit: nobody's clock says so */
    for (size_t i = 0; i < t->num_parts; i++)
        put_part(&t->parts[i], &tm, wall_us, o);
}
