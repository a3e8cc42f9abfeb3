#include "api-protos/message.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proxy/http/http_filter.h"
#include "proxy/network/network_filter.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpFilter HttpFilter;

static void compile_entry(const struct http_filter_env *env, const HttpFilter *f, bool last,
                          struct arena *scratch, struct http_filter_list *out, struct errors *e)
{
    struct pb_any any;
    size_t mark = errors_push(e, "typed_config");
    enum pb_any_status st = pb_any_unpack(f->typed_config, scratch, e, env->compile->pb, &any);
    errors_pop(e, mark);
    if (st == PB_ANY_INVALID)
        return;
    const struct http_filter_ops *ops = st == PB_ANY_UNKNOWN
                                            ? NULL
                                            : http_filter_find(any.type_name, str_of(f->name));
    if (!ops || (env->upstream && !ops->upstream)) {
        if (f->is_optional)
            errors_warn(e, NULL, "optional HTTP filter '%s' is not supported%s and left out",
                        f->name, ops ? " here" : "");
        else
            errors_add(e, NULL, "HTTP filter '%s' (%.*s) is not supported%s", f->name,
                       STR_ARG(any.type_name), ops ? " here" : "");
        return;
    }
    if (ops->terminal != last)
        errors_add(e, NULL,
                   last ? "the last filter must be a terminal one, not '%s'"
                        : "terminal filter '%s' must be the last",
                   f->name);
    if (ops->terminal && f->disabled)
        errors_add(e, "disabled", "a terminal filter cannot be disabled");
    size_t before = e->num_errors;
    mark = errors_push(e, "typed_config");
    void *config = ops->compile(env, st == PB_ANY_OK ? any.message : NULL, e);
    errors_pop(e, mark);
    if (e->num_errors > before) {
        if (config && ops->free)
            ops->free(config);
        return;
    }
    if (ops->terminal) {
        out->terminated = true;
        out->terminal = config;
        out->terminal_ops = ops;
        return;
    }
    out->v[out->n++] = (struct http_filter_config){
        .ops = ops,
        .name = arena_str(env->arena, str_of(f->name)),
        .config = config,
        .disabled = f->disabled,
    };
}

void http_filter_list_compile(const struct http_filter_env *env, void *const *filters, size_t num,
                              const char *field, struct http_filter_list *out, struct errors *e)
{
    struct arena scratch;
    *out = (struct http_filter_list){.v = arena_zalloc(env->arena, (num + 1) * sizeof(*out->v))};
    arena_init(&scratch, 0);
    for (size_t i = 0; i < num; i++) {
        size_t mark = errors_push_index(e, field, i);
        compile_entry(env, filters[i], i + 1 == num, &scratch, out, e);
        errors_pop(e, mark);
    }
    arena_cleanup(&scratch);
}

void http_filter_list_free(struct http_filter_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].config && l->v[i].ops->free)
            l->v[i].ops->free(l->v[i].config);
        l->v[i].config = NULL;
    }
    if (l->terminal && l->terminal_ops->free)
        l->terminal_ops->free(l->terminal);
    l->terminal = NULL;
}
