/* envoy.filters.http.grpc_stats: calls and messages of gRPC, counted in the stats of the cluster,
 * for each method or for all together; and the numbers of messages as filter state. */
#include "api-protos/wkt.h"
#include "envoy/extensions/filters/http/grpc_stats/v3/config.pb-c.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/grpc_calls.h"
#include "proxy/filters/grpc_frames.h"
#include "proxy/http/stream.h"

typedef Envoy__Extensions__Filters__Http__GrpcStats__V3__FilterConfig FilterConfig;
typedef Envoy__Config__Core__V3__GrpcMethodList MethodList;

struct grpc_method {
    struct str service, method;
};

struct grpc_stats_config {
    bool all_methods, emit_filter_state, replace_dots;
    struct grpc_method *allowed; /* counted with their names */
    size_t num_allowed;
};

struct grpc_stats_state {
    struct grpc_call call;
    bool request, response; /* has messages */
    bool grpc;              /* not Connect */
    struct grpc_frames frames[2];
};

static void compile_list(struct grpc_stats_config *c, const MethodList *m, struct arena *a)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_services; i++)
        n += m->services[i]->n_method_names;
    c->allowed = arena_zalloc(a, (n + 1) * sizeof(*c->allowed));
    for (size_t i = 0; i < m->n_services; i++) {
        for (size_t k = 0; k < m->services[i]->n_method_names; k++)
            c->allowed[c->num_allowed++] = (struct grpc_method){
                arena_str(a, str_of(m->services[i]->name)),
                arena_str(a, str_of(m->services[i]->method_names[k])),
            };
    }
}

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    const FilterConfig *m = msg;
    struct grpc_stats_config *c = ARENA_NEW(env->arena, struct grpc_stats_config);
    if (!m)
        return c;
    c->emit_filter_state = m->emit_filter_state;
    c->replace_dots = m->replace_dots_in_grpc_service_name;
    switch (m->per_method_stat_specifier_case) {
    case ENVOY__EXTENSIONS__FILTERS__HTTP__GRPC_STATS__V3__FILTER_CONFIG__PER_METHOD_STAT_SPECIFIER_INDIVIDUAL_METHOD_STATS_ALLOWLIST:
        compile_list(c, m->individual_method_stats_allowlist, env->arena);
        break;
    case ENVOY__EXTENSIONS__FILTERS__HTTP__GRPC_STATS__V3__FILTER_CONFIG__PER_METHOD_STAT_SPECIFIER_STATS_FOR_ALL_METHODS:
        c->all_methods = wkt_bool(m->stats_for_all_methods, false);
        break;
    default:
        break;
    }
    return c;
}

/* Messages of Connect have gRPC's prefixes, but its calls have no grpc-status. */
static bool counted(const struct headers *h)
{
    const struct header *type = headers_known(h, HDR_CONTENT_TYPE);
    return headers_is_grpc(h) || (type && str_starts(type->value, STR("application/connect+")));
}

static bool named(const struct grpc_stats_config *c, struct str service, struct str method)
{
    for (size_t i = 0; i < c->num_allowed; i++) {
        if (str_eq(c->allowed[i].service, service) && str_eq(c->allowed[i].method, method))
            return true;
    }
    return c->all_methods;
}

static struct str joined(const struct grpc_stats_config *c, struct arena *a, struct str service,
                         struct str method)
{
    char *p = arena_bytes(a, service.len + 1 + method.len);
    memcpy(p, service.p, service.len);
    for (size_t i = 0; c->replace_dots && i < service.len; i++)
        p[i] = p[i] == '.' ? '_' : p[i];
    p[service.len] = '.';
    memcpy(p + service.len + 1, method.p, method.len);
    return str_n(p, service.len + 1 + method.len);
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct grpc_stats_config *c = f->config;
    struct str service, method;
    if (!counted(h))
        return FILTER_CONTINUE;
    struct grpc_stats_state *s = ARENA_NEW(h->arena, struct grpc_stats_state);
    f->state = s;
    s->request = true;
    s->grpc = headers_is_grpc(h);
    if (!grpc_path_split(h->path, &service, &method) || !grpc_call_init(&s->call, f, "grpc."))
        return FILTER_CONTINUE;
    if (named(c, service, method))
        s->call.method = joined(c, h->arena, service, method);
    return FILTER_CONTINUE;
}

static void inspect(struct http_filter *f, bool response, const struct buffer *b)
{
    static const struct str names[] = {{"request_message_count", 21},
                                       {"response_message_count", 22}};
    const struct grpc_stats_config *c = f->config;
    struct grpc_stats_state *s = f->state;
    struct stream_info *si = &f->stream->info;
    uint64_t n = grpc_frames_inspect(&s->frames[response], b);
    if (!n)
        return;
    grpc_call_add(&s->call, names[response], n);
    if (c->emit_filter_state)
        filter_state_set(&si->filter_state, f->stream->arena, STR("envoy.filters.http.grpc_stats"),
                         arena_printf(f->stream->arena, "%llu,%llu",
                                      (unsigned long long)s->frames[0].count,
                                      (unsigned long long)s->frames[1].count));
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    const struct grpc_stats_state *s = f->state;
    if (s && s->request)
        inspect(f, false, b);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct grpc_stats_state *s = f->state;
    if (!s)
        return FILTER_CONTINUE;
    s->response = end ? headers_known(h, HDR_GRPC_STATUS) != NULL : h->status == 200 && counted(h);
    if (s->grpc)
        grpc_call_status(&s->call, h);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_data(struct http_filter *f, struct buffer *b, bool end)
{
    const struct grpc_stats_state *s = f->state;
    if (s && s->response)
        inspect(f, true, b);
    return FILTER_CONTINUE;
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    const struct grpc_stats_state *s = f->state;
    if (s && s->grpc)
        grpc_call_status(&s->call, h);
    return FILTER_CONTINUE;
}

const struct http_filter_ops grpc_stats_filter = {
    .name = "envoy.filters.http.grpc_stats",
    .type_name = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    .compile = compile,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
};
