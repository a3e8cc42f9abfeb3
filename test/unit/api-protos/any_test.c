#include "api-protos/mapping.h"

#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include <check.h>
#include <stdlib.h>

#define PREFIX "type.googleapis.com/"
#define ROUTER "envoy.extensions.filters.http.router.v3.Router"

static struct arena arena;
static struct errors errors;
static struct pb_any out;

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

static enum pb_any_status unpack(const char *url, struct str value)
{
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = (char *)(uintptr_t)url;
    any.value.data = (uint8_t *)(uintptr_t)value.p;
    any.value.len = value.len;
    errors_cleanup(&errors);
    errors_init(&errors);
    size_t mark = errors_push(&errors, "typed_config");
    enum pb_any_status s = pb_any_unpack(&any, &arena, &errors, NULL, &out);
    errors_pop(&errors, mark);
    ck_assert_int_eq(s == PB_ANY_INVALID, !errors_ok(&errors));
    ck_assert_int_eq(s == PB_ANY_OK, out.message != NULL);
    return s;
}

/* The bytes of an Any given as JSON. */
static enum pb_any_status unpack_json(const char *text)
{
    struct json_error err;
    struct str bytes;
    const struct json *tree = json_parse(str_of(text), 0, &arena, &err);
    ck_assert(tree);
    bool ok = pb_json_to_wire(&google__protobuf__any__descriptor, tree, &arena, &errors, NULL,
                              &bytes);
    ck_assert_msg(ok, "%.*s", STR_ARG(errors_text(&errors, &arena)));
    Google__Protobuf__Any *any = PB_UNPACK(Google__Protobuf__Any, google__protobuf__any, bytes,
                                           &arena, &errors, NULL);
    ck_assert(any);
    return unpack(any->type_url, str_n((const char *)any->value.data, any->value.len));
}

static void expect_error(const char *path, const char *text)
{
    ck_assert(errors.first);
    ck_assert_msg(str_eq(errors.first->path, str_of(path)), "%.*s", STR_ARG(errors.first->path));
    ck_assert_msg(str_find(errors.first->text, str_of(text)) >= 0, "%.*s",
                  STR_ARG(errors.first->text));
}

START_TEST(test_plain)
{
    ck_assert_int_eq(unpack(PREFIX ROUTER, STR("\x20\x01")), PB_ANY_OK);
    ck_assert(out.type == &envoy__extensions__filters__http__router__v3__router__descriptor);
    ck_assert(str_eq(out.type_name, STR(ROUTER)));
    ck_assert(str_eq(out.bytes, STR("\x20\x01")));
    /* without a prefix, and with another one */
    ck_assert_int_eq(unpack(ROUTER, STR("")), PB_ANY_OK);
    ck_assert_int_eq(unpack("a/b/" ROUTER, STR("")), PB_ANY_OK);
}
END_TEST

START_TEST(test_not_there)
{
    ck_assert_int_eq(pb_any_unpack(NULL, &arena, &errors, NULL, &out), PB_ANY_EMPTY);
    ck_assert(!out.message && !out.type && !out.type_name.len);
    ck_assert_int_eq(unpack("", STR("")), PB_ANY_EMPTY);
    ck_assert_int_eq(unpack("", STR("x")), PB_ANY_INVALID);
    expect_error("typed_config.type_url", "required");
    ck_assert_int_eq(unpack(PREFIX "a.b.C", STR("\xff\xff")), PB_ANY_UNKNOWN);
    ck_assert(str_eq(out.type_name, STR("a.b.C")));
    /* official, but not listed; map entries are no messages of their own */
    ck_assert_int_eq(unpack(PREFIX "envoy.config.tap.v3.MatchPredicate", STR("")), PB_ANY_UNKNOWN);
    ck_assert_int_eq(unpack(PREFIX "google.protobuf.Struct.FieldsEntry", STR("")), PB_ANY_UNKNOWN);
    ck_assert(pb_is_official(STR(PREFIX "envoy.config.tap.v3.MatchPredicate")));
    ck_assert(!pb_is_official(STR("google.protobuf.Struct.FieldsEntry")));
    ck_assert(!pb_is_official(STR("a.b.C")));
    ck_assert(!pb_find(STR("")));
}
END_TEST

START_TEST(test_bad)
{
    ck_assert_int_eq(unpack(PREFIX ROUTER, STR("\x22\x00")), PB_ANY_INVALID);
    expect_error("typed_config.suppress_envoy_headers", "wire type");
    ck_assert(out.type && !out.message);
    ck_assert_int_eq(
        unpack(PREFIX "envoy.extensions.access_loggers.file.v3.FileAccessLog", STR("")),
        PB_ANY_INVALID);
    expect_error("typed_config.path", "at least 1 characters");
}
END_TEST

START_TEST(test_typed_struct)
{
    static const char *const kinds[] = {"xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct str text = arena_printf(&arena,
                                       "{\"@type\":\"" PREFIX "%s\",\"type_url\":\"" PREFIX
                                       "envoy.extensions.access_loggers.file.v3.FileAccessLog\","
                                       "\"value\":{\"path\":\"/dev/null\",\"logFormat\":"
                                       "{\"text_format\":\"x\"}}}",
                                       kinds[i]);
        ck_assert_int_eq(unpack_json(text.p), PB_ANY_OK);
        ck_assert(
            str_eq(out.type_name, STR("envoy.extensions.access_loggers.file.v3.FileAccessLog")));
        const Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog *log =
            (const void *)out.message;
        ck_assert_str_eq(log->path, "/dev/null");
        ck_assert_str_eq(log->log_format->text_format, "x");
    }
    /* no value at all */
    ck_assert_int_eq(unpack_json("{\"@type\":\"" PREFIX
                                 "xds.type.v3.TypedStruct\",\"type_url\":\"" ROUTER "\"}"),
                     PB_ANY_OK);
    ck_assert(str_eq(out.type_name, STR(ROUTER)));
}
END_TEST

START_TEST(test_typed_struct_bad)
{
    ck_assert_int_eq(unpack_json("{\"@type\":\"xds.type.v3.TypedStruct\",\"value\":{}}"),
                     PB_ANY_INVALID);
    expect_error("typed_config.type_url", "required");
    ck_assert_int_eq(unpack_json("{\"@type\":\"xds.type.v3.TypedStruct\",\"type_url\":\"x/y.Z\"}"),
                     PB_ANY_UNKNOWN);
    ck_assert(str_eq(out.type_name, STR("y.Z")));
    ck_assert_int_eq(unpack_json("{\"@type\":\"xds.type.v3.TypedStruct\",\"type_url\":\"" ROUTER
                                 "\",\"value\":{\"suppress_envoy_headers\":\"off\"}}"),
                     PB_ANY_INVALID);
    expect_error("typed_config.suppress_envoy_headers", "true or false");
    ck_assert_int_eq(unpack_json("{\"@type\":\"xds.type.v3.TypedStruct\",\"type_url\":"
                                 "\"envoy.extensions.access_loggers.file.v3.FileAccessLog\"}"),
                     PB_ANY_INVALID);
    expect_error("typed_config.path", "at least 1 characters");
    /* a number that JSON cannot hold */
    ck_assert_int_eq(
        unpack(PREFIX "xds.type.v3.TypedStruct", STR("\x0a\x01x\x12\x07\x0a\x05\x0a\x03"
                                                     "a\xff"
                                                     "b")),
        PB_ANY_INVALID);
}
END_TEST

START_TEST(test_typed_struct_nested)
{
    struct str text = STR("{\"a\":1}");
    for (int i = 0; i < 8; i++)
        text = arena_printf(&arena,
                            "{\"type_url\":\"" PREFIX "xds.type.v3.TypedStruct\",\"value\":%.*s}",
                            STR_ARG(text));
    struct str any = arena_printf(&arena, "{\"@type\":\"" PREFIX "xds.type.v3.TypedStruct\",%.*s",
                                  (int)text.len - 1, text.p + 1);
    ck_assert_int_eq(unpack_json(any.p), PB_ANY_INVALID);
    expect_error("typed_config", "nested too deeply");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("api-protos/any");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_plain);
    tcase_add_test(tc, test_not_there);
    tcase_add_test(tc, test_bad);
    tcase_add_test(tc, test_typed_struct);
    tcase_add_test(tc, test_typed_struct_bad);
    tcase_add_test(tc, test_typed_struct_nested);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
