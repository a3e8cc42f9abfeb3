#include "base/cursor.h"

#include <check.h>
#include <stdlib.h>

START_TEST(test_reads_in_network_order)
{
    struct cursor c = cursor_of(STR("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a"
                                    "\x00\x00\x00\x00\x00\x00\x00\xff"));
    uint8_t a;
    uint16_t b;
    uint32_t d, e;
    uint64_t f;
    ck_assert(cursor_u8(&c, &a) && a == 1);
    ck_assert(cursor_u16(&c, &b) && b == 0x0203);
    ck_assert(cursor_u24(&c, &d) && d == 0x040506);
    ck_assert(cursor_u32(&c, &e) && e == 0x0708090a);
    ck_assert(cursor_u64(&c, &f) && f == 0xff);
    ck_assert_uint_eq(c.len, 0);
}
END_TEST

START_TEST(test_short_reads_fail_and_do_not_move)
{
    struct cursor c = cursor_of(STR("\x01\x02")), sub = {0};
    struct str s = STR("x");
    uint32_t v = 77;
    uint64_t w = 77;
    ck_assert(!cursor_u24(&c, &v));
    ck_assert(!cursor_u32(&c, &v));
    ck_assert(!cursor_u64(&c, &w));
    ck_assert(!cursor_bytes(&c, 3, &s));
    ck_assert(!cursor_sub(&c, SIZE_MAX, &sub));
    ck_assert(!cursor_skip(&c, 3));
    ck_assert(v == 77 && w == 77);
    ck_assert(str_eq(s, STR("x")));
    ck_assert_ptr_null(sub.p);
    ck_assert_uint_eq(c.len, 2);
    ck_assert(cursor_bytes(&c, 2, &s) && str_eq(s, STR("\x01\x02")));
    uint8_t b;
    ck_assert(!cursor_u8(&c, &b));
    ck_assert(cursor_skip(&c, 0));
    struct cursor none = cursor_of(STR_NULL);
    ck_assert(!cursor_u8(&none, &b));
    ck_assert(cursor_skip(&none, 0));
}
END_TEST

START_TEST(test_vectors)
{
    struct cursor c = cursor_of(STR("\x02"
                                    "ab"
                                    "\x00\x01"
                                    "c"
                                    "\x00\x00\x00"
                                    "\x05"
                                    "xy")),
                  v;
    ck_assert(cursor_vec8(&c, &v) && str_eq(cursor_rest(&v), STR("ab")));
    ck_assert(cursor_vec16(&c, &v) && str_eq(cursor_rest(&v), STR("c")));
    ck_assert(cursor_vec24(&c, &v) && v.len == 0);
    ck_assert(!cursor_vec8(&c, &v)); /* says 5, has 2 */
    ck_assert_uint_eq(c.len, 3);
    struct cursor end = cursor_of(STR("\x00"));
    ck_assert(!cursor_vec16(&end, &v));
    ck_assert_uint_eq(end.len, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/cursor");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_reads_in_network_order);
    tcase_add_test(tc, test_short_reads_fail_and_do_not_move);
    tcase_add_test(tc, test_vectors);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
