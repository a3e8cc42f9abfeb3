/* String and header matchers: what fits, in all combinations of missing, inverted and several
 * values, as Envoy 1.40 does it (observed). */
#include "proxy/router/matchers.h"

#include "envoy/config/route/v3/route_components.pb-c.h"
#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct regex_list regexes;
static struct errors errors;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    regexes = (struct regex_list){0};
}

static void teardown(void)
{
    regex_list_free(&regexes);
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static struct header_match *compile(const char *yaml)
{
    void *msg = (void *)(uintptr_t)yaml_message("envoy.config.route.v3.HeaderMatcher", yaml,
                                                &arena);
    return header_matches_compile(&regexes, &arena, &msg, 1, "headers", &errors);
}

/* `values`: the fields named x-t, '|' between them; NULL: none. */
static bool fits(const char *yaml, const char *values)
{
    struct headers h;
    headers_init(&h, &arena);
    h.method = STR("POST");
    h.path = STR("/p?q=1");
    h.authority = STR("host.example");
    h.scheme = STR("http");
    headers_add(&h, STR("x-other"), STR("x"));
    struct str rest = str_of(values), value;
    if (values && !values[0])
        headers_add(&h, STR("x-t"), STR(""));
    while (values && str_next(&rest, '|', &value))
        headers_add(&h, STR("x-t"), value);
    struct header_match *m = compile(yaml);
    ck_assert_msg(errors_ok(&errors), "%s", yaml);
    return header_match(m, &h, &arena);
}

static const struct {
    const char *yaml, *values;
    bool fits;
} cases[] = {
    {"{name: X-T, string_match: {exact: x}}", "x", true},
    {"{name: x-t, string_match: {exact: x}}", "X", false},
    {"{name: x-t, string_match: {exact: x}}", "y|x", true}, /* one of several */
    {"{name: x-t, string_match: {exact: 'x,y'}}", "x|y", false},
    {"{name: x-t, string_match: {exact: x}}", "y|z", false},
    {"{name: x-t, string_match: {exact: x}, invert_match: true}", "y", true},
    {"{name: x-t, string_match: {exact: x}, invert_match: true}", "y|x", false},
    {"{name: x-t, string_match: {exact: x}, invert_match: true}", "y|z", true},
    /* missing: does not fit, inverted or not, unless taken for empty */
    {"{name: x-t, string_match: {exact: x}}", NULL, false},
    {"{name: x-t, string_match: {exact: x}, invert_match: true}", NULL, false},
    {"{name: x-t, string_match: {exact: x}, invert_match: true, "
     "treat_missing_header_as_empty: true}",
     NULL, true},
    {"{name: x-t, string_match: {exact: ''}, treat_missing_header_as_empty: true}", NULL, true},
    {"{name: x-t, string_match: {exact: ''}}", NULL, false},
    {"{name: x-t, string_match: {exact: ''}}", "", true},
    {"{name: x-t, string_match: {prefix: ab}}", "abc", true},
    {"{name: x-t, string_match: {prefix: ab}}", "a", false},
    {"{name: x-t, string_match: {suffix: BC, ignore_case: true}}", "aBc", true},
    {"{name: x-t, string_match: {suffix: bc}}", "c", false},
    {"{name: x-t, string_match: {contains: Mid, ignore_case: true}}", "a-mID-b", true},
    {"{name: x-t, string_match: {contains: mid}}", "a-mi", false},
    {"{name: x-t, string_match: {contains: 'x,y'}}", "x|y", false},
    {"{name: x-t, string_match: {exact: ABC, ignore_case: true}}", "abc", true},
    {"{name: x-t, string_match: {prefix: ABC, ignore_case: true}}", "abcd", true},
    {"{name: x-t, string_match: {safe_regex: {regex: 'a+'}}}", "aaa", true},
    {"{name: x-t, string_match: {safe_regex: {regex: 'a+'}}}", "aab", false}, /* all of it */
    {"{name: x-t, safe_regex_match: {regex: 'a|'}}", "", true},
    {"{name: x-t, exact_match: x}", "x", true},
    {"{name: x-t, prefix_match: x}", "xy", true},
    {"{name: x-t, suffix_match: 'y'}", "xy", true},
    {"{name: x-t, contains_match: 'y'}", "xyz", true},
    {"{name: x-t}", "", true},
    {"{name: x-t}", NULL, false},
    {"{name: x-t, present_match: true}", "a", true},
    {"{name: x-t, present_match: true}", NULL, false},
    {"{name: x-t, present_match: false}", NULL, true},
    {"{name: x-t, present_match: false}", "a", false},
    {"{name: x-t, present_match: true, invert_match: true}", NULL, true},
    {"{name: x-t, present_match: false, invert_match: true}", "a", true},
    {"{name: x-t, present_match: true, treat_missing_header_as_empty: true}", NULL, true},
    {"{name: x-t, exact_match: ''}", "whatever", true}, /* the old form: it is there */
    {"{name: x-t, string_match: {exact: ''}}", "whatever", false},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "+5", true},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "+-5", false},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "+", false},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "5", true},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "9", true},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "10", false},
    {"{name: x-t, range_match: {start: -3, end: 0}}", "-3", true},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "7x", false},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "7.0", false},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "99999999999999999999", false},
    {"{name: x-t, range_match: {start: 5, end: 10}}", "x|6", true},
    {"{name: x-t, range_match: {start: 5, end: 10}, invert_match: true}", "x", true},
    {"{name: x-t, range_match: {start: 5, end: 10}, invert_match: true}", NULL, false},
    /* pseudo-headers, under Host's name too */
    {"{name: ':method', string_match: {exact: POST}}", NULL, true},
    {"{name: ':path', string_match: {suffix: 'q=1'}}", NULL, true},
    {"{name: ':authority', string_match: {exact: host.example}}", NULL, true},
    {"{name: 'Host', string_match: {exact: host.example}}", NULL, true},
    {"{name: ':scheme', string_match: {exact: http}}", NULL, true},
    {"{name: ':nothing', present_match: true}", NULL, false},
};

START_TEST(headers)
{
    ck_assert_msg(fits(cases[_i].yaml, cases[_i].values) == cases[_i].fits, "%s: %s",
                  cases[_i].yaml, cases[_i].values ? cases[_i].values : "(none)");
}
END_TEST

START_TEST(refused)
{
    (void)compile("{name: x-t, string_match: {safe_regex: {regex: '['}}}");
    expect_error(&errors, "headers[0].string_match.safe_regex.regex", "missing ]");
    (void)compile("{name: x-t, safe_regex_match: {regex: '(?!a)'}}");
    expect_error(&errors, "headers[0].safe_regex_match.regex", "");
    (void)compile("{name: x-t, string_match: {ignore_case: true, safe_regex: {regex: a}}}");
    expect_error(&errors, "headers[0].string_match.ignore_case", "no effect");
    ck_assert_uint_eq(errors.num_errors, 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("matchers");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, headers, 0, (int)ARRAY_LEN(cases));
    tcase_add_test(t, refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
