#include "base/cidr.h"

#include <stdio.h>

static uint8_t max_bits(uint8_t family)
{
    return family == ADDR_IPV4 ? 32 : 128;
}

static void clear_host_bits(struct cidr *c)
{
    for (unsigned i = 0; i < sizeof(c->ip); i++) {
        if (i * 8 >= c->bits)
            c->ip[i] = 0;
        else if (c->bits - i * 8 < 8)
            c->ip[i] &= (uint8_t)(0xff00u >> (c->bits - i * 8));
    }
}

static void from_addr(struct cidr *c, const struct addr *a)
{
    struct str ip = addr_ip_bytes(a);
    *c = (struct cidr){.family = (uint8_t)addr_family(a), .bits = (uint8_t)(ip.len * 8)};
    if (ip.len)
        memcpy(c->ip, ip.p, ip.len);
}

bool cidr_make(struct str ip, uint32_t bits, struct cidr *out)
{
    struct addr a;
    *out = (struct cidr){0};
    if (!addr_parse_ip(ip, 0, &a) || (a.sa.sa_family == AF_INET6 && a.in6.sin6_scope_id))
        return false;
    struct cidr c;
    from_addr(&c, &a);
    if (bits > max_bits(c.family))
        return false;
    c.bits = (uint8_t)bits;
    clear_host_bits(&c);
    *out = c;
    return true;
}

bool cidr_parse(struct str text, struct cidr *out)
{
    ptrdiff_t slash = str_chr(text, '/');
    uint64_t bits;
    *out = (struct cidr){0};
    if (slash < 0)
        return cidr_make(text, str_chr(text, ':') >= 0 ? 128 : 32, out);
    struct str tail = str_n(text.p + slash + 1, text.len - (size_t)slash - 1);
    if (tail.len > 3 || !str_to_u64(tail, &bits))
        return false;
    return cidr_make(str_n(text.p, (size_t)slash), (uint32_t)bits, out);
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    if (bytes && memcmp(a, b, bytes) != 0)
        return false;
    return rest == 0 || ((a[bytes] ^ b[bytes]) & (0xff00u >> rest) & 0xff) == 0;
}

bool cidr_contains(const struct cidr *c, const struct addr *a)
{
    struct cidr host;
    from_addr(&host, a);
    if (host.family == c->family)
        return host.family != ADDR_NONE && same_prefix(c->ip, host.ip, c->bits);
    return c->family == ADDR_IPV4 && addr_is_v4_mapped(a) &&
           same_prefix(c->ip, host.ip + 12, c->bits);
}

bool cidr_eq(const struct cidr *a, const struct cidr *b)
{
    return a->family == b->family && a->bits == b->bits && memcmp(a->ip, b->ip, 16) == 0;
}

struct str cidr_format(const struct cidr *c, char *buf)
{
    char ip[ADDR_TEXT_MAX];
    struct addr a = {0};
    if (c->family == ADDR_IPV4) {
        a.in.sin_family = AF_INET;
        memcpy(&a.in.sin_addr, c->ip, 4);
    } else if (c->family == ADDR_IPV6) {
        a.in6.sin6_family = AF_INET6;
        memcpy(&a.in6.sin6_addr, c->ip, 16);
    }
    struct str s = addr_format_ip(&a, ip);
    int n = s.len ? snprintf(buf, CIDR_TEXT_MAX, "%.*s/%u", STR_ARG(s), c->bits) : 0;
    if (!n)
        buf[0] = '\0';
    return str_n(buf, (size_t)n);
}

/* --- map ---------------------------------------------------------------------------------- */

void cidr_map_init(struct cidr_map *m)
{
    *m = (struct cidr_map){0};
}

void cidr_map_cleanup(struct cidr_map *m, void (*free_value)(void *))
{
    for (int f = 0; f < 2; f++) {
        for (size_t i = 0; free_value && i < m->num[f]; i++) {
            if (m->entries[f][i].value)
                free_value(m->entries[f][i].value);
        }
        mem_free(m->entries[f]);
    }
    cidr_map_init(m);
}

/* Sorted by address, then from the widest range to the narrowest: a range comes before all that lie
 * in it. */
static int order(const struct cidr *a, const struct cidr *b)
{
    int r = memcmp(a->ip, b->ip, sizeof(a->ip));
    return r ? r : (int)a->bits - (int)b->bits;
}

/* The number of entries that sort at or before c. */
static size_t upper_bound(const struct cidr_map *m, int f, const struct cidr *c)
{
    size_t lo = 0, hi = m->num[f];
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (order(&m->entries[f][mid].cidr, c) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void **cidr_map_slot(struct cidr_map *m, const struct cidr *c)
{
    CHECK(!m->sealed && (c->family == ADDR_IPV4 || c->family == ADDR_IPV6));
    int f = c->family == ADDR_IPV6;
    size_t at = upper_bound(m, f, c);
    if (at > 0 && cidr_eq(&m->entries[f][at - 1].cidr, c))
        return &m->entries[f][at - 1].value;
    m->entries[f] = mem_grow_array(m->entries[f], &m->cap[f], m->num[f] + 1,
                                   sizeof(*m->entries[f]));
    struct cidr_map_entry *e = m->entries[f] + at;
    if (at < m->num[f])
        memmove(e + 1, e, (m->num[f] - at) * sizeof(*e));
    m->num[f]++;
    *e = (struct cidr_map_entry){.cidr = *c, .parent = SIZE_MAX};
    return &e->value;
}

void cidr_map_seal(struct cidr_map *m)
{
    for (int f = 0; f < 2; f++) {
        for (size_t i = 1; i < m->num[f]; i++) {
            struct cidr_map_entry *e = &m->entries[f][i];
            size_t up = i - 1;
            while (up != SIZE_MAX &&
                   !same_prefix(m->entries[f][up].cidr.ip, e->cidr.ip, m->entries[f][up].cidr.bits))
                up = m->entries[f][up].parent;
            e->parent = up;
        }
    }
    m->sealed = true;
}

/* The last entry that sorts at or before the address either contains it or lies in the ranges that
 * do. */
static void *find(const struct cidr_map *m, const struct cidr *host)
{
    int f = host->family == ADDR_IPV6;
    size_t at = upper_bound(m, f, host);
    if (at == 0)
        return NULL;
    for (at--; at != SIZE_MAX; at = m->entries[f][at].parent) {
        const struct cidr_map_entry *e = &m->entries[f][at];
        if (same_prefix(e->cidr.ip, host->ip, e->cidr.bits))
            return e->value;
    }
    return NULL;
}

void *cidr_map_find(const struct cidr_map *m, const struct addr *a)
{
    struct cidr host;
    struct addr v4 = *a;
    CHECK(m->sealed);
    if (!addr_is_ip(a))
        return NULL;
    if (addr_is_v4_mapped(a)) {
        addr_unmap(&v4);
        from_addr(&host, &v4);
        void *value = find(m, &host);
        if (value)
            return value;
    }
    from_addr(&host, a);
    return find(m, &host);
}
