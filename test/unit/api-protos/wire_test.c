#include "api-protos/wire.h"

#include <check.h>
#include <stdlib.h>

static void expect_bad(struct str bytes, const char *want)
{
    struct wire w;
    struct wire_field f;
    const char *why = NULL;
    enum wire_result r;
    wire_init(&w, bytes);
    while ((r = wire_next(&w, &f, &why)) == WIRE_FIELD)
        ;
    ck_assert_int_eq(r, WIRE_BAD);
    ck_assert_msg(strstr(why, want), "\"%s\", not \"%s\"", why, want);
}

START_TEST(test_fields)
{
    struct wire w;
    struct wire_field f;
    const char *why;
    wire_init(&w, STR("\x08\x96\x01\x11\x01\x02\x03\x04\x05\x06\x07\x08\x1a\x02hi\x25\x01\0\0\x80"
                      "\x2b\x2c\xfa\xff\xff\xff\x0f\x00"));
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_FIELD);
    ck_assert(f.number == 1 && f.type == WIRE_VARINT && f.value == 150 && f.whole.len == 3);
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_FIELD);
    ck_assert(f.number == 2 && f.type == WIRE_I64 && f.value == 0x0807060504030201);
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_FIELD);
    ck_assert(f.number == 3 && f.type == WIRE_LEN && str_eq(f.bytes, STR("hi")));
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_FIELD);
    ck_assert(f.number == 4 && f.type == WIRE_I32 && f.value == 0x80000001);
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_FIELD);
    ck_assert(f.number == 5 && f.type == WIRE_GROUP_START);
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_FIELD);
    ck_assert(f.number == 5 && f.type == WIRE_GROUP_END);
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_FIELD);
    ck_assert(f.number == (1u << 29) - 1 && f.type == WIRE_LEN && f.bytes.len == 0);
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_END);
    ck_assert_int_eq(wire_next(&w, &f, &why), WIRE_END);
}
END_TEST

START_TEST(test_bad)
{
    expect_bad(STR("\x80"), "tag");
    expect_bad(STR("\xff\xff\xff\xff\x1f\x00"), "tag");
    expect_bad(STR("\x88\x80\x80\x80\x80\x00\x01"), "tag");
    expect_bad(STR("\x00\x00"), "number 0");
    expect_bad(STR("\x02\x00"), "number 0");
    expect_bad(STR("\x08"), "varint");
    expect_bad(STR("\x08\x80"), "varint");
    expect_bad(STR("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "varint");
    expect_bad(STR("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), "varint");
    expect_bad(STR("\x09\x01\x02\x03\x04\x05\x06\x07"), "64-bit");
    expect_bad(STR("\x0d\x01\x02\x03"), "32-bit");
    expect_bad(STR("\x0a"), "length");
    expect_bad(STR("\x0a\x80\x80\x80\x80\x80\x00"), "length");
    expect_bad(STR("\x0a\x03hi"), "beyond the end");
    expect_bad(STR("\x0a\xff\xff\xff\xff\x0f"), "beyond the end");
    expect_bad(STR("\x0e"), "unknown wire type");
    expect_bad(STR("\x0f"), "unknown wire type");
    expect_bad(STR("\x08\x01\x12\x05\x08"), "beyond the end");
}
END_TEST

START_TEST(test_varint)
{
    struct wire w;
    uint64_t v;
    wire_init(&w, STR("\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x80"));
    ck_assert(wire_varint(&w, &v) && v == 0);
    ck_assert(wire_varint(&w, &v) && v == UINT64_MAX);
    ck_assert(!wire_varint(&w, &v));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("api-protos/wire");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_fields);
    tcase_add_test(tc, test_bad);
    tcase_add_test(tc, test_varint);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
