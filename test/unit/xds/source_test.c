#include "xds/source.h"

#include "api-protos/mapping.h"
#include "base/yaml.h"
#include "envoy/config/core/v3/config_source.pb-c.h"
#include <check.h>
#include <stdlib.h>

static struct arena a;
static struct errors e;

static void setup(void)
{
    arena_init(&a, 0);
    errors_init(&e);
}

static void teardown(void)
{
    errors_cleanup(&e);
    arena_cleanup(&a);
}

static const Envoy__Config__Core__V3__ConfigSource *message(const char *yaml)
{
    struct json_error bad;
    struct json *tree = yaml_parse(str_of(yaml), &a, &bad);
    ck_assert_msg(tree != NULL, "%s", bad.text);
    ProtobufCMessage *m = pb_from_json(&envoy__config__core__v3__config_source__descriptor, tree,
                                       &a, &e, NULL);
    ck_assert_msg(m != NULL, "%.*s", STR_ARG(errors_text(&e, &a)));
    return (const void *)m;
}

static const struct xds_source ads_parent = {.kind = XDS_SOURCE_ADS};

static bool decode(const char *yaml, struct xds_source *out)
{
    return xds_source_decode(message(yaml), NULL, true, &a, &e, out);
}

START_TEST(test_ads_and_self)
{
    struct xds_source s;
    ck_assert(decode("{ads: {}, resource_api_version: V3}", &s));
    ck_assert_int_eq(s.kind, XDS_SOURCE_ADS);
    ck_assert_uint_eq(s.initial_fetch_timeout_ms, 15000);
    ck_assert(decode("{ads: {}, initial_fetch_timeout: 0s}", &s));
    ck_assert_uint_eq(s.initial_fetch_timeout_ms, 0);
    ck_assert(xds_source_decode(message("{self: {}}"), &ads_parent, true, &a, &e, &s));
    ck_assert_int_eq(s.kind, XDS_SOURCE_ADS);
    ck_assert_uint_eq(xds_source_cluster(&s).len, 0);
}
END_TEST

START_TEST(test_own_server)
{
    struct xds_source s;
    ck_assert(decode("api_config_source:\n"
                     "  api_type: GRPC\n"
                     "  transport_api_version: V3\n"
                     "  set_node_on_first_message_only: true\n"
                     "  rate_limit_settings: {max_tokens: 7, fill_rate: 0.5}\n"
                     "  grpc_services:\n"
                     "  - envoy_grpc:\n"
                     "      cluster_name: sds-grpc\n"
                     "      authority: x\n"
                     "      retry_policy: {retry_back_off: {base_interval: 0.1s}}\n"
                     "    initial_metadata: [{key: k, value: v}]\n"
                     "initial_fetch_timeout: 2.5s\n",
                     &s));
    ck_assert_int_eq(s.kind, XDS_SOURCE_GRPC);
    ck_assert(str_eq(xds_source_cluster(&s), STR("sds-grpc")));
    ck_assert(str_eq(s.server.authority, STR("x")));
    ck_assert(s.server.node_on_first_only && s.server.rate_limited);
    ck_assert_uint_eq(s.server.rate_tokens, 7);
    ck_assert(s.server.rate_fill == 0.5);
    ck_assert_uint_eq(s.server.backoff_base_ms, 100);
    ck_assert_uint_eq(s.server.backoff_max_ms, 1000);
    ck_assert_uint_eq(s.server.num_headers, 1);
    ck_assert(str_eq(s.server.headers[0].value, STR("v")));
    ck_assert_uint_eq(s.initial_fetch_timeout_ms, 2500);
}
END_TEST

#define GRPC_SERVICE "grpc_services: [{envoy_grpc: {cluster_name: c}}]"

START_TEST(test_what_is_wrong_is_named_by_its_path)
{
    static const struct {
        const char *yaml, *path;
    } bad[] = {
        {"{self: {}}", "self"},
        {"{path: /nonexistent/x.yaml}", "path"},
        {"{path_config_source: {path: /etc/passwd}}", "path_config_source.path"},
        {"{ads: {}, resource_api_version: V2}", "resource_api_version"},
        {"{api_config_source: {api_type: REST, transport_api_version: V3, " GRPC_SERVICE "}}",
         "api_config_source.api_type"},
        {"{api_config_source: {api_type: AGGREGATED_GRPC, transport_api_version: V3, " GRPC_SERVICE
         "}}",
         "api_config_source.api_type"},
        {"{api_config_source: {api_type: GRPC, " GRPC_SERVICE "}}",
         "api_config_source.transport_api_version"},
        {"{api_config_source: {api_type: GRPC, transport_api_version: V3}}",
         "api_config_source.grpc_services"},
        {"{api_config_source: {api_type: GRPC, transport_api_version: V3, rate_limit_settings: "
         "{fill_rate: 0}, " GRPC_SERVICE "}}",
         "api_config_source.rate_limit_settings.fill_rate"},
    };
    struct xds_source s;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct json_error je;
        struct json *tree = yaml_parse(str_of(bad[i].yaml), &a, &je);
        ck_assert_ptr_nonnull(tree);
        ProtobufCMessage *m = pb_from_json(&envoy__config__core__v3__config_source__descriptor,
                                           tree, &a, &e, NULL);
        if (m)
            ck_assert(!xds_source_decode((const void *)m, NULL, true, &a, &e, &s));
        ck_assert_msg(e.first != NULL, "%s", bad[i].yaml);
        ck_assert_msg(str_starts(e.first->path, str_of(bad[i].path)), "%s: %.*s: %.*s", bad[i].yaml,
                      STR_ARG(e.first->path), STR_ARG(e.first->text));
        errors_cleanup(&e);
        errors_init(&e);
    }
    ck_assert(!xds_source_decode(NULL, NULL, true, &a, &e, &s));
    ck_assert(!xds_source_decode(message("{ads: {}}"), NULL, false, &a, &e, &s));
    ck_assert_uint_eq(e.num_errors, 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("xds/source");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_ads_and_self);
    tcase_add_test(t, test_own_server);
    tcase_add_test(t, test_what_is_wrong_is_named_by_its_path);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
