#include "proxy/listener/addr_index.h"

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
    return map_put(&x->map, addr_key(a), value);
}

void *addr_index_get(const struct addr_index *x, const struct addr *a)
{
    return map_get(&x->map, addr_key(a));
}

void addr_index_remove(struct addr_index *x, const struct addr *a, const void *value)
{
    struct str key = addr_key(a);
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
