#include "proxy/listener/downstream.h"

#include "base/log.h"
#include "base/obj.h"
#include "proxy/listener/accept.h"
#include "proxy/listener/chain_match.h"
#include "proxy/observe/access_log.h"
#include "proxy/worker.h"
#include <errno.h>
#include <unistd.h>

enum {
    DOWNSTREAM_MAGIC = 0x444f574e,
    DRAIN_FLUSH_MS = 1000,
    DOWNSTREAM_BYTES = 1120, /* what a plaintext one takes: thousands may be idle */
};

static void count(struct downstream *d, uint32_t stat)
{
    stats_inc(d->listener->stats, d->worker->index, stat);
}

size_t downstream_buffer_limit(const struct downstream *d)
{
    return d->listener->buffer_limit;
}

/* --- the end --- */

static void run_free(void *arg)
{
    struct downstream *d = OBJ_CAST(arg, struct downstream, DOWNSTREAM_MAGIC);
    struct arena *a = d->arena;
    d->magic = 0;
    listener_unref(d->listener);
    arena_free(&a); /* d lives in it */
}

void downstream_done(struct downstream *d)
{
    unsigned thread = d->worker->index;
    struct loop *l = d->worker->loop;
    uint64_t from = d->accepted_us;
    peek_stop(d);
    if (d->accepted_fd >= 0)
        close(d->accepted_fd);
    d->accepted_fd = -1;
    list_remove(&d->link);
    worker_count(&d->worker->num_downstreams, -1);
    stats_gauge_dec(d->listener->stats, thread, LISTENER_CX_ACTIVE);
    count(d, LISTENER_CX_DESTROY);
    stats_record(d->listener->stats, thread, LISTENER_CX_LENGTH, (loop_now_us(l) - from) / 1000);
    conn_cleanup(&d->conn);
    loop_defer_free(l, &d->free_task);
}

/* A connection that never reached its network filter: the listener's own access log tells of it. */
static void refuse(struct downstream *d, uint64_t flags, struct str details)
{
    struct loop *l = d->worker->loop;
    struct stream_info si = {
        .conn = &d->info,
        .start_wall_us = d->info.start_wall_us,
        .start_us = d->accepted_us,
        .end_us = loop_now_us(l),
        .flags = flags,
        .termination_details = details,
        .downstream_remote = d->info.remote,
    };
    for (size_t i = 0; i < d->listener->num_logs; i++)
        access_log_write(d->listener->logs[i], &si);
    downstream_done(d);
}

/* --- transport and network filter --- */

static void on_connected(void *owner, struct conn *c)
{
    struct downstream *d = OBJ_CAST(owner, struct downstream, DOWNSTREAM_MAGIC);
    d->info.tls = conn_peer(c);
    if (d->info.tls && !d->info.sni.len)
        d->info.sni = d->info.tls->sni;
    d->filter = d->chain->filter;
    d->filter->start(d->chain->filter_config, d);
}

static void on_early_read(void *owner, struct conn *c)
{
}

static void on_early_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct downstream *d = OBJ_CAST(owner, struct downstream, DOWNSTREAM_MAGIC);
    d->info.transport_failure = arena_str(d->arena, conn_failure(c));
    if (why == CONN_CLOSED_HANDSHAKE_TIMEOUT)
        count(d, LISTENER_CX_HANDSHAKE_TIMEOUT);
    LOG_DEBUG(connection, "downstream handshake failed: %.*s", STR_ARG(d->info.transport_failure));
    refuse(d, 0, why == CONN_CLOSED_HANDSHAKE_TIMEOUT ? STR("transport_socket_timeout") : STR_NULL);
}

static const struct conn_ops early_ops = {
    .on_connected = on_connected,
    .on_read = on_early_read,
    .on_closed = on_early_closed,
};

static void match_chain(struct downstream *d)
{
    struct chain_match_input in = {
        .local = &d->info.local,
        .remote = &d->info.remote,
        .direct_remote = &d->info.direct_remote,
        .sni = d->info.sni,
        .transport_protocol = d->detected_protocol,
        .alpn = d->detected_alpn,
        .num_alpn = d->num_detected_alpn,
    };
    struct listener *l = d->listener;
    int i = chain_match_find(l->match, &in);
    d->chain = i >= 0 ? &l->chains[i] : l->default_chain;
    if (!d->chain) {
        count(d, LISTENER_NO_CHAIN);
        refuse(d, FLAG(NO_ROUTE_FOUND), STR("filter_chain_not_found"));
        return;
    }
    d->info.chain_name = d->chain->name;
    struct transport *t = NULL;
    if (d->chain->transport) {
        t = d->chain->transport->ops->open(d->chain->transport, d->accepted_fd, NULL);
        if (!t) {
            LOG_EVERY(5000, connection, LOG_LEVEL_WARN,
                      "listener %.*s: no certificate yet, connection closed", STR_ARG(l->name));
            d->info.transport_failure = STR("TLS_error:_Secret_is_not_supplied_by_SDS");
            refuse(d, 0, STR_NULL);
            return;
        }
    }
    int fd = d->accepted_fd;
    d->accepted_fd = -1; /* the connection's from here on */
    conn_init_accepted(&d->conn, d->worker->loop, fd, t, &d->info.local, &d->info.remote,
                       t ? d->chain->handshake_ms : 0, &early_ops, d);
    conn_set_limits(&d->conn, l->buffer_limit);
}

/* --- from accept to the match --- */

static void on_peeked(struct downstream *d, enum peek_result r)
{
    struct listener *l = d->listener;
    stats_gauge_dec(l->stats, d->worker->index, LISTENER_PRE_CX_ACTIVE);
    switch (r) {
    case PEEK_DONE:
        break;
    case PEEK_TIMEOUT:
        count(d, LISTENER_PRE_CX_TIMEOUT);
        if (l->continue_on_timeout)
            break;
        downstream_done(d);
        return;
    case PEEK_CLOSED:
        count(d, LISTENER_FILTER_REMOTE_CLOSE);
        downstream_done(d);
        return;
    case PEEK_ERROR:
        count(d, LISTENER_FILTER_ERROR);
        downstream_done(d);
        return;
    }
    if (l->tls_inspector) {
        bool tls = str_eq(d->detected_protocol, STR("tls"));
        count(d, tls ? LISTENER_TLS_FOUND : LISTENER_TLS_NOT_FOUND);
        if (tls) {
            count(d, d->info.sni.len ? LISTENER_SNI_FOUND : LISTENER_SNI_NOT_FOUND);
            count(d, d->num_detected_alpn ? LISTENER_ALPN_FOUND : LISTENER_ALPN_NOT_FOUND);
        }
    }
    match_chain(d);
}

/* Where it was really going; true if that is somewhere else than our own socket. */
static bool find_original_dst(struct downstream *d)
{
    struct addr dst;
    if (!addr_original_dst(d->accepted_fd, &dst))
        return false;
    d->info.local = dst;
    return !addr_eq(&dst, &d->info.direct_local);
}

/* Its listener, after a hand-over, counts it and keeps it. */
static void enter_listener(struct downstream *d, struct listener *l)
{
    d->listener = listener_ref(l);
    d->info.listener_name = l->name;
    count(d, LISTENER_CX_TOTAL);
    stats_gauge_inc(l->stats, d->worker->index, LISTENER_CX_ACTIVE);
}

void downstream_accepted(struct worker *w, struct listener *l, int fd, const struct addr *peer,
                         bool draining)
{
    struct arena *a = arena_new(DOWNSTREAM_BYTES);
    struct downstream *d = ARENA_NEW(a, struct downstream);
    d->magic = DOWNSTREAM_MAGIC;
    d->worker = w;
    d->arena = a;
    d->accepted_fd = fd;
    d->accepted_us = loop_now_us(w->loop);
    d->draining = draining;
    d->detected_protocol = STR("raw_buffer");
    d->info.remote = d->info.direct_remote = *peer;
    if (!addr_local(fd, &d->info.direct_local))
        d->info.direct_local = l->addr;
    d->info.local = d->info.direct_local;
    d->info.start_wall_us = loop_wall_us(w->loop);
    d->info.id = (uint64_t)w->index << 48 | ++w->next_connection;
    task_init(&d->free_task, run_free, d);
    list_push_tail(&w->downstreams, &d->link);
    worker_count(&w->num_downstreams, 1);
    if ((l->use_original_dst || l->original_dst) && find_original_dst(d) && l->use_original_dst) {
        struct listener *other = worker_listeners_hand_over(w->listeners, &d->info.local);
        if (other)
            l = other;
    }
    enter_listener(d, l);
    if (!l->tls_inspector) {
        match_chain(d);
        return;
    }
    stats_gauge_inc(l->stats, w->index, LISTENER_PRE_CX_ACTIVE);
    peek_start(d, fd, l->filters_timeout_ms, on_peeked);
}

/* --- drain --- */

void downstream_drain(struct downstream *d)
{
    d->draining = true;
    if (d->filter && d->filter->drain)
        d->filter->drain(d);
}

void downstream_kill(struct downstream *d)
{
    if (d->filter) {
        conn_close(&d->conn, CONN_CLOSE_FLUSH, DRAIN_FLUSH_MS);
        return;
    }
    if (d->accepted_fd < 0) {
        conn_close(&d->conn, CONN_CLOSE_NOW, 0);
        return;
    }
    if (d->peek)
        stats_gauge_dec(d->listener->stats, d->worker->index, LISTENER_PRE_CX_ACTIVE);
    downstream_done(d);
}
