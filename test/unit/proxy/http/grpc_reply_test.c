/* What a gRPC client and server are told: statuses, messages, time. */
#include "proxy/http/grpc_reply.h"

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

START_TEST(statuses)
{
    static const unsigned cases[][2] = {{400, 13}, {401, 16}, {403, 7}, {404, 12}, {429, 14},
                                        {503, 14}, {504, 14}, {408, 2}, {200, 2}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        ck_assert_uint_eq(grpc_status_of_http(cases[i][0]), cases[i][1]);
}
END_TEST

START_TEST(messages)
{
    struct str s = grpc_message_encode(&arena, STR("a b%\n\xc3\xa9~"));
    ck_assert_msg(str_eq(s, STR("a b%25%0A%C3%A9~")), "%.*s", STR_ARG(s));
}
END_TEST

/* At most eight digits; what does not fit is rounded down to the next unit, as Envoy does. */
START_TEST(timeouts)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {{0, "0m"},
                 {1, "1m"},
                 {99999999, "99999999m"},
                 {100000999, "100000S"},
                 {99999999999, "99999999S"},
                 {100000000000, "1666666M"},
                 {5999999940000, "99999999M"},
                 {6000000000000, "1666666H"},
                 {359999996400000, "99999999H"},
                 {UINT64_MAX, "99999999H"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str s = grpc_timeout_text(&arena, cases[i].ms);
        ck_assert_msg(str_eq(s, str_of(cases[i].text)), "%s: %.*s", cases[i].text, STR_ARG(s));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grpc_reply");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, statuses);
    tcase_add_test(t, messages);
    tcase_add_test(t, timeouts);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
