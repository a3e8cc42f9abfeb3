#include "base/hash.h"

#include <check.h>
#include <stdlib.h>

/* Reference values of XXH64, seed 0 and another. */
START_TEST(test_xxh64_is_the_standard_one)
{
    ck_assert_uint_eq(hash_xxh64("", 0, 0), 0xef46db3751d8e999u);
    ck_assert_uint_eq(hash_xxh64(NULL, 0, 0), 0xef46db3751d8e999u);
    ck_assert_uint_eq(hash_xxh64("abc", 3, 0), 0x44bc2cf5ad770999u);
    ck_assert_uint_ne(hash_xxh64("abc", 3, 1), hash_xxh64("abc", 3, 0));
}
END_TEST

START_TEST(test_table_hash)
{
    ck_assert_uint_eq(hash_str(STR("abc")), hash_bytes("abc", 3));
    ck_assert_uint_ne(hash_str(STR("abc")), hash_str(STR("abd")));
    ck_assert_uint_eq(hash_str(STR_NULL), hash_str(STR("")));
}
END_TEST

START_TEST(test_combine_depends_on_order)
{
    ck_assert_uint_ne(hash_combine(hash_combine(0, 1), 2), hash_combine(hash_combine(0, 2), 1));
    ck_assert_uint_ne(hash_combine(0, 0), 0);
    ck_assert_uint_ne(hash_mix(1), hash_mix(2));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/hash");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_xxh64_is_the_standard_one);
    tcase_add_test(tc, test_table_hash);
    tcase_add_test(tc, test_combine_depends_on_order);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
