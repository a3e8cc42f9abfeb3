/* Listeners by address. Maps an IP address with port, or a Unix path, to a pointer; for many of
 * them a look-up costs what it costs for one. Not thread-safe. */
#pragma once

#include "base/addr.h"
#include "base/map.h"

struct addr_index {
    struct map map;
};

/* addr_index_init makes an empty one; addr_index_cleanup frees it, not the values. */
void addr_index_init(struct addr_index *x);
void addr_index_cleanup(struct addr_index *x);

/* addr_index_put makes `value` that of the address and returns the one before, or NULL. */
void *addr_index_put(struct addr_index *x, const struct addr *a, void *value);

/* addr_index_remove takes the address out if its value is `value`. */
void addr_index_remove(struct addr_index *x, const struct addr *a, const void *value);

/* addr_index_get returns the value of exactly that address, or NULL. */
void *addr_index_get(const struct addr_index *x, const struct addr *a);

/* addr_index_cover returns the value of the address, else that of the wildcard of its port: of its
 * own family first, then for IPv4 that of IPv6. NULL: none. */
void *addr_index_cover(const struct addr_index *x, const struct addr *a);
