/* tunneling_config: the bytes of a connection as the body of a CONNECT, or of a POST, in HTTP/1 or
 * HTTP/2. */
#include "base/obj.h"
#include "base/random.h"
#include "proxy/network/tcp_conn.h"
#include "proxy/router/headers_mutation.h"
#include "proxy/router/upstream_request.h"

enum { LAST_BYTES_MS = 1000 };

#define NAMESPACE STR("envoy.filters.network.tcp_proxy")
#define HEADERS_KEY STR("envoy.tcp_proxy.propagate_response_headers")
#define TRAILERS_KEY STR("envoy.tcp_proxy.propagate_response_trailers")

const struct pool_protocol *tcp_tunnel_protocol(const struct tcp_conn *t)
{
    return upstream_protocol(t->cluster, PROTOCOL_HTTP11);
}

static void note_wire(struct tcp_conn *t)
{
    struct tcp_tunnel *tn = &t->tunnel;
    struct stream_info *si = &t->info;
    if (http_client_wire(tn->pc, tn->cs, &si->upstream_wire_bytes_received,
                         &si->upstream_wire_bytes_sent))
        return;
    si->upstream_wire_bytes_received = tn->pc->conn.bytes_read;
    si->upstream_wire_bytes_sent = tn->pc->conn.bytes_written;
}

/* The codec is done with the exchange, or will be when the event returns. */
static void forget(struct tcp_conn *t)
{
    timer_disarm(&t->tunnel.ending);
    t->tunnel.cs = NULL;
    t->tunnel.pc = NULL;
}

void tcp_tunnel_close(struct tcp_conn *t)
{
    struct codec_stream *cs = t->tunnel.cs;
    if (!cs)
        return;
    note_wire(t);
    forget(t);
    cs->ops->reset(cs, RESET_LOCAL);
}

static void on_ending(void *arg)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    tcp_tunnel_close(t);
    tcp_conn_host_over(t, false);
}

/* --- events --- */

/* One line of text for the access log: "name: value", separated by commas. */
static void keep(struct tcp_conn *t, struct str key, const struct headers *h)
{
    struct arena *a = t->d->arena;
    struct buffer b;
    buffer_init(&b);
    if (h->status)
        buffer_printf(&b, ":status: %u", h->status);
    HEADERS_FOREACH(f, h) {
        buffer_printf(&b, "%s%.*s: %.*s", b.len ? "," : "", STR_ARG(f->name), STR_ARG(f->value));
    }
    filter_state_set(&t->info.filter_state, a, key, arena_str(a, buffer_pullup(&b, b.len)));
    buffer_cleanup(&b);
}

/* The response has ended. The codec is done if our direction had ended too; else it wants a reset,
 * which waits until we have said all. */
static void give_end(struct tcp_conn *t, struct buffer *last)
{
    struct tcp_tunnel *tn = &t->tunnel;
    bool done = tn->sent_end;
    tn->received_end = true;
    tcp_conn_from_host(t, last, true);
    if (done && tn->cs) {
        note_wire(t);
        forget(t);
        tcp_conn_host_over(t, false);
    }
}

static void on_informational(void *user, struct headers *h)
{
}

static void on_headers(void *user, struct headers *h, bool end)
{
    struct tcp_conn *t = OBJ_CAST(user, struct tcp_conn, TCP_MAGIC);
    struct tcp_tunnel *tn = &t->tunnel;
    struct buffer none;
    if (t->config->tunnel->keep_headers)
        keep(t, HEADERS_KEY, h);
    t->info.response = h;
    if (h->status / 100 != 2) {
        tcp_tunnel_close(t);
        tcp_connect_failed(t, STR_NULL);
        return;
    }
    tn->granted = true;
    t->connecting = false;
    tcp_conn_joined(t);
    buffer_init(&none);
    if (end)
        give_end(t, &none);
}

static void on_data(void *user, struct buffer *data, bool end)
{
    struct tcp_conn *t = OBJ_CAST(user, struct tcp_conn, TCP_MAGIC);
    if (!t->tunnel.granted)
        return;
    if (end)
        give_end(t, data);
    else
        tcp_conn_from_host(t, data, false);
}

static void on_trailers(void *user, struct headers *h)
{
    struct tcp_conn *t = OBJ_CAST(user, struct tcp_conn, TCP_MAGIC);
    struct buffer none;
    if (t->config->tunnel->keep_trailers)
        keep(t, TRAILERS_KEY, h);
    buffer_init(&none);
    on_data(user, &none, true);
}

static void on_reset(void *user, enum reset_reason why, struct str detail)
{
    struct tcp_conn *t = OBJ_CAST(user, struct tcp_conn, TCP_MAGIC);
    struct tcp_tunnel *tn = &t->tunnel;
    bool granted = tn->granted, over = tn->received_end;
    note_wire(t);
    forget(t);
    if (granted)
        tcp_conn_host_over(t, !over);
    else
        tcp_connect_failed(t, detail);
}

static void on_above(void *user)
{
    tcp_conn_host_full(OBJ_CAST(user, struct tcp_conn, TCP_MAGIC));
}

static void on_below(void *user)
{
    tcp_conn_host_drained(OBJ_CAST(user, struct tcp_conn, TCP_MAGIC));
}

static const struct codec_events events = {
    .on_informational = on_informational,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_above = on_above,
    .on_below = on_below,
};

/* --- the request --- */

static void add_request_id(struct tcp_conn *t, struct headers *h)
{
    const struct tcp_tunnel_config *c = t->config->tunnel;
    struct arena *a = t->d->arena;
    char *id = arena_bytes(a, UUID_LEN);
    random_uuid(id);
    headers_set(h, c->request_id_header, str_n(id, UUID_LEN));
    metadata_set(&t->info.metadata, a, NAMESPACE, c->request_id_key,
                 metadata_string(a, str_n(id, UUID_LEN)));
}

static struct headers *make_request(struct tcp_conn *t, const struct pool_conn *pc)
{
    const struct tcp_tunnel_config *c = t->config->tunnel;
    struct headers *h = ARENA_NEW(t->d->arena, struct headers);
    headers_init(h, t->d->arena);
    h->authority = format_str(c->hostname, &t->info, t->d->arena);
    if (c->post) {
        h->method = STR("POST");
        h->path = c->post_path;
        h->scheme = conn_peer(&pc->conn) ? STR("https") : STR("http");
    } else {
        h->method = STR("CONNECT");
        h->upgrade = pc->proto != &h2_client_protocol; /* HTTP/1: what follows is no body */
    }
    headers_mutation_apply(c->headers, h, &t->info);
    if (c->request_id)
        add_request_id(t, h);
    return h;
}

void tcp_tunnel_open(struct tcp_conn *t, struct pool_conn *pc)
{
    struct tcp_tunnel *tn = &t->tunnel;
    *tn = (struct tcp_tunnel){.pc = pc};
    timer_init(&tn->ending, t->d->worker->loop, on_ending, t);
    struct headers *h = make_request(t, pc);
    tn->cs = upstream_open(pc, t->cluster, t->d->arena, &events, t);
    tn->cs->ops->headers(tn->cs, h, false);
}

void tcp_tunnel_send(struct tcp_conn *t, struct buffer *b, bool end)
{
    struct tcp_tunnel *tn = &t->tunnel;
    if (!tn->cs || tn->sent_end) {
        buffer_drain(b, b->len);
        return;
    }
    tn->sent_end = end;
    tn->cs->ops->data(tn->cs, b, end);
    if (end && tn->cs && tn->received_end)
        timer_arm(&tn->ending, LAST_BYTES_MS);
}
