#include "proxy/router/upstream_filters.h"

#include "base/obj.h"
#include "cluster/cluster_config.h"
#include "proxy/http/http_chain.h"
#include "proxy/http/stream.h"
#include "proxy/network/network_filter.h"

enum { FILTERED_MAGIC = 0x55504654 };

struct filtered {
    struct codec_stream cs; /* what the try sees; events and user are the try's */
    uint32_t magic;
    struct codec_stream *inner; /* NULL: over on the wire */
    struct stream *stream;
    struct http_chain chain;
    bool asked_end;    /* the try has given the end of the request */
    bool inner_end;    /* and it went out */
    bool begun;        /* the try was given a response's head */
    bool response_end; /* and its end */
    bool over;
};

static struct filtered *of(struct codec_stream *cs)
{
    struct filtered *x = (struct filtered *)cs;
    CHECK(x->magic == FILTERED_MAGIC);
    return x;
}

/* --- the end --- */

static void finish(struct filtered *x)
{
    struct codec_stream *inner = x->inner;
    if (x->over)
        return;
    x->over = true;
    x->inner = NULL;
    http_chain_complete(&x->chain);
    if (inner)
        inner->ops->reset(inner, RESET_LOCAL);
}

/* The try lets go of an exchange whose both ends it has seen; otherwise it resets it. */
static void response_ended(struct filtered *x)
{
    x->response_end = true;
    if (x->asked_end)
        finish(x);
}

/* --- what leaves the filters --- */

static void request_headers(void *user, struct headers *h, bool end)
{
    struct filtered *x = user;
    x->inner_end |= end;
    if (x->inner)
        x->inner->ops->headers(x->inner, h, end);
}

static void request_data(void *user, struct buffer *b, bool end)
{
    struct filtered *x = user;
    x->inner_end |= end;
    if (x->inner)
        x->inner->ops->data(x->inner, b, end);
    buffer_drain(b, b->len);
}

static void request_trailers(void *user, struct headers *h)
{
    struct filtered *x = user;
    x->inner_end = true;
    if (x->inner)
        x->inner->ops->trailers(x->inner, h);
}

static void response_headers(void *user, struct headers *h, bool end)
{
    struct filtered *x = user;
    x->begun = true;
    x->cs.events->on_headers(x->cs.user, h, end);
    if (end && !x->over)
        response_ended(x);
}

static void response_data(void *user, struct buffer *b, bool end)
{
    struct filtered *x = user;
    x->cs.events->on_data(x->cs.user, b, end);
    buffer_drain(b, b->len);
    if (end && !x->over)
        response_ended(x);
}

static void response_trailers(void *user, struct headers *h)
{
    struct filtered *x = user;
    x->cs.events->on_trailers(x->cs.user, h);
    if (!x->over)
        response_ended(x);
}

static void pause_request(void *user)
{
    stream_pause_request(((struct filtered *)user)->stream);
}

static void resume_request(void *user)
{
    stream_resume_request(((struct filtered *)user)->stream);
}

static void pause_response(void *user)
{
    struct filtered *x = user;
    if (x->inner)
        x->inner->ops->pause(x->inner);
}

static void resume_response(void *user)
{
    struct filtered *x = user;
    if (x->inner)
        x->inner->ops->resume(x->inner);
}

static void end_with_reset(struct filtered *x, enum reset_reason why, struct str details)
{
    const struct codec_events *events = x->cs.events;
    finish(x);
    events->on_reset(x->cs.user, why, details);
}

/* A filter's answer is one of the upstream for the router: it may be retried. Where a response has
 * begun there is no other: it is cut off. */
static void reply(void *user, unsigned status, uint64_t flags, struct str details, struct str body,
                  void (*add)(void *arg, struct headers *h), void *arg)
{
    struct filtered *x = user;
    struct codec_stream *inner = x->inner;
    struct headers *h;
    struct buffer b;
    if (x->begun) {
        x->stream->info.flags |= flags;
        end_with_reset(x, RESET_PROTOCOL_ERROR, details);
        return;
    }
    h = ARENA_NEW(x->stream->arena, struct headers);
    headers_init(h, x->stream->arena);
    h->status = (uint16_t)status;
    if (add)
        add(arg, h);
    if (body.len) {
        headers_add_known(h, HDR_CONTENT_LENGTH, arena_printf(h->arena, "%zu", body.len));
        headers_add_known(h, HDR_CONTENT_TYPE, STR("text/plain"));
    }
    x->inner = NULL;
    if (inner)
        inner->ops->reset(inner, RESET_LOCAL);
    x->stream->info.flags |= flags;
    http_chain_headers(&x->chain, HTTP_RESPONSE, h, body.len == 0);
    if (body.len == 0 || x->over)
        return;
    buffer_init(&b);
    buffer_add_str(&b, body);
    http_chain_data(&x->chain, HTTP_RESPONSE, &b, true);
    buffer_cleanup(&b);
}

static void request_too_large(void *user)
{
    reply(user, 413, 0, STR("request_payload_too_large"), STR("Payload Too Large"), NULL, NULL);
}

/* The head is still held, so that the router knows of no response. */
static void response_too_large(void *user)
{
    end_with_reset(user, RESET_OVERFLOW, STR("response_payload_too_large"));
}

static const struct http_chain_ends ends = {
    .headers = {request_headers, response_headers},
    .data = {request_data, response_data},
    .trailers = {request_trailers, response_trailers},
    .pause = {pause_request, pause_response},
    .resume = {resume_request, resume_response},
    .too_large = {request_too_large, response_too_large},
    .reply = reply,
};

/* --- what the try asks --- */

/* The router sends the same head with each try: what filters change is of one. */
static void op_headers(struct codec_stream *cs, const struct headers *h, bool end)
{
    struct filtered *x = of(cs);
    struct headers *own = ARENA_NEW(x->stream->arena, struct headers);
    x->asked_end |= end;
    headers_copy(own, h, x->stream->arena);
    http_chain_headers(&x->chain, HTTP_REQUEST, own, end);
}

static void op_data(struct codec_stream *cs, struct buffer *b, bool end)
{
    struct filtered *x = of(cs);
    x->asked_end |= end;
    http_chain_data(&x->chain, HTTP_REQUEST, b, end);
    buffer_drain(b, b->len);
}

static void op_trailers(struct codec_stream *cs, const struct headers *h)
{
    struct filtered *x = of(cs);
    struct headers *own = ARENA_NEW(x->stream->arena, struct headers);
    x->asked_end = true;
    headers_copy(own, h, x->stream->arena);
    http_chain_trailers(&x->chain, HTTP_REQUEST, own);
}

static void op_reset(struct codec_stream *cs, enum reset_reason why)
{
    finish(of(cs));
}

static void op_pause(struct codec_stream *cs)
{
    pause_response(of(cs));
}

static void op_resume(struct codec_stream *cs)
{
    resume_response(of(cs));
}

static void op_close_after(struct codec_stream *cs)
{
    struct filtered *x = of(cs);
    if (x->inner)
        x->inner->ops->close_after(x->inner);
}

static const struct codec_stream_ops ops = {
    .headers = op_headers,
    .data = op_data,
    .trailers = op_trailers,
    .reset = op_reset,
    .pause = op_pause,
    .resume = op_resume,
    .close_after = op_close_after,
};

/* --- what the codec tells --- */

/* After its last event the codec's own exchange is gone, unless the request has not ended. */
static void inner_ended(struct filtered *x)
{
    if (x->inner_end)
        x->inner = NULL;
}

static void on_informational(void *user, struct headers *h)
{
    struct filtered *x = user;
    x->cs.events->on_informational(x->cs.user, h);
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct filtered *x = user;
    if (end)
        inner_ended(x);
    http_chain_headers(&x->chain, HTTP_RESPONSE, h, end);
}

static void on_data(void *user, struct buffer *b, bool end)
{
    struct filtered *x = user;
    if (end)
        inner_ended(x);
    http_chain_data(&x->chain, HTTP_RESPONSE, b, end);
}

static void on_trailers(void *user, struct headers *h)
{
    struct filtered *x = user;
    inner_ended(x);
    http_chain_trailers(&x->chain, HTTP_RESPONSE, h);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct filtered *x = user;
    x->inner = NULL;
    if (x->over)
        return;
    finish(x);
    x->cs.events->on_reset(x->cs.user, why, detail);
}

static void on_above(void *user)
{
    struct filtered *x = user;
    x->cs.events->on_above(x->cs.user);
}

static void on_below(void *user)
{
    struct filtered *x = user;
    x->cs.events->on_below(x->cs.user);
}

static const struct codec_events inner_events = {
    .on_informational = on_informational,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_above,
    .on_below = on_below,
};

struct codec_stream *upstream_filters_wrap(struct codec_stream *inner, struct stream *s,
                                           const struct http_filter_list *filters,
                                           const struct codec_events *events, void *user)
{
    if (!filters || filters->n == 0)
        return inner;
    struct filtered *x = ARENA_NEW(s->arena, struct filtered);
    x->magic = FILTERED_MAGIC;
    x->cs = (struct codec_stream){.ops = &ops, .events = events, .user = user, .arena = s->arena};
    x->inner = inner;
    x->stream = s;
    inner->events = &inner_events;
    inner->user = x;
    http_chain_init(&x->chain, filters->v, filters->n, NULL, &ends, x, s, s->arena,
                    downstream_buffer_limit(s->hc->down));
    return &x->cs;
}

/* --- of clusters --- */

static void *compile_list(void *arg, struct arena *a, void *const *filters, size_t num,
                          const struct pb_opts *pb, struct errors *e)
{
    struct compile_env compile = *(const struct compile_env *)arg;
    const struct http_filter_env env = {.compile = &compile, .arena = a, .upstream = true};
    struct http_filter_list *list = ARENA_NEW(a, struct http_filter_list);
    size_t before = e->num_errors;
    compile.pb = pb;
    http_filter_list_compile(&env, filters, num, "http_filters", list, e);
    if (!list->terminated && e->num_errors == before)
        errors_add(e, "http_filters", "the last filter must be envoy.filters.http.upstream_codec");
    return list;
}

static void free_list(void *list)
{
    http_filter_list_free(list);
}

const struct cluster_filter_ops upstream_filters_of_clusters = {
    .compile = compile_list,
    .free = free_list,
};

/* --- the terminal filter --- */

static void *compile(const struct http_filter_env *env, const void *msg, struct errors *e)
{
    if (!env->upstream)
        errors_add(e, NULL, "stands in upstream lists only");
    return arena_zalloc(env->arena, 1);
}

const struct http_filter_ops upstream_codec_filter = {
    .name = "envoy.filters.http.upstream_codec",
    .type_name = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    .terminal = true,
    .upstream = true,
    .compile = compile,
};
