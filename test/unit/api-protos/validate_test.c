#include "api-protos/mapping.h"

#include "envoy/extensions/filters/http/header_to_metadata/v3/header_to_metadata.pb-c.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/cluster/v3/outlier_detection.pb-c.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/filters/http/bandwidth_limit/v3/bandwidth_limit.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
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

/* Unpacks JSON; returns all errors as text, "" if there are none. */
static const char *check(const ProtobufCMessageDescriptor *type, const char *text)
{
    struct json_error err;
    const struct json *tree = json_parse(str_of(text), 0, &arena, &err);
    ck_assert_msg(tree != NULL, "%s: %s", text, err.text);
    errors_cleanup(&errors);
    errors_init(&errors);
    bool ok = pb_from_json(type, tree, &arena, &errors, NULL) != NULL;
    ck_assert_int_eq(ok, errors_ok(&errors));
    return errors_text(&errors, &arena).p;
}

#define EXPECT(lower, text, want) ck_assert_str_eq(check(&lower##__descriptor, text), want)

START_TEST(test_required)
{
    EXPECT(envoy__config__route__v3__header_matcher, "{\"name\":\"x\"}", "");
    EXPECT(envoy__config__route__v3__header_matcher, "{}",
           "name: value length must be at least 1 characters");
    EXPECT(envoy__config__route__v3__route, "{\"match\":{\"prefix\":\"/\"}}",
           "action: value is required");
    EXPECT(envoy__config__route__v3__route, "{\"route\":{\"cluster\":\"c\"}}",
           "match: value is required");
    EXPECT(envoy__config__route__v3__route, "{\"route\":{},\"match\":{}}",
           "match.path_specifier: value is required; "
           "route.cluster_specifier: value is required");
    EXPECT(envoy__config__accesslog__v3__and_filter, "{\"filters\":[{\"traceable_filter\":{}},{}]}",
           "filters[1].filter_specifier: value is required");
    /* what another choice of the oneof would need is not asked for */
    EXPECT(envoy__config__route__v3__route_match, "{\"prefix\":\"/\"}", "");
    /* a header name that is not `strict` may be missing: only NUL, CR and LF are wrong */
    EXPECT(envoy__config__route__v3__weighted_cluster__cluster_weight,
           "{\"name\":\"c\",\"weight\":1}", "");
    EXPECT(envoy__config__route__v3__weighted_cluster__cluster_weight,
           "{\"cluster_header\":\"a\\nb\"}",
           "cluster_header: value is not a valid HTTP header name");
}
END_TEST

START_TEST(test_ranges)
{
    EXPECT(envoy__config__core__v3__socket_address, "{\"address\":\"a\",\"port_value\":65536}",
           "port_value: value must be less than or equal to 65535");
    EXPECT(envoy__config__core__v3__socket_address, "{\"address\":\"a\",\"port_value\":65535}", "");
    EXPECT(envoy__config__core__v3__pipe, "{\"path\":\"/x\",\"mode\":512}",
           "mode: value must be less than or equal to 511");
    EXPECT(envoy__config__route__v3__direct_response_action, "{\"status\":99}",
           "status: value must be inside range [200, 600)");
    EXPECT(envoy__config__route__v3__direct_response_action, "{\"status\":600}",
           "status: value must be inside range [200, 600)");
    EXPECT(envoy__config__route__v3__direct_response_action, "{\"status\":599}", "");
    EXPECT(envoy__type__v3__percent, "{\"value\":100.5}",
           "value: value must be inside range [0, 100]");
    EXPECT(envoy__type__v3__percent, "{\"value\":\"NaN\"}",
           "value: value must be inside range [0, 100]");
    EXPECT(envoy__type__v3__percent, "{\"value\":-0.5}",
           "value: value must be inside range [0, 100]");
    /* wrappers are checked when they are there */
    EXPECT(envoy__config__cluster__v3__outlier_detection, "{\"max_ejection_percent\":101}",
           "max_ejection_percent: value must be less than or equal to 100");
    EXPECT(envoy__config__cluster__v3__outlier_detection, "{}", "");
    EXPECT(envoy__config__listener__v3__filter_chain_match, "{\"destination_port\":0}",
           "destination_port: value must be inside range [1, 65535]");
    EXPECT(envoy__config__listener__v3__filter_chain_match, "{\"source_ports\":[1,0,65536]}",
           "source_ports[1]: value must be inside range [1, 65535]; "
           "source_ports[2]: value must be inside range [1, 65535]");
}
END_TEST

START_TEST(test_durations)
{
    EXPECT(envoy__config__cluster__v3__cluster, "{\"name\":\"c\",\"connect_timeout\":\"0s\"}",
           "connect_timeout: value must be greater than 0s");
    EXPECT(envoy__config__cluster__v3__cluster, "{\"name\":\"c\",\"connect_timeout\":\"-1s\"}",
           "connect_timeout: value must be greater than 0s");
    EXPECT(envoy__config__cluster__v3__cluster,
           "{\"name\":\"c\",\"connect_timeout\":\"0.000000001s\"}", "");
    EXPECT(envoy__config__cluster__v3__cluster,
           "{\"name\":\"c\",\"cleanup_interval\":\"9223372036s\",\"connect_timeout\":"
           "\"315576000000s\"}",
           "");
    EXPECT(envoy__config__route__v3__retry_policy__retry_back_off,
           "{\"base_interval\":\"0s\",\"max_interval\":\"1s\"}",
           "base_interval: value must be greater than 0s");
    EXPECT(envoy__config__route__v3__retry_policy__retry_back_off, "{}",
           "base_interval: value is required");
}
END_TEST

START_TEST(test_text)
{
    EXPECT(envoy__config__core__v3__header_value, "{\"key\":\"a b\"}", "");
    EXPECT(envoy__extensions__filters__http__bandwidth_limit__v3__bandwidth_limit,
           "{\"stat_prefix\":\"a\",\"response_trailer_prefix\":\"\"}", ""); /* not strict */
    EXPECT(envoy__config__core__v3__header_value, "{\"key\":\"a\\nb\"}",
           "key: value is not a valid HTTP header name");
    /* Not strict: no name at all is a valid one, as in Envoy. */
    EXPECT(envoy__config__route__v3__route_action__request_mirror_policy, "{\"cluster\":\"a\"}",
           "");
    EXPECT(envoy__extensions__filters__http__header_to_metadata__v3__config__rule,
           "{\"header\":\"a\"}", ""); /* cookie: empty, but not `strict` */
    EXPECT(envoy__config__core__v3__header_value, "{\"key\":\"a\",\"value\":\"x\\r\"}",
           "value: value is not a valid HTTP header value");
    EXPECT(envoy__config__route__v3__redirect_action, "{\"host_redirect\":\"a\\nb\"}",
           "host_redirect: value is not a valid HTTP header value");
    EXPECT(envoy__config__route__v3__route_match, "{\"path_separated_prefix\":\"/a/\"}",
           "path_separated_prefix: value does not match regex pattern \"^[^?#]+[^?#/]$\"");
    EXPECT(envoy__config__route__v3__route_match, "{\"path_separated_prefix\":\"/a/b\"}", "");
    EXPECT(envoy__config__route__v3__virtual_host,
           "{\"name\":\"v\",\"domains\":[\"*\"],\"response_headers_to_remove\":[\"ok\",\"\"]}",
           "response_headers_to_remove[1]: value length must be at least 1 characters");
    /* characters, not bytes */
    EXPECT(envoy__config__cluster__v3__cluster, "{\"name\":\"\xc3\xa9\"}", "");
}
END_TEST

START_TEST(test_sets)
{
    EXPECT(envoy__config__cluster__v3__cluster, "{\"name\":\"c\",\"lb_policy\":77}",
           "lb_policy: value must be one of the defined enum values");
    EXPECT(envoy__config__cluster__v3__cluster, "{\"name\":\"c\",\"type\":77}",
           "type: value must be one of the defined enum values");
    EXPECT(envoy__config__accesslog__v3__response_flag_filter, "{\"flags\":[\"UO\",\"XX\"]}",
           "flags[1]: value must be in the list of allowed values");
    EXPECT(envoy__config__route__v3__route_action,
           "{\"cluster\":\"c\",\"cluster_not_found_response_code\":77}",
           "cluster_not_found_response_code: value must be one of the defined enum values");
}
END_TEST

START_TEST(test_counts)
{
    EXPECT(envoy__config__route__v3__virtual_host, "{\"name\":\"v\"}",
           "domains: value must contain at least 1 item(s)");
    EXPECT(envoy__config__accesslog__v3__and_filter, "{\"filters\":[{\"traceable_filter\":{}}]}",
           "filters: value must contain at least 2 item(s)");
    EXPECT(envoy__config__core__v3__metadata, "{\"filter_metadata\":{\"\":{}}}",
           "filter_metadata[]: value length must be at least 1 characters");
    EXPECT(envoy__config__core__v3__metadata, "{\"filter_metadata\":{\"a\":{},\"b\":{}}}", "");
}
END_TEST

/* A path through maps, lists and messages, at any depth. */
START_TEST(test_nested)
{
    EXPECT(envoy__config__cluster__v3__cluster,
           "{\"name\":\"c\",\"load_assignment\":{\"cluster_name\":\"c\",\"endpoints\":[{},"
           "{\"lb_endpoints\":[{\"endpoint\":{\"address\":{\"socket_address\":{\"address\":\"\","
           "\"port_value\":80}}}}]}]}}",
           "load_assignment.endpoints[1].lb_endpoints[0].endpoint.address.socket_address.address: "
           "value length must be at least 1 characters");
    size_t mark = errors_push(&errors, "static_resources");
    Envoy__Type__V3__Percent p = ENVOY__TYPE__V3__PERCENT__INIT;
    p.value = 200;
    ck_assert(!pb_validate(&p.base, &errors));
    errors_pop(&errors, mark);
    ck_assert(str_starts(errors_text(&errors, &arena), STR("load_assignment")));
    ck_assert(str_ends(errors_text(&errors, &arena),
                       STR("static_resources.value: value must be inside range [0, 100]")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("api-protos/validate");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_required);
    tcase_add_test(tc, test_ranges);
    tcase_add_test(tc, test_durations);
    tcase_add_test(tc, test_text);
    tcase_add_test(tc, test_sets);
    tcase_add_test(tc, test_counts);
    tcase_add_test(tc, test_nested);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
