/* Listeners by address: exactly it, else the wildcard of its port. */
#include "proxy/listener/addr_index.h"

#include <check.h>
#include <stdlib.h>

static struct addr_index x;

static struct addr at(const char *text)
{
    struct addr a;
    if (text[0] == '/' || text[0] == '@')
        ck_assert(addr_parse_pipe(str_of(text), &a));
    else
        ck_assert(addr_parse_ip_port(str_of(text), &a));
    return a;
}

/* Values are their own texts. */
static void put(const char *text)
{
    struct addr a = at(text);
    (void)addr_index_put(&x, &a, (void *)(uintptr_t)text);
}

static const char *cover(const char *text)
{
    struct addr a = at(text);
    const char *found = addr_index_cover(&x, &a);
    return found ? found : "none";
}

static void setup(void)
{
    addr_index_init(&x);
}

static void teardown(void)
{
    addr_index_cleanup(&x);
}

START_TEST(exact_then_wildcard)
{
    put("10.0.0.1:80");
    put("0.0.0.0:80");
    put("[::]:80");
    put("[::]:81");
    put("[2001:db8::1]:80");
    put("/a");
    put("@a");
    ck_assert_str_eq(cover("10.0.0.1:80"), "10.0.0.1:80");
    ck_assert_str_eq(cover("10.0.0.2:80"), "0.0.0.0:80");
    ck_assert_str_eq(cover("10.0.0.2:81"), "[::]:81"); /* IPv6's stands in for IPv4's */
    ck_assert_str_eq(cover("10.0.0.1:82"), "none");
    ck_assert_str_eq(cover("[2001:db8::1]:80"), "[2001:db8::1]:80");
    ck_assert_str_eq(cover("[2001:db8::2]:80"), "[::]:80");
    ck_assert_str_eq(cover("[2001:db8::2]:82"), "none");
    ck_assert_str_eq(cover("/a"), "/a");
    ck_assert_str_eq(cover("@a"), "@a");
    ck_assert_str_eq(cover("/b"), "none");
}
END_TEST

START_TEST(scope_is_part_of_it)
{
    put("[fe80::1%1]:80");
    ck_assert_str_eq(cover("[fe80::1%1]:80"), "[fe80::1%1]:80");
    ck_assert_str_eq(cover("[fe80::1%2]:80"), "none");
    ck_assert_str_eq(cover("[fe80::1]:80"), "none");
}
END_TEST

START_TEST(only_its_own_is_removed)
{
    struct addr a = at("10.0.0.1:80");
    int one, two;
    ck_assert_ptr_null(addr_index_put(&x, &a, &one));
    ck_assert_ptr_eq(addr_index_put(&x, &a, &two), &one);
    addr_index_remove(&x, &a, &one);
    ck_assert_ptr_eq(addr_index_get(&x, &a), &two);
    addr_index_remove(&x, &a, &two);
    ck_assert_ptr_null(addr_index_get(&x, &a));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("addr_index");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, exact_then_wildcard);
    tcase_add_test(t, scope_is_part_of_it);
    tcase_add_test(t, only_its_own_is_removed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
