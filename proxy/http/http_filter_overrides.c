#include "api-protos/message.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "proxy/http/http_filter.h"
#include "proxy/network/network_filter.h"

typedef Envoy__Config__Route__V3__FilterConfig FilterConfig;
/* All map<string, Any> entries look alike; a virtual host's stands for them. */
typedef Envoy__Config__Route__V3__VirtualHost__TypedPerFilterConfigEntry Entry;

/* The filter's own message of this level. */
static void compile_config(const struct http_filter_env *env, struct http_filter_override *o,
                           const struct pb_any *any, bool optional, struct errors *e)
{
    o->ops = http_filter_find_route(any->type_name);
    if (!o->ops && optional) {
        errors_warn(e, NULL, "optional per-route configuration %.*s is not supported and left out",
                    STR_ARG(any->type_name));
    } else if (!o->ops || !any->message) {
        errors_add(e, NULL, "per-route configuration %.*s is not supported",
                   STR_ARG(any->type_name));
    } else {
        o->config = o->ops->compile_route(env, any->message, e);
    }
}

static void compile_override(const struct http_filter_env *env, struct http_filter_override *o,
                             const Entry *entry, struct arena *scratch, struct errors *e)
{
    struct pb_any any;
    enum pb_any_status st = pb_any_unpack(entry->value, scratch, e, env->compile->pb, &any);
    o->name = arena_str(env->arena, str_of(entry->key));
    if (st == PB_ANY_INVALID)
        return;
    if (st == PB_ANY_EMPTY) {
        errors_add(e, NULL, "a configuration is required");
        return;
    }
    if (any.type != &envoy__config__route__v3__filter_config__descriptor) {
        compile_config(env, o, &any, false, e);
        return;
    }
    const FilterConfig *fc = (const void *)any.message;
    o->has_disabled = fc->disabled;
    o->disabled = fc->disabled;
    size_t mark = errors_push(e, "config");
    st = pb_any_unpack(fc->config, scratch, e, env->compile->pb, &any);
    if (st == PB_ANY_EMPTY && !fc->disabled)
        errors_add(e, NULL, "a configuration or disabled is required");
    else if (st == PB_ANY_OK || st == PB_ANY_UNKNOWN)
        compile_config(env, o, &any, fc->is_optional, e);
    errors_pop(e, mark);
}

struct http_filter_overrides *http_filter_overrides_compile(const struct http_filter_env *env,
                                                            void *const *entries, size_t num,
                                                            struct errors *e)
{
    if (!num)
        return NULL;
    struct http_filter_overrides *o = ARENA_NEW(env->arena, struct http_filter_overrides);
    struct arena scratch;
    arena_init(&scratch, 0);
    o->v = arena_zalloc(env->arena, num * sizeof(*o->v));
    for (size_t i = 0; i < num; i++) {
        const Entry *entry = entries[i];
        size_t mark = errors_push_key(e, NULL, str_of(entry->key));
        compile_override(env, &o->v[o->n], entry, &scratch, e);
        o->n++;
        errors_pop(e, mark);
    }
    arena_cleanup(&scratch);
    return o;
}

void http_filter_overrides_free(struct http_filter_overrides *o)
{
    for (size_t i = 0; o && i < o->n; i++) {
        if (o->v[i].config && o->v[i].ops->free_route)
            o->v[i].ops->free_route(o->v[i].config);
        o->v[i].config = NULL;
    }
}

const struct http_filter_override *http_filter_overrides_find(const struct http_filter_overrides *o,
                                                              struct str name)
{
    for (size_t i = 0; o && i < o->n; i++) {
        if (str_eq(o->v[i].name, name))
            return &o->v[i];
    }
    return NULL;
}
