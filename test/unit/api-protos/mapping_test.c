#include "api-protos/mapping.h"

#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "xds/type/v3/typed_struct.pb-c.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct pb_counts counts;
static struct pb_opts opts;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    counts = (struct pb_counts){0};
    opts = (struct pb_opts){.counts = &counts};
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static bool to_wire(const ProtobufCMessageDescriptor *type, const char *text, struct str *bytes)
{
    struct json_error err;
    const struct json *tree = json_parse(str_of(text), JSON_TRAILING_COMMAS, &arena, &err);
    ck_assert_msg(tree != NULL, "%s: %s", text, err.text);
    errors_cleanup(&errors);
    errors_init(&errors);
    return pb_json_to_wire(type, tree, &arena, &errors, &opts, bytes);
}

/* JSON to bytes to JSON. */
static void round_trip(const ProtobufCMessageDescriptor *type, const char *text, unsigned flags,
                       const char *want)
{
    struct str bytes;
    struct json_writer w;
    bool ok = to_wire(type, text, &bytes);
    ck_assert_msg(ok, "%s: %.*s", text, STR_ARG(errors_text(&errors, &arena)));
    json_writer_init(&w, false);
    ck_assert(pb_to_json(type, bytes, flags, &w));
    struct str got = json_writer_text(&w);
    ck_assert_msg(str_eq(got, str_of(want)), "%s: %.*s", text, STR_ARG(got));
    json_writer_cleanup(&w);
}

static void expect_bad(const ProtobufCMessageDescriptor *type, const char *text, const char *want)
{
    struct str bytes;
    ck_assert_msg(!to_wire(type, text, &bytes), "accepted: %s", text);
    ck_assert_str_eq(errors_text(&errors, &arena).p, want);
}

#define CLUSTER (&envoy__config__cluster__v3__cluster__descriptor)
#define ANY (&google__protobuf__any__descriptor)
#define STRUCT (&google__protobuf__struct__descriptor)

START_TEST(test_names)
{
    round_trip(
        CLUSTER, "{\"name\":\"x\",\"altStatName\":\"y\",\"lb_policy\":\"MAGLEV\",\"type\":3}", 0,
        "{\"name\":\"x\",\"type\":\"EDS\",\"lb_policy\":\"MAGLEV\",\"alt_stat_name\":\"y\"}");
    round_trip(CLUSTER, "{\"lb_policy\":99,\"name\":null}", 0, "{\"lb_policy\":99}");
    /* not honoured, and shown all the same */
    round_trip(CLUSTER, "{\"lrs_server\":{\"self\":{}},\"health_checks\":[{\"timeout\":\"1s\"}]}",
               0, "{\"health_checks\":[{\"timeout\":\"1s\"}],\"lrs_server\":{\"self\":{}}}");
    expect_bad(CLUSTER, "{\"alt_stat_name\":\"x\",\n\"altStatName\":\"y\"}",
               "alt_stat_name: set twice (line 2)");
    expect_bad(CLUSTER, "{\"type\":\"EDS\",\"cluster_type\":{}}",
               "cluster_type: another choice of the same oneof is set (line 1)");
}
END_TEST

START_TEST(test_unknown)
{
    struct str bytes;
    ck_assert(
        to_wire(CLUSTER, "{\"nmae\":\"x\",\"eds_cluster_config\":{\"Eds_config\":1}}", &bytes));
    ck_assert_uint_eq(counts.unknown_fields, 2);
    opts.reject_unknown = true;
    expect_bad(CLUSTER, "{\"name\":\"x\",\n \"eds_cluster_config\":{\n\"bogus\":1}}",
               "eds_cluster_config.bogus: unknown field (line 3)");
    expect_bad(CLUSTER, "{\"@type\":\"x\"}", "@type: unknown field (line 1)");
}
END_TEST

START_TEST(test_types)
{
    expect_bad(CLUSTER, "[]", "an object is expected (line 1)");
    expect_bad(CLUSTER, "{\"name\":1}", "name: a string is expected (line 1)");
    expect_bad(CLUSTER, "{\"type\":\"NONE\"}", "type: not a value of the enum: \"NONE\" (line 1)");
    expect_bad(CLUSTER, "{\"type\":true}", "type: not a value of the enum: \"\" (line 1)");
    expect_bad(CLUSTER, "{\"type\":1.5}", "type: not a value of the enum: \"1.5\" (line 1)");
    expect_bad(CLUSTER, "{\"filters\":[{},\nnull]}", "filters[1]: null in a list (line 2)");
    expect_bad(CLUSTER, "{\"metadata\":{\"filter_metadata\":[]}}",
               "metadata.filter_metadata: an object is expected (line 1)");
    expect_bad(CLUSTER, "{\"metadata\":{\"filter_metadata\":{\"a\":null}}}",
               "metadata.filter_metadata[a]: null in a map (line 1)");
    expect_bad(CLUSTER, "{\"track_timeout_budgets\":\"off\"}",
               "track_timeout_budgets: true or false is expected (line 1)");
    expect_bad(CLUSTER, "{\"track_timeout_budgets\":0}",
               "track_timeout_budgets: true or false is expected (line 1)");
    expect_bad(CLUSTER, "{\"max_requests_per_connection\":4294967296}",
               "max_requests_per_connection: not a number, or one out of range (line 1)");
    expect_bad(CLUSTER, "{\"max_requests_per_connection\":-1}",
               "max_requests_per_connection: not a number, or one out of range (line 1)");
    expect_bad(CLUSTER, "{\"max_requests_per_connection\":[]}",
               "max_requests_per_connection: a number is expected (line 1)");
    expect_bad(CLUSTER, "{\"common_lb_config\":{\"healthy_panic_threshold\":{\"value\":\"x\"}}}",
               "common_lb_config.healthy_panic_threshold.value: a number is expected (line 1)");
    expect_bad(
        CLUSTER, "{\"name\":1,\"type\":\"x\",\"filters\":1}",
        "name: a string is expected (line 1); type: not a value of the enum: \"x\" (line 1); "
        "filters[0]: an object is expected (line 1)");
    expect_bad(&envoy__config__core__v3__data_source__descriptor, "{\"inline_bytes\":\"a\"}",
               "inline_bytes: not base64 (line 1)");
    expect_bad(&google__protobuf__list_value__descriptor, "{}", "a list is expected (line 1)");
    expect_bad(&google__protobuf__field_mask__descriptor, "[]",
               "a string of field names is expected (line 1)");
    expect_bad(&google__protobuf__float_value__descriptor, "1e300",
               "not a number, or one out of range (line 1)");
}
END_TEST

/* Forms that Envoy's parser takes beyond the mapping. */
START_TEST(test_lenient)
{
    round_trip(CLUSTER, "{\"type\":\"strict_dns\",\"lb_policy\":\"Maglev\"}", 0,
               "{\"type\":\"STRICT_DNS\",\"lb_policy\":\"MAGLEV\"}");
    round_trip(CLUSTER, "{\"max_requests_per_connection\":{\"value\":5}}", 0,
               "{\"max_requests_per_connection\":5}");
    expect_bad(CLUSTER, "{\"max_requests_per_connection\":{\"value\":\"x\"}}",
               "max_requests_per_connection.value: not a number, or one out of range (line 1)");
    round_trip(CLUSTER, "{\"filters\":{\"name\":\"x\"}}", 0, "{\"filters\":[{\"name\":\"x\"}]}");
    round_trip(&envoy__config__route__v3__retry_policy__descriptor,
               "{\"retriable_status_codes\":503}", 0, "{\"retriable_status_codes\":[503]}");
    round_trip(CLUSTER, "{\"track_timeout_budgets\":\"Yes\"}", 0,
               "{\"track_timeout_budgets\":true}");
    round_trip(CLUSTER, "{\"track_timeout_budgets\":\"0\"}", 0, "{}");
}
END_TEST

START_TEST(test_numbers)
{
    round_trip(&google__protobuf__int64_value__descriptor, "\"-9223372036854775808\"", 0,
               "\"-9223372036854775808\"");
    round_trip(&google__protobuf__uint64_value__descriptor, "18446744073709551615", 0,
               "\"18446744073709551615\"");
    round_trip(&google__protobuf__int32_value__descriptor, "1.0e3", 0, "1000");
    round_trip(&google__protobuf__uint32_value__descriptor, "\"7\"", 0, "7");
    round_trip(&google__protobuf__double_value__descriptor, "\"-Infinity\"", 0, "\"-Infinity\"");
    round_trip(&google__protobuf__double_value__descriptor, "\"0.5\"", 0, "0.5");
    round_trip(&google__protobuf__float_value__descriptor, "0.1", 0, "0.1");
    round_trip(&google__protobuf__bool_value__descriptor, "false", 0, "false");
    round_trip(&google__protobuf__bool_value__descriptor, "\"true\"", 0, "true");
    round_trip(&google__protobuf__bool_value__descriptor, "\"false\"", 0, "false");
    round_trip(&google__protobuf__bytes_value__descriptor, "\"-_8=\"", 0, "\"+/8=\"");
    round_trip(&google__protobuf__string_value__descriptor, "\"\"", 0, "\"\"");
    expect_bad(&google__protobuf__int32_value__descriptor, "2147483648",
               "not a number, or one out of range (line 1)");
    expect_bad(&google__protobuf__int64_value__descriptor, "9223372036854775808",
               "not a number, or one out of range (line 1)");
    expect_bad(&google__protobuf__int32_value__descriptor, "1.5",
               "not a number, or one out of range (line 1)");
    expect_bad(&google__protobuf__double_value__descriptor, "\"\"",
               "a number is expected (line 1)");
    expect_bad(&google__protobuf__double_value__descriptor, "1e999",
               "a number is expected (line 1)");
}
END_TEST

START_TEST(test_times)
{
    const ProtobufCMessageDescriptor *d = &google__protobuf__duration__descriptor;
    const ProtobufCMessageDescriptor *t = &google__protobuf__timestamp__descriptor;
    static const char *const bad_durations[] = {
        "1",     "s",    "-s",   "1.s", "1.0000000001s", "1m", "1 s", "+1s", "315576000001s",
        "1.-5s", "--1s", "1e3s", ""};
    static const char *const bad_times[] = {"2026-02-29T00:00:00Z",
                                            "2026-13-01T00:00:00Z",
                                            "2026-01-01 00:00:00Z",
                                            "2026-01-01T24:00:00Z",
                                            "2026-01-01T00:00:00",
                                            "2026-01-01T00:00:00+1",
                                            "2026-01-01T00:00:60Z",
                                            "0000-01-01T00:00:00Z",
                                            "0001-01-01T00:00:00+00:01",
                                            "2026-1-01T00:00:00Z",
                                            "",
                                            "x"};
    round_trip(d, "\"0.250s\"", 0, "\"0.250s\"");
    round_trip(d, "\"-1.5s\"", 0, "\"-1.500s\"");
    round_trip(d, "\"-0.000000001s\"", 0, "\"-0.000000001s\"");
    round_trip(d, "\"1.000001s\"", 0, "\"1.000001s\"");
    round_trip(d, "\"315576000000s\"", 0, "\"315576000000s\"");
    round_trip(t, "\"1970-01-01T00:00:00Z\"", 0, "\"1970-01-01T00:00:00Z\"");
    round_trip(t, "\"2024-02-29T23:59:59.5+01:30\"", 0, "\"2024-02-29T22:29:59.500Z\"");
    round_trip(t, "\"0001-01-01T00:00:00Z\"", 0, "\"0001-01-01T00:00:00Z\"");
    round_trip(t, "\"9999-12-31T23:59:59.999999999Z\"", 0, "\"9999-12-31T23:59:59.999999999Z\"");
    round_trip(t, "\"1900-03-01T00:00:00-23:59\"", 0, "\"1900-03-01T23:59:00Z\"");
    for (size_t i = 0; i < ARRAY_LEN(bad_durations); i++)
        expect_bad(d, arena_printf(&arena, "\"%s\"", bad_durations[i]).p,
                   "a duration is expected, such as \"1.5s\" (line 1)");
    for (size_t i = 0; i < ARRAY_LEN(bad_times); i++)
        expect_bad(t, arena_printf(&arena, "\"%s\"", bad_times[i]).p,
                   "a time is expected, such as \"2026-01-31T12:00:00Z\" (line 1)");
    /* what is out of range on the wire does not spoil a dump */
    struct json_writer w;
    json_writer_init(&w, false);
    ck_assert(pb_to_json(d, STR("\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 0, &w));
    ck_assert(str_eq(json_writer_text(&w), STR("\"invalid: 1 s -1 ns\"")));
    json_writer_cleanup(&w);
}
END_TEST

START_TEST(test_struct)
{
    round_trip(STRUCT, "{\"a\":[1,null,\"x\",true,{\"b\":[]}],\"c\":{}}", 0,
               "{\"a\":[1,null,\"x\",true,{\"b\":[]}],\"c\":{}}");
    round_trip(&google__protobuf__field_mask__descriptor, "\"a.bC,dEf\"", 0, "\"a.bC,dEf\"");
    round_trip(&google__protobuf__field_mask__descriptor, "\"\"", 0, "\"\"");
}
END_TEST

START_TEST(test_any)
{
    round_trip(ANY, "{\"name\":\"x\",\"@type\":\"t/envoy.config.cluster.v3.Cluster\"}", 0,
               "{\"@type\":\"t/envoy.config.cluster.v3.Cluster\",\"name\":\"x\"}");
    round_trip(ANY, "{\"@type\":\"t/google.protobuf.Duration\",\"value\":\"1s\"}", 0,
               "{\"@type\":\"t/google.protobuf.Duration\",\"value\":\"1s\"}");
    round_trip(ANY, "{}", 0, "{}");
    expect_bad(ANY, "{\"@type\":\"t/none.Such\"}", "unknown \"@type\" \"t/none.Such\" (line 1)");
    expect_bad(ANY, "{\"name\":\"x\"}", "no \"@type\" (line 1)");
    expect_bad(ANY, "{\"@type\":5}", "unknown \"@type\" \"\" (line 1)");
    expect_bad(ANY, "5", "an object with \"@type\" is expected (line 1)");
    expect_bad(ANY, "{\"@type\":\"google.protobuf.Duration\"}", "\"value\" is missing (line 1)");
    /* content that is unknown or malformed is shown as it is */
    struct json_writer w;
    json_writer_init(&w, false);
    ck_assert(pb_to_json(ANY, STR("\x0a\x03x/y\x12\x02\x08\x01"), 0, &w));
    ck_assert(str_eq(json_writer_text(&w), STR("{\"@type\":\"x/y\",\"value\":\"CAE=\"}")));
    w.len = 0;
    w.need_comma = false;
    ck_assert(pb_to_json(ANY, STR("\x0a\x18x/google.protobuf.Struct\x12\x03\x0a\x05x"), 0, &w));
    ck_assert(str_eq(json_writer_text(&w),
                     STR("{\"@type\":\"x/google.protobuf.Struct\",\"value\":\"CgV4\"}")));
    json_writer_cleanup(&w);
}
END_TEST

START_TEST(test_depth)
{
    struct str text = STR("{}");
    for (int i = 0; i < 60; i++)
        text = arena_printf(&arena, "{\"a\":%.*s}", STR_ARG(text));
    struct str bytes;
    ck_assert(!to_wire(STRUCT, text.p, &bytes));
    ck_assert(str_eq(errors.first->text, STR("messages nested deeper than 100 (line 1)")));
}
END_TEST

START_TEST(test_malformed)
{
    static const struct {
        const ProtobufCMessageDescriptor *type;
        struct str bytes;
    } bad[] = {
        {CLUSTER, {"\x0a\x05x", 3}},
        {CLUSTER, {"\x0b\x0c", 2}},
        {CLUSTER, {"\x08\x01", 2}},
        {CLUSTER, {"\x22\x02\x08\x80", 4}},
        {STRUCT, {"\x0a\x02\x0a\x05", 4}},
        {&google__protobuf__value__descriptor, {"\x18\x01", 2}},
        {STRUCT, {"\x0a\x05\x12\x03\x18\x01\x0a", 7}},
        {&google__protobuf__field_mask__descriptor, {"\x0a\x05x", 3}},
        {&google__protobuf__bool_value__descriptor, {"\x0a\x05x", 3}},
        {&envoy__config__route__v3__retry_policy__descriptor, {"\x3a\x01\x80", 3}},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct json_writer w;
        json_writer_init(&w, false);
        json_open(&w, '[');
        ck_assert_msg(!pb_to_json(bad[i].type, bad[i].bytes, 0, &w), "%zu", i);
        /* nothing half written */
        json_put_u64(&w, 1);
        json_close(&w, ']');
        ck_assert_msg(str_eq(json_writer_text(&w), STR("[1]")), "%zu", i);
        json_writer_cleanup(&w);
    }
}
END_TEST

#define SECRET (&envoy__extensions__transport_sockets__tls__v3__secret__descriptor)
#define TYPE_SECRET "t/envoy.extensions.transport_sockets.tls.v3.Secret"

START_TEST(test_redact)
{
    static const char cert[] =
        "{\"certificate_chain\":{\"filename\":\"c\"},\"private_key\":"
        "{\"inline_bytes\":\"c2VjcmV0\"},\"password\":{\"inline_string\":\"p\"}}";
    static const char redacted[] =
        "{\"certificate_chain\":{\"filename\":\"c\"},\"private_key\":{\"inline_bytes\":"
        "\"W3JlZGFjdGVkXQ==\"},\"password\":{\"inline_string\":\"[redacted]\"}}";
    struct str in = arena_printf(&arena, "{\"tls_certificate\":%s}", cert);
    round_trip(SECRET, in.p, 0, in.p);
    round_trip(SECRET, in.p, PB_JSON_REDACT,
               arena_printf(&arena, "{\"tls_certificate\":%s}", redacted).p);
    /* in an Any, and in a TypedStruct */
    round_trip(
        ANY, arena_printf(&arena, "{\"@type\":\"" TYPE_SECRET "\",\"tls_certificate\":%s}", cert).p,
        PB_JSON_REDACT,
        arena_printf(&arena, "{\"@type\":\"" TYPE_SECRET "\",\"tls_certificate\":%s}", redacted).p);
    static const char typed[] =
        "{\"@type\":\"t/xds.type.v3.TypedStruct\",\"type_url\":\"" TYPE_SECRET
        "\",\"value\":{\"name\":\"n\",\"tlsCertificate\":{\"privateKey\":"
        "{\"inline_string\":\"%s\",\"n\":%s}}}}";
    round_trip(ANY, arena_printf(&arena, typed, "secret", "1").p, PB_JSON_REDACT,
               arena_printf(&arena, typed, "[redacted]", "null").p);
    /* an Any within a Struct within a TypedStruct */
    static const char deep[] =
        "{\"type_url\":\"t/envoy.config.core.v3.TransportSocket\",\"value\":{\"typed_config\":"
        "{\"@type\":\"" TYPE_SECRET
        "\",\"generic_secret\":{\"secret\":{\"inline_string\":\"%s\"}}}}}";
    round_trip(&xds__type__v3__typed_struct__descriptor, arena_printf(&arena, deep, "x").p,
               PB_JSON_REDACT, arena_printf(&arena, deep, "[redacted]").p);
    /* session ticket keys are a list of sensitive messages */
    round_trip(SECRET, "{\"session_ticket_keys\":{\"keys\":[{\"inline_bytes\":\"AAAA\"}]}}",
               PB_JSON_REDACT,
               "{\"session_ticket_keys\":{\"keys\":[{\"inline_bytes\":\"W3JlZGFjdGVkXQ==\"}]}}");
    /* an Any of a type nobody knows may hold anything */
    struct json_writer w;
    json_writer_init(&w, false);
    ck_assert(pb_to_json(ANY, STR("\x0a\x03x/y\x12\x02\x08\x01"), PB_JSON_REDACT, &w));
    ck_assert(
        str_eq(json_writer_text(&w), STR("{\"@type\":\"x/y\",\"value\":\"W3JlZGFjdGVkXQ==\"}")));
    json_writer_cleanup(&w);
}
END_TEST

START_TEST(test_defaults)
{
    round_trip(&envoy__config__core__v3__locality__descriptor, "{}", PB_JSON_DEFAULTS,
               "{\"region\":\"\",\"zone\":\"\",\"sub_zone\":\"\"}");
    round_trip(
        &envoy__service__discovery__v3__discovery_response__descriptor, "{\"canary\":true}",
        PB_JSON_DEFAULTS,
        "{\"version_info\":\"\",\"resources\":[],\"canary\":true,\"type_url\":\"\",\"nonce\":\"\","
        "\"resource_errors\":[]}");
    round_trip(&envoy__config__core__v3__metadata__descriptor, "{}", PB_JSON_DEFAULTS,
               "{\"filter_metadata\":{},\"typed_filter_metadata\":{}}");
}
END_TEST

/* Of a oneof that is set twice on the wire the last choice is shown; pieces are merged. */
START_TEST(test_wire_oddities)
{
    struct json_writer w;
    json_writer_init(&w, false);
    ck_assert(pb_to_json(&envoy__config__core__v3__data_source__descriptor,
                         STR("\x1a\x01s\x0a\x01"
                             "f"),
                         0, &w));
    ck_assert(str_eq(json_writer_text(&w), STR("{\"filename\":\"f\"}")));
    w.len = 0;
    w.need_comma = false;
    ck_assert(pb_to_json(
        CLUSTER, STR("\x22\x02\x08\x01\x0a\x01x\x22\x02\x10\x00\x22\x02\x08\x05\x0a\x01y"), 0, &w));
    ck_assert_msg(str_eq(json_writer_text(&w), STR("{\"name\":\"y\",\"connect_timeout\":\"5s\"}")),
                  "%.*s", STR_ARG(json_writer_text(&w)));
    json_writer_cleanup(&w);
}
END_TEST

START_TEST(test_from_json)
{
    struct json_error err;
    const struct json *tree = json_parse(STR("{\"name\":\"x\",\"connect_timeout\":\"1s\"}"), 0,
                                         &arena, &err);
    Envoy__Config__Cluster__V3__Cluster *c = (Envoy__Config__Cluster__V3__Cluster *)(void *)
        pb_from_json(CLUSTER, tree, &arena, &errors, &opts);
    ck_assert(c);
    ck_assert_int_eq(c->connect_timeout->seconds, 1);
    ck_assert(str_eq(pb_message_to_json(&c->base, 0, &arena),
                     STR("{\"name\":\"x\",\"connect_timeout\":\"1s\"}")));
    /* a NUL in a string comes through JSON, and no further */
    tree = json_parse(STR("{\"name\":\"a\\u0000b\"}"), 0, &arena, &err);
    ck_assert(!pb_from_json(CLUSTER, tree, &arena, &errors, &opts));
    ck_assert(str_eq(errors.first->text, STR("a NUL byte in a string")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("api-protos/mapping");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_names);
    tcase_add_test(tc, test_unknown);
    tcase_add_test(tc, test_types);
    tcase_add_test(tc, test_lenient);
    tcase_add_test(tc, test_numbers);
    tcase_add_test(tc, test_times);
    tcase_add_test(tc, test_struct);
    tcase_add_test(tc, test_any);
    tcase_add_test(tc, test_depth);
    tcase_add_test(tc, test_malformed);
    tcase_add_test(tc, test_redact);
    tcase_add_test(tc, test_defaults);
    tcase_add_test(tc, test_wire_oddities);
    tcase_add_test(tc, test_from_json);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
