#include "proxy/listener/downstream.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/obj.h"
#include "cluster/pool.h"
#include "proxy/listener/accept.h"
#include "proxy/listener/chain_match.h"
#include "proxy/observe/access_log.h"
#include "proxy/worker.h"
#include <errno.h>
#include <unistd.h>

enum {
    DOWNSTREAM_MAGIC = 0x444f574e,
    DRAIN_FLUSH_MS = 1000,
    DOWNSTREAM_BYTES = 1184, /* what a plaintext one takes: thousands may be idle */
};

static void count(struct downstream *d, uint32_t stat)
{
    stats_inc(d->listener->stats, d->worker->index, stat);
}

size_t downstream_buffer_limit(const struct downstream *d)
{
    return d->listener->buffer_limit;
}

static uint64_t origin_key(const struct proxy_origin *o, bool with_tlvs)
{
    uint64_t h = hash_combine(addr_hash(o->src), addr_hash(o->dst));
    for (const struct proxy_tlv *t = o->tlvs; t && with_tlvs; t = t->next)
        h = hash_combine(hash_combine(h, t->type), hash_str(t->value));
    return h;
}

const struct pool_options *downstream_pool_options(const struct conn_info *info,
                                                   const struct cluster_config *config,
                                                   const struct proxy_tlv *tlvs,
                                                   struct pool_options *out)
{
    uint64_t key = 0;
    bool source = addr_is_ip(&info->upstream_source);
    if (LIKELY(!source && !config->proxy_header))
        return NULL;
    *out = (struct pool_options){0};
    if (source) {
        out->source = &info->upstream_source;
        out->mark = info->upstream_mark;
        key = addr_hash(&info->upstream_source) + info->upstream_mark;
    }
    if (config->proxy_header) {
        out->origin = (struct proxy_origin){&info->remote, &info->local, tlvs};
        out->transport.origin = &out->origin;
        key = hash_combine(key, origin_key(&out->origin, config->proxy_tlv_key));
    }
    out->key = key ? key : 1; /* 0 is none */
    return out;
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

/* It belongs to no listener any more, or to another one. */
static void leave_listener(struct downstream *d)
{
    struct listener *l = d->listener;
    unsigned thread = d->worker->index;
    listener_load_dec(l, thread);
    if (!d->counted)
        return;
    uint64_t ms = (loop_now_us(d->worker->loop) - d->accepted_us) / 1000;
    stats_gauge_dec(l->stats, thread, LISTENER_CX_ACTIVE);
    stats_gauge_dec(l->worker_stats[thread - 1], thread, LISTENER_WORKER_CX_ACTIVE);
    count(d, LISTENER_CX_DESTROY);
    stats_record(l->stats, thread, LISTENER_CX_LENGTH, ms);
}

static void over(struct downstream *d)
{
    peek_stop(d);
    if (d->accepted_fd >= 0)
        close(d->accepted_fd);
    d->accepted_fd = -1;
    list_remove(&d->link);
    worker_count(&d->worker->num_downstreams, -1);
    leave_listener(d);
    conn_cleanup(&d->conn);
    loop_defer_free(d->worker->loop, &d->free_task);
}

static void write_logs(struct downstream *d, struct stream_info *si)
{
    access_logs_write(d->listener->logs, d->listener->num_logs, si, LOG_TYPE_NOT_SET);
}

/* The listener's own access log has a line a connection. */
static void log_end(struct downstream *d, uint64_t flags, struct str details, struct str end)
{
    if (!d->listener->num_logs)
        return;
    if (d->stream) {
        struct stream_info of_filter = *d->stream;
        write_logs(d, &of_filter);
        return;
    }
    struct stream_info si = {
        .conn = &d->info,
        .start_wall_us = d->info.start_wall_us,
        .start_us = d->accepted_us,
        .end_us = loop_now_us(d->worker->loop),
        .flags = flags,
        .code_details = details,
        .termination_details = end,
        .downstream_remote = d->info.remote,
        .bytes_received = d->conn.bytes_read,
        .bytes_sent = d->conn.bytes_written,
    };
    write_logs(d, &si);
}

void downstream_done(struct downstream *d)
{
    log_end(d, 0, STR_NULL, STR_NULL);
    over(d);
}

/* A connection that never reached its network filter: why, and what ended it. */
static void refuse(struct downstream *d, uint64_t flags, struct str details, struct str end)
{
    log_end(d, flags, details, end);
    over(d);
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
    refuse(d, 0, STR_NULL,
           why == CONN_CLOSED_HANDSHAKE_TIMEOUT ? STR("transport_socket_timeout") : STR_NULL);
}

static const struct conn_ops early_ops = {
    .on_connected = on_connected,
    .on_read = on_early_read,
    .on_closed = on_early_closed,
};

/* A connection is what has found its chain. */
static void count_in(struct downstream *d)
{
    const struct listener *l = d->listener;
    unsigned thread = d->worker->index;
    d->counted = true;
    count(d, LISTENER_CX_TOTAL);
    stats_gauge_inc(l->stats, thread, LISTENER_CX_ACTIVE);
    stats_inc(l->worker_stats[thread - 1], thread, LISTENER_WORKER_CX_TOTAL);
    stats_gauge_inc(l->worker_stats[thread - 1], thread, LISTENER_WORKER_CX_ACTIVE);
}

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
        refuse(d, FLAG(NO_ROUTE_FOUND), STR("filter_chain_not_found"), STR_NULL);
        return;
    }
    d->info.chain_name = d->chain->name;
    count_in(d);
    struct transport *t = NULL;
    if (d->chain->transport) {
        t = d->chain->transport->ops->open(d->chain->transport, d->accepted_fd, NULL);
        if (!t) {
            LOG_EVERY(5000, connection, LOG_LEVEL_WARN,
                      "listener %.*s: no certificate yet, connection closed", STR_ARG(l->name));
            d->info.transport_failure = STR("TLS_error:_Secret_is_not_supplied_by_SDS");
            refuse(d, 0, STR_NULL, STR_NULL);
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

static void run_filters(struct downstream *d);

/* use_original_dst: the listener of the address it was going to, with its own filters. */
static bool hand_over(struct downstream *d)
{
    struct listener *l = d->listener;
    if (!l->use_original_dst || !d->restored || d->handed)
        return false;
    d->handed = true;
    struct listener *other = worker_listeners_hand_over(d->worker->listeners, &d->info.local);
    if (!other || other == l)
        return false;
    leave_listener(d);
    d->listener = listener_ref(other);
    listener_unref(l);
    listener_load_inc(other, d->worker->index);
    d->info.listener_name = other->name;
    return true;
}

static void on_peeked(struct downstream *d, enum peek_result r)
{
    switch (r) {
    case PEEK_WAITING:
    case PEEK_DONE:
        break;
    case PEEK_TIMEOUT:
        count(d, LISTENER_PRE_CX_TIMEOUT);
        if (d->listener->continue_on_timeout)
            break;
        refuse(d, 0, STR_NULL, STR_NULL);
        return;
    case PEEK_CLOSED:
        count(d, LISTENER_FILTER_REMOTE_CLOSE);
        refuse(d, 0, STR_NULL, STR_NULL);
        return;
    case PEEK_ERROR:
        count(d, LISTENER_FILTER_ERROR);
        refuse(d, 0, STR_NULL, STR_NULL);
        return;
    case PEEK_REFUSED: /* counted by the filter */
        refuse(d, 0, STR_NULL, STR_NULL);
        return;
    }
    if (hand_over(d))
        run_filters(d);
    else
        match_chain(d);
}

static void on_waited(struct downstream *d, enum peek_result r)
{
    stats_gauge_dec(d->listener->stats, d->worker->index, LISTENER_PRE_CX_ACTIVE);
    on_peeked(d, r);
}

static void run_filters(struct downstream *d)
{
    enum peek_result r = peek_start(d, on_waited);
    if (r == PEEK_WAITING)
        stats_gauge_inc(d->listener->stats, d->worker->index, LISTENER_PRE_CX_ACTIVE);
    else
        on_peeked(d, r);
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
    d->listener = listener_ref(l);
    d->info.listener_name = l->name;
    d->info.remote = d->info.direct_remote = *peer;
    if (!addr_local(fd, &d->info.direct_local))
        d->info.direct_local = l->addr;
    d->info.local = d->info.direct_local;
    d->info.start_wall_us = loop_wall_us(w->loop);
    d->info.id = (uint64_t)w->index << 48 | ++w->next_connection;
    task_init(&d->free_task, run_free, d);
    list_push_tail(&w->downstreams, &d->link);
    worker_count(&w->num_downstreams, 1);
    run_filters(d);
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
        conn_hasten(&d->conn, DRAIN_FLUSH_MS); /* if it was closing already */
        return;
    }
    if (d->accepted_fd < 0) {
        conn_close(&d->conn, CONN_CLOSE_NOW, 0);
        return;
    }
    if (d->peek)
        stats_gauge_dec(d->listener->stats, d->worker->index, LISTENER_PRE_CX_ACTIVE);
    refuse(d, 0, STR_NULL, STR_NULL);
}
