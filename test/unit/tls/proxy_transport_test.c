#include "tls/proxy_transport.h"

#include "tls/proxy_header_write.h"
#include <check.h>
#include <stdio.h>

static struct buffer out;
static struct addr src, dst, src6;

static void setup(void)
{
    buffer_init(&out);
    ck_assert(addr_parse_ip_port(STR("1.2.3.4:5"), &src));
    ck_assert(addr_parse_ip_port(STR("6.7.8.9:10"), &dst));
    ck_assert(addr_parse_ip_port(STR("[::1]:5"), &src6));
}

static void teardown(void)
{
    buffer_cleanup(&out);
    buffer_free_list_trim();
}

static void expect(const char *bytes, size_t len)
{
    struct str got = buffer_pullup(&out, out.len);
    ck_assert(str_eq(got, str_n(bytes, len)));
    buffer_drain(&out, out.len);
}
#define EXPECT(lit) expect(lit, sizeof(lit) - 1)
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define ENDS "\1\2\3\4\6\7\10\11\0\5\0\12"

START_TEST(version_1)
{
    ck_assert(proxy_header_write(&out, 1, &src, &dst, NULL));
    EXPECT("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    ck_assert(proxy_header_write(&out, 1, &src6, &dst, NULL));
    EXPECT("PROXY UNKNOWN\r\n");
}
END_TEST

START_TEST(version_2)
{
    struct proxy_tlv two = {NULL, 0xe2, STR("")}, one = {&two, 0xe1, STR("abc")};
    ck_assert(proxy_header_write(&out, 2, &src, &dst, &one));
    EXPECT(SIGNATURE "\x21\x11\0\x15" ENDS "\xe1\0\3abc\xe2\0\0");
    ck_assert(proxy_header_write(&out, 2, &src6, &dst, &one));
    EXPECT(SIGNATURE "\x20\0\0\0");
}
END_TEST

/* 65535 bytes are all that the length can say. */
START_TEST(too_many_tlvs)
{
    static char much[65535 - 12 - 3];
    struct proxy_tlv two = {NULL, 2, STR("")}, one = {&two, 1, {much, sizeof(much)}};
    ck_assert(!proxy_header_write(&out, 2, &src, &dst, &one));
    ck_assert_uint_eq(out.len, 16 + 65535);
    buffer_drain(&out, out.len);
    one.value.len++;
    ck_assert(!proxy_header_write(&out, 2, &src, &dst, &one));
    ck_assert_uint_eq(out.len, 16 + 12);
}
END_TEST

START_TEST(which_tlvs)
{
    struct proxy_tlv c = {NULL, 3, STR("c")}, b = {&c, 2, STR("b")}, a = {&b, 1, STR("a")};
    struct proxy_tlv added = {NULL, 2, STR("B")};
    struct proxy_origin origin = {&src, &dst, &a};
    struct proxy_transport_config none = {.version = 2}, all = {.version = 2, .pass_all = true},
                                  some = {.version = 2, .pass = {[3] = true}};
    proxy_transport_header(&none, &origin, NULL, NULL, &out);
    EXPECT(SIGNATURE "\x21\x11\0\x0c" ENDS);
    proxy_transport_header(&some, &origin, NULL, NULL, &out);
    EXPECT(SIGNATURE "\x21\x11\0\x10" ENDS "\3\0\1c");
    all.added = &added;
    proxy_transport_header(&all, &origin, NULL, NULL, &out);
    EXPECT(SIGNATURE "\x21\x11\0\x18" ENDS "\1\0\1a\3\0\1c\2\0\1B");
    all.version = 1;
    proxy_transport_header(&all, &origin, NULL, NULL, &out);
    EXPECT("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
}
END_TEST

/* Health checks and the like: nobody is behind the connection. */
START_TEST(of_our_own)
{
    struct proxy_tlv added = {NULL, 2, STR("B")};
    struct proxy_transport_config one = {.version = 1}, two = {.version = 2, .added = &added};
    proxy_transport_header(&one, NULL, &src, &dst, &out);
    EXPECT("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    proxy_transport_header(&two, NULL, &src, &dst, &out);
    EXPECT(SIGNATURE "\x20\0\0\0");
}
END_TEST

START_TEST(what_is_inside)
{
    struct proxy_transport_config config = {.version = 1};
    struct transport_factory *f = proxy_transport_factory(NULL, &config);
    ck_assert_ptr_null(proxy_transport_inner(f));
    ck_assert(f->ops->ready(f));
    ck_assert_ptr_null(proxy_transport_inner(NULL));
    transport_factory_unref(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tls/proxy_transport");
    TCase *t = tcase_create("headers");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, version_1);
    tcase_add_test(t, version_2);
    tcase_add_test(t, too_many_tlvs);
    tcase_add_test(t, which_tlvs);
    tcase_add_test(t, of_our_own);
    tcase_add_test(t, what_is_inside);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
