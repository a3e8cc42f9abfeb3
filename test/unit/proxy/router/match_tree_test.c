/* What matcher trees are refused for, with their paths; what they find is in route_cases.yaml. */
#include "proxy/router/route_private.h"

#include "test/support/route_fixture.h"
#include "test/support/yaml_message.h"
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

#define TYPE(name) "typed_config: {'@type': type.googleapis.com/" name
#define INPUT                                                                                      \
    "input: {name: i, " TYPE(                                                                      \
        "envoy.type.matcher.v3.HttpRequestHeaderMatchInput") ", header_name: x}}"
#define ROUTE                                                                                      \
    "{action: {name: r, " TYPE(                                                                    \
        "envoy.config.route.v3.Route") ", match: {prefix: /}, route: {cluster: c}}}}"

static const struct {
    const char *matcher, *path, *text; /* path below virtual_hosts[0].matcher */
} refused[] = {
    {"matcher_tree: {input: {name: i, " TYPE(
         "envoy.config.core.v3.Address") ", pipe: {path: /x}}}, exact_match_map: {map: {a: " ROUTE
                                         "}}}",
     "matcher_tree.input.typed_config", "'envoy.config.core.v3.Address' is not supported"},
    {"matcher_list: {matchers: [{predicate: {single_predicate: {input: {name: i, " TYPE(
         "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput") ", query_param: q}}, "
                                                                  "value_match: {exact: a}}}, "
                                                                  "on_match: " ROUTE "}]}",
     "matcher_list.matchers[0].predicate.single_predicate.input.typed_config", "not supported"},
    {"matcher_tree: {" INPUT ", exact_match_map: {map: {a: {action: {name: x, " TYPE(
         "envoy.config.core.v3.Address") ", pipe: {path: /x}}}}}}}",
     "matcher_tree.exact_match_map.map[a].action.typed_config", "not supported"},
    {"matcher_tree: {" INPUT ", prefix_match_map: {map: {a: {action: {name: x, " TYPE(
         "envoy.config.route.v3.Route") ", match: {safe_regex: {regex: '('}}, route: {cluster: "
                                        "c}}}}}}}",
     "matcher_tree.prefix_match_map.map[a].action.typed_config.match.safe_regex.regex", ""},
    {"matcher_list: {matchers: [{predicate: {not_matcher: {single_predicate: {" INPUT
     ", value_match: {safe_regex: {google_re2: {}, regex: '('}}}}}, on_match: " ROUTE "}]}",
     "matcher_list.matchers[0].predicate.not_matcher.single_predicate.value_match.safe_regex.regex",
     ""},
    {"on_no_match: {keep_matching: true, action: {name: r, " TYPE(
         "envoy.config.route.v3.Route") ", match: {prefix: /}, route: {cluster: c}}}}",
     "on_no_match.keep_matching", "not supported"},
    {"on_no_match: {matcher: {on_no_match: {action: {name: r, " TYPE(
         "envoy.config.route.v3.RouteList") ", routes: [{match: {prefix: /}, route: "
                                            "{cluster_specifier_plugin: none}}]}}}}}",
     "on_no_match.matcher.on_no_match.action.typed_config.routes[0].route.cluster_specifier_plugin",
     "no plugin"},
};

START_TEST(refusing)
{
    struct str yaml = arena_printf(
        &arena, "{virtual_hosts: [{name: v, domains: ['*'], matcher: {%s}}]}", refused[_i].matcher);
    struct str path = arena_printf(&arena, "virtual_hosts[0].matcher.%s", refused[_i].path);
    ck_assert_ptr_null(route_fixture_table(yaml.p, &arena, &errors));
    expect_error(&errors, path.p, refused[_i].text);
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, refusing, 0, ARRAY_LEN(refused));
    Suite *s = suite_create("match_tree");
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
