#include "base/addr.h"

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

static struct addr ip(const char *text, uint16_t port)
{
    struct addr a;
    ck_assert_msg(addr_parse_ip(str_of(text), port, &a), "%s", text);
    return a;
}

START_TEST(test_format)
{
    static const struct {
        const char *in;
        uint16_t port;
        const char *out, *plain;
    } t[] = {
        {"10.0.0.1", 80, "10.0.0.1:80", "10.0.0.1"},
        {"0.0.0.0", 0, "0.0.0.0:0", "0.0.0.0"},
        {"::1", 65535, "[::1]:65535", "::1"},
        {"2001:DB8:0:0:0:0:0:1", 1, "[2001:db8::1]:1", "2001:db8::1"},
        {"fe80::1%7", 1, "[fe80::1%7]:1", "fe80::1%7"},
        {"::ffff:1.2.3.4", 5, "[::ffff:1.2.3.4]:5", "::ffff:1.2.3.4"},
    };
    char buf[ADDR_TEXT_MAX];
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct addr a = ip(t[i].in, t[i].port);
        ck_assert_str_eq(addr_format(&a, buf).p, t[i].out);
        ck_assert_str_eq(addr_format_ip(&a, buf).p, t[i].plain);
        struct addr b;
        ck_assert(addr_parse_ip_port(str_of(t[i].out), &b) && addr_eq(&a, &b));
        ck_assert_uint_eq(addr_hash(&a), addr_hash(&b));
    }
}
END_TEST

START_TEST(test_parse_refuses)
{
    static const char *const bad[] = {
        "",
        " ",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.-4",
        "01.2.3.4",
        "0x7f.0.0.1",
        "1.2.3.4 ",
        " 1.2.3.4",
        "localhost",
        "[::1]",
        ":",
        ":::",
        "::g",
        "1::2::3",
        "1:2:3:4:5:6:7:8:9",
        "::1%",
        "::1%nosuchif0",
        "::1%99999999999",
        "%1",
        "1.2.3.4%1",
        "::1%1%2",
        "1.2.3.4:80",
        "12345::",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee"};
    struct addr a;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_msg(!addr_parse_ip(str_of(bad[i]), 1, &a), "%s", bad[i]);
        ck_assert_int_eq(addr_family(&a), ADDR_NONE);
    }
    ck_assert(!addr_parse_ip(STR("1.2.3.4\0"), 1, &a));
    ck_assert(!addr_parse_ip(STR("::1\0"), 1, &a));
    ck_assert(!addr_parse_ip(STR_NULL, 1, &a));
}
END_TEST

START_TEST(test_parse_ip_port_refuses)
{
    static const char *const bad[] = {
        "",           ":",          "1.2.3.4",      "1.2.3.4:", "1.2.3.4:65536",  "::1:80",
        "[::1]",      "[::1]:",     "[1.2.3.4]:80", "[::1:80",  "::1]:80",        "1.2.3.4:-1",
        "1.2.3.4:+1", "1.2.3.4:8O", "[]:80",        ":80",      "1.2.3.4:000080", "[::1]:80 "};
    struct addr a;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!addr_parse_ip_port(str_of(bad[i]), &a), "%s", bad[i]);
    ck_assert(!addr_parse_ip_port(STR_NULL, &a));
}
END_TEST

START_TEST(test_pipe)
{
    struct addr a, b;
    char buf[ADDR_TEXT_MAX], path[ADDR_PIPE_MAX + 1];
    ck_assert(addr_parse_pipe(STR("/run/x.sock"), &a));
    ck_assert_int_eq(addr_family(&a), ADDR_PIPE);
    ck_assert_str_eq(addr_format(&a, buf).p, "/run/x.sock");
    ck_assert_uint_eq(addr_format_ip(&a, buf).len, 0);
    ck_assert(addr_parse_pipe(STR("@x"), &b));
    struct sockaddr_storage ss;
    ck_assert_uint_eq(addr_sockaddr(&b, &ss), sizeof(sa_family_t) + 2);
    ck_assert_int_eq(((struct sockaddr_un *)&ss)->sun_path[0], 0);
    ck_assert_ptr_null(addr_path(&b));
    ck_assert_str_eq(addr_path(&a), "/run/x.sock");
    ck_assert_str_eq(addr_format(&b, buf).p, "@x");
    ck_assert(!addr_eq(&a, &b));
    ck_assert(addr_eq(&a, &a));
    ck_assert(!addr_eq_ip(&a, &a));
    addr_set_port(&a, 3);
    ck_assert_uint_eq(addr_port(&a), 0);
    memset(path, 'p', sizeof(path));
    ck_assert(addr_parse_pipe(str_n(path, ADDR_PIPE_MAX), &a));
    ck_assert_uint_eq(addr_format(&a, buf).len, ADDR_PIPE_MAX);
    ck_assert(!addr_parse_pipe(str_n(path, ADDR_PIPE_MAX + 1), &a));
    ck_assert(!addr_parse_pipe(STR(""), &a));
    ck_assert(!addr_parse_pipe(STR("/a\0b"), &a));
}
END_TEST

START_TEST(test_equality)
{
    struct addr a = ip("1.2.3.4", 80), b = ip("1.2.3.4", 81), c = ip("::ffff:1.2.3.4", 80);
    struct addr none = {0};
    ck_assert(!addr_eq(&a, &b));
    ck_assert(addr_eq_ip(&a, &b));
    ck_assert(!addr_eq(&a, &c));
    ck_assert(addr_is_v4_mapped(&c));
    addr_unmap(&c);
    ck_assert(addr_eq(&a, &c));
    addr_set_port(&b, 80);
    ck_assert(addr_eq(&a, &b));
    ck_assert_uint_eq(addr_hash(&a), addr_hash(&b));
    struct addr s1 = ip("fe80::1%1", 1), s2 = ip("fe80::1%2", 1);
    ck_assert(!addr_eq(&s1, &s2));
    ck_assert(addr_eq(&none, &none));
    ck_assert(!addr_eq(&none, &a));
    ck_assert_int_eq(addr_family(&none), ADDR_NONE);
    ck_assert_uint_eq(addr_ip_bytes(&none).len, 0);
}
END_TEST

START_TEST(test_loopback_and_any)
{
    static const struct {
        const char *text;
        bool loopback, any;
    } t[] = {{"127.0.0.1", true, false},
             {"127.255.0.9", true, false},
             {"128.0.0.1", false, false},
             {"0.0.0.0", false, true},
             {"::", false, true},
             {"::1", true, false},
             {"::ffff:127.0.0.1", true, false},
             {"::ffff:0.0.0.0", false, true},
             {"::2", false, false}};
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct addr a = ip(t[i].text, 0);
        ck_assert_msg(addr_is_loopback(&a) == t[i].loopback, "%s", t[i].text);
        ck_assert_msg(addr_is_any(&a) == t[i].any, "%s", t[i].text);
    }
    struct addr p;
    ck_assert(addr_parse_pipe(STR("/x"), &p));
    ck_assert(!addr_is_loopback(&p) && !addr_is_any(&p));
}
END_TEST

START_TEST(test_from_sockaddr)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_flowinfo = 99, .sin6_port = 1};
    struct addr a, b = ip("::", ntohs(1));
    ck_assert(addr_from_sockaddr(&a, (struct sockaddr *)&in6, sizeof(in6)));
    ck_assert(addr_eq(&a, &b));
    ck_assert(!addr_from_sockaddr(&a, (struct sockaddr *)&in6, sizeof(in6) - 5));
    ck_assert_int_eq(addr_family(&a), ADDR_NONE);
    ck_assert(!addr_from_sockaddr(&a, (struct sockaddr *)&in6, 1));
    struct sockaddr other = {.sa_family = AF_NETLINK};
    ck_assert(!addr_from_sockaddr(&a, &other, sizeof(other)));
}
END_TEST

START_TEST(test_sockets)
{
    struct addr bind_to = ip("127.0.0.1", 0), local, peer, got;
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(addr_bind(l, &bind_to), 0);
    ck_assert_int_eq(listen(l, 1), 0);
    ck_assert(addr_local(l, &local));
    ck_assert_uint_ne(addr_port(&local), 0);
    ck_assert(!addr_peer(l, &peer));
    ck_assert_int_eq(addr_connect(c, &local), 0);
    ck_assert(addr_peer(c, &peer) && addr_eq(&peer, &local));
    int s = accept(l, NULL, NULL);
    ck_assert(addr_peer(s, &peer) && addr_local(c, &got) && addr_eq(&peer, &got));
    /* Either nothing tracks this connection, or it was not redirected. */
    ck_assert(!addr_original_dst(s, &got) || addr_eq(&got, &local));
    ck_assert(!addr_original_dst(-1, &got));
    close(s);
    close(c);
    close(l);
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    char buf[ADDR_TEXT_MAX];
    ck_assert(addr_peer(pair[0], &peer));
    ck_assert_int_eq(addr_family(&peer), ADDR_PIPE);
    ck_assert_uint_eq(addr_format(&peer, buf).len, 0);
    ck_assert(!addr_original_dst(pair[0], &peer));
    close(pair[0]);
    close(pair[1]);
}
END_TEST

START_TEST(test_dual_stack_is_unmapped)
{
    struct addr any = ip("::", 0), local, peer, v4;
    int l = socket(AF_INET6, SOCK_STREAM, 0), off = 0;
    if (l < 0 || setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 ||
        addr_bind(l, &any) != 0)
        return; /* no IPv6 here */
    ck_assert_int_eq(listen(l, 1), 0);
    ck_assert(addr_local(l, &local));
    v4 = ip("127.0.0.1", addr_port(&local));
    int c = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(addr_connect(c, &v4), 0);
    int s = accept(l, NULL, NULL);
    ck_assert(addr_local(s, &local) && addr_eq(&local, &v4));
    ck_assert(addr_peer(s, &peer) && addr_family(&peer) == ADDR_IPV4);
    close(s);
    close(c);
    close(l);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/addr");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_format);
    tcase_add_test(tc, test_parse_refuses);
    tcase_add_test(tc, test_parse_ip_port_refuses);
    tcase_add_test(tc, test_pipe);
    tcase_add_test(tc, test_equality);
    tcase_add_test(tc, test_loopback_and_any);
    tcase_add_test(tc, test_from_sockaddr);
    tcase_add_test(tc, test_sockets);
    tcase_add_test(tc, test_dual_stack_is_unmapped);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
