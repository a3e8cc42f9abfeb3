// covers: proxy/filters/codec_gzip.c
// covers: proxy/filters/codec_brotli.c
// covers: proxy/filters/codec_zstd.c
// covers: proxy/filters/compressor_choice.c
/* Compressed bodies as a peer sends them. The first byte chooses the library, and what is done: a
 * body is decompressed in pieces under limits, or it is compressed and must come back; or it is an
 * accept-encoding. The second byte is the size of the pieces. */
#include "api-protos/message.h"
#include "envoy/extensions/compression/zstd/compressor/v3/zstd.pb-c.h"
#include "envoy/extensions/compression/zstd/decompressor/v3/zstd.pb-c.h"
#include "proxy/filters/body_codec.h"
#include "proxy/filters/compressor_choice.h"
#include <zdict.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { LIBRARIES = 3, SLICE = 16384, MOST = 1 << 20 };

static const struct body_library_ops *const in_ops[] = {&gzip_decompressor, &brotli_decompressor,
                                                        &zstd_decompressor};
static const struct body_library_ops *const out_ops[] = {&gzip_compressor, &brotli_compressor,
                                                         &zstd_compressor};

/* The same every time; trained once. */
static Envoy__Config__Core__V3__DataSource *dictionary(void)
{
    static Envoy__Config__Core__V3__DataSource ds = ENVOY__CONFIG__CORE__V3__DATA_SOURCE__INIT;
    static char dict[2048], samples[64 * 64];
    static size_t sizes[64];
    if (ds.inline_bytes.len)
        return &ds;
    for (size_t i = 0; i < sizeof(samples); i++)
        samples[i] = (char)("abcdefgh"[i % 8] + i / 64 % 3 * (i % 5));
    for (size_t i = 0; i < 64; i++)
        sizes[i] = 64;
    size_t len = ZDICT_trainFromBuffer(dict, sizeof(dict), samples, sizes, 64);
    CHECK(!ZDICT_isError(len));
    ds.specifier_case = ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES;
    ds.inline_bytes = (ProtobufCBinaryData){len, (uint8_t *)dict};
    return &ds;
}

static struct body_library *make(const struct body_library_ops *o, struct arena *a)
{
    struct errors e;
    errors_init(&e);
    ProtobufCMessage *m = pb_new(pb_find(str_of(o->type_name)), a);
    Envoy__Config__Core__V3__DataSource *ds = dictionary();
    if (o == &zstd_compressor) {
        ((Envoy__Extensions__Compression__Zstd__Compressor__V3__Zstd *)m)->dictionary = ds;
    } else if (o == &zstd_decompressor) {
        Envoy__Extensions__Compression__Zstd__Decompressor__V3__Zstd *z = (void *)m;
        z->dictionaries = arena_alloc(a, sizeof(ds));
        z->dictionaries[0] = ds;
        z->n_dictionaries = 1;
    }
    struct body_library *l = o->compile(a, m, &e);
    CHECK(l && l->chunk > 0);
    errors_cleanup(&e);
    return l;
}

/* All that comes out of one codec, piece by piece. */
static bool run(const struct body_library *l, struct buffer *in, size_t piece, struct buffer *out)
{
    struct body_codec *c = l->ops->open(l);
    enum body_result r = BODY_OK;
    CHECK(c);
    do {
        struct buffer part;
        buffer_init(&part);
        buffer_move(&part, in, piece);
        bool end = in->len == 0;
        do {
            struct buffer slice;
            buffer_init(&slice);
            r = l->ops->run(c, &part, &slice, end, SLICE);
            CHECK(l->ops->compresses || slice.len <= SLICE + BUFFER_BLOCK);
            CHECK(r != BODY_OK || part.len == 0);
            buffer_move(out, &slice, slice.len);
            buffer_cleanup(&slice);
        } while (r == BODY_FULL && out->len < MOST);
        buffer_cleanup(&part);
    } while (r == BODY_OK && in->len);
    CHECK(r != BODY_ERROR || l->ops->compresses || c->error < l->ops->errors->num);
    body_codec_close(&c);
    return r == BODY_OK;
}

static void there_and_back(unsigned which, struct str text, size_t piece, struct arena *a)
{
    struct body_library *cl = make(out_ops[which], a), *dl = make(in_ops[which], a);
    struct buffer in, packed, out;
    buffer_init(&in);
    buffer_init(&packed);
    buffer_init(&out);
    buffer_add_str(&in, text);
    CHECK(run(cl, &in, piece, &packed));
    CHECK(run(dl, &packed, piece, &out));
    CHECK(out.len == text.len);
    CHECK(str_eq(buffer_pullup(&out, out.len), text) || text.len == 0);
    buffer_cleanup(&out);
    buffer_cleanup(&packed);
    body_library_free(cl);
    body_library_free(dl);
}

static void decompress(unsigned which, struct str body, size_t piece, struct arena *a)
{
    struct body_library *l = make(in_ops[which], a);
    struct buffer in, out;
    buffer_init(&in);
    buffer_init(&out);
    buffer_add_str(&in, body);
    (void)run(l, &in, piece, &out);
    buffer_cleanup(&in);
    buffer_cleanup(&out);
    body_library_free(l);
}

static void choose(struct str accept, struct arena *a)
{
    static const struct compressor_offer offers[] = {
        {{"gzip", 4}, false}, {{"br", 2}, false}, {{"zstd", 4}, true}};
    struct compressor_types t;
    compressor_types_compile(&t, NULL, 0, a);
    (void)compressor_type_allowed(&t, accept);
    struct compressor_decision d = compressor_choose(accept, offers, ARRAY_LEN(offers));
    CHECK(d.encoding.len && d.verdict != COMPRESSOR_OVERSHADOWED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    struct arena a;
    struct str rest = str_n((const char *)data + 2, len - 2);
    arena_init(&a, 0);
    unsigned which = data[0] % LIBRARIES;
    size_t piece = 1 + (size_t)data[1] * 8;
    switch (data[0] / LIBRARIES % 3) {
    case 0:
        decompress(which, rest, piece, &a);
        break;
    case 1:
        there_and_back(which, rest, piece, &a);
        break;
    case 2:
        choose(rest, &a);
        break;
    }
    arena_cleanup(&a);
    return 0;
}
