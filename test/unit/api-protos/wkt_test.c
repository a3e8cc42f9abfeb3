#include "api-protos/wkt.h"

#include "api-protos/mapping.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static uint64_t ms(int64_t seconds, int32_t nanos)
{
    Google__Protobuf__Duration d = GOOGLE__PROTOBUF__DURATION__INIT;
    d.seconds = seconds;
    d.nanos = nanos;
    return wkt_duration_ms(&d, 77, &errors, "timeout");
}

START_TEST(test_durations)
{
    Google__Protobuf__Duration d = GOOGLE__PROTOBUF__DURATION__INIT;
    ck_assert_uint_eq(wkt_duration_ms(NULL, 77, &errors, "x"), 77);
    ck_assert_uint_eq(ms(0, 0), 0);
    ck_assert_uint_eq(ms(1, 500000000), 1500);
    ck_assert_uint_eq(ms(0, 1), 1);
    ck_assert_uint_eq(ms(0, 1000001), 2);
    ck_assert_uint_eq(ms(315576000000, 0), 315576000000000);
    d.nanos = 1001;
    ck_assert_uint_eq(wkt_duration_us(&d, 0, &errors, "x"), 2);
    d.seconds = 315576000000;
    ck_assert_uint_eq(wkt_duration_us(&d, 0, &errors, "x"), 315576000000000002);
    ck_assert(errors_ok(&errors));
    /* what is wrong gives the default and an error */
    ck_assert_uint_eq(ms(-1, 0), 77);
    ck_assert_uint_eq(ms(0, -1), 77);
    ck_assert_uint_eq(ms(1, -1), 77);
    ck_assert_uint_eq(ms(-1, 1), 77);
    ck_assert_uint_eq(ms(0, 1000000000), 77);
    ck_assert_uint_eq(ms(315576000001, 0), 77);
    ck_assert_uint_eq(ms(INT64_MIN, 0), 77);
    ck_assert_uint_eq(errors.num_errors, 7);
    ck_assert(str_eq(errors.first->path, STR("timeout")));
    ck_assert(str_eq(errors.first->text, STR("a duration must not be negative")));
}
END_TEST

START_TEST(test_percents)
{
    Envoy__Type__V3__Percent p = ENVOY__TYPE__V3__PERCENT__INIT;
    Envoy__Type__V3__FractionalPercent f = ENVOY__TYPE__V3__FRACTIONAL_PERCENT__INIT;
    static const struct {
        double percent;
        uint32_t ppm;
    } cases[] = {{0, 0},       {100, 1000000}, {33.3333, 333333}, {0.00004, 0},
                 {0.00005, 1}, {-1, 0},        {200, 1000000}};
    ck_assert_uint_eq(wkt_percent_ppm(NULL, 5), 5);
    ck_assert_uint_eq(wkt_fraction_ppm(NULL, 5), 5);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        p.value = cases[i].percent;
        ck_assert_uint_eq(wkt_percent_ppm(&p, 5), cases[i].ppm);
    }
    p.value = strtod("nan", NULL);
    ck_assert_uint_eq(wkt_percent_ppm(&p, 5), 0);
    f.numerator = 5;
    ck_assert_uint_eq(wkt_fraction_ppm(&f, 0), 50000);
    f.denominator = ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__TEN_THOUSAND;
    ck_assert_uint_eq(wkt_fraction_ppm(&f, 0), 500);
    f.denominator = ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__MILLION;
    ck_assert_uint_eq(wkt_fraction_ppm(&f, 0), 5);
    f.numerator = UINT32_MAX;
    ck_assert_uint_eq(wkt_fraction_ppm(&f, 0), 1000000);
}
END_TEST

START_TEST(test_wrappers)
{
    Google__Protobuf__UInt32Value u32 = GOOGLE__PROTOBUF__UINT32_VALUE__INIT;
    Google__Protobuf__BoolValue b = GOOGLE__PROTOBUF__BOOL_VALUE__INIT;
    Google__Protobuf__StringValue s = GOOGLE__PROTOBUF__STRING_VALUE__INIT;
    ck_assert_uint_eq(wkt_u32(NULL, 9), 9);
    ck_assert_uint_eq(wkt_u32(&u32, 9), 0);
    ck_assert(wkt_bool(NULL, true) && !wkt_bool(&b, true));
    ck_assert(wkt_str(&s).p && wkt_str(&s).len == 0 && !wkt_str(NULL).p);
    ck_assert_uint_eq(wkt_u64(NULL, 3), 3);
    ck_assert_int_eq(wkt_i32(NULL, -3), -3);
    ck_assert(wkt_double(NULL, 0.5) == 0.5);
}
END_TEST

static Google__Protobuf__Struct *parse(const char *text)
{
    struct json_error err;
    const struct json *tree = json_parse(str_of(text), 0, &arena, &err);
    ProtobufCMessage *m = pb_from_json(&google__protobuf__struct__descriptor, tree, &arena, &errors,
                                       NULL);
    ck_assert(m);
    return (Google__Protobuf__Struct *)(void *)m;
}

START_TEST(test_struct)
{
    const Google__Protobuf__Struct *s = parse(
        "{\"istio\":{\"services\":[{\"host\":\"h\"}],\"x.y\":1},\"s\":\"t\"}");
    ck_assert(wkt_struct_path(s, STR("istio.services"), '.')->kind_case ==
              GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE);
    ck_assert(!wkt_struct_path(s, STR("istio.none"), '.'));
    ck_assert(!wkt_struct_path(s, STR("s.deeper"), '.'));
    ck_assert(!wkt_struct_path(s, STR(""), '.'));
    ck_assert(!wkt_struct_path(NULL, STR("a"), '.'));
    ck_assert(wkt_struct_path(s, STR("istio/x.y"), '/')->number_value == 1);
    ck_assert(str_eq(wkt_value_str(wkt_struct_get(s, STR("s"))), STR("t")));
    ck_assert(!wkt_value_str(wkt_struct_get(s, STR("istio"))).p);
    ck_assert(wkt_value_struct(wkt_struct_get(s, STR("istio"))));
    ck_assert(!wkt_value_struct(wkt_struct_get(s, STR("s"))));
    ck_assert(!wkt_struct_get(NULL, STR("s")));
}
END_TEST

START_TEST(test_equal)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"{\"v\":{\"a\":1,\"b\":[true,null]}}", "{\"v\":{\"b\":[true,null],\"a\":1.0}}", true},
        {"{\"v\":{\"a\":1}}", "{\"v\":{\"a\":1,\"b\":2}}", false},
        {"{\"v\":{\"a\":1}}", "{\"v\":{\"b\":1}}", false},
        {"{\"v\":[1,2]}", "{\"v\":[2,1]}", false},
        {"{\"v\":[1]}", "{\"v\":[1,1]}", false},
        {"{\"v\":\"1\"}", "{\"v\":1}", false},
        {"{\"v\":\"x\"}", "{\"v\":\"x\"}", true},
        {"{\"v\":\"x\"}", "{\"v\":\"y\"}", false},
        {"{\"v\":true}", "{\"v\":false}", false},
        {"{\"v\":null}", "{\"v\":null}", true},
        {"{\"v\":null}", "{}", false},
        {"{}", "{}", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const Google__Protobuf__Value *a = wkt_struct_get(parse(cases[i].a), STR("v"));
        const Google__Protobuf__Value *b = wkt_struct_get(parse(cases[i].b), STR("v"));
        ck_assert_msg(wkt_value_eq(a, b) == cases[i].same, "%zu", i);
        ck_assert_msg(wkt_value_eq(b, a) == cases[i].same, "%zu", i);
    }
}
END_TEST

START_TEST(test_timestamp_text)
{
    ck_assert(
        str_eq(wkt_timestamp_text(1767225600123456, &arena), STR("2026-01-01T00:00:00.123Z")));
    ck_assert(str_eq(wkt_timestamp_text(0, &arena), STR("1970-01-01T00:00:00Z")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("api-protos/wkt");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_durations);
    tcase_add_test(tc, test_percents);
    tcase_add_test(tc, test_wrappers);
    tcase_add_test(tc, test_struct);
    tcase_add_test(tc, test_equal);
    tcase_add_test(tc, test_timestamp_text);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
