#include "proxy/filters/session_cookie.h"

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

static const struct {
    const char *value;
    uint64_t now;
    const char *want;
} cases[] = {
    /* as Envoy 1.40 wrote them */
    {"Cg8xMjcuMC4wLjE6NDM5NjM=", 0, "127.0.0.1:43963"},
    {"Cg8xMjcuMC4wLjE6NDY1NTEQ89mj2AY=", 0, "127.0.0.1:46551"},
    {"Cg8xMjcuMC4wLjE6NDY1NTEQ89mj2AY=", 1795747059, "127.0.0.1:46551"},
    {"Cg8xMjcuMC4wLjE6NDY1NTEQ89mj2AY=", 1795747060, ""},
    {"MTI3LjAuMC4xOjQzOTYz", 0, "127.0.0.1:43963"}, /* the older form */
    {"", 0, ""},
    {"!!!!", 0, ""},
    {"CgA=", 0, ""},
    {"EAU=", 0, ""},
};

START_TEST(test_read)
{
    struct str got = session_cookie_read(&arena, str_of(cases[_i].value), cases[_i].now);
    ck_assert_msg(str_eq(got, str_of(cases[_i].want)), "%s: %.*s", cases[_i].value, STR_ARG(got));
}
END_TEST

/* What is no message is taken for an address, which no host has. */
START_TEST(test_malformed)
{
    static const struct str bad[] = {{"\x0a\x05"
                                      "abc",
                                      5},
                                     {"\x0a", 1},
                                     {"\x10", 1},
                                     {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},
                                     {"\x1a\x01"
                                      "a",
                                      3}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str got = session_cookie_read(&arena, base64_encode(&arena, bad[i]), 0);
        ck_assert(str_eq(got, bad[i]));
    }
}
END_TEST

START_TEST(test_write)
{
    struct str address = STR("127.0.0.1:46551");
    ck_assert(str_eq(session_cookie_write(&arena, address, 1795747059),
                     STR("Cg8xMjcuMC4wLjE6NDY1NTEQ89mj2AY=")));
    for (unsigned bits = 1; bits < 64; bits++) {
        struct str v = session_cookie_write(&arena, address, 1ull << bits);
        ck_assert(str_eq(session_cookie_read(&arena, v, 1ull << bits), address));
        ck_assert(!session_cookie_read(&arena, v, (1ull << bits) + 1).len);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session_cookie");
    TCase *t = tcase_create("session_cookie");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, test_read, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(t, test_malformed);
    tcase_add_test(t, test_write);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
