/* Each library through struct body_library, in pieces of any size: what goes in comes out, limits
 * hold inside the loop, and what is broken, cut off or followed by something is an error. */
#include "proxy/filters/body_codec.h"

#include "api-protos/message.h"
#include "envoy/extensions/compression/brotli/compressor/v3/brotli.pb-c.h"
#include "envoy/extensions/compression/brotli/decompressor/v3/brotli.pb-c.h"
#include "envoy/extensions/compression/gzip/compressor/v3/gzip.pb-c.h"
#include "envoy/extensions/compression/gzip/decompressor/v3/gzip.pb-c.h"
#include "envoy/extensions/compression/zstd/compressor/v3/zstd.pb-c.h"
#include "envoy/extensions/compression/zstd/decompressor/v3/zstd.pb-c.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { GZIP, BROTLI, ZSTD, NUM };
enum { NO_LIMIT = 1 << 30 };

static struct arena arena;
static struct errors errors;

static struct body_library *make(int which, bool compresses)
{
    static const struct body_library_ops *const ops[NUM][2] = {
        {&gzip_decompressor, &gzip_compressor},
        {&brotli_decompressor, &brotli_compressor},
        {&zstd_decompressor, &zstd_compressor},
    };
    const struct body_library_ops *o = ops[which][compresses];
    const ProtobufCMessageDescriptor *type = pb_find(str_of(o->type_name));
    ck_assert_ptr_nonnull(type);
    struct body_library *l = o->compile(&arena, pb_new(type, &arena), &errors);
    ck_assert_ptr_nonnull(l);
    ck_assert_ptr_eq(l->ops, o);
    return l;
}

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
    buffer_free_list_trim();
}

/* The same every time, half of it easy to compress. */
static void fill(struct buffer *b, size_t len)
{
    uint32_t x = 1;
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525 + 1013904223;
        char c = i / 64 % 2 ? 'a' : (char)(x >> 24);
        buffer_add(b, &c, 1);
    }
}

static void copy(struct buffer *to, const struct buffer *from, size_t off, size_t len)
{
    char *p = mem_alloc(len + 1);
    buffer_add(to, p, buffer_copy_out(from, off, p, len));
    mem_free(p);
}

static bool same(const struct buffer *a, const struct buffer *b)
{
    char *p = mem_alloc(a->len + 1), *q = mem_alloc(b->len + 1);
    bool eq = a->len == b->len && buffer_copy_out(a, 0, p, a->len) == a->len &&
              buffer_copy_out(b, 0, q, b->len) == b->len && memcmp(p, q, a->len) == 0;
    mem_free(p);
    mem_free(q);
    return eq;
}

/* Runs `in` through a codec of l in pieces; the result of the last piece that was looked at. */
static enum body_result pass(const struct body_library *l, const struct buffer *in, size_t piece,
                             bool end, size_t max, struct buffer *out, uint32_t *error)
{
    struct body_codec *c = l->ops->open(l);
    enum body_result r = BODY_OK;
    ck_assert_ptr_nonnull(c);
    for (size_t off = 0; r == BODY_OK && (off < in->len || off == 0); off += piece) {
        struct buffer part;
        buffer_init(&part);
        copy(&part, in, off, piece);
        r = l->ops->run(c, &part, out, end && off + piece >= in->len, max);
        if (r == BODY_OK)
            ck_assert_uint_eq(part.len, 0);
        buffer_cleanup(&part);
    }
    if (error)
        *error = c->error;
    body_codec_close(&c);
    ck_assert_ptr_null(c);
    return r;
}

static void pack(int which, const struct buffer *in, size_t piece, struct buffer *out)
{
    struct body_library *l = make(which, true);
    ck_assert_int_eq(pass(l, in, piece, true, 0, out, NULL), BODY_OK);
    body_library_free(l);
}

START_TEST(what_goes_in_comes_out)
{
    static const size_t lengths[] = {0, 1, 1000, 100000}, pieces[] = {7, 4096, 200000};
    for (size_t i = 0; i < ARRAY_LEN(lengths) * ARRAY_LEN(pieces); i++) {
        size_t len = lengths[i / ARRAY_LEN(pieces)], piece = pieces[i % ARRAY_LEN(pieces)];
        struct buffer in, packed, out;
        buffer_init(&in);
        buffer_init(&packed);
        buffer_init(&out);
        fill(&in, len);
        pack(_i, &in, piece < 100 && len > 5000 ? 777 : piece, &packed);
        struct body_library *l = make(_i, false);
        ck_assert_int_eq(pass(l, &packed, piece, true, NO_LIMIT, &out, NULL), BODY_OK);
        ck_assert(same(&in, &out));
        body_library_free(l);
        buffer_cleanup(&in);
        buffer_cleanup(&packed);
        buffer_cleanup(&out);
    }
}
END_TEST

/* What has gone in so far can be read, before more comes. */
START_TEST(each_piece_is_flushed)
{
    struct body_library *cl = make(_i, true), *dl = make(_i, false);
    struct body_codec *c = cl->ops->open(cl), *d = dl->ops->open(dl);
    for (int i = 0; i < 20; i++) {
        struct buffer in, packed, out;
        char text[32], back[32];
        buffer_init(&in);
        buffer_init(&packed);
        buffer_init(&out);
        int n = snprintf(text, sizeof(text), "data: %d\n\n", i);
        buffer_add(&in, text, (size_t)n);
        ck_assert_int_eq(cl->ops->run(c, &in, &packed, false, 0), BODY_OK);
        ck_assert_int_eq(dl->ops->run(d, &packed, &out, false, NO_LIMIT), BODY_OK);
        ck_assert_uint_eq(buffer_copy_out(&out, 0, back, sizeof(back)), (size_t)n);
        ck_assert_mem_eq(back, text, (size_t)n);
        buffer_cleanup(&out);
    }
    body_codec_close(&c);
    body_codec_close(&d);
    body_library_free(cl);
    body_library_free(dl);
}
END_TEST

static void zeros(struct buffer *b, size_t len)
{
    char block[4096] = {0};
    for (; len; len -= len < sizeof(block) ? len : sizeof(block))
        buffer_add(b, block, len < sizeof(block) ? len : sizeof(block));
}

/* CVE-2026-48044: the limit holds inside of the loop, not after it; and the codec goes on where it
 * stopped. */
START_TEST(limit_inside_the_loop)
{
    enum { TOTAL = 4 << 20, MAX = 20000 };
    struct buffer in, packed, out;
    size_t made = 0;
    buffer_init(&in);
    buffer_init(&packed);
    zeros(&in, TOTAL);
    pack(_i, &in, 1 << 20, &packed);
    ck_assert_uint_lt(packed.len, 20000);
    struct body_library *l = make(_i, false);
    struct body_codec *c = l->ops->open(l);
    enum body_result r;
    do {
        buffer_init(&out);
        r = l->ops->run(c, &packed, &out, true, MAX);
        ck_assert_uint_le(out.len, MAX + BUFFER_BLOCK);
        made += out.len;
        buffer_cleanup(&out);
    } while (r == BODY_FULL);
    ck_assert_int_eq(r, BODY_OK);
    ck_assert_uint_eq(made, TOTAL);
    body_codec_close(&c);
    body_library_free(l);
    buffer_cleanup(&in);
    buffer_cleanup(&packed);
}
END_TEST

/* CVE-2024-32976: what follows the end of a stream must not be asked for over and over. */
START_TEST(bytes_behind_the_end)
{
    struct buffer in, packed, out;
    uint32_t error = 99;
    buffer_init(&in);
    buffer_init(&packed);
    buffer_init(&out);
    fill(&in, 1000);
    pack(_i, &in, 1000, &packed);
    buffer_add_str(&packed, STR("something else"));
    struct body_library *l = make(_i, false);
    ck_assert_int_eq(pass(l, &packed, packed.len, true, NO_LIMIT, &out, &error), BODY_ERROR);
    ck_assert_uint_lt(error, l->ops->errors->num);
    if (_i == BROTLI)
        ck_assert_str_eq(l->ops->errors->defs[error].name, "brotli_redundant_input");
    body_library_free(l);
    buffer_cleanup(&in);
    buffer_cleanup(&packed);
    buffer_cleanup(&out);
}
END_TEST

START_TEST(cut_off)
{
    struct buffer in, packed;
    buffer_init(&in);
    buffer_init(&packed);
    fill(&in, 3000);
    pack(_i, &in, 3000, &packed);
    struct body_library *l = make(_i, false);
    for (size_t len = 1; len < packed.len; len += 37) {
        struct buffer part, out;
        buffer_init(&part);
        buffer_init(&out);
        copy(&part, &packed, 0, len);
        ck_assert_int_eq(pass(l, &part, 100, false, NO_LIMIT, &out, NULL), BODY_OK);
        buffer_cleanup(&out);
        ck_assert_int_eq(pass(l, &part, 100, true, NO_LIMIT, &out, NULL), BODY_ERROR);
        buffer_cleanup(&out);
        buffer_cleanup(&part);
    }
    body_library_free(l);
    buffer_cleanup(&in);
    buffer_cleanup(&packed);
}
END_TEST

/* Two gzip members or zstd frames in a row are one text (RFC 1952 2.2, RFC 8878 3). */
START_TEST(two_in_a_row)
{
    struct buffer in, packed, out, twice;
    buffer_init(&in);
    buffer_init(&packed);
    buffer_init(&out);
    buffer_init(&twice);
    fill(&in, 500);
    for (int i = 0; i < 2; i++) {
        copy(&twice, &in, 0, in.len);
        pack(_i, &in, 500, &packed);
    }
    struct body_library *l = make(_i, false);
    ck_assert_int_eq(pass(l, &packed, 13, true, NO_LIMIT, &out, NULL),
                     _i == BROTLI ? BODY_ERROR : BODY_OK);
    if (_i != BROTLI)
        ck_assert(same(&out, &twice));
    body_library_free(l);
    buffer_cleanup(&in);
    buffer_cleanup(&packed);
    buffer_cleanup(&out);
    buffer_cleanup(&twice);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("body_codec");
    TCase *tc = tcase_create("each");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, what_goes_in_comes_out, 0, NUM);
    tcase_add_loop_test(tc, each_piece_is_flushed, 0, NUM);
    tcase_add_loop_test(tc, limit_inside_the_loop, 0, NUM);
    tcase_add_loop_test(tc, bytes_behind_the_end, 0, NUM);
    tcase_add_loop_test(tc, cut_off, 0, NUM);
    tcase_add_loop_test(tc, two_in_a_row, 0, NUM);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
