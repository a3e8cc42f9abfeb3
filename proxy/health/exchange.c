#include "proxy/health/exchange.h"

#include "proxy/observe/stream_info.h"
#include "proxy/router/headers_mutation.h"

enum { RESPONSE_HEADERS_BYTES = 61440, RESPONSE_HEADERS = 100 };

static void end(struct exchange *x, bool reset)
{
    x->cs = NULL;
    if (!x->under_way)
        return;
    x->under_way = false;
    x->done(x, reset);
}

static void on_headers(void *user, struct headers *h, bool over)
{
    struct exchange *x = user;
    x->response = h;
    if (over)
        end(x, false);
}

static void on_data(void *user, struct buffer *data, bool over)
{
    struct exchange *x = user;
    size_t room = x->answer_max - x->answer.len;
    if (data->len > room)
        x->answer_cut = true;
    buffer_move(&x->answer, data, room);
    buffer_drain(data, data->len);
    if (over)
        end(x, false);
}

static void on_trailers(void *user, struct headers *h)
{
    struct exchange *x = user;
    x->trailers = h;
    end(x, false);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    end(user, true);
}

static void on_mark(void *user)
{
    /* The request is bounded by the configuration. */
}

static const struct codec_events events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_mark,
    .on_below = on_mark,
};

static void on_ready(void *arg, struct pool_conn *pc)
{
    struct exchange *x = arg;
    const struct cluster_config *config = x->solo.cluster->config;
    struct http_client_limits limits = {
        config->max_headers_kb ? config->max_headers_kb * 1024 : RESPONSE_HEADERS_BYTES,
        config->max_headers_count ? config->max_headers_count : RESPONSE_HEADERS, &config->http1};
    struct buffer body;

    x->cs = http_client_stream(pc, &x->arena, &limits, &events, x);
    x->cs->ops->headers(x->cs, x->request, x->body.len == 0);
    if (!x->cs || x->body.len == 0)
        return;
    buffer_init(&body);
    buffer_add_str(&body, x->body);
    x->cs->ops->data(x->cs, &body, true);
    buffer_cleanup(&body);
}

static void on_failed(void *arg)
{
    end(arg, true);
}

void exchange_init(struct exchange *x, const struct health_probe_ops *ops,
                   const struct pool_protocol *proto, struct health_session *s)
{
    x->base = (struct health_probe){ops, s};
    x->solo.cluster = health_session_cluster(s);
    x->solo.loop = x->solo.cluster->loop;
    x->solo.host = health_session_host(s);
    x->solo.proto = proto;
    x->solo.ready = on_ready;
    x->solo.failed = on_failed;
    x->solo.arg = x;
    solo_init(&x->solo);
    arena_init(&x->arena, 0);
    buffer_init(&x->answer);
}

struct headers *exchange_request(struct exchange *x, struct str authority)
{
    arena_cleanup(&x->arena);
    arena_init(&x->arena, 0);
    buffer_drain(&x->answer, x->answer.len);
    x->answer_cut = false;
    x->response = x->trailers = NULL;
    x->body = STR_NULL;
    x->request = ARENA_NEW(&x->arena, struct headers);
    headers_init(x->request, &x->arena);
    x->request->authority = arena_str(&x->arena, authority);
    return x->request;
}

void exchange_send(struct exchange *x)
{
    const struct pool_protocol *proto = x->solo.proto;
    struct transport_options opts;
    struct conn_connect how;
    struct pool_conn *pc;

    health_session_connect(x->base.session, proto->alpn, proto->num_alpn, &opts, &how);
    x->request->scheme = how.factory ? STR("https") : STR("http");
    x->under_way = true;
    pc = solo_acquire(&x->solo, &how);
    if (pc)
        on_ready(x, pc);
}

void exchange_finish(struct exchange *x, const struct health_result *r)
{
    if (!health_session_config(x->base.session)->reuse)
        solo_drop(&x->solo);
    health_session_done(x->base.session, r);
}

static void stop(struct exchange *x)
{
    struct codec_stream *cs = x->cs;
    x->under_way = false;
    x->cs = NULL;
    if (cs)
        cs->ops->reset(cs, RESET_LOCAL);
}

void exchange_abandon(struct exchange *x)
{
    stop(x);
    solo_drop(&x->solo);
}

void exchange_cleanup(struct exchange *x)
{
    stop(x);
    solo_cleanup(&x->solo);
    buffer_cleanup(&x->answer);
    arena_cleanup(&x->arena);
}

void exchange_mutate(struct exchange *x, const struct headers_mutation *m)
{
    static const struct conn_info nobody;
    const struct stream_info si = {
        .conn = &nobody,
        .start_wall_us = loop_wall_us(x->solo.loop),
        .start_us = loop_now_us(x->solo.loop),
        .upstream_cluster = x->solo.cluster->config->name,
        .upstream_host = x->solo.host->address_text,
    };
    headers_mutation_apply(m, x->request, &si);
}
