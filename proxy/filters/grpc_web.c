/* envoy.filters.http.grpc_web: gRPC-Web clients, binary or base64, before a gRPC upstream. Trailers
 * travel at the end of the body (PROTOCOL-WEB.md of gRPC); an answer that is none of gRPC becomes
 * grpc-status and grpc-message. */
#include "base/base64.h"
#include "proxy/filters/filters.h"
#include "proxy/filters/grpc_calls.h"
#include "proxy/filters/grpc_frames.h"
#include "proxy/http/grpc_reply.h"
#include "proxy/http/stream.h"

#define WEB "application/grpc-web"
#define WEB_PROTO "application/grpc-web+proto"
#define WEB_TEXT "application/grpc-web-text"
#define WEB_TEXT_PROTO "application/grpc-web-text+proto"

enum {
    MAX_MESSAGE = 16384, /* of a body that becomes grpc-message; more is dropped */
    TRAILER_FRAME = 0x80,
};

struct grpc_web_config {
    char unused;
};

struct grpc_web_state {
    struct grpc_call call;
    bool text_request, text_response;
    bool rewriting; /* the response is none of gRPC */
    uint8_t num_rest;
    char rest[4];       /* base64 of the request that is not yet a whole group */
    struct buffer body; /* of a response that is being rewritten */
    struct buffer open; /* of a message under way: less than 3 bytes, which make no group yet */
    struct grpc_frames frames;
};

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    return ARENA_NEW(env->arena, struct grpc_web_config);
}

/* --- the request --- */

static bool is_text(struct str type)
{
    return str_eq(type, STR(WEB_TEXT)) || str_eq(type, STR(WEB_TEXT_PROTO));
}

static bool is_web(const struct headers *h)
{
    const struct header *type = headers_known(h, HDR_CONTENT_TYPE);
    return type && h->path.p &&
           (str_eq(type->value, STR(WEB)) || str_eq(type->value, STR(WEB_PROTO)) ||
            is_text(type->value));
}

static void start_counting(struct http_filter *f, struct grpc_web_state *s, struct headers *h)
{
    struct str service, method;
    if (grpc_path_split(h->path, &service, &method) && grpc_call_init(&s->call, f, "grpc-web."))
        s->call.method = arena_printf(h->arena, "%.*s.%.*s", STR_ARG(service), STR_ARG(method));
}

static enum filter_status on_request_headers(struct http_filter *f, struct headers *h, bool end)
{
    if (!is_web(h))
        return FILTER_CONTINUE;
    struct grpc_web_state *s = ARENA_NEW(h->arena, struct grpc_web_state);
    const struct header *accept = headers_find(h, STR("accept"));
    f->state = s;
    f->stream->grpc_bridged = true;
    buffer_init(&s->body);
    buffer_init(&s->open);
    s->text_request = is_text(headers_known(h, HDR_CONTENT_TYPE)->value);
    s->text_response = accept && is_text(accept->value);
    start_counting(f, s, h);
    headers_remove_known(h, HDR_CONTENT_LENGTH);
    headers_set_known(h, HDR_CONTENT_TYPE, STR("application/grpc"));
    headers_set_known(h, HDR_TE, STR("trailers"));
    if (!headers_find(h, STR("grpc-accept-encoding")))
        headers_add(h, STR("grpc-accept-encoding"), STR("identity"));
    return FILTER_CONTINUE;
}

static enum filter_status refuse(struct http_filter *f, struct str details)
{
    http_filter_reply(f, 400, 0, details, STR("Bad gRPC-web request, invalid base64 data."), NULL,
                      NULL);
    return FILTER_PAUSE;
}

/* Decodes all whole groups that are there; false if they are no base64. */
static bool decode(struct grpc_web_state *s, struct buffer *b)
{
    struct buffer out;
    buffer_init(&out);
    bool ok = true, padded = false;
    while (b->len && ok) {
        struct str piece = buffer_peek(b);
        for (size_t i = 0; i < piece.len && ok; i++) {
            char group[3];
            s->rest[s->num_rest++] = piece.p[i];
            if (s->num_rest < 4)
                continue;
            int n = padded ? -1 : base64_group(s->rest, group);
            ok = n > 0;
            padded = n > 0 && n < 3;
            if (ok)
                buffer_add(&out, group, (size_t)n);
            s->num_rest = 0;
        }
        buffer_drain(b, piece.len);
    }
    buffer_move(b, &out, out.len);
    buffer_cleanup(&out);
    return ok;
}

static enum filter_status on_request_data(struct http_filter *f, struct buffer *b, bool end)
{
    struct grpc_web_state *s = f->state;
    if (!s || !s->text_request)
        return FILTER_CONTINUE;
    if (end && (b->len + s->num_rest) % 4 != 0)
        return refuse(f, STR("grpc_base_64_decode_failed_bad_size"));
    if (!decode(s, b))
        return refuse(f, STR("grpc_base_64_decode_failed"));
    return b->len || end ? FILTER_CONTINUE : FILTER_CONSUMED;
}

/* --- the response --- */

static bool is_proto_web(const struct headers *h)
{
    const struct header *type = headers_known(h, HDR_CONTENT_TYPE);
    if (h->status != 200 || !type)
        return false;
    ptrdiff_t at = str_chr(type->value, ';');
    struct str plain = str_trim(at < 0 ? type->value : str_n(type->value.p, (size_t)at));
    return str_ieq(plain, STR(WEB)) || str_ieq(plain, STR(WEB_PROTO));
}

static enum filter_status on_response_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct grpc_web_state *s = f->state;
    if (!s)
        return FILTER_CONTINUE;
    grpc_call_status(&s->call, h);
    s->rewriting = !end && !grpc_is_response(h, end) && !is_proto_web(h);
    headers_remove_known(h, HDR_CONTENT_LENGTH);
    headers_set_known(h, HDR_CONTENT_TYPE, s->text_response ? STR(WEB_TEXT_PROTO) : STR(WEB_PROTO));
    return s->rewriting ? FILTER_COLLECT : FILTER_CONTINUE;
}

/* The body becomes the head's grpc-message. */
static void rewrite(struct http_filter *f)
{
    struct grpc_web_state *s = f->state;
    struct headers *h = http_filter_response(f);
    size_t len = s->body.len;
    char *text = arena_bytes(h->arena, len + 1);
    (void)buffer_copy_out(&s->body, 0, text, len);
    buffer_cleanup(&s->body);
    s->rewriting = false;
    headers_set_known(h, HDR_GRPC_MESSAGE, grpc_message_encode(h->arena, str_n(text, len)));
    headers_set_known(h, HDR_GRPC_STATUS,
                      arena_printf(h->arena, "%u", grpc_status_of_http(h->status)));
    headers_set_known(h, HDR_CONTENT_LENGTH, STR("0"));
}

/* The first len bytes; a group that is not whole is padded. */
static void add_base64(struct buffer *to, struct buffer *from, size_t len)
{
    char in[3072], out[4096];
    while (len) {
        size_t n = buffer_copy_out(from, 0, in, len < sizeof(in) ? len : sizeof(in));
        buffer_drain(from, n);
        buffer_add(to, out, base64_write(in, n, out));
        len -= n;
    }
}

/* Each message is encoded for itself, so that the client can decode it when it has come; as it
 * comes, for its length is the upstream's word. */
static void encode_messages(struct grpc_web_state *s, struct buffer *b)
{
    struct buffer out;
    buffer_init(&out);
    while (b->len) {
        size_t n = grpc_frames_rest(&s->frames, b);
        struct buffer part;
        buffer_init(&part);
        buffer_move(&part, b, n);
        (void)grpc_frames_inspect(&s->frames, &part);
        buffer_move(&s->open, &part, part.len);
        add_base64(&out, &s->open, s->open.len - (s->frames.have ? s->open.len % 3 : 0));
    }
    buffer_move(b, &out, out.len);
}

static enum filter_status on_response_data(struct http_filter *f, struct buffer *b, bool end)
{
    struct grpc_web_state *s = f->state;
    if (!s)
        return FILTER_CONTINUE;
    if (s->rewriting) {
        size_t room = MAX_MESSAGE - s->body.len;
        buffer_move(&s->body, b, room);
        buffer_drain(b, b->len);
        if (!end)
            return FILTER_COLLECT;
        rewrite(f);
        return FILTER_CONTINUE;
    }
    if (!s->text_response)
        return FILTER_CONTINUE;
    encode_messages(s, b);
    return b->len || end ? FILTER_CONTINUE : FILTER_CONSUMED;
}

static enum filter_status on_response_trailers(struct http_filter *f, struct headers *h)
{
    struct grpc_web_state *s = f->state;
    struct buffer text, frame;
    if (!s)
        return FILTER_CONTINUE;
    grpc_call_status(&s->call, h);
    if (s->rewriting) {
        rewrite(f);
        return FILTER_CONTINUE;
    }
    buffer_init(&text);
    buffer_init(&frame);
    HEADERS_FOREACH(field, h)
        buffer_printf(&text, "%.*s:%.*s\r\n", STR_ARG(field->name), STR_ARG(field->value));
    unsigned char prefix[5] = {TRAILER_FRAME, (unsigned char)(text.len >> 24),
                               (unsigned char)(text.len >> 16), (unsigned char)(text.len >> 8),
                               (unsigned char)text.len};
    buffer_prepend(&text, prefix, sizeof(prefix));
    if (s->text_response)
        add_base64(&frame, &text, text.len);
    else
        buffer_move(&frame, &text, text.len);
    http_filter_inject_response(f, &frame, true);
    return FILTER_CONSUMED;
}

static void on_complete(struct http_filter *f)
{
    struct grpc_web_state *s = f->state;
    if (!s)
        return;
    buffer_cleanup(&s->body);
    buffer_cleanup(&s->open);
}

const struct http_filter_ops grpc_web_filter = {
    .name = "envoy.filters.http.grpc_web",
    .type_name = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
    .compile = compile,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
    .on_complete = on_complete,
};
