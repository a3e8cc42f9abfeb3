#include "proxy/filters/body_codec.h"

#include "api-protos/message.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "proxy/http/http_filter.h"
#include "proxy/network/network_filter.h"

static const struct body_library_ops *const libraries[] = {
    &brotli_compressor, &brotli_decompressor, &gzip_compressor,
    &gzip_decompressor, &zstd_compressor,     &zstd_decompressor,
};

static const struct body_library_ops *find(struct str type_name, bool compresses)
{
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++) {
        if (libraries[i]->compresses == compresses &&
            str_eq(str_of(libraries[i]->type_name), type_name))
            return libraries[i];
    }
    return NULL;
}

static struct body_library *compile(const struct http_filter_env *env,
                                    const Google__Protobuf__Any *config, bool compresses,
                                    struct arena *scratch, struct errors *e)
{
    struct pb_any any;
    enum pb_any_status st = pb_any_unpack(config, scratch, e, env->compile->pb, &any);
    if (st == PB_ANY_INVALID)
        return NULL;
    if (st == PB_ANY_EMPTY) {
        errors_add(e, NULL, "a configuration is required");
        return NULL;
    }
    const struct body_library_ops *ops = find(any.type_name, compresses);
    if (!ops || st != PB_ANY_OK) {
        errors_add(e, NULL, "%s library %.*s is not supported",
                   compresses ? "compressor" : "decompressor", STR_ARG(any.type_name));
        return NULL;
    }
    return ops->compile(env->arena, any.message, e);
}

struct body_library *
body_library_compile(const struct http_filter_env *env,
                     const struct Envoy__Config__Core__V3__TypedExtensionConfig *m, bool compresses,
                     const char *field, struct errors *e)
{
    struct arena scratch;
    if (!m) {
        errors_add(e, field, "is required");
        return NULL;
    }
    size_t outer = errors_push(e, field);
    size_t mark = errors_push(e, "typed_config");
    arena_init(&scratch, 0);
    struct body_library *l = compile(env, m->typed_config, compresses, &scratch, e);
    arena_cleanup(&scratch);
    errors_pop(e, mark);
    errors_pop(e, outer);
    return l;
}

void body_library_free(struct body_library *l)
{
    if (l && l->ops->free)
        l->ops->free(l);
}

void body_codec_close(struct body_codec **c)
{
    if (*c)
        (*c)->library->ops->close(*c);
    *c = NULL;
}
