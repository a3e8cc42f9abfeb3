/* For which connections a listener filter is disabled. */
#include "proxy/listener/filter_predicate.h"

#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

#define RANGE(a, b) "{destination_port_range: {start: " #a ", end: " #b "}}"

static const struct {
    const char *yaml;
    bool at_80, at_443, at_pipe;
} cases[] = {
    {"{any_match: true}", true, true, true},
    {"{not_match: {any_match: true}}", false, false, false},
    {RANGE(80, 81), true, false, false},
    {RANGE(81, 443), false, false, false}, /* the end is not in it */
    {RANGE(0, 65536), true, true, false},
    {RANGE(443, 80), false, false, false},
    {"{not_match: " RANGE(80, 81) "}", false, true, true},
    {"{or_match: {rules: [" RANGE(80, 81) ", " RANGE(443, 444) "]}}", true, true, false},
    {"{and_match: {rules: [" RANGE(80, 444) ", {not_match: " RANGE(80, 81) "}]}}", false, true,
     false},
    {"{and_match: {rules: [{any_match: true}, {or_match: {rules: [" RANGE(
         1, 2) ", {not_match: "
               "{not_match: " RANGE(80, 81) "}}]}}]}}",
     true, false, false},
};

START_TEST(matched)
{
    struct arena a;
    struct errors e;
    struct addr at_80, at_443, at_pipe;
    arena_init(&a, 0);
    errors_init(&e);
    ck_assert(addr_parse_ip(STR("10.0.0.1"), 80, &at_80));
    ck_assert(addr_parse_ip(STR("::1"), 443, &at_443));
    ck_assert(addr_parse_pipe(STR("/s"), &at_pipe));
    const void *m = yaml_message("envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
                                 cases[_i].yaml, &a);
    struct filter_predicate *p = filter_predicate_compile(&a, m, &e);
    ck_assert(p && errors_ok(&e));
    ck_assert(filter_predicate_matches(p, &at_80) == cases[_i].at_80);
    ck_assert(filter_predicate_matches(p, &at_443) == cases[_i].at_443);
    ck_assert(filter_predicate_matches(p, &at_pipe) == cases[_i].at_pipe);
    errors_cleanup(&e);
    arena_cleanup(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("filter_predicate");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, matched, 0, (int)ARRAY_LEN(cases));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
