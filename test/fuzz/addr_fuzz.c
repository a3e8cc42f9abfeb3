// covers: base/addr.c
// covers: base/cidr.c
/* Text of addresses and ranges. What is accepted must print, and parse again to the same. */
#include "base/cidr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_address(const struct addr *a)
{
    char buf[ADDR_TEXT_MAX];
    struct addr again;
    struct str s = addr_format(a, buf);
    CHECK(s.len > 0 && s.len < ADDR_TEXT_MAX);
    if (addr_is_ip(a))
        CHECK(addr_parse_ip_port(s, &again));
    else
        CHECK(addr_parse_pipe(s, &again));
    CHECK(addr_eq(a, &again) && addr_hash(a) == addr_hash(&again));
    struct sockaddr_storage ss;
    socklen_t len = addr_sockaddr(a, &ss);
    CHECK(addr_from_sockaddr(&again, (struct sockaddr *)&ss, len) && addr_eq(a, &again));
    CHECK(str_eq(addr_key(a), addr_key(&again)));
    addr_unmap(&again);
    CHECK(!addr_is_v4_mapped(&again));
    CHECK(addr_is_any(a) == addr_is_any(&again));
    CHECK(addr_is_loopback(a) == addr_is_loopback(&again));
    CHECK(addr_eq_ip(a, a) == addr_is_ip(a));
    addr_set_port(&again, 7);
    CHECK(addr_port(&again) == (addr_is_ip(&again) ? 7 : 0));
}

static void check_range(const struct cidr *c, const struct addr *probe)
{
    char buf[CIDR_TEXT_MAX];
    struct cidr again;
    struct cidr_map m;
    CHECK(cidr_parse(cidr_format(c, buf), &again) && cidr_eq(c, &again));
    cidr_map_init(&m);
    again.bits /= 2;
    CHECK(cidr_parse(cidr_format(&again, buf), &again));
    *cidr_map_slot(&m, c) = buf;
    *cidr_map_slot(&m, &again) = buf;
    cidr_map_seal(&m);
    if (cidr_contains(c, probe))
        CHECK(cidr_map_find(&m, probe) == buf);
    (void)cidr_map_find(&m, probe);
    cidr_map_cleanup(&m, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct str s = str_n((const char *)data, len);
    struct addr a;
    struct cidr c;
    if (addr_parse_ip(s, 80, &a))
        check_address(&a);
    if (addr_parse_ip_port(s, &a))
        check_address(&a);
    if (cidr_parse(s, &c))
        check_range(&c, &a);
    if (addr_parse_pipe(s, &a))
        check_address(&a);
    if (len <= sizeof(struct sockaddr_storage)) {
        union {
            struct sockaddr sa;
            struct sockaddr_storage ss;
        } u = {0};
        if (len)
            memcpy(&u, data, len);
        if (addr_from_sockaddr(&a, &u.sa, (socklen_t)len)) {
            char buf[ADDR_TEXT_MAX];
            CHECK(addr_format(&a, buf).len < ADDR_TEXT_MAX);
            (void)addr_format_ip(&a, buf);
        }
    }
    return 0;
}
