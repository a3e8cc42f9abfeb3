#include "proxy/http/h2_guard.h"

#include <check.h>
#include <stdlib.h>

static struct http2_options options;
static struct h2_guard guard;
static uint32_t stat;

static void setup(void)
{
    http2_options_default(&options);
    h2_guard_init(&guard, &options, 1000, 0);
}

static bool frame(uint8_t type, uint8_t flags, uint32_t length)
{
    struct h2_frame f = {.type = type, .flags = flags, .length = length, .stream = 1};
    return h2_guard_frame(&guard, &f, &stat);
}

START_TEST(headers_of_frames)
{
    static const uint8_t bytes[] = {0x01, 0x02, 0x03, 9, 4, 0x80, 0, 1, 2};
    struct h2_frame f = h2_frame_parse(bytes);
    ck_assert_uint_eq(f.length, 0x010203);
    ck_assert(f.type == H2_CONTINUATION && f.flags == H2_FLAG_END_HEADERS && f.stream == 0x102);
}
END_TEST

START_TEST(empty_frames)
{
    ck_assert(frame(H2_DATA, 0, 0));
    ck_assert(frame(H2_DATA, 0, 1)); /* starts the count again */
    ck_assert(frame(H2_DATA, 0, 0));
    ck_assert(frame(H2_DATA, H2_FLAG_END_STREAM, 0));
    ck_assert(frame(H2_DATA, 0, 0));
    ck_assert(!frame(H2_DATA, 0, 0));
    ck_assert_uint_eq(stat, H2_EMPTY_FRAMES_FLOOD);
}
END_TEST

START_TEST(padding_is_nothing)
{
    struct h2_frame f = {.type = H2_DATA, .flags = H2_FLAG_PADDED, .length = 8, .padding = 7};
    ck_assert(h2_guard_frame(&guard, &f, &stat));
    ck_assert(!h2_guard_frame(&guard, &f, &stat));
}
END_TEST

START_TEST(continuations)
{
    for (int round = 0; round < 3; round++) {
        ck_assert(frame(H2_HEADERS, 0, 10));
        for (int i = 0; i < 8; i++)
            ck_assert(frame(H2_CONTINUATION, 0, 10));
    }
    ck_assert(!frame(H2_CONTINUATION, 0, 10));
    ck_assert_uint_eq(stat, H2_TOO_MANY_HEADER_FRAMES);
}
END_TEST

START_TEST(bytes_of_a_block)
{
    ck_assert(frame(H2_HEADERS, 0, 600));
    ck_assert(frame(H2_CONTINUATION, 0, 400));
    ck_assert(!frame(H2_CONTINUATION, 0, 1));
}
END_TEST

START_TEST(priorities)
{
    guard.streams = 1;
    for (int i = 0; i < 200; i++)
        ck_assert(frame(H2_PRIORITY, 0, 5));
    ck_assert(!frame(H2_PRIORITY, 0, 5));
    ck_assert_uint_eq(stat, H2_PRIORITY_FLOOD);
}
END_TEST

START_TEST(window_updates)
{
    guard.streams = 2;
    guard.data_sent = 3;
    for (int i = 0; i < 5 + 2 * (2 + 10 * 3); i++)
        ck_assert(frame(H2_WINDOW_UPDATE, 0, 4));
    ck_assert(!frame(H2_WINDOW_UPDATE, 0, 4));
    ck_assert_uint_eq(stat, H2_WINDOW_UPDATE_FLOOD);
}
END_TEST

START_TEST(resets)
{
    for (int i = 0; i < 1000; i++)
        ck_assert(h2_guard_reset(&guard, 0));
    ck_assert(!h2_guard_reset(&guard, 999));
    for (int i = 0; i < 33; i++)
        ck_assert(h2_guard_reset(&guard, 1000));
    ck_assert(!h2_guard_reset(&guard, 1000));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("h2_guard");
    TCase *t = tcase_create("h2_guard");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, headers_of_frames);
    tcase_add_test(t, empty_frames);
    tcase_add_test(t, padding_is_nothing);
    tcase_add_test(t, continuations);
    tcase_add_test(t, bytes_of_a_block);
    tcase_add_test(t, priorities);
    tcase_add_test(t, window_updates);
    tcase_add_test(t, resets);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
