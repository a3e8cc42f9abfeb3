#include "proxy/filters/filter_common.h"

#include "api-protos/wkt.h"
#include "base/random.h"
#include "envoy/config/core/v3/base.pb-c.h"

uint32_t filter_fraction_ppm(const Envoy__Config__Core__V3__RuntimeFractionalPercent *p,
                             uint32_t def)
{
    return p ? wkt_fraction_ppm(p->default_value, 0) : def;
}

bool filter_chance(uint32_t ppm)
{
    return ppm >= FILTER_ALWAYS_PPM || (ppm && random_below(FILTER_ALWAYS_PPM) < ppm);
}

struct str filter_lower(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] | 0x20 : s.p[i]);
    p[s.len] = '\0';
    return str_n(p, s.len);
}

static bool cookie_in(struct str rest, struct str name, struct str *out)
{
    struct str part;
    while (str_next(&rest, ';', &part)) {
        part = str_trim(part);
        if (part.len <= name.len || part.p[name.len] != '=' || !str_starts(part, name))
            continue;
        struct str v = str_n(part.p + name.len + 1, part.len - name.len - 1);
        bool quoted = v.len >= 2 && v.p[0] == '"' && v.p[v.len - 1] == '"';
        *out = quoted ? str_n(v.p + 1, v.len - 2) : v;
        return true;
    }
    return false;
}

bool filter_cookie(const struct headers *h, struct str name, struct str *out)
{
    for (const struct header *f = headers_known(h, HDR_COOKIE); f; f = headers_next(h, f)) {
        if (cookie_in(f->value, name, out))
            return true;
    }
    return false;
}
