/* Brotli (RFC 7932), by libbrotli. */
#include "api-protos/wkt.h"
#include "envoy/extensions/compression/brotli/compressor/v3/brotli.pb-c.h"
#include "envoy/extensions/compression/brotli/decompressor/v3/brotli.pb-c.h"
#include "proxy/filters/body_codec.h"
#include <brotli/decode.h>
#include <brotli/encode.h>

typedef Envoy__Extensions__Compression__Brotli__Compressor__V3__Brotli BrotliOut;
typedef Envoy__Extensions__Compression__Brotli__Decompressor__V3__Brotli BrotliIn;

enum {
    DEFAULT_CHUNK = 4096,
    DEFAULT_QUALITY = 3,
    DEFAULT_WINDOW = 18,
    DEFAULT_BLOCK = 24,
    MAX_RATIO = 100, /* not configurable, as in Envoy */
};

#define BROTLI_ERRORS(X)                                                                           \
    X(BROTLI_BROKEN, "brotli_error", COUNTER)                                                      \
    X(BROTLI_REDUNDANT_INPUT, "brotli_redundant_input", COUNTER)
enum { BROTLI_ERRORS(STATS_ENUM) };
static const struct stats_def error_defs[] = {BROTLI_ERRORS(STATS_DEF)};
static struct stats_table error_table = STATS_TABLE(error_defs);

struct brotli_library {
    struct body_library l;
    uint32_t quality, window_bits, block_bits, mode;
    bool no_context_modeling;
    bool fixed_ring_buffer; /* a decompressor's */
};

struct brotli_codec {
    struct body_codec c;
    BrotliEncoderState *encoder;
    BrotliDecoderState *decoder;
};

/* --- settings --- */

static struct body_library *compile_out(struct arena *a, const void *msg, struct errors *e)
{
    static const uint32_t modes[] = {BROTLI_DEFAULT_MODE, BROTLI_MODE_GENERIC, BROTLI_MODE_TEXT,
                                     BROTLI_MODE_FONT};
    const BrotliOut *m = msg;
    struct brotli_library *b = ARENA_NEW(a, struct brotli_library);
    b->l.ops = &brotli_compressor;
    b->l.chunk = wkt_u32(m->chunk_size, DEFAULT_CHUNK);
    b->quality = wkt_u32(m->quality, DEFAULT_QUALITY);
    b->window_bits = wkt_u32(m->window_bits, DEFAULT_WINDOW);
    b->block_bits = wkt_u32(m->input_block_bits, DEFAULT_BLOCK);
    b->no_context_modeling = m->disable_literal_context_modeling;
    if ((size_t)m->encoder_mode >= ARRAY_LEN(modes)) {
        errors_add(e, "encoder_mode", "value %d is not known", m->encoder_mode);
        return NULL;
    }
    b->mode = modes[m->encoder_mode];
    return &b->l;
}

static struct body_library *compile_in(struct arena *a, const void *msg, struct errors *e)
{
    const BrotliIn *m = msg;
    struct brotli_library *b = ARENA_NEW(a, struct brotli_library);
    b->l.ops = &brotli_decompressor;
    b->l.chunk = wkt_u32(m->chunk_size, DEFAULT_CHUNK);
    b->l.max_ratio = MAX_RATIO;
    b->fixed_ring_buffer = m->disable_ring_buffer_reallocation;
    return &b->l;
}

static struct brotli_codec *codec_new(const struct body_library *l)
{
    struct brotli_codec *b = mem_zalloc(sizeof(*b));
    b->c.library = l;
    return b;
}

static void codec_close(struct body_codec *c)
{
    struct brotli_codec *b = (void *)c;
    BrotliEncoderDestroyInstance(b->encoder);
    BrotliDecoderDestroyInstance(b->decoder);
    mem_free(b);
}

static uint8_t *room_in(const struct body_codec *c, struct buffer *out, size_t *room)
{
    uint8_t *p = (uint8_t *)buffer_reserve(out, 1, room);
    if (*room > c->library->chunk)
        *room = c->library->chunk;
    return p;
}

/* --- compressing --- */

static struct body_codec *open_out(const struct body_library *l)
{
    const struct brotli_library *s = (const void *)l;
    struct brotli_codec *b = codec_new(l);
    b->encoder = BrotliEncoderCreateInstance(NULL, NULL, NULL);
    if (b->encoder && BrotliEncoderSetParameter(b->encoder, BROTLI_PARAM_QUALITY, s->quality) &&
        BrotliEncoderSetParameter(b->encoder, BROTLI_PARAM_LGWIN, s->window_bits) &&
        BrotliEncoderSetParameter(b->encoder, BROTLI_PARAM_LGBLOCK, s->block_bits) &&
        BrotliEncoderSetParameter(b->encoder, BROTLI_PARAM_DISABLE_LITERAL_CONTEXT_MODELING,
                                  s->no_context_modeling) &&
        BrotliEncoderSetParameter(b->encoder, BROTLI_PARAM_MODE, s->mode))
        return &b->c;
    codec_close(&b->c);
    return NULL;
}

static bool encode(struct brotli_codec *b, struct str in, struct buffer *out,
                   BrotliEncoderOperation op)
{
    const uint8_t *next_in = (const uint8_t *)in.p;
    size_t left = in.len;
    do {
        size_t room;
        uint8_t *next_out = room_in(&b->c, out, &room);
        size_t before = room;
        if (!BrotliEncoderCompressStream(b->encoder, op, &left, &next_in, &room, &next_out, NULL))
            return false;
        buffer_commit(out, before - room);
    } while (left || BrotliEncoderHasMoreOutput(b->encoder));
    return true;
}

static enum body_result run_out(struct body_codec *c, struct buffer *in, struct buffer *out,
                                bool end, size_t max)
{
    struct brotli_codec *b = (void *)c;
    while (in->len) {
        struct str s = buffer_peek(in);
        if (!encode(b, s, out, BROTLI_OPERATION_PROCESS))
            return BODY_ERROR;
        buffer_drain(in, s.len);
    }
    return encode(b, STR_NULL, out, end ? BROTLI_OPERATION_FINISH : BROTLI_OPERATION_FLUSH)
               ? BODY_OK
               : BODY_ERROR;
}

/* --- decompressing --- */

static struct body_codec *open_in(const struct body_library *l)
{
    const struct brotli_library *s = (const void *)l;
    struct brotli_codec *b = codec_new(l);
    b->decoder = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    if (b->decoder &&
        BrotliDecoderSetParameter(b->decoder, BROTLI_DECODER_PARAM_DISABLE_RING_BUFFER_REALLOCATION,
                                  s->fixed_ring_buffer))
        return &b->c;
    codec_close(&b->c);
    return NULL;
}

static enum body_result fail(struct body_codec *c, uint32_t error)
{
    c->error = error;
    return BODY_ERROR;
}

static enum body_result run_in(struct body_codec *c, struct buffer *in, struct buffer *out,
                               bool end, size_t max)
{
    struct brotli_codec *b = (void *)c;
    BrotliDecoderResult st = BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT;
    do {
        /* What follows the end of the stream is never consumed: asking again would go on for ever
         * (CVE-2024-32976). */
        if (BrotliDecoderIsFinished(b->decoder))
            return in->len ? fail(c, BROTLI_REDUNDANT_INPUT) : BODY_OK;
        if (out->len > max) {
            c->error = BROTLI_BROKEN;
            return BODY_FULL;
        }
        size_t room, left = buffer_peek(in).len, was = left;
        const uint8_t *next_in = (const uint8_t *)buffer_peek(in).p;
        uint8_t *next_out = room_in(c, out, &room);
        size_t before = room;
        st = BrotliDecoderDecompressStream(b->decoder, &left, &next_in, &room, &next_out, NULL);
        buffer_commit(out, before - room);
        buffer_drain(in, was - left);
        if (st == BROTLI_DECODER_RESULT_ERROR)
            return fail(c, BROTLI_BROKEN);
    } while (in->len || st == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT);
    return end && !BrotliDecoderIsFinished(b->decoder) ? fail(c, BROTLI_BROKEN) : BODY_OK;
}

const struct body_library_ops brotli_compressor = {
    .type_name = "envoy.extensions.compression.brotli.compressor.v3.Brotli",
    .encoding = "br",
    .stat_name = "brotli",
    .compresses = true,
    .compile = compile_out,
    .open = open_out,
    .run = run_out,
    .close = codec_close,
};

const struct body_library_ops brotli_decompressor = {
    .type_name = "envoy.extensions.compression.brotli.decompressor.v3.Brotli",
    .encoding = "br",
    .stat_name = "brotli",
    .errors = &error_table,
    .compile = compile_in,
    .open = open_in,
    .run = run_in,
    .close = codec_close,
};
