#include "base/base64.h"

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

/* RFC 4648 section 10, and the ends of the alphabet. */
static const struct {
    const char *plain, *coded;
} cases[] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xfb\xff\xbf", "+/+/"},
};

START_TEST(test_both_ways)
{
    struct str plain = str_of(cases[_i].plain), coded = str_of(cases[_i].coded), got;
    ck_assert(str_eq(base64_encode(&arena, plain), coded));
    ck_assert(base64_decode(&arena, coded, &got));
    ck_assert(str_eq(got, plain));
}
END_TEST

static const char *const bad[] = {"Z",    "Zg",   "Zg=",      "Zg===", "Z===", "====",   "Zh==",
                                  "Zm9=", "Z=g=", "Zg==Zg==", "Zm 9",  "Zm9-", "Zm9v\n", "=Zm9"};

START_TEST(test_malformed)
{
    struct str got;
    ck_assert(!base64_decode(&arena, str_of(bad[_i]), &got));
}
END_TEST

START_TEST(test_all_bytes)
{
    char bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        struct str got, s = str_n(bytes, len);
        ck_assert(base64_decode(&arena, base64_encode(&arena, s), &got));
        ck_assert(str_eq(got, s));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base64");
    TCase *t = tcase_create("base64");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_both_ways, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_loop_test(t, test_malformed, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(t, test_all_bytes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
