/* envoy.filters.http.set_filter_state: leaves texts made of a request in its filter state, where
 * routes and hash policies look for them. */
#include "envoy/extensions/filters/common/set_filter_state/v3/value.pb-c.h"
#include "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.pb-c.h"
#include "proxy/filters/filters.h"
#include "proxy/http/stream.h"
#include "proxy/observe/format_string.h"

typedef Envoy__Extensions__Filters__Http__SetFilterState__V3__Config Config;
typedef Envoy__Extensions__Filters__Common__SetFilterState__V3__FilterStateValue Value;

struct entry {
    struct str key;
    struct format_string value;
    bool skip_if_empty;
};

struct set_filter_state_config {
    struct entry *v;
    size_t n;
};

static void compile_entry(struct entry *out, const struct http_filter_env *env, const Value *m,
                          struct errors *e)
{
    out->key = arena_str(env->arena, str_of(m->object_key));
    out->skip_if_empty = m->skip_if_empty;
    if (!out->key.len)
        errors_add(e, "object_key", "must not be empty");
    else if (!m->factory_key[0]) /* a key that the proxy itself would look at */
        errors_add(e, "object_key", "'%s' without factory_key is not supported", m->object_key);
    else if (!str_eq(str_of(m->factory_key), STR("envoy.string")))
        errors_add(e, "factory_key", "'%s' is not supported: envoy.string is", m->factory_key);
    if (!m->format_string) {
        errors_add(e, "format_string", "is required");
        return;
    }
    size_t mark = errors_push(e, "format_string");
    (void)format_string_compile(&out->value, env->arena, m->format_string, env->compile->pb, e);
    errors_pop(e, mark);
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const Config *m = msg;
    struct set_filter_state_config *c = ARENA_NEW(env->arena, struct set_filter_state_config);
    if (!m)
        return c;
    c->n = m->n_on_request_headers;
    c->v = arena_zalloc(env->arena, (c->n + 1) * sizeof(*c->v));
    for (size_t i = 0; i < c->n; i++) {
        size_t mark = errors_push_index(e, "on_request_headers", i);
        compile_entry(&c->v[i], env, m->on_request_headers[i], e);
        errors_pop(e, mark);
    }
    return c;
}

static struct str evaluate(const struct format_string *f, const struct stream_info *si,
                           struct arena *a)
{
    struct buffer b;
    buffer_init(&b);
    format_string_append(f, si, &b);
    size_t n = b.len;
    char *p = arena_bytes(a, n + 1);
    (void)buffer_copy_out(&b, 0, p, n);
    buffer_cleanup(&b);
    return str_n(p, n);
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct set_filter_state_config *c = f->config;
    struct stream_info *si = &f->stream->info;
    for (size_t i = 0; i < c->n; i++) {
        struct str value = evaluate(&c->v[i].value, si, h->arena);
        if (value.len || !c->v[i].skip_if_empty)
            filter_state_set(&si->filter_state, h->arena, c->v[i].key, value);
    }
    return FILTER_CONTINUE;
}

const struct http_filter_ops set_filter_state_filter = {
    .name = "envoy.filters.http.set_filter_state",
    .type_name = "envoy.extensions.filters.http.set_filter_state.v3.Config",
    .compile = compile,
    .on_request_headers = on_request_headers,
};
