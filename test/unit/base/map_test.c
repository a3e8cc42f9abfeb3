#include "base/map.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int freed;
static void count_free(void *v)
{
    freed++;
    mem_free(v);
}

static struct str key_of(char *buf, unsigned i)
{
    return str_n(buf, (size_t)snprintf(buf, 32, "key-%u", i));
}

START_TEST(test_put_get_remove)
{
    struct map m;
    char k[32];
    int a = 1, b = 2;
    map_init(&m, true);
    ck_assert_ptr_null(map_get(&m, STR("x")));
    ck_assert_ptr_null(map_remove(&m, STR("x")));
    ck_assert_ptr_null(map_put(&m, key_of(k, 1), &a));
    memset(k, 'z', sizeof(k)); /* the key was copied */
    ck_assert_ptr_eq(map_get(&m, STR("key-1")), &a);
    ck_assert_ptr_eq(map_put(&m, STR("key-1"), &b), &a);
    ck_assert_uint_eq(map_count(&m), 1);
    ck_assert_ptr_eq(map_remove(&m, STR("key-1")), &b);
    ck_assert_ptr_null(map_get(&m, STR("key-1")));
    ck_assert_ptr_null(map_remove(&m, STR("key-1")));
    ck_assert_ptr_null(map_put(&m, STR(""), &a));
    ck_assert_ptr_eq(map_get(&m, STR_NULL), &a);
    map_cleanup(&m, NULL);
    ck_assert_uint_eq(map_count(&m), 0);
    ck_assert_ptr_null(map_get(&m, STR("")));
}
END_TEST

START_TEST(test_many_with_churn)
{
    struct map m;
    char k[32];
    enum { N = 5000 };
    map_init(&m, true);
    for (unsigned i = 0; i < N; i++)
        ck_assert_ptr_null(map_put(&m, key_of(k, i), (void *)(uintptr_t)(i + 1)));
    for (unsigned i = 0; i < N; i += 3)
        ck_assert_uint_eq((uintptr_t)map_remove(&m, key_of(k, i)), i + 1);
    for (unsigned i = 0; i < N; i++)
        ck_assert_uint_eq((uintptr_t)map_get(&m, key_of(k, i)), i % 3 ? i + 1 : 0);
    size_t slots = m.num_slots, entries = m.cap_entries;
    /* Put and remove at a constant size for ever: the tables must not grow. */
    for (unsigned i = 0; i < 4 * N; i++) {
        ck_assert_ptr_null(map_put(&m, key_of(k, N + i), &m));
        ck_assert_ptr_eq(map_remove(&m, key_of(k, N + i)), &m);
    }
    ck_assert_uint_le(m.num_slots, slots);
    ck_assert_uint_le(m.cap_entries, entries * 2);
    for (unsigned i = 0; i < N; i++)
        ck_assert_uint_eq((uintptr_t)map_get(&m, key_of(k, i)), i % 3 ? i + 1 : 0);
    map_cleanup(&m, NULL);
}
END_TEST

START_TEST(test_iterates_in_order_and_allows_removal)
{
    struct map m;
    struct str key;
    void *value;
    size_t it = 0;
    char k[32];
    map_init(&m, true);
    for (unsigned i = 0; i < 100; i++)
        (void)map_put(&m, key_of(k, i), (void *)(uintptr_t)(i + 1));
    for (unsigned i = 0; i < 100; i++) {
        ck_assert(map_next(&m, &it, &key, &value));
        ck_assert_uint_eq((uintptr_t)value, i + 1);
        ck_assert(str_eq(key, key_of(k, i)));
        if (i % 2)
            ck_assert_ptr_eq(map_remove(&m, key), value);
    }
    ck_assert(!map_next(&m, &it, &key, &value));
    ck_assert_uint_eq(map_count(&m), 50);
    it = 0;
    for (unsigned i = 0; i < 100; i += 2)
        ck_assert(map_next(&m, &it, NULL, &value) && (uintptr_t)value == i + 1);
    ck_assert(!map_next(&m, &it, NULL, NULL));
    map_cleanup(&m, NULL);
}
END_TEST

START_TEST(test_cleanup_frees_live_values_only)
{
    struct map m;
    map_init(&m, false);
    freed = 0;
    (void)map_put(&m, STR("a"), mem_alloc(1));
    (void)map_put(&m, STR("b"), mem_alloc(1));
    mem_free(map_remove(&m, STR("a")));
    map_cleanup(&m, count_free);
    ck_assert_int_eq(freed, 1);
}
END_TEST

START_TEST(test_abort_null_value)
{
    struct map m;
    map_init(&m, false);
    (void)map_put(&m, STR("a"), NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base/map");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, test_put_get_remove);
    tcase_add_test(tc, test_many_with_churn);
    tcase_add_test(tc, test_iterates_in_order_and_allows_removal);
    tcase_add_test(tc, test_cleanup_frees_live_values_only);
    tcase_add_test_raise_signal(tc, test_abort_null_value, SIGABRT);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
