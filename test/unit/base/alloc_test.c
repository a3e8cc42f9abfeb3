#include "base/alloc.h"

#include <check.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

START_TEST(test_zero_bytes_is_a_pointer)
{
    void *p = mem_alloc(0), *q = mem_zalloc(0);
    ck_assert_ptr_nonnull(p);
    ck_assert_ptr_nonnull(q);
    mem_free(p);
    mem_free(q);
    mem_free(NULL);
}
END_TEST

START_TEST(test_grow_array_doubles)
{
    size_t cap = 0;
    int *a = NULL;
    for (size_t i = 0; i < 1000; i++) {
        a = mem_grow_array(a, &cap, i + 1, sizeof(*a));
        ck_assert_uint_ge(cap, i + 1);
        a[i] = (int)i;
    }
    ck_assert_uint_eq(cap, 1024);
    ck_assert_int_eq(a[777], 777);
    int *same = mem_grow_array(a, &cap, 1000, sizeof(*a));
    ck_assert_ptr_eq(same, a);
    mem_free(a);
}
END_TEST

START_TEST(test_strdup)
{
    ck_assert_ptr_null(mem_strdup(NULL));
    char *s = mem_strdup("abc"), *t = mem_strndup("abcdef", 3), *u = mem_strndup(NULL, 0);
    ck_assert_str_eq(s, "abc");
    ck_assert_str_eq(t, "abc");
    ck_assert_str_eq(u, "");
    mem_free(s);
    mem_free(t);
    mem_free(u);
}
END_TEST

START_TEST(test_grow_array_overflow_aborts)
{
    size_t cap = 0;
    void *p = mem_grow_array(NULL, &cap, SIZE_MAX / 4, 64);
    mem_free(p);
}
END_TEST

START_TEST(test_check_aborts)
{
    CHECK(1 + 1 == 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/alloc");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_zero_bytes_is_a_pointer);
    tcase_add_test(tc, test_grow_array_doubles);
    tcase_add_test(tc, test_strdup);
    tcase_add_test_raise_signal(tc, test_grow_array_overflow_aborts, SIGABRT);
    tcase_add_test_raise_signal(tc, test_check_aborts, SIGABRT);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
