#include "proxy/listener/listener_filter.h"

#include "envoy/config/listener/v3/listener_components.pb-c.h"
#include "proxy/listener/filter_predicate.h"

static const struct listener_filter_ops *const filters[] = {
    &original_dst_filter,   &original_src_filter,   &tls_inspector_filter,
    &http_inspector_filter, &proxy_protocol_filter,
};

/* By the type of its configuration; by its name where there is none, as the old form was. */
static const struct listener_filter_ops *find(const char *name, const struct pb_any *any,
                                              bool by_name)
{
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        if (by_name ? strcmp(filters[i]->name, name) == 0
                    : str_eq(str_of(filters[i]->type_name), any->type_name))
            return filters[i];
    }
    return NULL;
}

void listener_filter_compile(struct listener_filter *f, const struct compile_env *env,
                             struct arena *a, const Envoy__Config__Listener__V3__ListenerFilter *m,
                             struct errors *e)
{
    struct pb_any any;
    size_t mark = errors_push(e, "typed_config");
    enum pb_any_status st = pb_any_unpack(m->typed_config, a, e, env->pb, &any);
    f->ops = st == PB_ANY_INVALID ? NULL : find(m->name, &any, st == PB_ANY_EMPTY);
    if (f->ops)
        f->config = f->ops->compile(env, a, st == PB_ANY_OK ? any.message : NULL, e);
    else if (st != PB_ANY_INVALID)
        errors_add(e, NULL, "listener filter '%s' (%.*s) is not supported", m->name,
                   STR_ARG(any.type_name));
    errors_pop(e, mark);
    if (!m->filter_disabled)
        return;
    mark = errors_push(e, "filter_disabled");
    f->disabled = filter_predicate_compile(a, m->filter_disabled, e);
    errors_pop(e, mark);
}

void listener_filter_original_dst(struct listener_filter *f, const struct compile_env *env,
                                  struct arena *a)
{
    *f = (struct listener_filter){.ops = &original_dst_filter};
    f->config = f->ops->compile(env, a, NULL, NULL);
}

void listener_filter_release(struct listener_filter *f)
{
    if (f->ops && f->ops->release && f->config)
        f->ops->release(f->config);
    f->config = NULL;
}

bool listener_filter_disabled(const struct listener_filter *f, const struct addr *local)
{
    return f->disabled && filter_predicate_matches(f->disabled, local);
}
