#include "base/buffer.h"

#include <check.h>
#include <stdlib.h>

static char *model;
static size_t model_len;

static void same(const struct buffer *b)
{
    ck_assert_uint_eq(b->len, model_len);
    char *got = mem_alloc(model_len + 1);
    ck_assert_uint_eq(buffer_copy_out(b, 0, got, model_len + 1), model_len);
    ck_assert(model_len == 0 || memcmp(got, model, model_len) == 0);
    mem_free(got);
}

/* Random operations against a flat copy. */
START_TEST(a_buffer_keeps_its_bytes_in_order)
{
    srand(3);
    struct buffer b, from;
    buffer_init(&b);
    buffer_init(&from);
    enum { MAX = 4 << 20 };
    model = mem_alloc(MAX);
    model_len = 0;
    static char bytes[100000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(rand() % 256);
    for (int i = 0; i < 3000; i++) {
        size_t n = (size_t)rand() % (rand() % 3 ? 300 : 40000);
        const char *p = bytes + rand() % (int)(sizeof(bytes) - n);
        switch (rand() % 8) {
        case 7:
            buffer_fit(&b);
            break;
        case 0:
        case 1:
            if (model_len + n > MAX)
                break;
            buffer_add(&b, p, n);
            memcpy(model + model_len, p, n);
            model_len += n;
            break;
        case 2:
            if (model_len + n > MAX)
                break;
            buffer_prepend(&b, p, n);
            memmove(model + n, model, model_len);
            memcpy(model, p, n);
            model_len += n;
            break;
        case 3:
            buffer_drain(&b, n);
            n = n < model_len ? n : model_len;
            memmove(model, model + n, model_len - n);
            model_len -= n;
            break;
        case 4: {
            struct str s = buffer_pullup(&b, n);
            n = n < model_len ? n : model_len;
            ck_assert_uint_ge(s.len, n);
            ck_assert(s.len == 0 || memcmp(s.p, model, s.len) == 0);
            break;
        }
        case 5: {
            buffer_add(&from, p, n);
            size_t take = n ? (size_t)rand() % (n + 1) : 0;
            if (model_len + take > MAX)
                break;
            buffer_copy_out(&from, 0, model + model_len, take);
            ck_assert_uint_eq(buffer_move(&b, &from, take), take);
            model_len += take;
            break;
        }
        case 6: {
            size_t room;
            char *to = buffer_reserve(&b, 1 + n, &room);
            ck_assert_uint_ge(room, 1 + n);
            n = model_len + n > MAX ? 0 : n;
            memcpy(to, p, n);
            buffer_commit(&b, n);
            memcpy(model + model_len, p, n);
            model_len += n;
            break;
        }
        }
        if (i % 50 == 0)
            same(&b);
    }
    same(&b);
    buffer_cleanup(&b);
    buffer_cleanup(&from);
    buffer_free_list_trim();
    mem_free(model);
}
END_TEST

static int above, below;
static void on_above(void *arg)
{
    above++;
}
static void on_below(void *arg)
{
    below++;
}

START_TEST(watermarks_are_called_once_a_crossing)
{
    struct buffer b, other;
    buffer_init(&b);
    buffer_init(&other);
    above = below = 0;
    buffer_set_watermarks(&b, 100, on_above, on_below, NULL);
    static const char x[300];
    buffer_add(&b, x, 100);
    ck_assert_int_eq(above, 0);
    buffer_add(&b, x, 1);
    buffer_add(&b, x, 200);
    ck_assert_int_eq(above, 1);
    buffer_drain(&b, 250);
    ck_assert_int_eq(below, 0); /* 51 left: not yet at the low mark */
    buffer_move(&other, &b, 1);
    ck_assert_int_eq(below, 1);
    buffer_move(&b, &other, 1);
    buffer_add(&b, x, 60);
    ck_assert_int_eq(above, 2);
    buffer_cleanup(&b);
    buffer_cleanup(&other);
    buffer_free_list_trim();
}
END_TEST

START_TEST(a_drained_buffer_holds_no_block)
{
    struct buffer b;
    buffer_init(&b);
    buffer_add(&b, "abc", 3);
    ck_assert_ptr_nonnull(b.first);
    buffer_drain(&b, 3);
    ck_assert_ptr_null(b.first);
    size_t room;
    ck_assert_ptr_nonnull(buffer_reserve(&b, 1, &room));
    buffer_commit(&b, 0); /* a read that brought nothing */
    ck_assert_ptr_null(b.first);
    buffer_printf(&b, "%s %d", "n", 7);
    ck_assert(str_eq(buffer_peek(&b), STR("n 7")));
    buffer_cleanup(&b);
    buffer_free_list_trim();
}
END_TEST

START_TEST(waiting_bytes_hold_no_whole_block)
{
    struct buffer b;
    size_t room;
    buffer_init(&b);
    for (int i = 0; i < 200; i++) {
        buffer_add(&b, "x", 1);
        buffer_fit(&b);
    }
    (void)buffer_reserve(&b, 1, &room);
    ck_assert_uint_lt(room, 1024);
    ck_assert_uint_eq(b.len, 200);
    buffer_cleanup(&b);
    buffer_free_list_trim();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("buffer");
    TCase *t = tcase_create("buffer");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_buffer_keeps_its_bytes_in_order);
    tcase_add_test(t, watermarks_are_called_once_a_crossing);
    tcase_add_test(t, waiting_bytes_hold_no_whole_block);
    tcase_add_test(t, a_drained_buffer_holds_no_block);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
