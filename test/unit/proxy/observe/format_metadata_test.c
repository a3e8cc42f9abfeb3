/* %DYNAMIC_METADATA%, %METADATA% and %FILTER_STATE% in texts and in JSON, as Envoy 1.40 writes them
 * for the same metadata (observed). */
#include "proxy/observe/format.h"

#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct stream_info si, none;
static struct metadata of_route;

static void setup(void)
{
    static const char object[] =
        "{\"s\":\"st\\u00e9ring\",\"n\":5,\"f\":1.5,\"b\":true,\"l\":[1,\"a\",null],"
        "\"o\":{\"k\":\"v\",\"j\":1},\"z\":null,\"q\":\"a\\\"b\",\"e\":\"\",\"big\":12345678901}";
    struct json_error err;
    arena_init(&arena, 0);
    errors_init(&errors);
    memset(&si, 0, sizeof(si));
    struct json *j = json_parse(str_of(object), 0, &arena, &err);
    ck_assert(j);
    metadata_merge(&si.metadata, &arena, STR("ns"), j);
    of_route = (struct metadata){0};
    metadata_set(&of_route, &arena, STR("ns"), STR("s"), metadata_string(&arena, STR("route's")));
    si.route_metadata = &of_route;
    filter_state_set(&si.filter_state, &arena, STR("my.key"), STR("val\"ue"));
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
    buffer_free_list_trim();
}

static const struct {
    const char *op, *text, *json, *inside;
} cases[] = {
    {"DYNAMIC_METADATA(ns:s)", "st\xc3\xa9ring", "\"st\xc3\xa9ring\"", "st\xc3\xa9ring"},
    {"METADATA(DYNAMIC:ns:s)", "st\xc3\xa9ring", "\"st\xc3\xa9ring\"", "st\xc3\xa9ring"},
    {"METADATA(ROUTE:ns:s)", "route's", "\"route's\"", "route's"},
    {"METADATA(ROUTE:ns)", "{\"s\":\"route's\"}", "{\"s\":\"route's\"}",
     "{\\\"s\\\":\\\"route's\\\"}"},
    {"METADATA(ROUTE:ns:n)", "-", "null", "-"},
    {"DYNAMIC_METADATA(ns:n)", "5", "5", "5"},
    {"DYNAMIC_METADATA(ns:f)", "1.5", "1.5", "1.5"},
    {"DYNAMIC_METADATA(ns:b)", "true", "true", "true"},
    {"DYNAMIC_METADATA(ns:big)", "12345678901", "12345678901", "12345678901"},
    {"DYNAMIC_METADATA(ns:l)", "[1,\"a\",null]", "[1,\"a\",null]", "[1,\\\"a\\\",null]"},
    {"DYNAMIC_METADATA(ns:l):5", "[1,\"a", "[1,\"a\",null]", "[1,\\\"a"},
    {"DYNAMIC_METADATA(ns:o)", "{\"j\":1,\"k\":\"v\"}", "{\"j\":1,\"k\":\"v\"}",
     "{\\\"j\\\":1,\\\"k\\\":\\\"v\\\"}"},
    {"DYNAMIC_METADATA(ns:o:k)", "v", "\"v\"", "v"},
    {"DYNAMIC_METADATA(ns:q)", "a\"b", "\"a\\\"b\"", "a\\\"b"},
    {"DYNAMIC_METADATA(ns:e)", "", "\"\"", ""},
    {"DYNAMIC_METADATA(ns:s):2", "st", "\"st\"", "st"},
    {"DYNAMIC_METADATA(ns:z)", "-", "null", "-"},
    {"DYNAMIC_METADATA(ns:no)", "-", "null", "-"},
    {"DYNAMIC_METADATA(ns:s:no)", "-", "null", "-"},
    {"DYNAMIC_METADATA(no)", "-", "null", "-"},
    {"FILTER_STATE(my.key)", "\"val\\\"ue\"", "\"val\\\"ue\"", "\\\"val\\\\\\\"ue\\\""},
    {"FILTER_STATE(my.key:TYPED)", "\"val\\\"ue\"", "\"val\\\"ue\"", "\\\"val\\\\\\\"ue\\\""},
    {"FILTER_STATE(my.key:PLAIN)", "val\"ue", "\"val\\\"ue\"", "val\\\"ue"},
    {"FILTER_STATE(my.key:PLAIN):3", "val", "\"val\"", "val"},
    {"FILTER_STATE(my.key):3", "\"va", "\"val\\\"ue\"", "\\\"va"},
    {"FILTER_STATE(my.key:FIELD:a)", "-", "null", "-"},
    {"FILTER_STATE(no)", "-", "null", "-"},
};

static void expect(struct str got, struct str want)
{
    ck_assert_msg(str_eq(got, want), "got %.*s, want %.*s", STR_ARG(got), STR_ARG(want));
}

static struct str text_line(const char *format, const struct stream_info *info)
{
    struct format *f = format_compile(&arena, str_of(format), false, &errors);
    ck_assert_msg(f != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
    return format_str(f, info, &arena);
}

static struct str json_line(const char *format, const struct stream_info *info, bool omit)
{
    struct str yaml = arena_printf(&arena, "{a: '%s'}", format);
    struct json_format *f = json_format_compile(
        &arena, yaml_message("google.protobuf.Struct", yaml.p, &arena), omit, false, &errors);
    ck_assert_msg(f != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
    struct buffer b;
    buffer_init(&b);
    json_format_append(f, info, &b);
    struct str s = arena_str(&arena, buffer_pullup(&b, b.len));
    buffer_cleanup(&b);
    return s;
}

START_TEST(every_case)
{
    const char *op = arena_printf(&arena, "%%%s%%", cases[_i].op).p;
    const char *in = arena_printf(&arena, "<%%%s%%>", cases[_i].op).p;
    expect(text_line(op, &si), str_of(cases[_i].text));
    expect(json_line(op, &si, false), arena_printf(&arena, "{\"a\":%s}", cases[_i].json));
    expect(json_line(in, &si, false), arena_printf(&arena, "{\"a\":\"<%s>\"}", cases[_i].inside));
    expect(text_line(op, &none), STR("-"));
    expect(json_line(op, &none, false), STR("{\"a\":null}"));
    expect(json_line(op, &none, true), STR("{}"));
}
END_TEST

START_TEST(refused)
{
    static const char *const bad[] = {"%DYNAMIC_METADATA%", "%DYNAMIC_METADATA()%",
                                      "%FILTER_STATE%",     "%FILTER_STATE(x:WHAT)%",
                                      "%METADATA%",         "%METADATA(CLUSTER:a:b)%"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        size_t before = errors.num_errors;
        ck_assert(!format_compile(&arena, str_of(bad[i]), false, &errors));
        ck_assert_uint_gt(errors.num_errors, before);
    }
}
END_TEST

/* Metadata comes from requests too: depth costs no stack. */
START_TEST(deep)
{
    struct json *top = metadata_number(&arena, 1);
    for (int i = 0; i < 100000; i++) {
        struct json *list = ARENA_NEW(&arena, struct json);
        list->type = JSON_ARRAY;
        list->first = top;
        list->count = 1;
        top = list;
    }
    metadata_set(&si.metadata, &arena, STR("ns"), STR("deep"), top);
    struct str s = text_line("%DYNAMIC_METADATA(ns:deep)%", &si);
    ck_assert(str_starts(s, STR("[[[[")));
    ck_assert_uint_lt(s.len, 1000);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_case, 0, ARRAY_LEN(cases));
    tcase_add_test(t, refused);
    tcase_add_test(t, deep);
    Suite *s = suite_create("observe/format_metadata");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
