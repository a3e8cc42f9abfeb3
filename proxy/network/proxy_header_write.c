#include "proxy/network/proxy_header_write.h"

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

static void write_v2(struct buffer *out, const struct addr *src, const struct addr *dst)
{
    enum { FAMILY = 13, LENGTH = 14, HEAD = 16, TCP4 = 0x11, TCP6 = 0x21, LOCAL = 0x20, PROXY };
    static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";
    char head[HEAD] = {0};
    memcpy(head, signature, sizeof(signature) - 1);
    bool alike = are_alike(src, dst);
    struct str from = addr_ip_bytes(src), to = addr_ip_bytes(dst);
    head[12] = alike ? PROXY : LOCAL;
    if (alike) {
        head[FAMILY] = from.len == 4 ? TCP4 : TCP6;
        put_u16(head + LENGTH, (uint16_t)(from.len + to.len + 4));
    }
    buffer_add(out, head, sizeof(head));
    if (!alike)
        return;
    char ports[4];
    put_u16(ports, addr_port(src));
    put_u16(ports + 2, addr_port(dst));
    buffer_add_str(out, from);
    buffer_add_str(out, to);
    buffer_add(out, ports, sizeof(ports));
}

void proxy_header_write(struct buffer *out, unsigned version, const struct addr *src,
                        const struct addr *dst)
{
    if (version == 1)
        write_v1(out, src, dst);
    else
        write_v2(out, src, dst);
}
