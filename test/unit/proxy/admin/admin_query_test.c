#include "proxy/admin/admin_query.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct arena arena;
static struct admin_query query;

static void setup(void)
{
    arena_init(&arena, 0);
}

static void teardown(void)
{
    arena_cleanup(&arena);
}

/* The parameters as "name=value;..." */
static const char *parse(const char *text, bool form)
{
    static char out[1024];
    size_t len = 0;
    ck_assert(admin_query_parse(&query, str_of(text), form, &arena));
    out[0] = '\0';
    for (size_t i = 0; i < query.num; i++)
        len += (size_t)snprintf(out + len, sizeof(out) - len, "%.*s=%.*s;",
                                STR_ARG(query.params[i].name), STR_ARG(query.params[i].value));
    return out;
}

static const struct {
    const char *text, *want;
} cases[] = {
    {"", ""},
    {"a", "a=;"},
    {"a=", "a=;"},
    {"a=1&b&c=2", "a=1;b=;c=2;"},
    {"&&a=1&", "a=1;"},
    {"=x", "=x;"},
    {"a=b=c", "a=b=c;"},
    {"a=%28x%29", "a=(x);"},
    {"a%3db=1", "a=b=1;"},
    {"a=%26&b", "a=&;b=;"},
    /* what is no escape stays */
    {"a=%", "a=%;"},
    {"a=%4", "a=%4;"},
    {"a=%zz%4g%g4", "a=%zz%4g%g4;"},
    {"a=%25%32%38", "a=%28;"},
    {"a=x+y", "a=x+y;"},
    /* as pilot-agent sends it */
    {"usedonly&filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|"
     "update_rejected)$",
     "usedonly=;filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|"
     "update_rejected)$;"},
};

START_TEST(test_parse)
{
    ck_assert_str_eq(parse(cases[_i].text, false), cases[_i].want);
}
END_TEST

START_TEST(test_form)
{
    ck_assert_str_eq(parse("level=a+b%2Bc", true), "level=a b+c;");
}
END_TEST

START_TEST(test_the_first_of_a_name)
{
    struct str value = STR("untouched");
    (void)parse("filter=&filter=x", false);
    ck_assert(!admin_query_get(&query, "filte", &value));
    ck_assert(str_eq(value, STR("untouched")));
    ck_assert(admin_query_get(&query, "filter", &value));
    ck_assert_uint_eq(value.len, 0);
    ck_assert(admin_query_get(&query, "filter", NULL));
}
END_TEST

START_TEST(test_zero_bytes_are_bytes)
{
    struct str value;
    (void)parse("a=%00%ff", false);
    ck_assert(admin_query_get(&query, "a", &value));
    ck_assert(str_eq(value, str_n("\0\xff", 2)));
}
END_TEST

START_TEST(test_too_many)
{
    char text[2 * ADMIN_PARAMS_MAX + 2];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = i % 2 ? '&' : 'a';
    ck_assert(admin_query_parse(&query, str_n(text, 2 * ADMIN_PARAMS_MAX - 1), false, &arena));
    ck_assert_uint_eq(query.num, ADMIN_PARAMS_MAX);
    ck_assert(!admin_query_parse(&query, str_n(text, 2 * ADMIN_PARAMS_MAX), false, &arena));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/admin/admin_query");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_parse, 0, ARRAY_LEN(cases));
    tcase_add_test(tc, test_form);
    tcase_add_test(tc, test_the_first_of_a_name);
    tcase_add_test(tc, test_zero_bytes_are_bytes);
    tcase_add_test(tc, test_too_many);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
