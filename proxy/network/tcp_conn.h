/* One downstream connection in tcp_proxy and what it is joined to: a connection of its own to a
 * host, or an exchange (CONNECT, POST) that carries the bytes. Private to tcp_proxy's files:
 * tcp_proxy.c (its life and the pumps), tcp_connect.c (to which host, and the attempts) and
 * tcp_tunnel.c (the exchange). Worker's thread. */
#pragma once

#include "base/backoff.h"
#include "cluster/pool.h"
#include "proxy/http/codec.h"
#include "proxy/listener/downstream.h"
#include "proxy/network/tcp_config.h"
#include "proxy/observe/stream_info.h"
#include "proxy/worker.h"

struct tcp_tunnel {
    struct codec_stream *cs; /* NULL: there is no exchange */
    struct pool_conn *pc;    /* as long as cs */
    struct timer ending;     /* both directions have ended; the last bytes are on their way */
    bool granted;            /* 2xx came: bytes may flow */
    bool sent_end, received_end;
};

struct tcp_conn {
    uint32_t magic;
    const struct tcp_config *config;
    struct downstream *d;
    const struct tcp_target *target;
    struct cluster *cluster; /* held */
    struct host *host;       /* referenced */
    struct pool_request slot;
    struct pool_conn *up; /* plain: NULL before the slot and after its end */
    struct tcp_tunnel tunnel;
    struct stream_info info;
    struct timer idle, age, log_interval, retry;
    struct backoff backoff;
    struct proxy_tlv *tlvs; /* for a PROXY header towards the host */
    uint32_t attempts;
    bool down_closed; /* the downstream connection is over */
    bool down_paused; /* reading it waits for the upstream */
    bool early;       /* bytes came before there was a host */
    bool up_paused;
    bool half_closed; /* one side has ended its direction */
    bool connecting;  /* an upstream is being looked for */
    bool flushing;    /* the downstream is over, the upstream gets the last bytes */
};

enum { TCP_MAGIC = 0x54435058 };

/* tcp_count counts one more in "tcp.". */
static inline void tcp_count(struct tcp_conn *t, uint32_t stat)
{
    stats_inc(t->config->stats, t->d->worker->index, stat);
}

/* tcp_connect_start chooses the cluster and begins the first attempt; tcp_connect_failed answers a
 * failed one with the next, or with the end. tcp_connect_stop: no more of it. */
void tcp_connect_start(struct tcp_conn *t);
void tcp_connect_failed(struct tcp_conn *t, struct str detail);
void tcp_connect_stop(struct tcp_conn *t);

/* tcp_conn_joined: the host takes bytes from now on. tcp_conn_refused: it will not come to that.
 * tcp_conn_from_host: bytes from the host, or its end. tcp_conn_host_over: the host's side is gone.
 * tcp_conn_host_full and _drained: it takes no more for now, or does again. */
void tcp_conn_joined(struct tcp_conn *t);
void tcp_conn_refused(struct tcp_conn *t);
void tcp_conn_from_host(struct tcp_conn *t, struct buffer *in, bool end);
void tcp_conn_host_over(struct tcp_conn *t, bool reset);
void tcp_conn_host_full(struct tcp_conn *t);
void tcp_conn_host_drained(struct tcp_conn *t);

/* tcp_conn_up_ops are the callbacks of a plain connection to a host. */
extern const struct conn_ops tcp_conn_up_ops;

/* tcp_tunnel_protocol is what the exchange is spoken with. tcp_tunnel_open sends the request on a
 * slot; tcp_conn_joined or tcp_connect_failed follows, never inside. tcp_tunnel_send sends bytes or
 * our end; tcp_tunnel_close ends the exchange; no event follows. */
const struct pool_protocol *tcp_tunnel_protocol(const struct tcp_conn *t);
void tcp_tunnel_open(struct tcp_conn *t, struct pool_conn *pc);
void tcp_tunnel_send(struct tcp_conn *t, struct buffer *b, bool end);
void tcp_tunnel_close(struct tcp_conn *t);
