#include "proxy/http/local_reply.h"

#include "api-protos/wkt.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proxy/http/grpc_reply.h"
#include "proxy/observe/format_string.h"
#include "proxy/observe/log_filter.h"
#include "proxy/router/headers_mutation.h"
#include "tls/data_source.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__LocalReplyConfig Config;
typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ResponseMapper Mapper;

enum { BODY_MAX = 1024 * 1024 };

struct mapper {
    struct log_filter *filter;
    unsigned status; /* 0: as it is */
    bool has_body;
    struct str body;
    struct headers_mutation *headers;
    bool has_format; /* overrides the format of all */
    struct format_string format;
};

struct local_reply {
    struct mapper *mappers;
    size_t num_mappers;
    bool has_format;
    struct format_string format;
    struct regex_list regexes;
};

/* --- compiling ---------------------------------------------------------------------------------
 */

static bool compile_format(struct format_string *f, struct arena *a, const void *msg,
                           const char *field, const struct pb_opts *pb, struct errors *e)
{
    if (!msg)
        return false;
    size_t mark = errors_push(e, field);
    bool ok = format_string_compile(f, a, msg, pb, e);
    errors_pop(e, mark);
    return ok;
}

static void compile_body(struct mapper *out, struct arena *a, const Mapper *m, struct errors *e)
{
    struct data_source body;
    /* A text of no bytes is one: it empties the body. */
    if (m->body->specifier_case == ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING &&
        !m->body->inline_string[0]) {
        out->has_body = true;
        out->body = STR("");
        return;
    }
    if (!data_source_read(m->body, a, e, "body", &body))
        return;
    if (body.bytes.len > BODY_MAX)
        errors_add(e, "body", "has %zu bytes, %d are allowed", body.bytes.len, BODY_MAX);
    out->has_body = true;
    out->body = body.bytes;
}

static void compile_mapper(struct local_reply *l, struct mapper *out, struct arena *a,
                           const Mapper *m, const struct pb_opts *pb, struct errors *e)
{
    if (m->filter) {
        size_t mark = errors_push(e, "filter");
        out->filter = log_filter_compile(a, m->filter, &l->regexes, e);
        errors_pop(e, mark);
    } else {
        errors_add(e, "filter", "is required");
    }
    out->status = wkt_u32(m->status_code, 0);
    if (m->body)
        compile_body(out, a, m, e);
    out->has_format = compile_format(&out->format, a, m->body_format_override,
                                     "body_format_override", pb, e);
    out->headers = headers_mutation_compile(a, (void *const *)m->headers_to_add,
                                            m->n_headers_to_add, NULL, 0, "headers_to_add", NULL,
                                            e);
}

struct local_reply *local_reply_compile(struct arena *a, const void *msg, const struct pb_opts *pb,
                                        struct errors *e)
{
    const Config *m = msg;
    size_t before = e->num_errors;
    struct local_reply *l = ARENA_NEW(a, struct local_reply);
    l->num_mappers = m->n_mappers;
    l->mappers = arena_zalloc(a, (m->n_mappers + 1) * sizeof(*l->mappers));
    for (size_t i = 0; i < m->n_mappers; i++) {
        size_t mark = errors_push_index(e, "mappers", i);
        compile_mapper(l, &l->mappers[i], a, m->mappers[i], pb, e);
        errors_pop(e, mark);
    }
    l->has_format = compile_format(&l->format, a, m->body_format, "body_format", pb, e);
    if (e->num_errors == before)
        return l;
    local_reply_cleanup(l);
    return NULL;
}

void local_reply_cleanup(struct local_reply *l)
{
    if (l)
        regex_list_free(&l->regexes);
}

/* --- the reply ---------------------------------------------------------------------------------
 */

static const struct mapper *find_mapper(const struct local_reply *l, const struct stream_info *si)
{
    for (size_t i = 0; i < l->num_mappers; i++) {
        if (log_filter_pass(l->mappers[i].filter, si))
            return &l->mappers[i];
    }
    return NULL;
}

static struct str put_format(const struct format_string *f, struct str body, struct stream_info *si,
                             struct arena *a)
{
    struct buffer b;
    buffer_init(&b);
    si->local_reply_body = body;
    format_string_append(f, si, &b);
    si->local_reply_body = STR_NULL;
    char *p = arena_bytes(a, b.len + 1);
    struct str text = str_n(p, b.len);
    buffer_copy_out(&b, 0, p, b.len);
    buffer_cleanup(&b);
    return text;
}

static struct str default_type(const struct format_string *f)
{
    if (f->content_type.len)
        return f->content_type;
    return f->json ? STR("application/json") : STR("text/plain");
}

static struct str content_type_of(const struct headers *h)
{
    struct str value;
    return headers_value(h, STR("content-type"), h->arena, &value) ? value : STR_NULL;
}

/* What the configuration makes of it. The mapper's headers are made with the first status, its
 * format with the new one. */
static struct str map_reply(const struct local_reply *l, struct headers *h, struct str body,
                            struct str *type, bool grpc, struct stream_info *si)
{
    const struct mapper *m = find_mapper(l, si);
    const struct format_string *f = l->has_format ? &l->format : NULL;
    if (m) {
        headers_mutation_apply(m->headers, h, si);
        if (m->status)
            h->status = (uint16_t)m->status;
        si->response_code = h->status;
        body = m->has_body ? m->body : body;
        f = m->has_format ? &m->format : f;
    }
    if (!f)
        return body;
    *type = default_type(f);
    body = put_format(f, body, si, h->arena);
    if (grpc && f->json) /* a message is no line */
        body.len--;
    return body;
}

/* A gRPC client understands trailers only. */
static void as_grpc(struct headers *h, struct str body)
{
    headers_set_known(h, HDR_CONTENT_TYPE, STR("application/grpc"));
    if (!headers_known(h, HDR_GRPC_STATUS))
        headers_add_known(h, HDR_GRPC_STATUS,
                          arena_printf(h->arena, "%u", grpc_status_of_http(h->status)));
    if (body.len)
        headers_set_known(h, HDR_GRPC_MESSAGE, grpc_message_encode(h->arena, body));
    headers_remove_known(h, HDR_CONTENT_LENGTH);
    h->status = 200;
}

struct str local_reply_finish(const struct local_reply *l, struct headers *h, struct str body,
                              bool grpc, struct stream_info *si)
{
    struct str text = body, type = STR("text/plain");
    struct str type_before = content_type_of(h);
    if (l) {
        si->response = h;
        si->response_code = h->status;
        text = map_reply(l, h, body, &type, grpc, si);
    }
    if (grpc) {
        as_grpc(h, text);
        text = STR_NULL;
    } else if (text.len) {
        struct str now = content_type_of(h);
        bool rewritten = !str_eq(text, body) && str_eq(now, type_before);
        if (!now.len || rewritten)
            headers_set_known(h, HDR_CONTENT_TYPE, type);
        headers_set_known(h, HDR_CONTENT_LENGTH, arena_printf(h->arena, "%zu", text.len));
    } else {
        headers_remove_known(h, HDR_CONTENT_LENGTH);
    }
    si->response_code = h->status;
    return text;
}
