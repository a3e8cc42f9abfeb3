/* Address ranges, and a map from ranges in which the most specific one wins. Immutable after
 * cidr_map_seal, then any thread. */
#pragma once

#include "base/addr.h"

struct cidr {
    uint8_t family; /* ADDR_IPV4 or ADDR_IPV6 */
    uint8_t bits;   /* prefix length, 0..32 or 0..128 */
    uint8_t ip[16]; /* network order, host bits zero; IPv4 in the first four */
};

enum { CIDR_TEXT_MAX = 64 };

/* cidr_parse parses "10.0.0.0/8" or "::1/128"; without a length the whole address. Host bits are
 * cleared. False on anything else, a too long prefix included. */
bool cidr_parse(struct str text, struct cidr *out) WARN_UNUSED;

/* cidr_make builds one from a CidrRange's address_prefix and prefix_len. */
bool cidr_make(struct str ip, uint32_t bits, struct cidr *out) WARN_UNUSED;

/* cidr_contains says whether the address is in the range. A v4-mapped address is in a range if
 * either of its two forms is. Not IP: false. */
bool cidr_contains(const struct cidr *c, const struct addr *a);

/* cidr_eq says whether two ranges are the same. */
bool cidr_eq(const struct cidr *a, const struct cidr *b);

/* cidr_format writes "10.0.0.0/8" and a NUL into buf of CIDR_TEXT_MAX bytes. */
struct str cidr_format(const struct cidr *c, char *buf);

struct cidr_map_entry {
    struct cidr cidr;
    void *value;
    size_t parent; /* nearest enclosing range; SIZE_MAX: none */
};

struct cidr_map {
    struct cidr_map_entry *entries[2]; /* IPv4, IPv6: sorted by address, then length */
    size_t num[2], cap[2];
    bool sealed;
};

/* cidr_map_init makes an empty map; cidr_map_cleanup frees it, calling free_value (may be NULL) on
 * each value. */
void cidr_map_init(struct cidr_map *m);
void cidr_map_cleanup(struct cidr_map *m, void (*free_value)(void *));

/* cidr_map_slot returns the place of the value of exactly this range, adding it with NULL if it is
 * new. The place is valid until the next call. Only before cidr_map_seal. */
void **cidr_map_slot(struct cidr_map *m, const struct cidr *c);

/* cidr_map_seal makes the map ready for cidr_map_find; no more ranges after this. */
void cidr_map_seal(struct cidr_map *m);

/* cidr_map_find returns the value of the longest range that contains the address, or NULL. A
 * v4-mapped address is looked up as IPv4 first. */
void *cidr_map_find(const struct cidr_map *m, const struct addr *a);
