#include "test/unit/xds/fixture.c"

static struct arena a;

static void setup(void)
{
    arena_init(&a, 0);
}

static void teardown(void)
{
    arena_cleanup(&a);
}

START_TEST(test_response_is_cut_into_views)
{
    struct discovery_response r;
    struct discovery_resource d;
    const char *why;
    struct str any = pb_cat(&a, pb_cat(&a, STR_NULL, 1, STR("type/x")), 2, STR("body"));
    struct str m = pb_cat(&a, STR_NULL, 2, any);
    m = pb_cat(&a, m, 1, STR("v1"));
    m = pb_cat(&a, m, 4, STR("type/x"));
    m = pb_cat(&a, m, 5, STR("nonce"));
    m = pb_cat(&a, m, 6, pb_cat(&a, STR_NULL, 1, STR("cp")));
    m = pb_cat(&a, m, 99, STR("unknown fields are passed over"));
    m = pb_cat(&a, m, 2, any);
    ck_assert(discovery_response_parse(m, &r, &why));
    ck_assert(str_eq(r.version_info, STR("v1")));
    ck_assert(str_eq(r.type_url, STR("type/x")));
    ck_assert(str_eq(r.nonce, STR("nonce")));
    ck_assert(str_eq(r.control_plane, STR("cp")));
    for (size_t i = 1; i <= 2; i++) {
        ck_assert(discovery_next(&r, &d, &why));
        ck_assert_ptr_null(why);
        ck_assert_uint_eq(r.index, i);
        ck_assert(str_eq(d.bytes, STR("body")) && d.bytes.p > m.p && d.bytes.p < m.p + m.len);
    }
    ck_assert(!discovery_next(&r, &d, &why));
}
END_TEST

START_TEST(test_empty_response_is_one)
{
    struct discovery_response r;
    struct discovery_resource d;
    const char *why;
    ck_assert(discovery_response_parse(STR_NULL, &r, &why));
    ck_assert(!discovery_next(&r, &d, &why));
}
END_TEST

START_TEST(test_every_cut_of_a_response_is_refused_or_shorter)
{
    struct discovery_response r;
    struct discovery_resource d;
    const char *why = NULL;
    struct str any = pb_cat(&a, pb_cat(&a, STR_NULL, 1, STR("t")), 2, STR("b"));
    struct str m = pb_cat(&a, pb_cat(&a, pb_cat(&a, STR_NULL, 1, STR("v")), 2, any), 5, STR("n"));
    size_t whole = 0;
    for (size_t len = 0; len < m.len; len++) {
        char *copy = mem_strndup(m.p, len); /* so that ASan sees a read beyond it */
        if (discovery_response_parse(str_n(copy, len), &r, &why)) {
            whole++;
            while (discovery_next(&r, &d, &why))
                ck_assert_ptr_null(why);
        } else {
            ck_assert_ptr_nonnull(why);
        }
        mem_free(copy);
    }
    ck_assert_uint_eq(whole, 3); /* at the ends of fields only */
}
END_TEST

START_TEST(test_malformed_resources_say_why)
{
    static const struct {
        const char *any, *why;
    } bad[] = {
        {"", "google.protobuf.Any without type_url"},
        {"\x12\x01x", "google.protobuf.Any without type_url"},
        {"\x0a\x02\xc3\x28", "type_url of google.protobuf.Any is not UTF-8"},
        {"\x08\x01", "wrong wire type in google.protobuf.Any"},
        {"\x0a\x7f", "malformed protobuf in google.protobuf.Any"},
    };
    struct discovery_response r;
    struct discovery_resource d;
    const char *why;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str m = pb_cat(&a, STR_NULL, 2, str_of(bad[i].any));
        ck_assert(discovery_response_parse(m, &r, &why));
        ck_assert(discovery_next(&r, &d, &why));
        ck_assert_str_eq(why, bad[i].why);
        ck_assert(!discovery_next(&r, &d, &why));
    }
}
END_TEST

START_TEST(test_wrapper_is_opened)
{
    struct discovery_response r;
    struct discovery_resource d;
    const char *why;
    const char *url = "type.googleapis.com/envoy.service.discovery.v3.Resource";
    struct str inner = pb_cat(&a, pb_cat(&a, STR_NULL, 1, STR("t")), 2, STR("b"));
    struct str w = pb_cat(&a, pb_cat(&a, STR_NULL, 3, STR("name")), 1, STR("9"));
    struct str with = pb_cat(&a, pb_cat(&a, w, 2, inner), 6, STR("\x08\x01"));
    struct str any1 = pb_cat(&a, pb_cat(&a, STR_NULL, 1, str_of(url)), 2, with);
    struct str any2 = pb_cat(&a, pb_cat(&a, STR_NULL, 1, str_of(url)), 2, w);
    struct str any3 = pb_cat(&a, pb_cat(&a, STR_NULL, 1, str_of(url)), 2, STR("\x1a\x7f"));
    struct str any4 = pb_cat(&a, pb_cat(&a, STR_NULL, 1, str_of(url)), 2, STR("\x1a\x01\xff"));
    struct str m = pb_cat(&a, pb_cat(&a, STR_NULL, 2, any1), 2, any2);
    m = pb_cat(&a, pb_cat(&a, m, 2, any3), 2, any4);
    ck_assert(discovery_response_parse(m, &r, &why));
    ck_assert(discovery_next(&r, &d, &why) && !why);
    ck_assert(d.wrapped && d.has_body && d.ttl_ms == 1000);
    ck_assert(str_eq(d.name, STR("name")) && str_eq(d.version, STR("9")));
    ck_assert(str_eq(d.type_url, STR("t")) && str_eq(d.bytes, STR("b")));
    ck_assert(discovery_next(&r, &d, &why) && !why);
    ck_assert(d.wrapped && !d.has_body && !d.ttl_ms);
    ck_assert(discovery_next(&r, &d, &why));
    ck_assert_str_eq(why, "malformed protobuf in envoy.service.discovery.v3.Resource");
    ck_assert(discovery_next(&r, &d, &why));
    ck_assert_str_eq(why, "a string of envoy.service.discovery.v3.Resource is not UTF-8");
}
END_TEST

START_TEST(test_name_of)
{
    struct str name;
    struct str m = pb_cat(&a, pb_cat(&a, STR_NULL, 1, STR("first")), 2, STR("x"));
    ck_assert(discovery_name_of(m, 1, &name) && str_eq(name, STR("first")));
    m = pb_cat(&a, m, 1, STR("last"));
    ck_assert(discovery_name_of(m, 1, &name) && str_eq(name, STR("last")));
    ck_assert(!discovery_name_of(m, 3, &name));
    ck_assert(!discovery_name_of(STR_NULL, 1, &name));
    ck_assert(!discovery_name_of(STR("\x0a\x05"
                                     "ab"),
                                 1, &name));
    ck_assert(!discovery_name_of(STR("\x0a\x01\xff"), 1, &name));
    ck_assert(!discovery_name_of(STR("\x0a\x01"
                                     "a\x0b\x0c"),
                                 1, &name)); /* a group */
}
END_TEST

START_TEST(test_request_on_the_wire)
{
    static const struct str names[] = {{"a", 1}, {"", 0}};
    struct discovery_request q = {.version_info = STR("1"),
                                  .node = STR("\n\x01n"),
                                  .names = names,
                                  .num_names = 2,
                                  .type_url = STR("t"),
                                  .response_nonce = STR("x")};
    struct str want = STR("\x0a\x01"
                          "1\x12\x03\n\x01n\x1a\x01"
                          "a\x1a\x00\"\x01t*\x01x");
    ck_assert(str_eq(discovery_request_encode(&q, &a), want));
    q = (struct discovery_request){.nack = true, .error = STR("no")};
    want = STR("2\x06\x08\x0d\x12\x02no");
    ck_assert(str_eq(discovery_request_encode(&q, &a), want));
    q = (struct discovery_request){0};
    ck_assert_uint_eq(discovery_request_encode(&q, &a).len, 0);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_response_is_cut_into_views);
    tcase_add_test(t, test_empty_response_is_one);
    tcase_add_test(t, test_every_cut_of_a_response_is_refused_or_shorter);
    tcase_add_test(t, test_malformed_resources_say_why);
    tcase_add_test(t, test_wrapper_is_opened);
    tcase_add_test(t, test_name_of);
    tcase_add_test(t, test_request_on_the_wire);
}

int main(void)
{
    return test_main("xds/discovery", add);
}
