/* gzip (RFC 1952), by zlib. */
#include "api-protos/wkt.h"
#include "envoy/extensions/compression/gzip/compressor/v3/gzip.pb-c.h"
#include "envoy/extensions/compression/gzip/decompressor/v3/gzip.pb-c.h"
#include "proxy/filters/body_codec.h"
#include <zlib.h>

typedef Envoy__Extensions__Compression__Gzip__Compressor__V3__Gzip GzipOut;
typedef Envoy__Extensions__Compression__Gzip__Decompressor__V3__Gzip GzipIn;

/* window_bits and the gzip wrapper (deflateInit2 in zlib.h). */
enum { GZIP_WRAPPER = 16 };
enum { DEFAULT_CHUNK = 4096, DEFAULT_WINDOW = 12, DEFAULT_MEMORY = 5, DEFAULT_RATIO = 100 };

#define GZIP_ERRORS(X)                                                                             \
    X(GZIP_ERRNO, "zlib_errno", COUNTER)                                                           \
    X(GZIP_STREAM_ERROR, "zlib_stream_error", COUNTER)                                             \
    X(GZIP_DATA_ERROR, "zlib_data_error", COUNTER)                                                 \
    X(GZIP_MEM_ERROR, "zlib_mem_error", COUNTER)                                                   \
    X(GZIP_BUF_ERROR, "zlib_buf_error", COUNTER)                                                   \
    X(GZIP_VERSION_ERROR, "zlib_version_error", COUNTER)
enum { GZIP_ERRORS(STATS_ENUM) };
static const struct stats_def error_defs[] = {GZIP_ERRORS(STATS_DEF)};
static struct stats_table error_table = STATS_TABLE(error_defs);

struct gzip_library {
    struct body_library l;
    int level, strategy, window_bits, memory_level;
};

struct gzip_codec {
    struct body_codec c;
    z_stream z;
    bool ended; /* the stream's trailer has been read */
};

/* --- settings --- */

static const int strategies[] = {Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED};

static struct body_library *compile_out(struct arena *a, const void *msg, struct errors *e)
{
    const GzipOut *m = msg;
    struct gzip_library *g = ARENA_NEW(a, struct gzip_library);
    g->l.ops = &gzip_compressor;
    g->l.chunk = wkt_u32(m->chunk_size, DEFAULT_CHUNK);
    g->level = m->compression_level ? (int)m->compression_level : Z_DEFAULT_COMPRESSION;
    g->window_bits = (int)wkt_u32(m->window_bits, DEFAULT_WINDOW) + GZIP_WRAPPER;
    g->memory_level = (int)wkt_u32(m->memory_level, DEFAULT_MEMORY);
    if ((unsigned)m->compression_level > Z_BEST_COMPRESSION) {
        errors_add(e, "compression_level", "value %d is not known", m->compression_level);
        return NULL;
    }
    if ((size_t)m->compression_strategy >= ARRAY_LEN(strategies)) {
        errors_add(e, "compression_strategy", "value %d is not known", m->compression_strategy);
        return NULL;
    }
    g->strategy = strategies[m->compression_strategy];
    return &g->l;
}

static struct body_library *compile_in(struct arena *a, const void *msg, struct errors *e)
{
    const GzipIn *m = msg;
    struct gzip_library *g = ARENA_NEW(a, struct gzip_library);
    g->l.ops = &gzip_decompressor;
    g->l.chunk = wkt_u32(m->chunk_size, DEFAULT_CHUNK);
    g->l.max_ratio = wkt_u32(m->max_inflate_ratio, DEFAULT_RATIO);
    g->window_bits = (int)wkt_u32(m->window_bits, DEFAULT_WINDOW) + GZIP_WRAPPER;
    return &g->l;
}

/* --- compressing --- */

static struct gzip_codec *codec_new(const struct body_library *l)
{
    struct gzip_codec *g = mem_zalloc(sizeof(*g));
    g->c.library = l;
    return g;
}

static struct body_codec *open_out(const struct body_library *l)
{
    const struct gzip_library *s = (const void *)l;
    struct gzip_codec *g = codec_new(l);
    if (deflateInit2(&g->z, s->level, Z_DEFLATED, s->window_bits, s->memory_level, s->strategy) ==
        Z_OK)
        return &g->c;
    mem_free(g);
    return NULL;
}

static void give_room(struct gzip_codec *g, struct buffer *out)
{
    size_t room;
    g->z.next_out = (unsigned char *)buffer_reserve(out, 1, &room);
    g->z.avail_out = (unsigned)(room < g->c.library->chunk ? room : g->c.library->chunk);
}

static bool deflate_all(struct gzip_codec *g, struct buffer *out, int flush)
{
    unsigned room, left;
    do {
        give_room(g, out);
        room = g->z.avail_out;
        int st = deflate(&g->z, flush);
        left = g->z.avail_out;
        buffer_commit(out, room - left);
        if (st == Z_STREAM_ERROR)
            return false;
    } while (left == 0);
    return true;
}

static enum body_result run_out(struct body_codec *c, struct buffer *in, struct buffer *out,
                                bool end, size_t max)
{
    struct gzip_codec *g = (void *)c;
    while (in->len) {
        struct str s = buffer_peek(in);
        g->z.next_in = (unsigned char *)(uintptr_t)s.p;
        g->z.avail_in = (unsigned)s.len;
        if (!deflate_all(g, out, Z_NO_FLUSH))
            return BODY_ERROR;
        buffer_drain(in, s.len);
    }
    return deflate_all(g, out, end ? Z_FINISH : Z_SYNC_FLUSH) ? BODY_OK : BODY_ERROR;
}

static void close_out(struct body_codec *c)
{
    struct gzip_codec *g = (void *)c;
    (void)deflateEnd(&g->z); /* Z_DATA_ERROR: it was not finished */
    mem_free(g);
}

/* --- decompressing --- */

static struct body_codec *open_in(const struct body_library *l)
{
    const struct gzip_library *s = (const void *)l;
    struct gzip_codec *g = codec_new(l);
    if (inflateInit2(&g->z, s->window_bits) == Z_OK)
        return &g->c;
    mem_free(g);
    return NULL;
}

static uint32_t error_of(int st)
{
    switch (st) {
    case Z_ERRNO:
        return GZIP_ERRNO;
    case Z_STREAM_ERROR:
        return GZIP_STREAM_ERROR;
    case Z_MEM_ERROR:
        return GZIP_MEM_ERROR;
    case Z_BUF_ERROR:
        return GZIP_BUF_ERROR;
    case Z_VERSION_ERROR:
        return GZIP_VERSION_ERROR;
    default:
        return GZIP_DATA_ERROR;
    }
}

/* One chunk of output at most. *more: there is more to come without more input. */
static enum body_result inflate_some(struct gzip_codec *g, struct buffer *out, bool *more)
{
    give_room(g, out);
    unsigned room = g->z.avail_out;
    int st = inflate(&g->z, Z_NO_FLUSH);
    buffer_commit(out, room - g->z.avail_out);
    *more = g->z.avail_out == 0;
    if (st == Z_STREAM_END)
        g->ended = true;
    else if (st != Z_OK && st != Z_BUF_ERROR) { /* that one says only that it could not go on */
        g->c.error = error_of(st);
        return BODY_ERROR;
    }
    return BODY_OK;
}

/* A member may follow another (RFC 1952 section 2.2). */
static bool next_member(struct gzip_codec *g)
{
    g->ended = false;
    return inflateReset(&g->z) == Z_OK;
}

static enum body_result run_in(struct body_codec *c, struct buffer *in, struct buffer *out,
                               bool end, size_t max)
{
    struct gzip_codec *g = (void *)c;
    bool more = true; /* of what an earlier call left inside */
    while (in->len || more) {
        if (out->len > max) {
            c->error = GZIP_DATA_ERROR;
            return BODY_FULL;
        }
        if (g->ended && (!in->len || !next_member(g)))
            break;
        struct str s = buffer_peek(in);
        g->z.next_in = (unsigned char *)(uintptr_t)s.p;
        g->z.avail_in = (unsigned)s.len;
        if (inflate_some(g, out, &more) == BODY_ERROR)
            return BODY_ERROR;
        buffer_drain(in, s.len - g->z.avail_in);
    }
    if (!end || g->ended)
        return BODY_OK;
    c->error = GZIP_BUF_ERROR; /* cut off */
    return BODY_ERROR;
}

static void close_in(struct body_codec *c)
{
    struct gzip_codec *g = (void *)c;
    (void)inflateEnd(&g->z);
    mem_free(g);
}

const struct body_library_ops gzip_compressor = {
    .type_name = "envoy.extensions.compression.gzip.compressor.v3.Gzip",
    .encoding = "gzip",
    .stat_name = "gzip",
    .compresses = true,
    .compile = compile_out,
    .open = open_out,
    .run = run_out,
    .close = close_out,
};

const struct body_library_ops gzip_decompressor = {
    .type_name = "envoy.extensions.compression.gzip.decompressor.v3.Gzip",
    .encoding = "gzip",
    .stat_name = "gzip",
    .errors = &error_table,
    .compile = compile_in,
    .open = open_in,
    .run = run_in,
    .close = close_in,
};
