/* Which value of a document becomes which metadata; what Envoy 1.40 makes of the values is in
 * test_filters_metadata.py. */
#include "proxy/filters/json_rules.h"

#include "envoy/extensions/filters/http/json_to_metadata/v3/json_to_metadata.pb-c.h"
#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct json_rules rules;
static struct metadata metadata;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    metadata = (struct metadata){0};
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static void compile(const char *yaml)
{
    const Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata__MatchRules *m =
        yaml_message("envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata.MatchRules",
                     yaml, &arena);
    json_rules_compile(&rules, &arena, (void *const *)m->rules, m->n_rules, &errors);
}

static bool apply(const char *text)
{
    struct json_error err;
    const struct json *root = json_parse(str_of(text), JSON_DUPLICATES_LAST, &arena, &err);
    return json_rules_apply(&rules, &arena, root ? JSON_SUCCESS : JSON_INVALID, root, &metadata);
}

/* The metadata of namespace n as JSON. */
static void check_metadata(const char *want)
{
    struct json_writer w;
    const struct json *j = metadata_object(&metadata, STR("ns"));
    json_writer_init(&w, false);
    if (j)
        json_put_tree(&w, j);
    ck_assert_msg(str_eq(json_writer_text(&w), str_of(want)), "%.*s, not %s",
                  STR_ARG(json_writer_text(&w)), want);
    json_writer_cleanup(&w);
}

static const char three[] = "{rules: [{selectors: [{key: a}, {key: b}],"
                            " on_present: {metadata_namespace: ns, key: v},"
                            " on_missing: {metadata_namespace: ns, key: m, value: {x: [1]}},"
                            " on_error: {metadata_namespace: ns, key: e, value: true}}]}";

static const struct {
    const char *text, *want;
} cases[] = {
    {"{\"a\":{\"b\":\"x\"}}", "{\"v\":\"x\"}"},
    {"{\"a\":{\"b\":-1.5}}", "{\"v\":-1.5}"},
    {"{\"a\":{\"c\":1}}", "{\"m\":{\"x\":[1]}}"},
    {"{\"a\":[{\"b\":1}]}", "{\"m\":{\"x\":[1]}}"},
    {"{\"a\":{\"b\":1e999}}", "{\"m\":{\"x\":[1]}}"},
    {"[]", "{\"m\":{\"x\":[1]}}"},
    {"{", "{\"e\":true}"},
};

START_TEST(test_three_ways)
{
    compile(three);
    ck_assert(errors_ok(&errors));
    ck_assert(apply(cases[_i].text));
    check_metadata(cases[_i].want);
}
END_TEST

START_TEST(test_no_body)
{
    compile(three);
    ck_assert(json_rules_apply(&rules, &arena, JSON_NO_BODY, NULL, &metadata));
    check_metadata("{\"m\":{\"x\":[1]}}");
}
END_TEST

START_TEST(test_nothing_to_set)
{
    compile("{rules: [{selectors: [{key: a}], on_present: {metadata_namespace: ns, key: v}}]}");
    ck_assert(!apply("{}"));
    ck_assert(!apply("{"));
    check_metadata("");
}
END_TEST

/* "preserve" is about what was there before the document, not about the rules before it. */
START_TEST(test_preserve)
{
    compile("{rules: [{selectors: [{key: a}], on_present: {metadata_namespace: ns, key: k}},"
            " {selectors: [{key: b}], on_present: {metadata_namespace: ns, key: k,"
            " preserve_existing_metadata_value: true}}]}");
    ck_assert(apply("{\"a\":1,\"b\":2}"));
    check_metadata("{\"k\":2}");
    ck_assert(apply("{\"b\":3,\"a\":4}"));
    check_metadata("{\"k\":4}");
    ck_assert(!apply("{\"b\":5}"));
    check_metadata("{\"k\":4}");
}
END_TEST

START_TEST(test_refused)
{
    Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata__Rule *m = PB_NEW(
        Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata__Rule,
        envoy__extensions__filters__http__json_to_metadata__v3__json_to_metadata__rule, &arena);
    void *one = m;
    json_rules_compile(&rules, &arena, &one, 1, &errors);
    expect_error(&errors, "rules[0].selectors", "required");
    expect_error(&errors, "rules[0]", "on_present or on_missing");
    json_rules_compile(&rules, &arena, NULL, 0, &errors);
    expect_error(&errors, "rules", "at least one");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json_rules");
    TCase *t = tcase_create("json_rules");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_three_ways, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(t, test_no_body);
    tcase_add_test(t, test_nothing_to_set);
    tcase_add_test(t, test_preserve);
    tcase_add_test(t, test_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
