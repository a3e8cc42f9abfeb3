/* gRPC's paths and messages, and base64, in any pieces. */
#include "proxy/filters/grpc_frames.h"

#include "base/base64.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(paths)
{
    static const struct {
        const char *path, *service, *method;
    } rows[] = {
        {"/a.B/C", "a.B", "C"}, {"/a.B/C?x=/1", "a.B", "C"}, {"/a", NULL, NULL},
        {"/a/b/c", NULL, NULL}, {"//c", NULL, NULL},         {"/a/", NULL, NULL},
        {"", NULL, NULL},       {"a/b", NULL, NULL},         {"/", NULL, NULL},
    };
    struct str service, method;
    bool ok = grpc_path_split(str_of(rows[_i].path), &service, &method);
    ck_assert_int_eq(ok, rows[_i].service != NULL);
    if (ok) {
        ck_assert(str_eq(service, str_of(rows[_i].service)));
        ck_assert(str_eq(method, str_of(rows[_i].method)));
    }
}
END_TEST

/* Three messages, of 5, 0 and 300 bytes. */
static void fill(struct buffer *b)
{
    char body[300] = {0};
    buffer_init(b);
    buffer_add(b, "\0\0\0\0\005hello\0\0\0\0\0\1\0\0\1\054", 20);
    buffer_add(b, body, sizeof(body));
}

START_TEST(frames_in_pieces)
{
    struct buffer all, part;
    struct grpc_frames g = {0};
    uint64_t n = 0;
    fill(&all);
    while (all.len) {
        buffer_init(&part);
        buffer_move(&part, &all, (size_t)_i);
        n += grpc_frames_inspect(&g, &part);
        buffer_cleanup(&part);
    }
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(g.count, 3);
    ck_assert_uint_eq(g.have, 0);
}
END_TEST

START_TEST(a_message_counts_from_its_first_byte)
{
    struct buffer b;
    struct grpc_frames g = {0};
    buffer_init(&b);
    buffer_add(&b, "\0\0\0", 3);
    ck_assert_uint_eq(grpc_frames_inspect(&g, &b), 1);
    buffer_cleanup(&b);
    buffer_add(&b, "\0\7data", 6);
    ck_assert_uint_eq(grpc_frames_inspect(&g, &b), 0);
    ck_assert_uint_eq(g.left, 3);
    buffer_cleanup(&b);
}
END_TEST

START_TEST(rest_ends_with_the_message)
{
    struct buffer all, part;
    struct grpc_frames g = {0};
    size_t ends[8], n = 0, at = 0;
    fill(&all);
    while (all.len) {
        size_t len = grpc_frames_rest(&g, &all);
        ck_assert_uint_gt(len, 0);
        buffer_init(&part);
        buffer_move(&part, &all, len);
        (void)grpc_frames_inspect(&g, &part);
        buffer_cleanup(&part);
        at += len;
        if (g.have == 0)
            ends[n++] = at;
    }
    ck_assert_uint_eq(n, 3);
    ck_assert(ends[0] == 10 && ends[1] == 15 && ends[2] == 320);
}
END_TEST

START_TEST(base64)
{
    static const struct {
        const char *plain, *coded;
    } rows[] = {{"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"\xff\xef\xbe", "/+++"}};
    static const char *const bad[] = {
        "====", "Z===", "Zg=A", "Zh==", "Zm9=", "Z?==", "=AAA", "A\0AA", "Zg =", "AA\n="};
    char out[8];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i].plain);
        ck_assert_uint_eq(base64_write(rows[i].plain, len, out), 4);
        ck_assert_mem_eq(out, rows[i].coded, 4);
        ck_assert_int_eq(base64_group(rows[i].coded, out), (int)len);
        ck_assert_mem_eq(out, rows[i].plain, len);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_int_eq(base64_group(bad[i], out), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grpc_frames");
    TCase *tc = tcase_create("all");
    tcase_add_loop_test(tc, paths, 0, 9);
    tcase_add_loop_test(tc, frames_in_pieces, 1, 12);
    tcase_add_test(tc, a_message_counts_from_its_first_byte);
    tcase_add_test(tc, rest_ends_with_the_message);
    tcase_add_test(tc, base64);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
