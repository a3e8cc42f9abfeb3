#include "base/alloc.h"
#include "base/str.h"

#include <check.h>
#include <stdlib.h>

START_TEST(test_compare)
{
    ck_assert(str_eq(STR_NULL, STR("")));
    ck_assert(!str_eq(STR("a"), STR("b")));
    ck_assert(str_ieq(STR("Content-Type"), STR("content-tYPE")));
    ck_assert(!str_ieq(STR("a"), STR("ab")));
    ck_assert(!str_ieq(STR("@"), STR("`"))); /* 0x40 and 0x60 are not letters */
    ck_assert_int_lt(str_cmp(STR("a"), STR("ab")), 0);
    ck_assert_int_gt(str_cmp(STR("b"), STR("ab")), 0);
    ck_assert_int_gt(str_cmp(STR("\xff"), STR("a")), 0);
    ck_assert_int_eq(str_cmp(STR(""), STR_NULL), 0);
}
END_TEST

START_TEST(test_search)
{
    ck_assert(str_starts(STR("abc"), STR("ab")));
    ck_assert(!str_starts(STR("a"), STR("ab")));
    ck_assert(str_starts(STR_NULL, STR("")));
    ck_assert(str_istarts(STR("Bearer x"), STR("bearer ")));
    ck_assert(!str_istarts(STR("Bear"), STR("bearer")));
    ck_assert(str_ends(STR("abc"), STR("bc")));
    ck_assert(!str_ends(STR("bc"), STR("abc")));
    ck_assert(str_ends(STR_NULL, STR("")));
    ck_assert_int_eq(str_chr(STR("abc"), 'c'), 2);
    ck_assert_int_eq(str_chr(STR("abc"), 'd'), -1);
    ck_assert_int_eq(str_chr(STR_NULL, 'd'), -1);
    ck_assert_int_eq(str_find(STR("aabab"), STR("bab")), 2);
    ck_assert_int_eq(str_find(STR("aaba"), STR("bab")), -1);
    ck_assert_int_eq(str_find(STR("x"), STR("xx")), -1);
    ck_assert_int_eq(str_find(STR_NULL, STR("")), 0);
}
END_TEST

START_TEST(test_trim)
{
    ck_assert(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
    ck_assert_uint_eq(str_trim(STR(" \t ")).len, 0);
    ck_assert(str_eq(str_trim(STR("\r\na")), STR("\r\na")));
}
END_TEST

START_TEST(test_next)
{
    struct str rest = STR("a,,b,"), tok;
    ck_assert(str_next(&rest, ',', &tok) && str_eq(tok, STR("a")));
    ck_assert(str_next(&rest, ',', &tok) && tok.len == 0);
    ck_assert(str_next(&rest, ',', &tok) && str_eq(tok, STR("b")));
    ck_assert(str_next(&rest, ',', &tok) && tok.len == 0);
    ck_assert(!str_next(&rest, ',', &tok));
    rest = STR_NULL;
    ck_assert(!str_next(&rest, ',', &tok));
}
END_TEST

START_TEST(test_numbers)
{
    uint64_t u = 7;
    int64_t i = 7;
    ck_assert(str_to_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
    ck_assert(!str_to_u64(STR("18446744073709551616"), &u));
    ck_assert(!str_to_u64(STR("99999999999999999999"), &u));
    ck_assert(str_to_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
    ck_assert(str_to_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
    ck_assert(!str_to_i64(STR("9223372036854775808"), &i));
    ck_assert(!str_to_i64(STR("-9223372036854775809"), &i));
    static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "1x", "0x1", "--1", "1.0"};
    for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
        ck_assert_msg(!str_to_u64(str_of(bad[k]), &u), "%s", bad[k]);
        ck_assert_msg(!str_to_i64(str_of(bad[k]), &i), "%s", bad[k]);
    }
    ck_assert(!str_to_u64(STR("-1"), &u));
    ck_assert(!str_to_u64(STR("1\0"), &u));
}
END_TEST

START_TEST(test_double)
{
    double d = 0;
    ck_assert(str_to_double(STR("1.5"), &d) && d == 1.5);
    ck_assert(str_to_double(STR("-.25e1"), &d) && d == -2.5);
    ck_assert(str_to_double(STR("1E3"), &d) && d == 1000);
    ck_assert(str_to_double(STR("7."), &d) && d == 7);
    static const char *const bad[] = {"",    ".",  "e1", "1e",  "1e+",   "inf", "nan",
                                      "0x1", " 1", "1 ", "1,5", "1e999", "-"};
    for (size_t k = 0; k < ARRAY_LEN(bad); k++)
        ck_assert_msg(!str_to_double(str_of(bad[k]), &d), "%s", bad[k]);
    ck_assert(d == 7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/str");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_compare);
    tcase_add_test(tc, test_search);
    tcase_add_test(tc, test_trim);
    tcase_add_test(tc, test_next);
    tcase_add_test(tc, test_numbers);
    tcase_add_test(tc, test_double);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
