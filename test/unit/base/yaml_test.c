#include "base/yaml.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct arena arena;
static struct json_error err;

static void setup(void)
{
    arena_init(&arena, 0);
}

static void teardown(void)
{
    arena_cleanup(&arena);
}

static void expect(const char *text, const char *want)
{
    struct json_writer w;
    struct json *j = yaml_parse(str_of(text), &arena, &err);
    ck_assert_msg(j != NULL, "%s: line %u: %s", text, (unsigned)err.line, err.text);
    json_writer_init(&w, false);
    json_put_tree(&w, j);
    struct str got = json_writer_text(&w);
    ck_assert_msg(str_eq(got, str_of(want)), "%s: %.*s", text, STR_ARG(got));
    json_writer_cleanup(&w);
}

static void expect_bad(const char *text, unsigned line, const char *why)
{
    ck_assert_msg(!yaml_parse(str_of(text), &arena, &err), "accepted: %s", text);
    ck_assert_msg(err.line == line, "%s: line %u, not %u", text, (unsigned)err.line, line);
    ck_assert_msg(strstr(err.text, why), "%s: \"%s\", not \"%s\"", text, err.text, why);
}

START_TEST(test_documents)
{
    expect("", "null");
    expect("---\n...\n", "null");
    expect("a: 1\nb:\n- x\n- {c: d, e: [1, 2]}\n",
           "{\"a\":1,\"b\":[\"x\",{\"c\":\"d\",\"e\":[1,2]}]}");
    expect("{\"json\": [true, \"x\", null], \"t\": 1,}", "{\"json\":[true,\"x\",null],\"t\":1}");
    expect("# only\n- |\n  two\n  lines\n- >-\n  one\n  line\n",
           "[\"two\\nlines\\n\",\"one line\"]");
    expect("\xef\xbb\xbf"
           "a: 1",
           "{\"a\":1}");
    expect_bad("a: 1\n---\nb: 2\n", 2, "more than one document");
}
END_TEST

START_TEST(test_scalars)
{
    expect("[~, null, Null, NULL, ]", "[null,null,null,null]");
    expect("a:\nb: ''", "{\"a\":null,\"b\":\"\"}");
    expect("[true, True, yes, on, Y, false, No, OFF, n]",
           "[true,true,true,true,true,false,false,false,false]");
    expect("[tRue, nulL, oN]", "[\"tRue\",\"nulL\",\"oN\"]");
    expect("[0, -0, 42, +7, -13, 0x1F, 010, -0x10]", "[0,0,42,7,-13,31,8,-16]");
    expect("[9007199254740992, 9007199254740993, 99999999999999999999]",
           "[9007199254740992,\"9007199254740993\",\"99999999999999999999\"]");
    expect("[0.5, 1e3, .inf, 1_000, 09, 0x, 0xg, -, 1.2.3.4, 10s, 12:30]",
           "[\"0.5\",\"1e3\",\".inf\",\"1_000\",\"09\",\"0x\",\"0xg\",\"-\",\"1.2.3.4\",\"10s\","
           "\"12:30\"]");
    expect("['1', \"true\", '~', !!str 5, ! 6]", "[\"1\",\"true\",\"~\",\"5\",\"6\"]");
    expect("[!!int 5, !!bool true, !!null null]", "[5,true,null]");
    expect_bad("- !!binary aGk=\n", 1, "tag");
    expect_bad("a:\n  !custom {x: 1}\n", 2, "tag");
}
END_TEST

START_TEST(test_keys)
{
    expect("1: a\ntrue: b\n", "{\"1\":\"a\",\"true\":\"b\"}");
    expect("!ignore anchors:\n- &x {a: 1}\nuse: *x\n", "{\"use\":{\"a\":1}}");
    expect_bad("a: 1\nb: 2\na: 3\n", 1, "twice: a");
    expect_bad("x: &d {a: 1}\ny:\n  <<: *d\n", 3, "merge keys");
    expect("'<<': 1", "{\"<<\":1}");
    expect_bad("? [a]\n: 1\n", 1, "no scalar");
    expect_bad("&k a: 1\n", 1, "anchor on a key");
}
END_TEST

START_TEST(test_aliases)
{
    expect("a: &x [1, {b: 2}]\nc: *x\nd: *x\n", "{\"a\":[1,{\"b\":2}],\"c\":[1,{\"b\":2}],"
                                                "\"d\":[1,{\"b\":2}]}");
    expect("- &a 1\n- *a\n- &a 2\n- *a\n", "[1,1,2,2]");
    expect_bad("a: *nothing\n", 1, "alias");
    expect_bad("a: &x [*x]\n", 1, "alias");
}
END_TEST

START_TEST(test_bombs)
{
    /* a billion laughs */
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof(text), "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 10; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
                              i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    ck_assert(!yaml_parse(str_n(text, n), &arena, &err));
    ck_assert(strstr(err.text, "too large"));
    /* depth, written out and by aliases of aliases */
    char deep[2 * JSON_DEPTH_MAX + 4];
    memset(deep, '[', JSON_DEPTH_MAX + 1);
    ck_assert(!yaml_parse(str_n(deep, JSON_DEPTH_MAX + 1), &arena, &err));
    char *chain = mem_alloc(64 * 1200);
    n = (size_t)snprintf(chain, 64, "- &a0 [x]\n");
    for (int i = 1; i < 1200; i++)
        n += (size_t)snprintf(chain + n, 64, "- &a%d [*a%d]\n", i, i - 1);
    ck_assert(!yaml_parse(str_n(chain, n), &arena, &err));
    ck_assert(strstr(err.text, "too large"));
    mem_free(chain);
}
END_TEST

START_TEST(test_bad)
{
    expect_bad("a: [1, 2\nb: 3", 2, "");
    expect_bad("a: b: c\n", 1, "mapping values");
    expect_bad("a:\n\t- b\n", 2, "");
    expect_bad("a: \"x\n", 2, "");
    expect_bad("a: \xff\xfe\n", 1, "UTF-8");
    expect_bad("- a\nb: 1\n", 2, "");
}
END_TEST

START_TEST(test_lines)
{
    struct json *j = yaml_parse(STR("a: 1\nb:\n  - x\n  - y: 2\n"), &arena, &err);
    ck_assert_uint_eq(json_get(j, "a")->line, 1);
    ck_assert_uint_eq(json_get(j, "b")->line, 3);
    ck_assert_uint_eq(json_get(j, "b")->first->next->line, 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/yaml");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_documents);
    tcase_add_test(tc, test_scalars);
    tcase_add_test(tc, test_keys);
    tcase_add_test(tc, test_aliases);
    tcase_add_test(tc, test_bombs);
    tcase_add_test(tc, test_bad);
    tcase_add_test(tc, test_lines);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
