#include "proxy/http/ip_detection.h"

#include "api-protos/message.h"
#include "api-protos/wkt.h"
#include "base/cidr.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header.pb-c.h"
#include "envoy/extensions/http/original_ip_detection/xff/v3/xff.pb-c.h"

typedef Envoy__Config__Core__V3__TypedExtensionConfig Extension;
typedef Envoy__Extensions__Http__OriginalIpDetection__Xff__V3__XffConfig Xff;
typedef Envoy__Extensions__Http__OriginalIpDetection__CustomHeader__V3__CustomHeaderConfig Custom;

enum kind { BY_HOPS, BY_CIDRS, BY_HEADER };

struct extension {
    enum kind kind;
    uint32_t hops;
    struct cidr *cidrs; /* of the proxies we trust */
    size_t num_cidrs;
    bool append;
    struct str header; /* lower case */
    bool trusted;
    unsigned reject; /* 0: goes on */
};

struct ip_detection {
    struct extension *v;
    size_t n;
};

/* --- compiling ---------------------------------------------------------------------------------
 */

static void compile_cidrs(struct extension *x, struct arena *a, const Xff *m, struct errors *e)
{
    size_t outer = errors_push(e, "xff_trusted_cidrs");
    x->num_cidrs = m->xff_trusted_cidrs->n_cidrs;
    x->cidrs = arena_zalloc(a, (x->num_cidrs + 1) * sizeof(*x->cidrs));
    for (size_t i = 0; i < x->num_cidrs; i++) {
        const Envoy__Config__Core__V3__CidrRange *r = m->xff_trusted_cidrs->cidrs[i];
        uint32_t len = wkt_u32(r->prefix_len, 0);
        if (!cidr_make(str_of(r->address_prefix), len, &x->cidrs[i])) {
            size_t mark = errors_push_index(e, "cidrs", i);
            errors_add(e, NULL, "malformed IP address range: %s/%u", r->address_prefix, len);
            errors_pop(e, mark);
        }
    }
    errors_pop(e, outer);
}

static void compile_xff(struct extension *x, struct arena *a, const Xff *m, struct errors *e)
{
    x->hops = m->xff_num_trusted_hops;
    x->append = !wkt_bool(m->skip_xff_append, true);
    if (!m->xff_trusted_cidrs || !m->xff_trusted_cidrs->n_cidrs)
        return;
    if (x->hops)
        errors_add(e, "xff_trusted_cidrs", "and xff_num_trusted_hops cannot both be set");
    x->kind = BY_CIDRS;
    compile_cidrs(x, a, m, e);
}

static void compile_custom(struct extension *x, struct arena *a, const Custom *m)
{
    x->kind = BY_HEADER;
    char *p = arena_bytes(a, strlen(m->header_name) + 1);
    for (size_t i = 0; i <= strlen(m->header_name); i++) {
        char c = m->header_name[i];
        p[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    x->header = str_of(p);
    x->trusted = m->allow_extension_to_set_address_as_trusted;
    if (!m->reject_with_status)
        return;
    unsigned code = (unsigned)m->reject_with_status->code;
    x->reject = code >= 400 && code < 600 ? code : 403;
}

static void compile_extension(struct extension *x, struct arena *a, const Extension *m,
                              const struct pb_opts *pb, struct errors *e)
{
    struct pb_any any;
    size_t mark = errors_push(e, "typed_config");
    enum pb_any_status status = pb_any_unpack(m->typed_config, a, e, pb, &any);
    if (any.type ==
        &envoy__extensions__http__original_ip_detection__xff__v3__xff_config__descriptor) {
        if (status == PB_ANY_OK)
            compile_xff(x, a, (const Xff *)any.message, e);
    } else if (
        any.type ==
        &envoy__extensions__http__original_ip_detection__custom_header__v3__custom_header_config__descriptor) {
        if (status == PB_ANY_OK)
            compile_custom(x, a, (const Custom *)any.message);
    } else if (status != PB_ANY_INVALID) {
        errors_add(e, NULL, "the IP detection %.*s is not supported", STR_ARG(any.type_name));
    }
    errors_pop(e, mark);
}

struct ip_detection *ip_detection_compile(struct arena *a, void *const *msgs, size_t n,
                                          const struct pb_opts *pb, struct errors *e)
{
    size_t before = e->num_errors;
    struct ip_detection *d = ARENA_NEW(a, struct ip_detection);
    d->v = arena_zalloc(a, (n + 1) * sizeof(*d->v));
    d->n = n;
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, "original_ip_detection_extensions", i);
        compile_extension(&d->v[i], a, msgs[i], pb, e);
        errors_pop(e, mark);
    }
    return e->num_errors == before ? d : NULL;
}

/* --- X-Forwarded-For ---------------------------------------------------------------------------
 */

/* Cuts the last entry off; false: there was none. */
static bool take_last(struct str *xff, struct str *out)
{
    if (!xff->p)
        return false;
    size_t i = xff->len;
    while (i > 0 && xff->p[i - 1] != ',')
        i--;
    *out = str_trim(str_n(xff->p + i, xff->len - i));
    *xff = i ? str_n(xff->p, i - 1) : STR_NULL;
    return true;
}

bool xff_address(struct str xff, uint32_t hops, struct addr *out)
{
    struct str last = STR_NULL;
    for (uint32_t skip = 0; skip <= hops; skip++) {
        if (!take_last(&xff, &last))
            return false;
    }
    return addr_parse_ip(last, 0, out);
}

static bool is_trusted(const struct extension *x, const struct addr *a)
{
    for (size_t i = 0; i < x->num_cidrs; i++) {
        if (cidr_contains(&x->cidrs[i], a))
            return true;
    }
    return false;
}

/* The last entry that is not a trusted proxy's, or the first one if all are. */
static bool first_stranger(const struct extension *x, struct str xff, struct addr *out)
{
    struct str last;
    bool any = false;
    while (take_last(&xff, &last)) {
        if (!addr_parse_ip(last, 0, out))
            return false;
        any = true;
        if (!is_trusted(x, out))
            break;
    }
    return any;
}

/* --- detecting ---------------------------------------------------------------------------------
 */

static struct ip_detected by_header(const struct extension *x, const struct headers *h,
                                    struct arena *scratch)
{
    struct str value;
    struct ip_detected r = {.trusted = x->trusted};
    r.found = headers_value(h, x->header, scratch, &value) && addr_parse_ip(value, 0, &r.addr);
    if (!r.found)
        r.reject = x->reject;
    return r;
}

static struct ip_detected detect(const struct extension *x, const struct headers *h,
                                 const struct addr *peer, struct arena *scratch)
{
    struct str xff = STR_NULL;
    struct ip_detected r = {.append = x->append};
    if (x->kind == BY_HEADER)
        return by_header(x, h, scratch);
    bool from_proxy = x->kind != BY_CIDRS || is_trusted(x, peer);
    if (!from_proxy) {
        r.append = true;
        return r;
    }
    if (!headers_value(h, STR("x-forwarded-for"), scratch, &xff))
        return r;
    r.found = x->kind == BY_CIDRS ? first_stranger(x, xff, &r.addr)
                                  : xff_address(xff, x->hops, &r.addr);
    r.trusted = str_chr(xff, ',') < 0;
    return r;
}

struct ip_detected ip_detect(const struct ip_detection *d, const struct headers *h,
                             const struct addr *peer, struct arena *scratch)
{
    struct ip_detected r = {0};
    for (size_t i = 0; i < d->n && !r.found && !r.reject; i++)
        r = detect(&d->v[i], h, peer, scratch);
    return r;
}
