#include "proxy/http/codec.h"

#include "cluster/pool.h"
#include "proxy/http/h2_link.h"

static const struct pool_protocol *chosen(struct pool_conn *pc)
{
    const struct tls_peer *peer = conn_peer(&pc->conn);
    return peer && str_eq(peer->alpn, STR("h2")) ? &h2_client_protocol : &h1_client_protocol;
}

static void *client_new(struct pool_conn *pc)
{
    pc->proto = chosen(pc);
    stats_inc(pc->cluster->stats, pc->cluster->thread, pc->proto->stat);
    return pc->proto->client_new(pc);
}

static const struct str alpn[] = {{"h2", 2}, {"http/1.1", 8}};

const struct pool_protocol http_auto_protocol = {
    .name = "auto",
    .alpn = alpn,
    .num_alpn = ARRAY_LEN(alpn),
    .client_new = client_new,
};

struct codec_stream *http_client_stream(struct pool_conn *pc, struct arena *a,
                                        const struct http_client_limits *limits,
                                        const struct codec_events *events, void *user)
{
    return pc->proto == &h2_client_protocol ? h2_client_stream(pc, a, limits, events, user)
                                            : h1_client_stream(pc, a, limits, events, user);
}

bool http_client_wire(const struct pool_conn *pc, struct codec_stream *cs, uint64_t *in,
                      uint64_t *out)
{
    if (pc->proto != &h2_client_protocol)
        return false;
    const struct h2_stream *s = h2_stream_of(cs);
    *in = s->wire_in;
    *out = s->wire_out;
    return true;
}
