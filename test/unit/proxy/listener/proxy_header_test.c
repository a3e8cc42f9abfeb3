/* The PROXY protocol's header: what is taken and refused (as Envoy 1.40 does, observed), at which
 * byte it is known, and that no length in it reaches over its end. */
#include "proxy/listener/proxy_header.h"

#include <check.h>
#include <stdlib.h>

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define IPS "\x0a\x01\x02\x03\x0a\x05\x06\x07\x04\x57\x08\xae"
#define IPS6                                                                                       \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x04\x57" \
    "\x08\xae"
#define S(lit) STR(lit)

struct good {
    struct str bytes;
    unsigned version;
    const char *source, *destination; /* NULL: local */
    size_t tlvs;                      /* bytes of them */
};

static const struct good *goods(size_t *n)
{
    static struct good g[16];
    size_t i = 0;
    g[i++] = (struct good){S("PROXY TCP4 10.1.2.3 10.5.6.7 1111 2222\r\n"), 1, "10.1.2.3:1111",
                           "10.5.6.7:2222", 0};
    g[i++] = (struct good){S("PROXY TCP4 10.1.2.3 10.5.6.7 0 02\r\n"), 1, "10.1.2.3:0",
                           "10.5.6.7:2", 0};
    g[i++] = (struct good){S("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"), 1,
                           "[2001:db8::1]:1", "[2001:db8::2]:65535", 0};
    g[i++] = (struct good){S("PROXY UNKNOWN\r\n"), 1, NULL, NULL, 0};
    g[i++] = (struct good){S("PROXY UNKNOWN ff:: x 1 2\r\n"), 1, NULL, NULL, 0};
    g[i++] = (struct good){S(SIG "\x21\x11\0\x0c" IPS), 2, "10.1.2.3:1111", "10.5.6.7:2222", 0};
    g[i++] = (struct good){S(SIG "\x21\x12\0\x0c" IPS), 2, "10.1.2.3:1111", "10.5.6.7:2222", 0};
    g[i++] = (struct good){S(SIG "\x21\x21\0\x24" IPS6), 2, "[2001:db8::1]:1111",
                           "[2001:db8::2]:2222", 0};
    g[i++] = (struct good){S(SIG "\x21\x11\0\x13" IPS "\x02\0\x01"
                                 "a\xee\0\0"),
                           2, "10.1.2.3:1111", "10.5.6.7:2222", 7};
    g[i++] = (struct good){S(SIG "\x20\x00\0\0"), 2, NULL, NULL, 0};
    g[i++] = (struct good){S(SIG "\x20\x55\0\x03"
                                 "abc"),
                           2, NULL, NULL, 0};
    *n = i;
    return g;
}

START_TEST(taken)
{
    size_t n;
    const struct good *g = goods(&n);
    for (; n; g++, n--) {
        struct proxy_header h;
        char text[ADDR_TEXT_MAX], more[1024];
        memcpy(more, g->bytes.p, g->bytes.len);
        memset(more + g->bytes.len, 'P', 200); /* the payload is not looked at */
        ck_assert_int_eq(proxy_header_parse(str_n(more, g->bytes.len + 200), &h), PROXY_HEADER_OK);
        ck_assert_uint_eq(h.version, g->version);
        ck_assert_uint_eq(h.len, g->bytes.len);
        ck_assert_uint_eq(h.tlvs.len, g->tlvs);
        ck_assert(h.local == !g->source);
        if (g->source) {
            ck_assert(str_eq(addr_format(&h.source, text), str_of(g->source)));
            ck_assert(str_eq(addr_format(&h.destination, text), str_of(g->destination)));
        }
        for (size_t len = 0; len < g->bytes.len; len++) {
            ck_assert_int_eq(proxy_header_parse(str_n(more, len), &h), PROXY_HEADER_MORE);
            ck_assert(h.need > len && h.need <= g->bytes.len);
        }
    }
}
END_TEST

/* Payload that is no header: known at the first byte that does not fit. */
START_TEST(none)
{
    static const char *const lines[] = {"G", "PRO.", "PROXY\t", "\r\n\r\r", "\r\n\r\nx", "proxy"};
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct str s = str_of(lines[i]);
        struct proxy_header h;
        ck_assert_int_eq(proxy_header_parse(s, &h), PROXY_HEADER_NONE);
        s.len--;
        if (i != 5)
            ck_assert_int_eq(proxy_header_parse(s, &h), PROXY_HEADER_MORE);
    }
}
END_TEST

START_TEST(refused)
{
    const struct str bad[] = {
        S("PROXY TCP4\r\n"),
        S("PROXY \r\n"),
        S("PROXY UNKNOWNX\r\n"),
        S("PROXY UDP4 10.1.2.3 10.5.6.7 1 2\r\n"),
        S("PROXY TCP4 10.1.2 10.5.6.7 1 2\r\n"),
        S("PROXY TCP4 10.1.2.3 ::1 1 2\r\n"),
        S("PROXY TCP6 10.1.2.3 10.5.6.7 1 2\r\n"),
        S("PROXY TCP4 0.0.0.0 10.5.6.7 1 2\r\n"),
        S("PROXY TCP4 255.255.255.255 10.5.6.7 1 2\r\n"),
        S("PROXY TCP4 10.1.2.3 224.0.0.1 1 2\r\n"),
        S("PROXY TCP6 ff02::1 2001:db8::2 1 2\r\n"),
        S("PROXY TCP4  10.1.2.3 10.5.6.7 1 2\r\n"),
        S("PROXY TCP4 10.1.2.3 10.5.6.7 1 2 3\r\n"),
        S("PROXY TCP4 10.1.2.3 10.5.6.7 1 2 \r\n"),
        S("PROXY TCP4 10.1.2.3 10.5.6.7 1 70000\r\n"),
        S("PROXY TCP4 10.1.2.3 10.5.6.7 -1 2\r\n"),
        S("PROXY TCP4 10.1.2.3 10.5.6.7 1\r\n"),
        S(SIG "\x11"),
        S(SIG "\x22"),
        S(SIG "\x21\x10\0\x0c" IPS),
        S(SIG "\x21\x13\0\x0c" IPS),
        S(SIG "\x21\x00\0\0"),
        S(SIG "\x21\x31\0\x0c" IPS),
        S(SIG "\x21\x11\0\x0b" IPS),
        S(SIG "\x21\x21\0\x0c" IPS),
        S(SIG "\x21\x11\0\x0c"
              "\0\0\0\0"
              "\x0a\x05\x06\x07\0\0\0\0"),
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct proxy_header h;
        ck_assert_msg(proxy_header_parse(bad[i], &h) == PROXY_HEADER_ERROR, "%zu", i);
        ck_assert(h.version == 1 || h.version == 2);
    }
}
END_TEST

START_TEST(v1_is_short)
{
    char line[200] = "PROXY UNKNOWN ";
    struct proxy_header h;
    memset(line + 14, 'a', sizeof(line) - 14);
    ck_assert_int_eq(proxy_header_parse(str_n(line, 106), &h), PROXY_HEADER_MORE);
    ck_assert_int_eq(proxy_header_parse(str_n(line, 107), &h), PROXY_HEADER_ERROR);
    memcpy(line + 105, "\r\n", 2);
    ck_assert_int_eq(proxy_header_parse(str_n(line, 200), &h), PROXY_HEADER_OK);
    ck_assert_uint_eq(h.len, 107);
    memcpy(line + 105, "a\r\n", 3);
    ck_assert_int_eq(proxy_header_parse(str_n(line, 200), &h), PROXY_HEADER_ERROR);
}
END_TEST

/* CVE-2024-23327: of LOCAL no addresses are read, whatever it says. */
START_TEST(local_has_no_addresses_cve_2024_23327)
{
    struct proxy_header h;
    ck_assert_int_eq(proxy_header_parse(S(SIG "\x20\x11\0\x0c" IPS), &h), PROXY_HEADER_OK);
    ck_assert(h.local && addr_family(&h.source) == ADDR_NONE &&
              addr_family(&h.destination) == ADDR_NONE && !h.tlvs.len);
}
END_TEST

/* CVE-2026-47692: TLVs whose lengths do not add up to the header's. */
START_TEST(tlv_lengths_must_fit_cve_2026_47692)
{
    struct proxy_header h;
    ck_assert_int_eq(proxy_header_parse(S(SIG "\x21\x11\0\x0d" IPS "\x02"), &h),
                     PROXY_HEADER_ERROR);
    ck_assert_int_eq(proxy_header_parse(S(SIG "\x21\x11\0\x0e" IPS "\x02\0"), &h),
                     PROXY_HEADER_ERROR);
    ck_assert_int_eq(proxy_header_parse(S(SIG "\x21\x11\0\x10" IPS "\x02\0\x02"
                                              "aGET"),
                                        &h),
                     PROXY_HEADER_ERROR);
    ck_assert_int_eq(proxy_header_parse(S(SIG "\x21\x11\0\x10" IPS "\x02\0\x01"
                                              "aGET"),
                                        &h),
                     PROXY_HEADER_OK);
    struct str rest = h.tlvs, value;
    uint8_t type;
    ck_assert(proxy_tlv_next(&rest, &type, &value));
    ck_assert(type == 2 && str_eq(value, STR("a")) && !rest.len);
    ck_assert(!proxy_tlv_next(&rest, &type, &value));
}
END_TEST

START_TEST(longest)
{
    char *all = mem_zalloc(PROXY_HEADER_MAX);
    struct proxy_header h;
    memcpy(all, SIG "\x21\x11\xff\xff" IPS, 28);
    memcpy(all + 28, "\x04\xff\xf0", 3); /* one TLV to the end: 65535 - 12 - 3 */
    ck_assert_int_eq(proxy_header_parse(str_n(all, PROXY_HEADER_MAX - 1), &h), PROXY_HEADER_MORE);
    ck_assert_uint_eq(h.need, PROXY_HEADER_MAX);
    ck_assert_int_eq(proxy_header_parse(str_n(all, PROXY_HEADER_MAX), &h), PROXY_HEADER_OK);
    mem_free(all);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy_header");
    TCase *t = tcase_create("all");
    tcase_add_test(t, taken);
    tcase_add_test(t, none);
    tcase_add_test(t, refused);
    tcase_add_test(t, v1_is_short);
    tcase_add_test(t, local_has_no_addresses_cve_2024_23327);
    tcase_add_test(t, tlv_lengths_must_fit_cve_2026_47692);
    tcase_add_test(t, longest);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
