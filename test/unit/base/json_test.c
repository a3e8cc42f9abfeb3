#include "base/json.h"

#include <check.h>
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

static struct json *parse(const char *text, unsigned flags)
{
    return json_parse(str_of(text), flags, &arena, &err);
}

static void expect_bad(const char *text, unsigned flags, unsigned line, const char *why)
{
    ck_assert_msg(!parse(text, flags), "accepted: %s", text);
    ck_assert_msg(err.line == line, "%s: line %u, not %u", text, (unsigned)err.line, line);
    ck_assert_msg(strstr(err.text, why), "%s: \"%s\", not \"%s\"", text, err.text, why);
}

/* Parses and writes again. */
static void expect_text(const char *text, unsigned flags, const char *want)
{
    struct json_writer w;
    struct json *j = parse(text, flags);
    ck_assert_msg(j != NULL, "%s: %u:%u: %s", text, (unsigned)err.line, (unsigned)err.column,
                  err.text);
    json_writer_init(&w, false);
    json_put_tree(&w, j);
    struct str got = json_writer_text(&w);
    ck_assert_msg(str_eq(got, str_of(want)), "%s: %.*s", text, STR_ARG(got));
    json_writer_cleanup(&w);
}

START_TEST(test_values)
{
    expect_text(" null ", 0, "null");
    expect_text("true", 0, "true");
    expect_text("\tfalse\r\n", 0, "false");
    expect_text("-0.5e+10", 0, "-0.5e+10");
    expect_text("0", 0, "0");
    expect_text("123456789012345678901234567890", 0, "123456789012345678901234567890");
    expect_text("[]", 0, "[]");
    expect_text("{}", 0, "{}");
    expect_text("[1,[2,{\"a\":[]}],\"x\"]", 0, "[1,[2,{\"a\":[]}],\"x\"]");
    expect_text("{\"a\" : 1 , \"b\" : {\"\":null}}", 0, "{\"a\":1,\"b\":{\"\":null}}");
    expect_text("\xef\xbb\xbf[1]", 0, "[1]");
}
END_TEST

START_TEST(test_strings)
{
    expect_text("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", 0, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
    expect_text("\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"", 0,
                "\"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
    expect_text("\"\xf0\x9f\x98\x80\"", 0, "\"\xf0\x9f\x98\x80\"");
    expect_text("\"\\u0001\x7f\"", 0, "\"\\u0001\\u007f\"");
    struct json *j = parse("\"a\\u0000b\"", 0);
    ck_assert_uint_eq(j->text.len, 3);
    expect_bad("\"a\\u0000b\"", JSON_REJECT_NUL, 1, "NUL");
    expect_bad("\"\\ud83d\"", 0, 1, "surrogate");
    expect_bad("\"\\ud83dx\\ude00\"", 0, 1, "surrogate");
    expect_bad("\"\\ud83d\\u0041\"", 0, 1, "surrogate");
    expect_bad("\"\\ude00\"", 0, 1, "surrogate");
    expect_bad("\"\\u12\"", 0, 1, "hexadecimal");
    expect_bad("\"\\u12", 0, 1, "does not end");
    expect_bad("\"\\x41\"", 0, 1, "escape");
    expect_bad("\"a\nb\"", 0, 1, "control");
    expect_bad("\"abc", 0, 1, "does not end");
    expect_bad("\"abc\\", 0, 1, "does not end");
    expect_bad("\"abc\\\"", 0, 1, "does not end");
    expect_bad("\"\xc3\x28\"", 0, 1, "UTF-8");
    expect_bad("\"\xc0\xaf\"", 0, 1, "UTF-8");
    expect_bad("\"\xed\xa0\x80\"", 0, 1, "UTF-8");
    expect_bad("\"\xf4\x90\x80\x80\"", 0, 1, "UTF-8");
    expect_bad("\"\xe2\x82\"", 0, 1, "UTF-8");
}
END_TEST

START_TEST(test_bad)
{
    static const char *const not_values[] = {"",         " ",
                                             "nul",      "tru",
                                             "truex",    "+1",
                                             "01",       "-",
                                             "1.",       ".5",
                                             "1e",       "1e+",
                                             "-01",      "NaN",
                                             "'a'",      "[1]]",
                                             "1 2",      "{a:1}",
                                             "[1 2]",    "{\"a\" 1}",
                                             "{\"a\":}", "{\"a\":1 \"b\":2}",
                                             "{,}",      "[,]",
                                             "[1,,2]",   "]",
                                             "}",        "[",
                                             "{",        "[1",
                                             "{\"a\":1", "{\"a\":1,",
                                             "//x\n1",   "[1}",
                                             "{\"a\":1]"};
    for (size_t i = 0; i < ARRAY_LEN(not_values); i++) {
        ck_assert_msg(!parse(not_values[i], 0), "accepted: %s", not_values[i]);
        ck_assert(err.text[0] && err.line == 1);
    }
    expect_bad("{\n\n\"a\": x}", 0, 3, "not a JSON value");
    ck_assert_uint_eq(err.column, 6);
}
END_TEST

START_TEST(test_trailing_commas)
{
    expect_bad("[1,]", 0, 1, "comma");
    expect_bad("{\"a\":1,}", 0, 1, "comma");
    expect_text("[1,]", JSON_TRAILING_COMMAS, "[1]");
    expect_text("{\"a\":[1,],\n}", JSON_TRAILING_COMMAS, "{\"a\":[1]}");
    expect_bad("[,]", JSON_TRAILING_COMMAS, 1, "not a JSON value");
    expect_bad("[1,,]", JSON_TRAILING_COMMAS, 1, "not a JSON value");
}
END_TEST

START_TEST(test_duplicates)
{
    expect_bad("{\"a\":1,\"b\":2,\n\"a\":3}", 0, 2, "duplicate member \"a\"");
    expect_bad("{\"a\":1,\"\\u0061\":3}", 0, 1, "duplicate");
    expect_text("{\"b\":0,\"a\":1,\"b\":2,\"a\":3,\"b\":4}", JSON_DUPLICATES_LAST,
                "{\"a\":3,\"b\":4}");
    expect_text("{\"a\":{\"x\":1,\"x\":2},\"b\":[{\"y\":1,\"y\":1}]}", JSON_DUPLICATES_LAST,
                "{\"a\":{\"x\":2},\"b\":[{\"y\":1}]}");
}
END_TEST

START_TEST(test_depth)
{
    char text[2 * (JSON_DEPTH_MAX + 1) + 1];
    for (size_t deep = JSON_DEPTH_MAX; deep <= JSON_DEPTH_MAX + 1; deep++) {
        memset(text, '[', deep);
        memset(text + deep, ']', deep);
        text[2 * deep] = '\0';
        ck_assert_int_eq(parse(text, 0) != NULL, deep == JSON_DEPTH_MAX);
    }
    ck_assert(strstr(err.text, "nested deeper"));
    /* what never closes is found as well, without running out of stack */
    size_t n = 1000000;
    char *open = mem_alloc(n);
    memset(open, '[', n);
    ck_assert(!json_parse(str_n(open, n), 0, &arena, &err));
    mem_free(open);
}
END_TEST

START_TEST(test_access)
{
    uint64_t u;
    double d;
    const struct json *j = parse("{\"s\":\"text\",\"n\":42,\"f\":-1.5,\"big\":1e400}", 0);
    ck_assert(str_eq(json_str(json_get(j, "s")), STR("text")));
    ck_assert(json_u64(json_get(j, "n"), &u) && u == 42);
    ck_assert(json_double(json_get(j, "f"), &d) && d == -1.5);
    ck_assert(!json_u64(json_get(j, "f"), &u));
    ck_assert(!json_u64(json_get(j, "s"), &u));
    ck_assert(!json_get(j, "none"));
    ck_assert(!json_get(json_get(j, "n"), "x"));
    ck_assert(!json_get(NULL, "x"));
    ck_assert(!json_str(json_get(j, "n")).p);
    ck_assert(!json_double(NULL, &d));
    ck_assert_uint_eq(j->count, 4);
}
END_TEST

START_TEST(test_writer)
{
    struct json_writer w;
    json_writer_init(&w, true);
    json_open(&w, '{');
    json_key(&w, STR("a"));
    json_put_u64(&w, UINT64_MAX);
    json_key(&w, STR("b"));
    json_open(&w, '[');
    json_put_i64(&w, INT64_MIN);
    json_put_bool(&w, true);
    json_open(&w, '{');
    json_close(&w, '}');
    json_put_null(&w);
    json_close(&w, ']');
    json_close(&w, '}');
    static const char want[] = "{\n \"a\": 18446744073709551615,\n \"b\": [\n"
                               "  -9223372036854775808,\n  true,\n  {},\n  null\n ]\n}";
    struct str got = json_writer_text(&w);
    ck_assert_msg(str_eq(got, STR(want)), "%.*s", STR_ARG(got));
    json_writer_cleanup(&w);
}
END_TEST

START_TEST(test_deep_writer)
{
    struct json_writer w;
    json_writer_init(&w, true);
    for (int i = 0; i < 100; i++)
        json_open(&w, '[');
    json_put_u64(&w, 1);
    for (int i = 0; i < 100; i++)
        json_close(&w, ']');
    struct json *j = json_parse(json_writer_text(&w), 0, &arena, &err);
    for (int i = 0; i < 100; i++)
        j = j->first;
    ck_assert(str_eq(j->text, STR("1")));
    json_writer_cleanup(&w);
}
END_TEST

START_TEST(test_numbers)
{
    static const double values[] = {0.1, 1e300, -5e-324, 1.0 / 3, 123456789.0, 0.0, 1e21, 100.0};
    struct json_writer w;
    json_writer_init(&w, false);
    json_open(&w, '[');
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        json_put_double(&w, values[i]);
    json_put_double(&w, strtod("nan", NULL));
    json_put_double(&w, strtod("-inf", NULL));
    json_put_float(&w, 0.1f);
    json_put_float(&w, strtof("inf", NULL));
    json_put_raw(&w, STR("{\"raw\":1}"));
    json_close(&w, ']');
    struct json *j = json_parse(json_writer_text(&w), 0, &arena, &err), *c;
    ck_assert(j);
    c = j->first;
    for (size_t i = 0; i < ARRAY_LEN(values); i++, c = c->next) {
        double d;
        ck_assert(json_double(c, &d) && d == values[i]);
    }
    ck_assert(str_eq(json_str(c), STR("NaN")));
    ck_assert(str_eq(json_str(c->next), STR("-Infinity")));
    ck_assert(str_eq(c->next->next->text, STR("0.1")));
    ck_assert(str_eq(json_str(c->next->next->next), STR("Infinity")));
    json_writer_cleanup(&w);
}
END_TEST

START_TEST(test_escape)
{
    char out[64];
    struct str bad = STR("a\xff\xc3(\"\n");
    size_t n = json_escape(bad, out, sizeof(out));
    ck_assert(str_eq(str_n(out, n), STR("a\xef\xbf\xbd\xef\xbf\xbd(\\\"\\n")));
    /* nothing is written beyond the end */
    memset(out, 'x', sizeof(out));
    ck_assert_uint_eq(json_escape(bad, out, 5), n);
    ck_assert(out[5] == 'x');
    ck_assert_uint_eq(json_escape(bad, NULL, 0), n);
    ck_assert_uint_eq(json_escape(STR_NULL, out, 4), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/json");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_values);
    tcase_add_test(tc, test_strings);
    tcase_add_test(tc, test_bad);
    tcase_add_test(tc, test_trailing_commas);
    tcase_add_test(tc, test_duplicates);
    tcase_add_test(tc, test_depth);
    tcase_add_test(tc, test_access);
    tcase_add_test(tc, test_writer);
    tcase_add_test(tc, test_deep_writer);
    tcase_add_test(tc, test_numbers);
    tcase_add_test(tc, test_escape);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
