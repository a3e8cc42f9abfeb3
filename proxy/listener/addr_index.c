#include "proxy/listener/addr_index.h"

enum { KEY_MAX = 1 + ADDR_PIPE_MAX + 32 };

/* What addr_eq compares, as bytes. */
static struct str key_of(const struct addr *a, char *buf)
{
    struct str ip = addr_ip_bytes(a);
    uint16_t port = addr_port(a);
    size_t len = 1;
    buf[0] = (char)addr_family(a);
    if (!addr_is_ip(a)) {
        struct str path = addr_family(a) == ADDR_PIPE
                              ? str_n(a->un.sun_path,
                                      a->sa_len - offsetof(struct sockaddr_un, sun_path))
                              : STR_NULL;
        if (path.len)
            memcpy(buf + len, path.p, path.len);
        return str_n(buf, len + path.len);
    }
    memcpy(buf + len, ip.p, ip.len);
    len += ip.len;
    memcpy(buf + len, &port, sizeof(port));
    len += sizeof(port);
    if (addr_family(a) == ADDR_IPV6) {
        memcpy(buf + len, &a->in6.sin6_scope_id, sizeof(a->in6.sin6_scope_id));
        len += sizeof(a->in6.sin6_scope_id);
    }
    return str_n(buf, len);
}

void addr_index_init(struct addr_index *x)
{
    map_init(&x->map, true);
}

void addr_index_cleanup(struct addr_index *x)
{
    map_cleanup(&x->map, NULL);
}

void *addr_index_put(struct addr_index *x, const struct addr *a, void *value)
{
    char buf[KEY_MAX];
    return map_put(&x->map, key_of(a, buf), value);
}

void *addr_index_get(const struct addr_index *x, const struct addr *a)
{
    char buf[KEY_MAX];
    return map_get(&x->map, key_of(a, buf));
}

void addr_index_remove(struct addr_index *x, const struct addr *a, const void *value)
{
    char buf[KEY_MAX];
    struct str key = key_of(a, buf);
    if (map_get(&x->map, key) == value)
        (void)map_remove(&x->map, key);
}

void *addr_index_cover(const struct addr_index *x, const struct addr *a)
{
    void *found = addr_index_get(x, a);
    struct addr any;
    if (found || !addr_is_ip(a))
        return found;
    if (addr_family(a) == ADDR_IPV4 && addr_parse_ip(STR("0.0.0.0"), addr_port(a), &any)) {
        found = addr_index_get(x, &any);
        if (found)
            return found;
    }
    return addr_parse_ip(STR("::"), addr_port(a), &any) ? addr_index_get(x, &any) : NULL;
}
