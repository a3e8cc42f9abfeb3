#include "api-protos/mapping.h"
#include "base/json.h"
#include "google/protobuf/struct.pb-c.h"
#include "proxy/observe/format.h"

#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct headers request;
static struct conn_info conn;
static struct stream_info si, none;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    headers_init(&request, &arena);
    memset(&si, 0, sizeof(si));
    memset(&conn, 0, sizeof(conn));
    si.conn = &conn;
    si.request = &request;
    si.response_code = 503;
    si.start_us = 5000000;
    si.end_us = 5007999;
    si.bytes_sent = 9007199254740993;
    si.protocol = PROTOCOL_HTTP11;
    request.method = STR("GET");
    request.path = STR("/x");
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
    buffer_free_list_trim();
}

static const void *struct_of(const char *json)
{
    struct json_error err;
    struct str bytes;
    struct json *tree = json_parse(str_of(json), 0, &arena, &err);
    ck_assert_msg(tree != NULL, "%s: %s", json, err.text);
    ck_assert(pb_json_to_wire(&google__protobuf__struct__descriptor, tree, &arena, &errors, NULL,
                              &bytes));
    const void *m = pb_unpack(&google__protobuf__struct__descriptor, bytes, &arena, &errors, NULL);
    ck_assert_ptr_nonnull(m);
    return m;
}

static const char *line(const char *json, const struct stream_info *info, bool omit)
{
    struct json_format *f = json_format_compile(&arena, struct_of(json), omit, false, &errors);
    ck_assert_msg(f != NULL, "%s: %.*s", json, STR_ARG(errors_text(&errors, &arena)));
    struct buffer b;
    buffer_init(&b);
    json_format_append(f, info, &b);
    const char *text = arena_str(&arena, buffer_pullup(&b, b.len)).p;
    buffer_cleanup(&b);
    /* whatever is in it, a line is JSON */
    struct json_error err;
    ck_assert_msg(json_parse(str_of(text), 0, &arena, &err) != NULL, "%s: %s", text, err.text);
    return text;
}

/* What Envoy 1.40 writes for the same configuration and request: in order of names, sort_properties
 * or not. */
static const struct {
    const char *format, *line, *omitting;
} lines[] = {
    {"{}", "{}", "{}"},
    {"{\"b\": \"%PROTOCOL%\", \"a\": \"x\"}", "{\"a\":\"x\",\"b\":\"HTTP/1.1\"}",
     "{\"a\":\"x\",\"b\":\"HTTP/1.1\"}"},
    /* exactly one operator keeps its type; absent is null */
    {"{\"c\": \"%RESPONSE_CODE%\"}", "{\"c\":503}", "{\"c\":503}"},
    {"{\"c\": \"%DURATION%\"}", "{\"c\":7}", "{\"c\":7}"},
    {"{\"c\": \"%RESPONSE_DURATION%\"}", "{\"c\":null}", "{}"},
    {"{\"c\": \"%REQ(none)%\"}", "{\"c\":null}", "{}"},
    {"{\"c\": \"%REQ(none):3%\"}", "{\"c\":null}", "{}"},
    {"{\"c\": \"%RESPONSE_FLAGS%\"}", "{\"c\":\"-\"}", "{\"c\":\"-\"}"},
    {"{\"c\": \"%START_TIME(%s)%\"}", "{\"c\":\"0\"}", "{\"c\":\"0\"}"},
    {"{\"c\": \"%CONNECTION_ID%\"}", "{\"c\":0}", "{\"c\":0}"},
    {"{\"c\": \"%BYTES_SENT%\"}", "{\"c\":9007199254740993}", "{\"c\":9007199254740993}"},
    /* several parts are text */
    {"{\"c\": \"%RESPONSE_CODE%%DURATION%\"}", "{\"c\":\"5037\"}", "{\"c\":\"5037\"}"},
    {"{\"c\": \"x-%REQ(none)%-\"}", "{\"c\":\"x---\"}", "{\"c\":\"x--\"}"},
    {"{\"c\": \"%REQ(none)%%REQ(none)%\"}", "{\"c\":\"--\"}", "{\"c\":\"\"}"},
    /* literals */
    {"{\"a\": 5, \"b\": -7, \"c\": 1.5, \"d\": true, \"e\": false, \"f\": null, \"g\": \"\"}",
     "{\"a\":5,\"b\":-7,\"c\":1.5,\"d\":true,\"e\":false,\"f\":null,\"g\":\"\"}",
     "{\"a\":5,\"b\":-7,\"c\":1.5,\"d\":true,\"e\":false,\"g\":\"\"}"},
    {"{\"a\": \"100%% q\\\" \\u00e9\"}", "{\"a\":\"100% q\\\" \xc3\xa9\"}",
     "{\"a\":\"100% q\\\" \xc3\xa9\"}"},
    {"{\"k\\n\\\"\": \"v\\u2028/\\u007f\"}", "{\"k\\n\\\"\":\"v\xe2\x80\xa8/\x7f\"}",
     "{\"k\\n\\\"\":\"v\xe2\x80\xa8/\x7f\"}"},
    /* objects and lists; with omit_empty an object without members goes, a list stays */
    {"{\"o\": {\"z\": \"%PROTOCOL%\", \"y\": [\"%PROTOCOL%\", 1, {\"q\": \"%REQ(n)%\"}, "
     "\"%REQ(n)%\"]}}",
     "{\"o\":{\"y\":[\"HTTP/1.1\",1,{\"q\":null},null],\"z\":\"HTTP/1.1\"}}",
     "{\"o\":{\"y\":[\"HTTP/1.1\",1],\"z\":\"HTTP/1.1\"}}"},
    {"{\"e\": {}, \"l\": [], \"ll\": [{}], \"el\": [\"%REQ(x)%\"], \"o\": {\"a\": \"%REQ(x)%\"}}",
     "{\"e\":{},\"el\":[null],\"l\":[],\"ll\":[{}],\"o\":{\"a\":null}}",
     "{\"el\":[],\"l\":[],\"ll\":[]}"},
    {"{\"a\": {\"b\": {\"c\": \"%REQ(n)%\"}, \"d\": [[\"%REQ(n)%\"]]}, \"z\": 1}",
     "{\"a\":{\"b\":{\"c\":null},\"d\":[[null]]},\"z\":1}", "{\"a\":{\"d\":[[]]},\"z\":1}"},
};

START_TEST(test_line)
{
    ck_assert_str_eq(line(lines[_i].format, &si, false), lines[_i].line);
    ck_assert_str_eq(line(lines[_i].format, &si, true), lines[_i].omitting);
    (void)line(lines[_i].format, &none, false);
    (void)line(lines[_i].format, &none, true);
}
END_TEST

START_TEST(test_numbers)
{
    ck_assert_str_eq(
        line("{\"a\": [1.5, 0.1, 1e300, -2.25, 9007199254740993, 12345678901234567890, 1e21, "
             "-0.0, 123456789012, 1e-7, 3.0, \"NaN\"]}",
             &si, false),
        "{\"a\":[1.5,0.1,1e+300,-2.25,9007199254740992,12345678901234567168,1e+21,-0,"
        "123456789012,1e-07,3,\"NaN\"]}");
}
END_TEST

START_TEST(test_sort_is_the_same)
{
    const void *m = struct_of("{\"b\": 1, \"a\": 2, \"B\": 3}");
    struct json_format *f = json_format_compile(&arena, m, false, true, &errors);
    struct buffer b;
    buffer_init(&b);
    json_format_append(f, &si, &b);
    ck_assert(str_eq(buffer_pullup(&b, b.len), STR("{\"B\":3,\"a\":2,\"b\":1}")));
    buffer_cleanup(&b);
}
END_TEST

/* Values that a peer chooses. Not UTF-8: every byte over 0x7f becomes the code point of its number,
 * and the escapes are all of one kind, as in Envoy. */
static const struct {
    const char *value, *json;
} escapes[] = {
    {"a\tb", "a\\tb"},
    {"\"q\" \\ </>", "\\\"q\\\" \\\\ </>"},
    {"\x01\x1f\x7f", "\\u0001\\u001f\x7f"},
    {"\b\f\n\r\t", "\\b\\f\\n\\r\\t"},
    {"\xc3\xa9", "\xc3\xa9"},
    {"\xe2\x80\xa8\xf0\x9f\x98\x80", "\xe2\x80\xa8\xf0\x9f\x98\x80"},
    {"\xff\xfe\x80\x61", "\\u00ff\\u00fe\\u0080a"},
    {"\xc3\xa9\xff", "\\u00c3\\u00a9\\u00ff"},
    {"\xed\xa0\x80", "\\u00ed\\u00a0\\u0080"}, /* a surrogate */
    {"\xc0\xaf", "\\u00c0\\u00af"},            /* not the shortest form */
    {"\xf4\x90\x80\x80", "\\u00f4\\u0090\\u0080\\u0080"},
    {"\xe2\x82", "\\u00e2\\u0082"},
    {"\"\\/\x7f\t\xff<>&'", "\\u0022\\u005c/\\u007f\\u0009\\u00ff<>&'"},
    {"x\"},{\"forged\":\"y", "x\\\"},{\\\"forged\\\":\\\"y"},
};

START_TEST(test_escape)
{
    headers_add(&request, STR("v"), str_of(escapes[_i].value));
    struct str want = arena_printf(&arena, "{\"a\":\"%s\"}", escapes[_i].json);
    ck_assert_str_eq(line("{\"a\": \"%REQ(v)%\"}", &si, false), want.p);
    ck_assert_str_eq(line("{\"a\": \"%REQ(v)%\"}", &si, true), want.p);
    want = arena_printf(&arena, "{\"a\":\"\xc3\xa9<%s>\"}", escapes[_i].json);
    ck_assert_str_eq(line("{\"a\": \"\xc3\xa9<%REQ(v)%>\"}", &si, false), want.p);
}
END_TEST

START_TEST(test_escape_nul_and_cut)
{
    headers_add(&request, STR("v"), str_n("a\0b", 3));
    headers_add(&request, STR("u"), STR("\xc3\xa9\xe2\x80\xa8"));
    ck_assert_str_eq(line("{\"a\": \"%REQ(v)%\"}", &si, false), "{\"a\":\"a\\u0000b\"}");
    /* a cut in the middle of a character leaves what is no UTF-8 */
    ck_assert_str_eq(line("{\"a\": \"%REQ(u):3%\"}", &si, false),
                     "{\"a\":\"\\u00c3\\u00a9\\u00e2\"}");
    ck_assert_str_eq(line("{\"a\": \"%REQ(u):2%\"}", &si, false), "{\"a\":\"\xc3\xa9\"}");
    ck_assert_str_eq(line("{\"a\": \"%REQ(u):0%\"}", &si, false), "{\"a\":\"\"}");
}
END_TEST

START_TEST(test_lists_of_names)
{
    struct str sans[] = {STR("spiffe://a\"b"), STR("\xff")};
    struct tls_peer peer = {.uri_sans = sans, .num_uri_sans = 2};
    conn.tls = &peer;
    conn.sni = STR("h\"},x");
    ck_assert_str_eq(line("{\"a\": \"%DOWNSTREAM_PEER_URI_SAN%\"}", &si, false),
                     "{\"a\":\"spiffe://a\\\"b,\\u00ff\"}");
    ck_assert_str_eq(line("{\"a\": \"%REQUESTED_SERVER_NAME%\"}", &si, false), "{\"a\":\"h___x\"}");
}
END_TEST

START_TEST(test_grpc_types)
{
    struct headers response;
    headers_init(&response, &arena);
    headers_add(&response, STR("grpc-status"), STR("5"));
    headers_add(&request, STR("content-type"), STR("application/grpc"));
    si.response = &response;
    ck_assert_str_eq(line("{\"a\": \"%GRPC_STATUS%\", \"b\": \"%GRPC_STATUS(NUMBER)%\", \"c\": "
                          "\"%GRPC_STATUS_NUMBER%\"}",
                          &si, false),
                     "{\"a\":\"NotFound\",\"b\":5,\"c\":5}");
    headers_set(&response, STR("grpc-status"), STR("x"));
    ck_assert_str_eq(line("{\"b\": \"%GRPC_STATUS(NUMBER)%\"}", &si, false), "{\"b\":-1}");
}
END_TEST

static char *nested(int depth)
{
    char *text = arena_bytes(&arena, (size_t)depth * 2 + 16), *p = text;
    memcpy(p, "{\"a\":", 5);
    p += 5;
    for (int i = 0; i < depth; i++)
        *p++ = '[';
    *p++ = '1';
    for (int i = 0; i < depth; i++)
        *p++ = ']';
    *p++ = '}';
    *p = '\0';
    return text;
}

START_TEST(test_depth)
{
    const char *deep = nested(39);
    ck_assert_str_eq(line(deep, &si, false), deep);
    ck_assert_str_eq(line(deep, &si, true), deep);
    const void *m = struct_of(nested(45));
    ck_assert_ptr_null(json_format_compile(&arena, m, false, false, &errors));
    ck_assert(str_find(errors_text(&errors, &arena), STR("nested more than")) >= 0);
}
END_TEST

START_TEST(test_errors_have_paths)
{
    const void *m = struct_of("{\"ok\": 1, \"a\": {\"b\": [1, \"%NOPE%\"]}, \"c\": \"%REQ%\"}");
    ck_assert_ptr_null(json_format_compile(&arena, m, false, false, &errors));
    ck_assert_uint_eq(errors.num_errors, 2);
    struct str text = errors_text(&errors, &arena);
    ck_assert_msg(str_find(text, STR("fields[a].fields[b].values[1]: there is no operator NOPE")) >=
                      0,
                  "%.*s", STR_ARG(text));
    ck_assert_msg(str_find(text, STR("fields[c]: REQ requires parameters")) >= 0, "%.*s",
                  STR_ARG(text));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("json_format");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_line, 0, ARRAY_LEN(lines));
    tcase_add_loop_test(t, test_escape, 0, ARRAY_LEN(escapes));
    tcase_add_test(t, test_numbers);
    tcase_add_test(t, test_sort_is_the_same);
    tcase_add_test(t, test_escape_nul_and_cut);
    tcase_add_test(t, test_lists_of_names);
    tcase_add_test(t, test_grpc_types);
    tcase_add_test(t, test_depth);
    tcase_add_test(t, test_errors_have_paths);
    Suite *s = suite_create("observe/json_format");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
