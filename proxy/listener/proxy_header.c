#include "proxy/listener/proxy_header.h"

#include "base/cursor.h"

#define V1_SIGNATURE STR("PROXY ")
#define V2_SIGNATURE STR("\r\n\r\n\0\r\nQUIT\n")

enum {
    V2_FIXED = 16,
    V2_LOCAL = 0,
    V2_PROXY = 1,
    FAMILY_INET = 1,
    FAMILY_INET6 = 2,
    PROTO_STREAM = 1,
    PROTO_DGRAM = 2,
};

/* TCP has no other ends. */
static bool is_unicast(const struct addr *a)
{
    struct str ip = addr_ip_bytes(a);
    const uint8_t *b = (const uint8_t *)ip.p;
    if (addr_is_any(a))
        return false;
    if (ip.len == 16)
        return b[0] != 0xff;
    return b[0] >> 4 != 14 && !str_eq(ip, STR("\xff\xff\xff\xff"));
}

static bool unicast(const struct proxy_header *h)
{
    return is_unicast(&h->source) && is_unicast(&h->destination);
}

/* --- version 1 --- */

static bool read_port(struct str s, struct addr *a)
{
    uint64_t port;
    if (!str_to_u64(s, &port) || port > 65535)
        return false;
    addr_set_port(a, (uint16_t)port);
    return true;
}

/* What follows the signature, without the end of the line. */
static bool read_v1(struct str line, struct proxy_header *out)
{
    struct str f[5], rest = line, more;
    if (str_eq(line, STR("UNKNOWN")) || str_starts(line, STR("UNKNOWN "))) {
        out->local = true;
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(f); i++) {
        if (!str_next(&rest, ' ', &f[i]))
            return false;
    }
    enum addr_family family = str_eq(f[0], STR("TCP4"))   ? ADDR_IPV4
                              : str_eq(f[0], STR("TCP6")) ? ADDR_IPV6
                                                          : ADDR_NONE;
    return family != ADDR_NONE && !str_next(&rest, ' ', &more) &&
           addr_parse_ip(f[1], 0, &out->source) && addr_parse_ip(f[2], 0, &out->destination) &&
           addr_family(&out->source) == family && addr_family(&out->destination) == family &&
           read_port(f[3], &out->source) && read_port(f[4], &out->destination) && unicast(out);
}

static enum proxy_header_status parse_v1(struct str bytes, struct proxy_header *out)
{
    size_t n = bytes.len < PROXY_HEADER_V1_MAX ? bytes.len : PROXY_HEADER_V1_MAX;
    struct str head = str_n(bytes.p, n);
    ptrdiff_t end = str_find(head, STR("\r\n"));
    if (end < 0 && n == PROXY_HEADER_V1_MAX)
        return PROXY_HEADER_ERROR;
    if (end < 0) {
        out->need = n + 1;
        return PROXY_HEADER_MORE;
    }
    out->len = (size_t)end + 2;
    struct str line = str_n(bytes.p + V1_SIGNATURE.len, (size_t)end - V1_SIGNATURE.len);
    return read_v1(line, out) ? PROXY_HEADER_OK : PROXY_HEADER_ERROR;
}

/* --- version 2 --- */

bool proxy_tlv_next(struct str *rest, uint8_t *type, struct str *value)
{
    struct cursor c = cursor_of(*rest), v;
    if (!cursor_u8(&c, type) || !cursor_vec16(&c, &v))
        return false;
    *value = cursor_rest(&v);
    *rest = cursor_rest(&c);
    return true;
}

static bool read_addr(struct cursor *c, bool v6, struct addr *a)
{
    struct str ip;
    if (!cursor_bytes(c, v6 ? 16 : 4, &ip))
        return false;
    *a = (struct addr){0};
    if (v6) {
        a->in6.sin6_family = AF_INET6;
        memcpy(&a->in6.sin6_addr, ip.p, ip.len);
    } else {
        a->in.sin_family = AF_INET;
        memcpy(&a->in.sin_addr, ip.p, ip.len);
    }
    return true;
}

static bool read_addresses(struct cursor *c, uint8_t family, struct proxy_header *out)
{
    uint16_t from, to;
    bool v6 = family == FAMILY_INET6;
    if ((family != FAMILY_INET && !v6) || !read_addr(c, v6, &out->source) ||
        !read_addr(c, v6, &out->destination) || !cursor_u16(c, &from) || !cursor_u16(c, &to))
        return false;
    addr_set_port(&out->source, from);
    addr_set_port(&out->destination, to);
    return unicast(out);
}

/* Whole TLVs to the last byte: a length that does not fit would let a payload begin inside. */
static bool check_tlvs(struct str tlvs)
{
    uint8_t type;
    struct str value;
    while (tlvs.len) {
        if (!proxy_tlv_next(&tlvs, &type, &value))
            return false;
    }
    return true;
}

static enum proxy_header_status parse_v2(struct str bytes, struct proxy_header *out)
{
    struct cursor c = cursor_of(bytes), body;
    uint8_t command, kind;
    uint16_t len;
    out->need = bytes.len + 1;
    if (!cursor_skip(&c, V2_SIGNATURE.len))
        return PROXY_HEADER_MORE;
    if (!cursor_u8(&c, &command))
        return PROXY_HEADER_MORE;
    if (command >> 4 != 2 || (command & 15) > V2_PROXY)
        return PROXY_HEADER_ERROR;
    if (!cursor_u8(&c, &kind) || !cursor_u16(&c, &len))
        return PROXY_HEADER_MORE;
    out->len = V2_FIXED + (size_t)len;
    out->need = out->len;
    if (!cursor_sub(&c, len, &body))
        return PROXY_HEADER_MORE;
    /* Section 2.2: of LOCAL, whatever follows is passed over. */
    if ((command & 15) == V2_LOCAL) {
        out->local = true;
        return PROXY_HEADER_OK;
    }
    unsigned proto = kind & 15;
    if ((proto != PROTO_STREAM && proto != PROTO_DGRAM) || !read_addresses(&body, kind >> 4, out))
        return PROXY_HEADER_ERROR;
    out->tlvs = cursor_rest(&body);
    return check_tlvs(out->tlvs) ? PROXY_HEADER_OK : PROXY_HEADER_ERROR;
}

static bool begins(struct str bytes, struct str signature)
{
    size_t n = bytes.len < signature.len ? bytes.len : signature.len;
    return str_eq(str_n(bytes.p, n), str_n(signature.p, n));
}

enum proxy_header_status proxy_header_parse(struct str bytes, struct proxy_header *out)
{
    *out = (struct proxy_header){0};
    bool v1 = begins(bytes, V1_SIGNATURE), v2 = begins(bytes, V2_SIGNATURE);
    if (!v1 && !v2)
        return PROXY_HEADER_NONE;
    if (bytes.len < (v2 ? V2_SIGNATURE.len : V1_SIGNATURE.len)) {
        out->need = bytes.len + 1;
        return PROXY_HEADER_MORE;
    }
    out->version = v1 ? 1 : 2;
    return v1 ? parse_v1(bytes, out) : parse_v2(bytes, out);
}
