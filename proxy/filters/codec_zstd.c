/* Zstandard (RFC 8878), by libzstd. */
#include "api-protos/wkt.h"
#include "envoy/extensions/compression/zstd/compressor/v3/zstd.pb-c.h"
#include "envoy/extensions/compression/zstd/decompressor/v3/zstd.pb-c.h"
#include "proxy/filters/body_codec.h"
#include "tls/data_source.h"
#include <zstd.h>
#include <zstd_errors.h>

typedef Envoy__Extensions__Compression__Zstd__Compressor__V3__Zstd ZstdOut;
typedef Envoy__Extensions__Compression__Zstd__Decompressor__V3__Zstd ZstdIn;

enum {
    MAX_RATIO = 100,     /* not configurable, as in Envoy */
    MAX_WINDOW_BITS = 23 /* 8 MiB, the most a content coding may ask for: RFC 9659 section 3 */
};

#define ZSTD_ERRORS(X)                                                                             \
    X(ZSTD_GENERIC, "zstd_generic_error", COUNTER)                                                 \
    X(ZSTD_DICTIONARY, "zstd_dictionary_error", COUNTER)                                           \
    X(ZSTD_CHECKSUM, "zstd_checksum_wrong_error", COUNTER)                                         \
    X(ZSTD_MEMORY, "zstd_memory_error", COUNTER)
enum { ZSTD_ERRORS(STATS_ENUM) };
static const struct stats_def error_defs[] = {ZSTD_ERRORS(STATS_DEF)};
static struct stats_table error_table = STATS_TABLE(error_defs);

struct zstd_library {
    struct body_library l;
    int level, strategy;
    bool checksum;
    ZSTD_CDict *cdict; /* or NULL */
    ZSTD_DDict **ddicts;
    size_t num_ddicts;
};

struct zstd_codec {
    struct body_codec c;
    ZSTD_CCtx *out;
    ZSTD_DCtx *in;
    bool inside; /* of a frame */
};

/* --- settings --- */

static struct body_library *compile_out(struct arena *a, const void *msg, struct errors *e)
{
    const ZstdOut *m = msg;
    struct zstd_library *z = ARENA_NEW(a, struct zstd_library);
    struct data_source ds;
    z->l.ops = &zstd_compressor;
    z->l.chunk = wkt_u32(m->chunk_size, (uint32_t)ZSTD_CStreamOutSize());
    z->level = (int)wkt_u32(m->compression_level, ZSTD_CLEVEL_DEFAULT);
    z->checksum = m->enable_checksum;
    z->strategy = (int)m->strategy;
    if (z->level > ZSTD_maxCLevel()) {
        errors_add(e, "compression_level", "must be at most %d", ZSTD_maxCLevel());
        return NULL;
    }
    if ((unsigned)z->strategy > ZSTD_btultra2) {
        errors_add(e, "strategy", "value %d is not known", z->strategy);
        return NULL;
    }
    if (!m->dictionary)
        return &z->l;
    if (!data_source_read(m->dictionary, a, e, "dictionary", &ds))
        return NULL;
    z->cdict = ZSTD_createCDict(ds.bytes.p, ds.bytes.len, z->level);
    if (!z->cdict)
        errors_add(e, "dictionary", "is not a Zstandard dictionary");
    return z->cdict ? &z->l : NULL;
}

static void free_dicts(struct body_library *l)
{
    struct zstd_library *z = (void *)l;
    ZSTD_freeCDict(z->cdict);
    z->cdict = NULL;
    for (size_t i = 0; i < z->num_ddicts; i++)
        ZSTD_freeDDict(z->ddicts[i]);
    z->num_ddicts = 0;
}

static bool add_dictionary(struct zstd_library *z, const Envoy__Config__Core__V3__DataSource *m,
                           struct arena *a, struct errors *e)
{
    struct data_source ds;
    if (!data_source_read(m, a, e, NULL, &ds))
        return false;
    ZSTD_DDict *d = ZSTD_createDDict(ds.bytes.p, ds.bytes.len);
    if (!d || ZSTD_getDictID_fromDDict(d) == 0) { /* a frame names it by its number */
        ZSTD_freeDDict(d);
        errors_add(e, NULL, "is not a Zstandard dictionary");
        return false;
    }
    z->ddicts[z->num_ddicts++] = d;
    return true;
}

static struct body_library *compile_in(struct arena *a, const void *msg, struct errors *e)
{
    const ZstdIn *m = msg;
    struct zstd_library *z = ARENA_NEW(a, struct zstd_library);
    bool ok = true;
    z->l.ops = &zstd_decompressor;
    z->l.chunk = wkt_u32(m->chunk_size, (uint32_t)ZSTD_DStreamOutSize());
    z->l.max_ratio = MAX_RATIO;
    z->ddicts = arena_zalloc(a, (m->n_dictionaries + 1) * sizeof(*z->ddicts));
    for (size_t i = 0; i < m->n_dictionaries; i++) {
        size_t mark = errors_push_index(e, "dictionaries", i);
        ok = add_dictionary(z, m->dictionaries[i], a, e) && ok;
        errors_pop(e, mark);
    }
    if (ok)
        return &z->l;
    free_dicts(&z->l);
    return NULL;
}

static struct zstd_codec *codec_new(const struct body_library *l)
{
    struct zstd_codec *z = mem_zalloc(sizeof(*z));
    z->c.library = l;
    return z;
}

static void codec_close(struct body_codec *c)
{
    struct zstd_codec *z = (void *)c;
    ZSTD_freeCCtx(z->out);
    ZSTD_freeDCtx(z->in);
    mem_free(z);
}

static ZSTD_outBuffer room_in(const struct body_codec *c, struct buffer *out)
{
    size_t room;
    void *p = buffer_reserve(out, 1, &room);
    return (ZSTD_outBuffer){p, room < c->library->chunk ? room : c->library->chunk, 0};
}

/* --- compressing --- */

static bool set(ZSTD_CCtx *c, ZSTD_cParameter p, int value)
{
    return !ZSTD_isError(ZSTD_CCtx_setParameter(c, p, value));
}

static struct body_codec *open_out(const struct body_library *l)
{
    const struct zstd_library *s = (const void *)l;
    struct zstd_codec *z = codec_new(l);
    z->out = ZSTD_createCCtx();
    if (z->out && set(z->out, ZSTD_c_compressionLevel, s->level) &&
        set(z->out, ZSTD_c_checksumFlag, s->checksum) &&
        set(z->out, ZSTD_c_strategy, s->strategy) &&
        (!s->cdict || !ZSTD_isError(ZSTD_CCtx_refCDict(z->out, s->cdict))))
        return &z->c;
    codec_close(&z->c);
    return NULL;
}

static bool encode(struct zstd_codec *z, struct str s, struct buffer *out, ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = {s.p, s.len, 0};
    size_t left;
    do {
        ZSTD_outBuffer room = room_in(&z->c, out);
        left = ZSTD_compressStream2(z->out, &room, &in, how);
        if (ZSTD_isError(left))
            return false;
        buffer_commit(out, room.pos);
    } while (how == ZSTD_e_continue ? in.pos < in.size : left > 0);
    return true;
}

static enum body_result run_out(struct body_codec *c, struct buffer *in, struct buffer *out,
                                bool end, size_t max)
{
    struct zstd_codec *z = (void *)c;
    while (in->len) {
        struct str s = buffer_peek(in);
        if (!encode(z, s, out, ZSTD_e_continue))
            return BODY_ERROR;
        buffer_drain(in, s.len);
    }
    return encode(z, STR_NULL, out, end ? ZSTD_e_end : ZSTD_e_flush) ? BODY_OK : BODY_ERROR;
}

/* --- decompressing --- */

static struct body_codec *open_in(const struct body_library *l)
{
    struct zstd_codec *z = codec_new(l);
    z->in = ZSTD_createDCtx();
    if (z->in && !ZSTD_isError(ZSTD_DCtx_setParameter(z->in, ZSTD_d_windowLogMax, MAX_WINDOW_BITS)))
        return &z->c;
    codec_close(&z->c);
    return NULL;
}

static enum body_result fail(struct body_codec *c, uint32_t error)
{
    c->error = error;
    return BODY_ERROR;
}

static uint32_t error_of(size_t st)
{
    switch (ZSTD_getErrorCode(st)) {
    case ZSTD_error_memory_allocation:
        return ZSTD_MEMORY;
    case ZSTD_error_dictionary_corrupted:
    case ZSTD_error_dictionary_wrong:
        return ZSTD_DICTIONARY;
    case ZSTD_error_checksum_wrong:
        return ZSTD_CHECKSUM;
    default:
        return ZSTD_GENERIC;
    }
}

/* Chooses the dictionary that the frame at the front of `in` names. More of the frame's header than
 * the library needs is made contiguous; a header that is not all there is looked at as it is. */
static bool choose_dictionary(struct zstd_codec *z, struct buffer *in)
{
    enum { HEADER = 18 }; /* ZSTD_FRAMEHEADERSIZE_MAX, which zstd.h shows to static users only */
    const struct zstd_library *s = (const void *)z->c.library;
    struct str head = buffer_pullup(in, HEADER);
    unsigned id = ZSTD_getDictID_fromFrame(head.p, head.len);
    if (!s->num_ddicts || id == 0)
        return true;
    for (size_t i = 0; i < s->num_ddicts; i++) {
        if (ZSTD_getDictID_fromDDict(s->ddicts[i]) == id)
            return !ZSTD_isError(ZSTD_DCtx_refDDict(z->in, s->ddicts[i]));
    }
    return false;
}

static enum body_result run_in(struct body_codec *c, struct buffer *in, struct buffer *out,
                               bool end, size_t max)
{
    struct zstd_codec *z = (void *)c;
    bool full = z->inside; /* an earlier call may have left output inside */
    while (in->len || full) {
        if (out->len > max) {
            c->error = ZSTD_GENERIC;
            return BODY_FULL;
        }
        if (!z->inside && !choose_dictionary(z, in))
            return fail(c, ZSTD_DICTIONARY);
        struct str s = buffer_peek(in);
        ZSTD_inBuffer from = {s.p, s.len, 0};
        ZSTD_outBuffer room = room_in(c, out);
        size_t st = ZSTD_decompressStream(z->in, &room, &from);
        if (ZSTD_isError(st))
            return fail(c, error_of(st));
        buffer_commit(out, room.pos);
        buffer_drain(in, from.pos);
        z->inside = st != 0;
        full = z->inside && room.pos == room.size;
    }
    return end && z->inside ? fail(c, ZSTD_GENERIC) : BODY_OK;
}

const struct body_library_ops zstd_compressor = {
    .type_name = "envoy.extensions.compression.zstd.compressor.v3.Zstd",
    .encoding = "zstd",
    .stat_name = "zstd",
    .compresses = true,
    .compile = compile_out,
    .free = free_dicts,
    .open = open_out,
    .run = run_out,
    .close = codec_close,
};

const struct body_library_ops zstd_decompressor = {
    .type_name = "envoy.extensions.compression.zstd.decompressor.v3.Zstd",
    .encoding = "zstd",
    .stat_name = "zstd",
    .errors = &error_table,
    .compile = compile_in,
    .free = free_dicts,
    .open = open_in,
    .run = run_in,
    .close = codec_close,
};
