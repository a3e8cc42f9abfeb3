#include "api-protos/message.h"

#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include <check.h>
#include <stdlib.h>

#define STRUCT (&google__protobuf__struct__descriptor)
#define A                                                                                          \
    "\x0a\x08\x0a\x01"                                                                             \
    "a\x12\x03\x1a\x01x"
#define B                                                                                          \
    "\x0a\x08\x0a\x01"                                                                             \
    "b\x12\x03\x1a\x01y"
#define B2                                                                                         \
    "\x0a\x08\x0a\x01"                                                                             \
    "b\x12\x03\x1a\x01z"

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 0);
}

static void teardown(void)
{
    arena_cleanup(&arena);
}

static void expect_same(const ProtobufCMessageDescriptor *type, struct str x, struct str y,
                        bool same)
{
    struct str cx = pb_canonical(type, x, &arena), cy = pb_canonical(type, y, &arena);
    ck_assert_uint_eq(cx.len, x.len);
    ck_assert_int_eq(str_eq(cx, cy), same);
    ck_assert_int_eq(pb_hash(cx) == pb_hash(cy), same);
    /* once is enough */
    ck_assert(str_eq(pb_canonical(type, cx, &arena), cx));
}

START_TEST(test_order)
{
    expect_same(STRUCT, STR(A B), STR(B A), true);
    expect_same(STRUCT, STR(A B), STR(A B2), false);
    /* of two entries with one key the last counts */
    expect_same(STRUCT, STR(B A B2), STR(A B B2), true);
    expect_same(STRUCT, STR(B B2), STR(B2 B), false);
    /* the order of a list is its meaning: TypedExtension... DataSource has none; Address lists */
    expect_same(&google__protobuf__list_value__descriptor,
                STR("\x0a\x03\x1a\x01x\x0a\x03\x1a\x01y"),
                STR("\x0a\x03\x1a\x01y\x0a\x03\x1a\x01x"), false);
}
END_TEST

START_TEST(test_nested)
{
    /* a Struct in a Value in a Struct */
    expect_same(STRUCT, STR("\x0a\x1b\x0a\x01k\x12\x16\x2a\x14" A B),
                STR("\x0a\x1b\x0a\x01k\x12\x16\x2a\x14" B A), true);
    /* in an Any of known type, and in one of unknown type */
    expect_same(&google__protobuf__any__descriptor,
                STR("\x0a\x18x/google.protobuf.Struct\x12\x14" A B),
                STR("\x0a\x18x/google.protobuf.Struct\x12\x14" B A), true);
    expect_same(&google__protobuf__any__descriptor,
                STR("\x0a\x18x/google.protobuf.Strucd\x12\x14" A B),
                STR("\x0a\x18x/google.protobuf.Strucd\x12\x14" B A), false);
}
END_TEST

START_TEST(test_untouched)
{
    /* no maps in it: the same bytes, not a copy */
    struct str bytes = STR("\x0a\x01x");
    ck_assert(pb_canonical(&envoy__config__core__v3__locality__descriptor, bytes, &arena).p ==
              bytes.p);
    /* what does not parse stays as it is */
    struct str bad = STR("\x0a\x08\x0a\x01"
                         "b\x12\x03\x1a\x01y\x0a\x80");
    ck_assert(str_eq(pb_canonical(STRUCT, bad, &arena), bad));
    ck_assert_uint_eq(pb_canonical(STRUCT, STR(""), &arena).len, 0);
}
END_TEST

START_TEST(test_deep)
{
    /* deeper than any message may be: left alone, and no stack runs out */
    struct str value = STR("\x1a\x01x");
    for (int i = 0; i < 3000; i++) {
        size_t inner = value.len, total = 0;
        char *p = arena_bytes(&arena, value.len + 16);
        struct str parts[2];
        /* list_value { values { ... } } with lengths of two bytes each */
        for (int k = 0; k < 2; k++) {
            size_t len = k == 0 ? inner + 4 : inner;
            char head[4] = {(char)(k == 0 ? 0x32 : 0x0a), (char)(0x80 | (len & 0x7f)),
                            (char)(0x80 | ((len >> 7) & 0x7f)), (char)(len >> 14)};
            parts[k] = str_n(arena_str(&arena, str_n(head, 4)).p, 4);
            memcpy(p + total, parts[k].p, 4);
            total += 4;
        }
        memcpy(p + total, value.p, value.len);
        value = str_n(p, total + inner);
    }
    struct str got = pb_canonical(&google__protobuf__value__descriptor, value, &arena);
    ck_assert(str_eq(got, value));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("api-protos/canonical");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_order);
    tcase_add_test(tc, test_nested);
    tcase_add_test(tc, test_untouched);
    tcase_add_test(tc, test_deep);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
