/* What is refused of a LocalReplyConfig, and what it makes of a response. */
#include "proxy/http/local_reply.h"

#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

#define CONFIG "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig"
#define EQ(code)                                                                                   \
    "{status_code_filter: {comparison: {op: EQ, value: {default_value: " #code                     \
    ", runtime_key: x}}}}"

static struct arena arena;
static struct errors errors;
static struct headers head;
static struct stream_info si;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    si = (struct stream_info){0};
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static struct local_reply *compile(const char *yaml)
{
    return local_reply_compile(&arena, yaml_message(CONFIG, yaml, &arena), NULL, &errors);
}

static struct str finish(const struct local_reply *l, unsigned status, const char *body, bool grpc)
{
    headers_init(&head, &arena);
    head.status = (uint16_t)status;
    return local_reply_finish(l, &head, str_of(body), grpc, &si);
}

static void expect(struct str got, const char *want)
{
    ck_assert_msg(str_eq(got, str_of(want)), "got %.*s, want %s", STR_ARG(got), want);
}

static struct str value_of(const char *name)
{
    struct str v;
    return headers_value(&head, str_of(name), &arena, &v) ? v : STR("(none)");
}

START_TEST(all_errors_have_their_paths)
{
    ck_assert(
        !compile("{mappers: [{filter: " EQ(404) ", body_format_override: {text_format: '%NO%'}, "
                                                "headers_to_add: [{header: {key: ':x', value: "
                                                "'%NO%'}}]}, {filter: {header_filter: {header:"
                                                " {name: a, string_match: {safe_regex: {regex: "
                                                "'('}}}}}, body: {filename: /does/not/exist}}"
                                                "], body_format: {json_format: {a: '%NO%'}}}"));
    expect_error(&errors, "mappers[0].body_format_override.text_format", "no operator NO");
    expect_error(&errors, "mappers[0].headers_to_add[0].header.key", "may not be modified");
    expect_error(&errors, "mappers[0].headers_to_add[0].header.value", "no operator NO");
    expect_error(&errors, "mappers[1].filter.header_filter.header[0].string_match.safe_regex.regex",
                 "missing )");
    expect_error(&errors, "mappers[1].body", "/does/not/exist");
    expect_error(&errors, "body_format.json_format.fields[a]", "no operator NO");
}
END_TEST

START_TEST(without_configuration)
{
    expect(finish(NULL, 404, "text", false), "text");
    expect(value_of("content-type"), "text/plain");
    expect(value_of("content-length"), "4");
    expect(finish(NULL, 404, "", false), "");
    expect(value_of("content-type"), "(none)");
    expect(value_of("content-length"), "(none)");
    ck_assert_uint_eq(si.response_code, 404);
}
END_TEST

START_TEST(the_first_mapper_wins)
{
    struct local_reply *l = compile("{mappers: [{filter: " EQ(
        404) ", status_code: 500, headers_to_add: [{header: {key: x, "
             "value: '%RESPONSE_CODE%'}}]}, {filter: " EQ(404) ", status_code: 501}, {filter: " EQ(
                 500) ", body: {inline_string: five}}], body_format: {text_format: "
                      "'%RESPONSE_CODE%/%LOCAL_REPLY_BODY%/%RESP(X)%'}}");
    ck_assert(l);
    expect(finish(l, 404, "b", false), "500/b/404");
    ck_assert_uint_eq(head.status, 500);
    expect(finish(l, 500, "b", false), "500/five/-");
    expect(finish(l, 403, "b", false), "403/b/-");
    ck_assert(!si.local_reply_body.p);
    local_reply_cleanup(l);
}
END_TEST

static const struct {
    unsigned http;
    const char *grpc;
} statuses[] = {{400, "13"}, {401, "16"}, {403, "7"},  {404, "12"}, {429, "14"},
                {500, "2"},  {502, "14"}, {503, "14"}, {504, "14"}, {418, "2"}};

START_TEST(grpc_statuses)
{
    expect(finish(NULL, statuses[_i].http, "a%\n\x7f", true), "");
    expect(value_of("grpc-status"), statuses[_i].grpc);
    expect(value_of("grpc-message"), "a%25%0A%7F");
    expect(value_of("content-type"), "application/grpc");
    ck_assert_uint_eq(head.status, 200);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("local_reply");
    TCase *t = tcase_create("local_reply");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, all_errors_have_their_paths);
    tcase_add_test(t, without_configuration);
    tcase_add_test(t, the_first_mapper_wins);
    tcase_add_loop_test(t, grpc_statuses, 0, sizeof(statuses) / sizeof(statuses[0]));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
