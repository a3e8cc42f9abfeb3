#include "proxy/http/headers.h"

#include "base/alloc.h"
#include <check.h>
#include <stdlib.h>

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 0);
}

static void teardown(void)
{
    arena_cleanup(&arena);
}

static void expect_value(const struct headers *h, const char *name, const char *value)
{
    struct str got;
    bool found = headers_value(h, str_of(name), &arena, &got);
    ck_assert_msg(found == (value != NULL), "%s", name);
    if (value)
        ck_assert_msg(str_eq(got, str_of(value)), "%s: %.*s", name, STR_ARG(got));
}

START_TEST(every_known_name_is_found)
{
    static const struct str known[] = {
#define X(id, name) [HDR_##id] = {name, sizeof(name) - 1},
        HTTP_KNOWN_HEADERS(X)
#undef X
    };
    for (unsigned i = 0; i < HDR_NUM_KNOWN; i++)
        ck_assert_msg(header_id_of(known[i]) == i, "%s", known[i].p);
}
END_TEST

START_TEST(other_names_are_not_known)
{
    const char *other[] = {"",
                           "t",
                           "x",
                           "hosts",
                           "hosu",
                           "Host",
                           "cookie2",
                           "datf",
                           "x-envoy-foo",
                           "x-envoy-retry-onx",
                           "x-envoy-upstream-rq-per-try-timeout-mss"};
    for (size_t i = 0; i < ARRAY_LEN(other); i++)
        ck_assert_msg(header_id_of(str_of(other[i])) == HDR_OTHER, "%s", other[i]);
    char lengths[100];
    memset(lengths, 'x', sizeof(lengths));
    for (size_t n = 0; n <= sizeof(lengths); n++)
        ck_assert_int_eq(header_id_of(str_n(lengths, n)), HDR_OTHER);
}
END_TEST

START_TEST(fields_keep_their_order_and_first)
{
    struct headers h;
    headers_init(&h, &arena);
    ck_assert_ptr_null(headers_known(&h, HDR_COOKIE));
    headers_add(&h, STR("cookie"), STR("a"));
    headers_add(&h, STR("x"), STR("1"));
    headers_add(&h, STR("cookie"), STR("b"));
    headers_add(&h, STR("x"), STR(""));
    headers_add(&h, STR("cookie"), STR("c"));
    ck_assert_uint_eq(h.live, 5);
    expect_value(&h, "cookie", "a,b,c");
    expect_value(&h, "x", "1,");
    expect_value(&h, "y", NULL);
    headers_remove_at(&h, headers_known(&h, HDR_COOKIE));
    expect_value(&h, "cookie", "b,c");
    ck_assert(str_eq(headers_known(&h, HDR_COOKIE)->value, STR("b")));
    headers_remove_at(&h, headers_next(&h, headers_known(&h, HDR_COOKIE)));
    expect_value(&h, "cookie", "b");
    ck_assert(headers_remove_known(&h, HDR_COOKIE));
    ck_assert(!headers_remove_known(&h, HDR_COOKIE));
    expect_value(&h, "cookie", NULL);
    headers_add_known(&h, HDR_COOKIE, STR("d"));
    expect_value(&h, "cookie", "d");
    ck_assert(headers_remove(&h, STR("x")));
    ck_assert(!headers_remove(&h, STR("x")));
    ck_assert_uint_eq(h.live, 1);
}
END_TEST

START_TEST(set_replaces_the_first_and_drops_the_rest)
{
    struct headers h;
    headers_init(&h, &arena);
    headers_set_known(&h, HDR_VIA, STR("0"));
    headers_add(&h, STR("x"), STR("1"));
    headers_add(&h, STR("via"), STR("2"));
    headers_add(&h, STR("x"), STR("3"));
    headers_set(&h, STR("x"), STR("4"));
    headers_set(&h, STR("via"), STR("5"));
    headers_set(&h, STR("y"), STR("6"));
    expect_value(&h, "via", "5");
    expect_value(&h, "x", "4");
    expect_value(&h, "y", "6");
    ck_assert_uint_eq(h.live, 3);
    ck_assert(str_eq(h.v[0].value, STR("5")));
}
END_TEST

START_TEST(pseudo_headers_are_found_by_name)
{
    struct headers h;
    headers_init(&h, &arena);
    const char *names[] = {":method", ":path", ":authority", ":scheme",
                           ":status", "host",  ":x",         ":"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        expect_value(&h, names[i], NULL);
    h.method = STR("GET");
    h.path = STR("/p");
    h.authority = STR("");
    h.scheme = STR("http");
    h.status = 204;
    expect_value(&h, ":method", "GET");
    expect_value(&h, ":path", "/p");
    expect_value(&h, ":authority", "");
    expect_value(&h, "host", "");
    expect_value(&h, ":scheme", "http");
    expect_value(&h, ":status", "204");
    expect_value(&h, ":x", NULL);
}
END_TEST

START_TEST(a_copy_stands_alone)
{
    struct arena other;
    arena_init(&other, 0);
    struct headers h, c;
    headers_init(&h, &other);
    headers_add(&h, arena_str(&other, STR("x-a")), arena_str(&other, STR("1")));
    headers_add_known(&h, HDR_VIA, arena_str(&other, STR("v")));
    headers_add_known(&h, HDR_COOKIE, STR("gone"));
    headers_remove_known(&h, HDR_COOKIE);
    h.path = arena_str(&other, STR("/p"));
    h.minor = 1;
    h.bytes = 7;
    headers_copy(&c, &h, &arena);
    arena_cleanup(&other);
    expect_value(&c, "x-a", "1");
    expect_value(&c, "via", "v");
    expect_value(&c, "cookie", NULL);
    expect_value(&c, ":path", "/p");
    expect_value(&c, ":method", NULL);
    ck_assert_uint_eq(c.n, 2);
    ck_assert_uint_eq(c.minor, 1);
    ck_assert_uint_eq(c.bytes, 7);
}
END_TEST

/* Random operations against the plainest list there is. */
START_TEST(first_stays_right)
{
    static const char *const names[] = {"via", "cookie", "x-a", "x-b", "date"};
    srand(5);
    for (int round = 0; round < 300; round++) {
        struct headers h;
        headers_init(&h, &arena);
        for (int i = 0; i < 60; i++) {
            struct str name = str_of(names[rand() % 5]);
            switch (rand() % 4) {
            case 0:
            case 1:
                headers_add(&h, name, STR("v"));
                break;
            case 2:
                if (h.n)
                    headers_remove_at(&h, &h.v[(uint32_t)rand() % h.n]);
                break;
            case 3:
                if (rand() % 4 == 0)
                    headers_set(&h, name, STR("s"));
                break;
            }
            uint32_t live = 0;
            struct header *first = NULL;
            HEADERS_FOREACH(f, &h) {
                live++;
                if (!first && str_eq(f->name, name))
                    first = f;
            }
            ck_assert_uint_eq(live, h.live);
            ck_assert_ptr_eq(headers_find(&h, name), first);
        }
        arena_reset(&arena);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/http/headers");
    TCase *t = tcase_create("headers");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_known_name_is_found);
    tcase_add_test(t, other_names_are_not_known);
    tcase_add_test(t, fields_keep_their_order_and_first);
    tcase_add_test(t, set_replaces_the_first_and_drops_the_rest);
    tcase_add_test(t, pseudo_headers_are_found_by_name);
    tcase_add_test(t, a_copy_stands_alone);
    tcase_add_test(t, first_stays_right);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
