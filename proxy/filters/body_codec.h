/* Body codecs: the compression libraries behind one struct, for the filters compressor and
 * decompressor. A library's settings are compiled once (struct body_library, immutable); each
 * message that is changed has a codec of its own (struct body_codec), which holds no more of the
 * message than the library's window. One file a library; body_codec.c finds them. */
#pragma once

#include "base/buffer.h"
#include "base/errors.h"
#include "base/stats.h"

struct body_codec;
struct http_filter_env;
struct pb_any;

enum body_result {
    BODY_OK,    /* all of the input was taken */
    BODY_FULL,  /* the output limit was reached; input, or output inside the codec, is left */
    BODY_ERROR, /* the input is not what it should be; codec->error says which stat counts it */
};

struct body_library_ops {
    const char *type_name; /* of its configuration message */
    const char *encoding;  /* as in content-encoding */
    const char *stat_name; /* in names of stats */
    bool compresses;
    struct stats_table *errors; /* a decompressor's: struct body_codec.error is an index of it */
    /* compile makes the settings in the arena; NULL after errors. Main. */
    struct body_library *(*compile)(struct arena *a, const void *msg, struct errors *e);
    /* free gives back what is not in the arena. May be NULL. Any thread. */
    void (*free)(struct body_library *l);
    /* open makes a codec on the heap; NULL where the library refuses its settings. Worker. */
    struct body_codec *(*open)(const struct body_library *l);
    /* run takes `in` and appends to `out`. A compressor takes all of it and gives out all that it
     * has, so that the peer can read on (`end`: and finishes). A decompressor looks at `max` after
     * each chunk and stops when `out` holds more. */
    enum body_result (*run)(struct body_codec *c, struct buffer *in, struct buffer *out, bool end,
                            size_t max);
    void (*close)(struct body_codec *c);
};

/* Settings. Each library's own struct begins with it. */
struct body_library {
    const struct body_library_ops *ops;
    uint32_t chunk;     /* bytes the library is given room for at a time */
    uint32_t max_ratio; /* a decompressor's: output to input */
};

struct body_codec {
    const struct body_library *library;
    uint32_t error;
};

/* One of each library and direction. */
extern const struct body_library_ops gzip_compressor, gzip_decompressor;
extern const struct body_library_ops brotli_compressor, brotli_decompressor;
extern const struct body_library_ops zstd_compressor, zstd_decompressor;

struct Envoy__Config__Core__V3__TypedExtensionConfig;

/* body_library_compile compiles what `m` names into env->arena; `field` is its name below the
 * current path, for errors (missing, unknown, of the other direction). NULL after errors. Main. */
struct body_library *
body_library_compile(const struct http_filter_env *env,
                     const struct Envoy__Config__Core__V3__TypedExtensionConfig *m, bool compresses,
                     const char *field, struct errors *e);

/* body_library_free gives back what the settings hold beside the arena; NULL is fine. Any thread.
 */
void body_library_free(struct body_library *l);

/* body_codec_close frees a codec; *c becomes NULL. */
void body_codec_close(struct body_codec **c);
