/* URI templates: what fits, what is made of it, and what is refused. Envoy 1.40's answers
 * (observed) unless said otherwise. */
#include "proxy/router/uri_template.h"

#include "test/support/yaml_message.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;
static struct errors errors;
static struct regex_list regexes;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
}

static void teardown(void)
{
    regex_list_free(&regexes);
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

static const struct {
    const char *text, *rewrite, *path, *want; /* NULL: does not fit */
} cases[] = {
    {"/t/{v}/x/{w}", "/{w}/{v}", "/t/1/x/2", "/2/1"},
    {"/t/{v}/x/{w}", "/{w}/{v}", "/t/1/x/", NULL},
    {"/t/{v}/x/{w}", "/{w}/{v}", "/t/1/x/2/", NULL},
    {"/t/{v}/x/{w}", "/{w}/{v}", "/t//x/2", NULL},
    {"/t/{v}/x/{w}", "/{w}/{v}", "/T/1/x/2", NULL},
    {"/t/{v}", "/{v}", "/t/*", "/*"}, /* CVE-2025-46821 */
    {"/t/{v}", "/{v}", "/t/a%20b,(c)!$@:;&=~", "/a%20b,(c)!$@:;&=~"},
    {"/t/{v}", "/{v}", "/t/a|b", NULL},
    {"/t/{v}", "/{v}", "/t/a\"b", NULL},
    {"/u/{a=*}/{b=**}", "/z/{b}", "/u/1/2/3", "/z/2/3"},
    {"/u/{a=*}/{b=**}", "/z/{b}", "/u/1/", "/z/"},
    {"/u/{a=*}/{b=**}", "/z/{b}", "/u/1", NULL},
    {"/s/*/y/**", "/s", "/s/1/y/", "/s"},
    {"/s/*/y/**", "/s", "/s/1/y", NULL},
    {"/s/*/y/**", "/s", "/s/*/y/*", "/s"}, /* CVE-2025-46821 */
    {"/k/{v=x/*}/{q=**}.m3u8", "/{v}{q}", "/k/x/y/a*b.m3u8", "/x/ya*b"},
    {"/k/{v=x/*}/{q=**}.m3u8", "/{v}{q}", "/k/x/y/.m3u8", "/x/y"},
    {"/k/{v=x/*}/{q=**}.m3u8", "/{v}{q}", "/k/y/y/.m3u8", NULL},
    {"/{a=*/b}/c", "/{a}", "/x/b/c", "/x/b"},
    {"/{v=*}.m", "/{v}", "/x.y.m", "/x.y"},
    {"/{v=*}.m", "/{v}", "/xzm", NULL}, /* a literal is no expression */
    {"/**/a", "/", "//a", "/"},
    {"/**/a", "/", "/a", NULL},
    {"/*a", "/", "/ba", "/"},
    {"/**b", "/", "/x/b", "/"},
    {"/x{y}", "/{y}", "/xy", "/y"},
    {"/", "/x", "/", "/x"},
    {"/", "/x", "/a", NULL},
    {"/a/", "/x", "/a/", "/x"},
    {"/a/", "/x", "/a", NULL},
    {"/**", "/x", "/", "/x"},
    {"/*", "/x", "/", NULL},
    {"/~a-b_c.d!$&'()+,;:@=", "/x", "/~a-b_c.d!$&'()+,;:@=", "/x"},
    {"/%7b", "/x", "/%7B", NULL},
};

START_TEST(matching)
{
    struct uri_template *t = uri_template_compile(&regexes, &arena, str_of(cases[_i].text),
                                                  &errors);
    ck_assert_msg(t != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
    struct uri_rewrite *w = uri_rewrite_compile(&arena, str_of(cases[_i].rewrite), t, &errors);
    ck_assert_msg(w != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
    struct str path = str_of(cases[_i].path), made = uri_rewrite_apply(w, path, &arena);
    ck_assert(uri_template_match(t, path) == (cases[_i].want != NULL));
    ck_assert_msg(str_eq(made, str_of(cases[_i].want)), "%.*s", STR_ARG(made));
}
END_TEST

static const char *const refused[] = {
    "", "a/b", "/a//b", "/a b", "/a?b", "/a#b", "/[a]", "/\xc3\xa9", "/a/b}", "/a/{b", "/a/{}",
    "/a/{1a}", "/a/{a-b}", "/a/{_a}", "/a/{b}/{b}", "/a/{toolongnameabcdefg}", "/{a}{b}",
    "/{a}/{b}/{c}/{d}/{e}/{f}", "/**/*", "/{a=**}/{b}", "/{a={b}}", "/{v=/a/*}", "/a/{b=/}",
    "/a/{b=}",
    /* Envoy takes these and makes an expression of them in which '*' repeats the letter before */
    "/a*", "/a**", "/{a=b*}"};

START_TEST(refusing)
{
    ck_assert_ptr_null(uri_template_compile(&regexes, &arena, str_of(refused[_i]), &errors));
    ck_assert_uint_eq(errors.num_errors, 1);
}
END_TEST

static const char *const no_rewrites[] = {"",      "{b}", "/{c}", "/b b", "/b?x={b}",
                                          "/{b}#", "//b", "/{b",  "/}"};

START_TEST(refusing_rewrites)
{
    struct uri_template *t = uri_template_compile(&regexes, &arena, STR("/a/{b}"), &errors);
    ck_assert_ptr_null(uri_rewrite_compile(&arena, str_of(no_rewrites[_i]), t, &errors));
    ck_assert_uint_eq(errors.num_errors, 1);
    ck_assert_ptr_null(uri_rewrite_compile(&arena, STR("/a"), NULL, &errors));
    expect_error(&errors, "", "path_match_policy");
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, matching, 0, ARRAY_LEN(cases));
    tcase_add_loop_test(c, refusing, 0, ARRAY_LEN(refused));
    tcase_add_loop_test(c, refusing_rewrites, 0, ARRAY_LEN(no_rewrites));
    Suite *s = suite_create("uri_template");
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
