#include "base/arena.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

START_TEST(test_alignment_and_contents)
{
    struct arena a;
    unsigned char *p[500];
    arena_init(&a, 64);
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        ck_assert_ptr_nonnull(arena_bytes(&a, 1 + i % 7));
        p[i] = arena_alloc(&a, 1 + i);
        ck_assert_uint_eq((uintptr_t)p[i] & 15, 0);
        memset(p[i], (int)(i & 0xff), 1 + i);
    }
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        for (size_t k = 0; k <= i; k++)
            ck_assert_uint_eq(p[i][k], i & 0xff);
    }
    arena_cleanup(&a);
    ck_assert_ptr_null(a.head);
    ck_assert_uint_eq(a.used, 0);
}
END_TEST

START_TEST(test_no_memory_before_use)
{
    struct arena a;
    arena_init(&a, 0);
    ck_assert_ptr_null(a.head);
    ck_assert_uint_eq(a.block_len, 1024);
    arena_reset(&a);
    arena_cleanup(&a);
}
END_TEST

START_TEST(test_zero_length)
{
    struct arena a;
    arena_init(&a, 0);
    ck_assert_ptr_nonnull(arena_bytes(&a, 0));
    ck_assert_ptr_nonnull(arena_alloc(&a, 0));
    ck_assert_uint_eq(arena_str(&a, STR_NULL).len, 0);
    arena_cleanup(&a);
}
END_TEST

START_TEST(test_reset_reuses_the_largest_block)
{
    struct arena a;
    arena_init(&a, 64);
    memset(arena_alloc(&a, 10), 1, 10);
    char *big = arena_alloc(&a, 100000);
    memset(big, 2, 100000);
    arena_reset(&a);
    ck_assert_uint_eq(a.used, 0);
    ck_assert_ptr_eq(arena_alloc(&a, 5), big);
    arena_reset(&a);
    ck_assert_ptr_eq(arena_alloc(&a, 90000), big);
    memset(big, 3, 90000);
    arena_cleanup(&a);
}
END_TEST

START_TEST(test_big_request_keeps_the_head)
{
    struct arena a;
    arena_init(&a, 1024);
    char *p = arena_bytes(&a, 10);
    memset(arena_bytes(&a, 5000), 1, 5000);
    ck_assert_ptr_eq(arena_bytes(&a, 10), p + 10);
    arena_cleanup(&a);
}
END_TEST

START_TEST(test_strings)
{
    struct arena *a = arena_new(0);
    struct str s = arena_str(a, STR("hello"));
    ck_assert_str_eq(s.p, "hello");
    ck_assert_str_eq(arena_strdup(a, "x"), "x");
    ck_assert_ptr_null(arena_strdup(a, NULL));
    s = arena_printf(a, "%d-%s", 42, "z");
    ck_assert_str_eq(s.p, "42-z");
    ck_assert_uint_eq(s.len, 4);
    s = arena_printf(a, "%0*d", 3000, 7);
    ck_assert_uint_eq(s.len, 3000);
    ck_assert_int_eq(s.p[2999], '7');
    ck_assert_int_eq(s.p[3000], '\0');
    s = arena_printf(a, "%0*d", 256, 7); /* one byte more than fits the first try */
    ck_assert_uint_eq(s.len, 256);
    ck_assert_int_eq(s.p[255], '7');
    arena_free(&a);
    ck_assert_ptr_null(a);
    arena_free(&a);
}
END_TEST

START_TEST(test_zalloc_after_reset_is_zero)
{
    struct arena a;
    arena_init(&a, 256);
    memset(arena_alloc(&a, 200), 0xff, 200);
    arena_reset(&a);
    unsigned char *p = arena_zalloc(&a, 200);
    for (int i = 0; i < 200; i++)
        ck_assert_uint_eq(p[i], 0);
    arena_cleanup(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/arena");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_alignment_and_contents);
    tcase_add_test(tc, test_no_memory_before_use);
    tcase_add_test(tc, test_zero_length);
    tcase_add_test(tc, test_reset_reuses_the_largest_block);
    tcase_add_test(tc, test_big_request_keeps_the_head);
    tcase_add_test(tc, test_strings);
    tcase_add_test(tc, test_zalloc_after_reset_is_zero);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
