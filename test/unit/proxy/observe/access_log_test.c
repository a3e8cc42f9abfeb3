#include "api-protos/mapping.h"
#include "api-protos/message.h"
#include "base/json.h"
#include "base/stats.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "proxy/observe/access_log.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct arena arena;
static struct errors errors;
static struct headers request, response;
static struct stream_info si;
static struct log_files *files;
static struct pb_opts opts;
static char path[] = "/tmp/access_log_test.XXXXXX";

static void setup(void)
{
    stats_init(2);
    arena_init(&arena, 0);
    errors_init(&errors);
    headers_init(&request, &arena);
    headers_init(&response, &arena);
    memset(&si, 0, sizeof(si));
    opts = (struct pb_opts){0};
    si.request = &request;
    si.response = &response;
    close(mkstemp(path));
    files = log_files_new(3600 * 1000, 65536);
}

static void teardown(void)
{
    log_files_free(&files, 1000);
    unlink(path);
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    errors_cleanup(&errors);
    arena_cleanup(&arena);
    buffer_free_list_trim();
    stats_cleanup();
}

static struct access_log *compile(const char *json, struct log_files *to)
{
    struct json_error err;
    struct str bytes;
    const ProtobufCMessageDescriptor *type = &envoy__config__accesslog__v3__access_log__descriptor;
    struct json *tree = json_parse(str_of(json), 0, &arena, &err);
    ck_assert_msg(tree != NULL, "%s: %s", json, err.text);
    if (!pb_json_to_wire(type, tree, &arena, &errors, NULL, &bytes))
        return NULL;
    ProtobufCMessage *m = pb_unpack(type, bytes, &arena, &errors, NULL);
    return m ? access_log_compile(&arena, m, to, &opts, &errors) : NULL;
}

#define FILE_TYPE                                                                                  \
    "\"@type\":\"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\""

/* A logger to the test's file with `format` (members of FileAccessLog) and `filter`, may be NULL.
 */
static struct access_log *logger(const char *format, const char *filter)
{
    struct str json = arena_printf(&arena,
                                   "{%s%s%s\"typed_config\":{" FILE_TYPE ",\"path\":\"%s\"%s%s}}",
                                   filter ? "\"filter\":" : "", filter ? filter : "",
                                   filter ? "," : "", path, format[0] ? "," : "", format);
    return compile(json.p, files);
}

static const char *error_text(void)
{
    return arena_str(&arena, errors_text(&errors, &arena)).p;
}

/* Lets go of everything and returns what the file has got. */
static const char *written(struct access_log *l)
{
    access_log_release(l);
    log_files_free(&files, 2000);
    char *text = arena_bytes(&arena, 200000);
    FILE *f = fopen(path, "r");
    size_t n = fread(text, 1, 199999, f);
    fclose(f);
    text[n] = '\0';
    return text;
}

static const char *line_of(const char *format)
{
    struct access_log *l = logger(format, NULL);
    ck_assert_msg(l != NULL, "%s: %s", format, error_text());
    access_log_write(l, &si);
    return written(l);
}

START_TEST(test_default_format)
{
    request.method = STR("GET");
    request.path = STR("/a");
    request.authority = STR("ex.com");
    headers_add(&request, STR("user-agent"), STR("ua \"x\""));
    headers_add(&request, STR("x-request-id"), STR("id"));
    headers_add(&response, STR("x-envoy-upstream-service-time"), STR("4"));
    si.start_wall_us = 1795402874588000;
    si.response_code = 200;
    si.bytes_sent = 5;
    si.start_us = 1000;
    si.end_us = 6000;
    si.protocol = PROTOCOL_HTTP11;
    si.upstream_host = STR("10.0.0.1:80");
    ck_assert_str_eq(line_of(""), "[2026-11-23T03:01:14.588Z] \"GET /a HTTP/1.1\" 200 - 0 5 5 4 "
                                  "\"-\" \"ua \"x\"\" \"id\" \"ex.com\" \"10.0.0.1:80\"\n");
}
END_TEST

START_TEST(test_formats)
{
    static const struct {
        const char *format, *line;
    } of[] = {
        {"\"format\": \"%RESPONSE_CODE% %PROTOCOL%\\n\"", "0 -\n"},
        {"\"json_format\": {\"c\": \"%RESPONSE_CODE%\"}", "{\"c\":0}\n"},
        {"\"typed_json_format\": {\"c\": \"%PROTOCOL%\"}", "{\"c\":null}\n"},
        {"\"log_format\": {\"text_format\": \"a%PROTOCOL%\\n\"}", "a-\n"},
        {"\"log_format\": {\"text_format\": \"no line break\"}", "no line break"},
        {"\"log_format\": {\"text_format_source\": {\"inline_string\": \"b%PROTOCOL%\\n\"}}",
         "b-\n"},
        {"\"log_format\": {\"text_format_source\": {\"inline_string\": \"b%PROTOCOL%\\n\"}, "
         "\"omit_empty_values\": true}",
         "b\n"},
        {"\"log_format\": {\"json_format\": {\"c\": \"%PROTOCOL%\", \"b\": 1}}",
         "{\"b\":1,\"c\":null}\n"},
        {"\"log_format\": {\"json_format\": {\"c\": \"%PROTOCOL%\", \"b\": 1}, "
         "\"omit_empty_values\": true, \"json_format_options\": {\"sort_properties\": true}}",
         "{\"b\":1}\n"},
        {"\"log_format\": {\"text_format_source\": {\"inline_string\": "
         "\"%REQ_WITHOUT_QUERY(:PATH)%\\n\"}, \"formatters\": [{\"name\": \"x\", "
         "\"typed_config\": {\"@type\": \"type.googleapis.com/"
         "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery\"}}]}",
         "-\n"},
    };
    ck_assert_str_eq(line_of(of[_i].format), of[_i].line);
}
END_TEST

/* A line longer than a block of the buffer is one line all the same. */
START_TEST(test_long_line)
{
    size_t len = 50000;
    char *big = arena_bytes(&arena, len);
    memset(big, 'x', len);
    headers_add(&request, STR("big"), str_n(big, len));
    const char *text = line_of("\"json_format\": {\"c\": \"%REQ(big)%\", \"d\": \"%REQ(big)%\"}");
    ck_assert_uint_eq(strlen(text), 2 * len + strlen("{\"c\":\"\",\"d\":\"\"}\n"));
    ck_assert(text[strlen(text) - 1] == '\n');
}
END_TEST

/* --- filters
 * ------------------------------------------------------------------------------------------ */

static bool passes(const char *filter)
{
    struct access_log *l = logger("\"format\": \"x\"", filter);
    ck_assert_msg(l != NULL, "%s: %s", filter, error_text());
    access_log_write(l, &si);
    const char *text = written(l);
    files = log_files_new(3600 * 1000, 65536);
    ck_assert_int_eq(truncate(path, 0), 0);
    return text[0] == 'x';
}

#define COMPARE(kind, op, n)                                                                       \
    "{\"" kind "\":{\"comparison\":{\"op\":\"" op "\",\"value\":{\"default_value\":" n             \
    ",\"runtime_key\":\"k\"}}}}"

START_TEST(test_status_code)
{
    si.response_code = 404;
    ck_assert(passes(COMPARE("status_code_filter", "EQ", "404")));
    ck_assert(!passes(COMPARE("status_code_filter", "EQ", "405")));
    ck_assert(passes(COMPARE("status_code_filter", "GE", "404")));
    ck_assert(!passes(COMPARE("status_code_filter", "GE", "405")));
    ck_assert(passes(COMPARE("status_code_filter", "LE", "404")));
    ck_assert(!passes(COMPARE("status_code_filter", "LE", "403")));
    ck_assert(passes(COMPARE("status_code_filter", "NE", "200")));
    ck_assert(!passes(COMPARE("status_code_filter", "NE", "404")));
    si.response_code = 0; /* none */
    ck_assert(passes(COMPARE("status_code_filter", "EQ", "0")));
}
END_TEST

START_TEST(test_duration)
{
    si.start_us = 1000000;
    si.end_us = 1099999;
    ck_assert(passes(COMPARE("duration_filter", "GE", "99")));
    ck_assert(!passes(COMPARE("duration_filter", "GE", "100")));
    si.end_us = 0;
    ck_assert(passes(COMPARE("duration_filter", "EQ", "0")));
}
END_TEST

START_TEST(test_and_or)
{
#define YES COMPARE("status_code_filter", "EQ", "0")
#define NO COMPARE("status_code_filter", "EQ", "1")
    ck_assert(passes("{\"and_filter\":{\"filters\":[" YES "," YES "]}}"));
    ck_assert(!passes("{\"and_filter\":{\"filters\":[" YES "," NO "]}}"));
    ck_assert(passes("{\"or_filter\":{\"filters\":[" NO "," YES "]}}"));
    ck_assert(!passes("{\"or_filter\":{\"filters\":[" NO "," NO "]}}"));
    ck_assert(passes("{\"or_filter\":{\"filters\":[" NO ",{\"and_filter\":{\"filters\":[" YES
                     "," YES "]}}]}}"));
    ck_assert(passes("{\"not_health_check_filter\":{}}"));
}
END_TEST

START_TEST(test_header)
{
    const char *present = "{\"header_filter\":{\"header\":{\"name\":\"X-Y\"}}}";
    ck_assert(!passes(present));
    headers_add(&request, STR("x-y"), STR("abc"));
    ck_assert(passes(present));
    ck_assert(passes("{\"header_filter\":{\"header\":{\"name\":\"x-y\",\"string_match\":"
                     "{\"safe_regex\":{\"regex\":\"a.c\"}}}}}"));
    ck_assert(!passes("{\"header_filter\":{\"header\":{\"name\":\"x-y\",\"string_match\":"
                      "{\"prefix\":\"b\"}}}}"));
    si.request = NULL; /* a connection */
    ck_assert(!passes(present));
    ck_assert(passes("{\"header_filter\":{\"header\":{\"name\":\"x-y\",\"invert_match\":true,"
                     "\"present_match\":true}}}"));
}
END_TEST

START_TEST(test_response_flag)
{
    const char *any = "{\"response_flag_filter\":{}}";
    const char *some = "{\"response_flag_filter\":{\"flags\":[\"UH\",\"UO\"]}}";
    ck_assert(!passes(any));
    ck_assert(!passes(some));
    si.flags = FLAG(NO_ROUTE_FOUND);
    ck_assert(passes(any));
    ck_assert(!passes(some));
    si.flags |= FLAG(UPSTREAM_OVERFLOW);
    ck_assert(passes(some));
}
END_TEST

START_TEST(test_grpc_status)
{
    const char *some = "{\"grpc_status_filter\":{\"statuses\":[\"OK\",\"NOT_FOUND\"]}}";
    const char *others =
        "{\"grpc_status_filter\":{\"statuses\":[\"OK\",\"NOT_FOUND\"],\"exclude\":true}}";
    const char *unknown = "{\"grpc_status_filter\":{\"statuses\":[\"UNKNOWN\"]}}";
    headers_add(&response, STR("grpc-status"), STR("5"));
    ck_assert(passes(some));
    ck_assert(!passes(others));
    headers_set(&response, STR("grpc-status"), STR("7"));
    ck_assert(!passes(some));
    ck_assert(passes(others));
    headers_set(&response, STR("grpc-status"), STR("77"));
    ck_assert(passes(unknown));
    headers_set(&response, STR("grpc-status"), STR("no number"));
    ck_assert(passes(unknown));
}
END_TEST

#define RUNTIME(n, d, more)                                                                        \
    "{\"runtime_filter\":{\"runtime_key\":\"k\",\"percent_sampled\":{\"numerator\":" n             \
    ",\"denominator\":\"" d "\"}" more "}}"

START_TEST(test_runtime)
{
    ck_assert(!passes("{\"runtime_filter\":{\"runtime_key\":\"k\"}}"));
    ck_assert(passes(RUNTIME("100", "HUNDRED", "")));
    ck_assert(!passes(RUNTIME("0", "HUNDRED", "")));
    si.request_id = STR("00000032-aaaa-4bbb-8ccc-dddddddddddd"); /* 50 */
    ck_assert(!passes(RUNTIME("50", "HUNDRED", "")));
    ck_assert(passes(RUNTIME("51", "HUNDRED", "")));
    ck_assert(passes(RUNTIME("51", "TEN_THOUSAND", "")));
    si.request_id = STR("FFFFFFFF-"); /* 4294967295 */
    ck_assert(passes(RUNTIME("7296", "TEN_THOUSAND", "")));
    ck_assert(!passes(RUNTIME("7295", "TEN_THOUSAND", "")));
    ck_assert(passes(RUNTIME("1000000", "MILLION", ",\"use_independent_randomness\":true")));
    ck_assert(!passes(RUNTIME("0", "MILLION", ",\"use_independent_randomness\":true")));
    si.request_id = STR("not hex!"); /* by chance */
    ck_assert(passes(RUNTIME("100", "HUNDRED", "")));
}
END_TEST

/* --- what is refused
 * ------------------------------------------------------------------------------------ */

static const struct {
    const char *config, *says;
} bad[] = {
    {"{}", "typed_config: is required"},
    {"{\"typed_config\":{" FILE_TYPE "}}", "path"},
    {"{\"typed_config\":{" FILE_TYPE ",\"path\":\"/no/such/dir/x\"}}",
     "typed_config.path: cannot open /no/such/dir/x: No such file"},
    {"{\"typed_config\":{" FILE_TYPE ",\"path\":\"/tmp/x\",\"format\":\"%NOPE%\"}}",
     "typed_config.format: there is no operator NOPE"},
    {"{\"typed_config\":{" FILE_TYPE
     ",\"path\":\"/tmp/x\",\"log_format\":{\"text_format\":\"%REQ%\"}}}",
     "typed_config.log_format.text_format: REQ requires parameters"},
    {"{\"typed_config\":{" FILE_TYPE ",\"path\":\"/tmp/x\",\"log_format\":{\"text_format_source\":{"
     "\"inline_string\":\"%REQ%\"}}}}",
     "typed_config.log_format.text_format_source: REQ requires parameters"},
    {"{\"typed_config\":{" FILE_TYPE ",\"path\":\"/tmp/x\",\"log_format\":{\"json_format\":{\"a\":["
     "\"%CEL(x)%\"]}}}}",
     "typed_config.log_format.json_format.fields[a].values[0]: the operator CEL is not supported"},
    {"{\"typed_config\":{" FILE_TYPE ",\"path\":\"/tmp/x\",\"json_format\":{\"a\":\"%\"}}}",
     "typed_config.json_format.fields[a]: no operator at position 0"},
    {"{\"typed_config\":{" FILE_TYPE ",\"path\":\"/tmp/x\",\"log_format\":{}}}", "log_format"},
    {"{\"typed_config\":{" FILE_TYPE
     ",\"path\":\"/tmp/x\",\"log_format\":{\"text_format\":\"x\",\"formatters\":[{\"name\":\"m\","
     "\"typed_config\":{\"@type\":\"type.googleapis.com/"
     "envoy.extensions.formatter.metadata.v3.Metadata\"}}]}}}",
     "formatters[0].typed_config: the formatter envoy.extensions.formatter.metadata.v3.Metadata is "
     "not supported"},
    {"{\"typed_config\":{" FILE_TYPE
     ",\"path\":\"/tmp/x\",\"log_format\":{\"text_format\":\"x\",\"formatters\":[{}]}}}",
     "formatters[0]"},
    {"{\"typed_config\":{\"@type\":\"type.googleapis.com/"
     "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig\"}}",
     "the access logger envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig is not "
     "supported"},
    {"{\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.config.cluster.v3.Cluster\","
     "\"name\":\"x\"}}",
     "the access logger envoy.config.cluster.v3.Cluster is not supported"},
    {"{\"filter\":{\"traceable_filter\":{}}}", "filter"},
    {"{\"filter\":{}}", "filter"},
    {"{\"filter\":{\"status_code_filter\":{}}}", "filter.status_code_filter.comparison"},
    {"{\"filter\":{\"status_code_filter\":{\"comparison\":{\"op\":\"EQ\"}}}}",
     "filter.status_code_filter.comparison.value"},
    {"{\"filter\":{\"response_flag_filter\":{\"flags\":[\"UH\",\"XX\"]}}}", "flags[1]"},
    {"{\"filter\":{\"and_filter\":{\"filters\":[" NO "]}}}", "filter.and_filter.filters"},
    {"{\"filter\":{\"or_filter\":{\"filters\":[" NO ",{}]}}}", "filter.or_filter.filters[1]"},
    {"{\"filter\":{\"header_filter\":{}}}", "filter.header_filter.header"},
    {"{\"filter\":{\"header_filter\":{\"header\":{\"name\":\"a\",\"string_match\":{\"safe_regex\":"
     "{\"regex\":\"(\"}}}}}}",
     "filter.header_filter.header"},
    {"{\"filter\":{\"grpc_status_filter\":{\"statuses\":[99]}}}", "statuses"},
};

START_TEST(test_refused)
{
    ck_assert_msg(compile(bad[_i].config, files) == NULL, "%s compiles", bad[_i].config);
    ck_assert_msg(strstr(error_text(), bad[_i].says) != NULL, "%s: %s", bad[_i].config,
                  error_text());
}
END_TEST

/* What is not honoured, or not known at all, is treated as everywhere else. */
START_TEST(test_fields_not_honoured)
{
    const char *config = "{\"typed_config\":{" FILE_TYPE
                         ",\"path\":\"/dev/null\",\"log_format\":{\"text_format\":\"x\"}}}";
    struct pb_counts counts = {0};
    Envoy__Config__Accesslog__V3__AccessLog m = ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG__INIT;
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    static uint8_t bytes[] = {0x0a, 1, 'x', 0xf8, 0x3f, 1}; /* path "x", and a field 1023 */
    ck_assert_ptr_nonnull(compile(config, NULL));
    any.type_url =
        (char *)"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    any.value = (ProtobufCBinaryData){sizeof(bytes), bytes};
    m.typed_config = &any;
    m.config_type_case = ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG__CONFIG_TYPE_TYPED_CONFIG;
    opts.counts = &counts;
    ck_assert_ptr_nonnull(access_log_compile(&arena, &m, NULL, &opts, &errors));
    ck_assert_uint_eq(counts.unknown_fields, 1);
    opts.reject_unknown = true;
    ck_assert_ptr_null(access_log_compile(&arena, &m, NULL, &opts, &errors));
    ck_assert_msg(strstr(error_text(), "typed_config") != NULL, "%s", error_text());
}
END_TEST

/* --mode validate: everything is checked, nothing is opened. */
START_TEST(test_validate)
{
    struct access_log *l = compile(
        "{\"typed_config\":{" FILE_TYPE ",\"path\":\"/no/such/dir/x\",\"format\":\"a\"}}", NULL);
    ck_assert_msg(l != NULL, "%s", error_text());
    access_log_write(l, &si);
    access_log_release(l);
    access_log_release(NULL);
    ck_assert_ptr_null(compile("{\"typed_config\":{" FILE_TYPE
                               ",\"path\":\"/no/such/dir/x\",\"format\":\"%NOPE%\"}}",
                               NULL));
}
END_TEST

START_TEST(test_stdout_and_stderr)
{
    const char *types[] = {"StdoutAccessLog", "StderrAccessLog"};
    struct str json = arena_printf(
        &arena,
        "{\"typed_config\":{\"@type\":\"type.googleapis.com/"
        "envoy.extensions.access_loggers.stream.v3.%s\",\"log_format\":{\"text_format_source\":"
        "{\"inline_string\":\"%%RESPONSE_CODE%% to the stream\\n\"}}}}",
        types[_i]);
    int fd = _i ? STDERR_FILENO : STDOUT_FILENO, p[2];
    char text[100];
    fflush(stdout);
    int saved = dup(fd);
    ck_assert_int_eq(pipe(p), 0);
    dup2(p[1], fd);
    close(p[1]);
    struct access_log *l = compile(json.p, files);
    if (l)
        access_log_write(l, &si);
    access_log_release(l);
    log_files_free(&files, 1000);
    dup2(saved, fd);
    close(saved);
    ck_assert_msg(l != NULL, "%s", error_text());
    ssize_t n = read(p[0], text, sizeof(text));
    close(p[0]);
    ck_assert(str_eq(str_n(text, (size_t)n), STR("0 to the stream\n")));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("access_log");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_default_format);
    tcase_add_loop_test(t, test_formats, 0, 10);
    tcase_add_test(t, test_long_line);
    tcase_add_test(t, test_status_code);
    tcase_add_test(t, test_duration);
    tcase_add_test(t, test_and_or);
    tcase_add_test(t, test_header);
    tcase_add_test(t, test_response_flag);
    tcase_add_test(t, test_grpc_status);
    tcase_add_test(t, test_runtime);
    tcase_add_loop_test(t, test_refused, 0, ARRAY_LEN(bad));
    tcase_add_test(t, test_fields_not_honoured);
    tcase_add_test(t, test_validate);
    tcase_add_loop_test(t, test_stdout_and_stderr, 0, 2);
    Suite *s = suite_create("observe/access_log");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
