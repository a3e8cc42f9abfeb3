#include "tls/proxy_header_write.h"

static bool are_alike(const struct addr *src, const struct addr *dst)
{
    return addr_is_ip(src) && src->sa.sa_family == dst->sa.sa_family;
}

static void write_v1(struct buffer *out, const struct addr *src, const struct addr *dst)
{
    char from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
    if (!are_alike(src, dst)) {
        buffer_add_str(out, STR("PROXY UNKNOWN\r\n"));
        return;
    }
    buffer_printf(out, "PROXY TCP%c %s %s %u %u\r\n", addr_family(src) == ADDR_IPV4 ? '4' : '6',
                  addr_format_ip(src, from).p, addr_format_ip(dst, to).p, addr_port(src),
                  addr_port(dst));
}

static void put_u16(char *p, uint16_t n)
{
    p[0] = (char)(n >> 8);
    p[1] = (char)n;
}

enum { FAMILY = 13, LENGTH = 14, HEAD = 16, TCP4 = 0x11, TCP6 = 0x21, LOCAL = 0x20, PROXY };

/* How many bytes of TLVs fit behind `used` bytes; *out_all: whether that is all of them. */
static size_t tlv_bytes(const struct proxy_tlv *tlvs, size_t used, bool *out_all)
{
    size_t n = 0;
    for (const struct proxy_tlv *t = tlvs; t; t = t->next) {
        if (used + n + 3 + t->value.len > UINT16_MAX) {
            *out_all = false;
            return n;
        }
        n += 3 + t->value.len;
    }
    *out_all = true;
    return n;
}

static void put_tlvs(struct buffer *out, const struct proxy_tlv *t, size_t bytes)
{
    for (; bytes; t = t->next) {
        char head[3] = {(char)t->type};
        put_u16(head + 1, (uint16_t)t->value.len);
        buffer_add(out, head, sizeof(head));
        buffer_add_str(out, t->value);
        bytes -= sizeof(head) + t->value.len;
    }
}

static bool write_v2(struct buffer *out, const struct addr *src, const struct addr *dst,
                     const struct proxy_tlv *tlvs)
{
    static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";
    char head[HEAD] = {0}, ports[4];
    bool all;
    memcpy(head, signature, sizeof(signature) - 1);
    if (!are_alike(src, dst)) {
        head[12] = LOCAL;
        buffer_add(out, head, sizeof(head));
        return true;
    }
    struct str from = addr_ip_bytes(src), to = addr_ip_bytes(dst);
    size_t addresses = from.len + to.len + sizeof(ports);
    size_t more = tlv_bytes(tlvs, addresses, &all);
    head[12] = PROXY;
    head[FAMILY] = from.len == 4 ? TCP4 : TCP6;
    put_u16(head + LENGTH, (uint16_t)(addresses + more));
    buffer_add(out, head, sizeof(head));
    put_u16(ports, addr_port(src));
    put_u16(ports + 2, addr_port(dst));
    buffer_add_str(out, from);
    buffer_add_str(out, to);
    buffer_add(out, ports, sizeof(ports));
    put_tlvs(out, tlvs, more);
    return all;
}

bool proxy_header_write(struct buffer *out, unsigned version, const struct addr *src,
                        const struct addr *dst, const struct proxy_tlv *tlvs)
{
    if (version != 1)
        return write_v2(out, src, dst, tlvs);
    write_v1(out, src, dst);
    return true;
}
