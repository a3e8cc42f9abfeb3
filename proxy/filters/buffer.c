/* envoy.filters.http.buffer: a request goes on when all of it is there; one larger than the limit
 * is answered with 413. A body that ends without content-length gets one. */
#include "api-protos/wkt.h"
#include "envoy/extensions/filters/http/buffer/v3/buffer.pb-c.h"
#include "proxy/filters/filters.h"

typedef Envoy__Extensions__Filters__Http__Buffer__V3__Buffer Buffer;
typedef Envoy__Extensions__Filters__Http__Buffer__V3__BufferPerRoute BufferPerRoute;

struct buffer_config {
    uint32_t max_bytes;
    bool disabled; /* per route */
};

struct buffer_state {
    uint64_t received;
};

static struct buffer_config *config_of(const struct http_filter_env *env, const Buffer *m,
                                       struct errors *e)
{
    struct buffer_config *c = ARENA_NEW(env->arena, struct buffer_config);
    if (!m || !m->max_request_bytes || m->max_request_bytes->value == 0)
        errors_add(e, "max_request_bytes", "must be greater than 0");
    else
        c->max_bytes = m->max_request_bytes->value;
    return c;
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    return config_of(env, msg, e);
}

static void *compile_route(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const BufferPerRoute *m = msg;
    struct buffer_config *c;
    size_t mark;
    switch (m->override_case) {
    case ENVOY__EXTENSIONS__FILTERS__HTTP__BUFFER__V3__BUFFER_PER_ROUTE__OVERRIDE_DISABLED:
        if (!m->disabled)
            errors_add(e, "disabled", "must be true");
        c = ARENA_NEW(env->arena, struct buffer_config);
        c->disabled = true;
        return c;
    case ENVOY__EXTENSIONS__FILTERS__HTTP__BUFFER__V3__BUFFER_PER_ROUTE__OVERRIDE_BUFFER:
        mark = errors_push(e, "buffer");
        c = config_of(env, m->buffer, e);
        errors_pop(e, mark);
        return c;
    default:
        errors_add(e, NULL, "disabled or buffer is required");
        return NULL;
    }
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct buffer_config *own = http_filter_route_config(f);
    const struct buffer_config *c = own ? own : f->config;
    if (end || c->disabled || h->upgrade)
        return FILTER_CONTINUE;
    f->state = ARENA_NEW(h->arena, struct buffer_state);
    http_filter_set_request_limit(f, c->max_bytes);
    return FILTER_COLLECT;
}

static void add_length(struct http_filter *f)
{
    const struct buffer_state *s = f->state;
    struct headers *h = http_filter_request(f);
    if (headers_known(h, HDR_CONTENT_LENGTH))
        return;
    headers_remove_known(h, HDR_TRANSFER_ENCODING);
    headers_add_known(h, HDR_CONTENT_LENGTH,
                      arena_printf(h->arena, "%llu", (unsigned long long)s->received));
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    struct buffer_state *s = f->state;
    if (!s)
        return FILTER_CONTINUE;
    s->received += b->len;
    if (!end)
        return FILTER_COLLECT;
    add_length(f);
    return FILTER_CONTINUE;
}

const struct http_filter_ops buffer_filter = {
    .name = "envoy.filters.http.buffer",
    .type_name = "envoy.extensions.filters.http.buffer.v3.Buffer",
    .route_type_name = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    .upstream = true,
    .compile = compile,
    .compile_route = compile_route,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
};
