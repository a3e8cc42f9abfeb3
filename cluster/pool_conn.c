#include "base/obj.h"
#include "cluster/cluster_bind.h"
#include "cluster/pool_private.h"
#include "tls/conn_race.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct conn_ops pool_ops;

/* --- statistics --- */

static uint64_t ms_since(const struct pool_conn *pc, uint64_t us)
{
    return (loop_now_us(pc->cluster->loop) - us) / 1000;
}

void pool_conn_count(struct pool_conn *pc)
{
    struct cluster *c = pc->cluster;
    const struct conn *cn = &pc->conn;

    if (cn->bytes_read != pc->counted_in)
        stats_add(c->stats, c->thread, CLUSTER_UPSTREAM_CX_RX_BYTES_TOTAL,
                  cn->bytes_read - pc->counted_in);
    if (cn->bytes_written != pc->counted_out)
        stats_add(c->stats, c->thread, CLUSTER_UPSTREAM_CX_TX_BYTES_TOTAL,
                  cn->bytes_written - pc->counted_out);
    if (cn->in.len != pc->counted_in_len)
        stats_gauge_add(c->stats, c->thread, CLUSTER_UPSTREAM_CX_RX_BYTES_BUFFERED,
                        (int64_t)cn->in.len - (int64_t)pc->counted_in_len);
    if (cn->out.len != pc->counted_out_len)
        stats_gauge_add(c->stats, c->thread, CLUSTER_UPSTREAM_CX_TX_BYTES_BUFFERED,
                        (int64_t)cn->out.len - (int64_t)pc->counted_out_len);
    pc->counted_in = cn->bytes_read;
    pc->counted_out = cn->bytes_written;
    pc->counted_in_len = cn->in.len;
    pc->counted_out_len = cn->out.len;
}

static void count_start(struct pool_conn *pc)
{
    struct pool *p = pc->pool;
    pool_stat(p, CLUSTER_UPSTREAM_CX_TOTAL);
    pool_gauge(p, CLUSTER_UPSTREAM_CX_ACTIVE, 1);
    if (p->proto->stat)
        pool_stat(p, p->proto->stat);
    atomic_fetch_add_explicit(&pc->host->cx_total, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pc->host->cx_active, 1, memory_order_relaxed);
}

static bool by_peer(const struct pool_conn *pc, enum conn_close_reason why)
{
    switch (why) {
    case CONN_CLOSED_LOCAL:
    case CONN_CLOSED_CONNECT_TIMEOUT:
    case CONN_CLOSED_HANDSHAKE_TIMEOUT:
        break;
    case CONN_CLOSED_REMOTE:
    case CONN_CLOSED_RESET:
    case CONN_CLOSED_TLS:
    case CONN_CLOSED_CONNECT:
        return true;
    }
    return pc->conn.eof; /* we closed because it had ended */
}

static void count_end(struct pool_conn *pc, enum conn_close_reason why)
{
    struct pool *p = pc->pool;
    struct cluster *c = pc->cluster;
    bool peer = by_peer(pc, why);

    buffer_drain(&pc->conn.in, pc->conn.in.len); /* nobody reads it any more */
    buffer_drain(&pc->conn.out, pc->conn.out.len);
    pool_conn_count(pc);
    pool_stat(p, CLUSTER_UPSTREAM_CX_DESTROY);
    pool_stat(p, peer ? CLUSTER_UPSTREAM_CX_DESTROY_REMOTE : CLUSTER_UPSTREAM_CX_DESTROY_LOCAL);
    if (pc->slots_used) {
        pool_stat(p, CLUSTER_UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
        pool_stat(p, peer ? CLUSTER_UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ
                          : CLUSTER_UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ);
    }
    pool_gauge(p, CLUSTER_UPSTREAM_CX_ACTIVE, -1);
    stats_record(c->stats, c->thread, CLUSTER_UPSTREAM_CX_LENGTH_MS, ms_since(pc, pc->started_us));
    if (pc->requests)
        stats_record(c->stats, c->thread, CLUSTER_UPSTREAM_RQ_PER_CX, pc->requests);
    atomic_fetch_sub_explicit(&pc->host->cx_active, 1, memory_order_relaxed);
    circuit_give(c->circuit, (enum priority)pc->priority, CIRCUIT_CX);
}

/* --- the end --- */

static void free_conn(void *arg)
{
    struct pool_conn *pc = OBJ_CAST(arg, struct pool_conn, POOL_CONN_MAGIC);
    struct cluster *c = pc->cluster;
    list_remove(&pc->link);
    if (pc->client && pc->proto->client_free)
        pc->proto->client_free(pc->client);
    conn_race_free(&pc->race);
    conn_cleanup(&pc->conn);
    host_unref(pc->host);
    pc->magic = 0;
    mem_free(pc);
    cluster_release(c);
}

/* unlink_conn takes it out of the pool, which may be freed before it. */
static void unlink_conn(struct pool_conn *pc)
{
    struct pool *p = pc->pool;

    timer_disarm(&pc->idle);
    timer_disarm(&pc->age);
    list_remove(&pc->link);
    list_push_tail(&p->owner->dying, &pc->link);
    if (pc->state == POOL_CONN_CONNECTING)
        p->num_connecting--;
    p->num_conns--;
    pc->state = POOL_CONN_CLOSING;
    pc->pool = NULL;
}

void pool_conn_over(struct pool_conn *pc, enum conn_close_reason why)
{
    struct pool *p = pc->pool;
    count_end(pc, why);
    unlink_conn(pc);
    loop_defer_free(pc->cluster->loop, &pc->free_task);
    pool_on_gone(p);
}

void pool_conn_destroy(struct pool_conn *pc)
{
    task_cancel(&pc->free_task);
    while (pc->slots_used > 0) {
        pc->slots_used--;
        circuit_give(pc->cluster->circuit, (enum priority)pc->priority, CIRCUIT_RQ);
    }
    if (pc->pool) {
        count_end(pc, CONN_CLOSED_LOCAL);
        unlink_conn(pc);
    }
    free_conn(pc);
}

void pool_conn_shut(struct pool_conn *pc)
{
    struct pool *p = pc->pool;
    timer_disarm(&pc->idle);
    if (pc->state == POOL_CONN_CONNECTING)
        p->num_connecting--;
    pc->state = POOL_CONN_CLOSING;
    pc->draining = true;
    list_remove(&pc->link);
    list_push_tail(&p->closing, &pc->link);
    if (!pc->race) {
        conn_close(&pc->conn, CONN_CLOSE_NOW, 0);
        return;
    }
    conn_race_free(&pc->race);
    pool_conn_over(pc, CONN_CLOSED_LOCAL);
}

/* --- the callbacks while the pool has them --- */

static void connect_reason(const struct pool_conn *pc, char *buf, size_t cap)
{
    struct str failure = conn_failure(&pc->conn);
    if (failure.len)
        snprintf(buf, cap, "%.*s", STR_ARG(failure));
    else if (pc->conn.err)
        snprintf(buf, cap, "%s_connect_error:_%s", pc->immediate ? "immediate" : "delayed",
                 strerrordesc_np(pc->conn.err));
    else
        buf[0] = 0;
    for (char *p = buf; *p; p++) {
        if (*p == ' ')
            *p = '_';
    }
}

static void connect_failed(struct pool_conn *pc, enum conn_close_reason why)
{
    struct pool *p = pc->pool;
    bool timeout = why == CONN_CLOSED_CONNECT_TIMEOUT || why == CONN_CLOSED_HANDSHAKE_TIMEOUT;
    char reason[128] = "connection_timeout";

    pool_stat(p, CLUSTER_UPSTREAM_CX_CONNECT_FAIL);
    atomic_fetch_add_explicit(&pc->host->cx_connect_fail, 1, memory_order_relaxed);
    if (timeout)
        pool_stat(p, CLUSTER_UPSTREAM_CX_CONNECT_TIMEOUT);
    else
        connect_reason(pc, reason, sizeof(reason));
    if (pc->conn.bind_failed)
        pool_stat(p, CLUSTER_BIND_ERRORS);
    p->num_connecting--;
    pc->state = POOL_CONN_CLOSING;
    pool_on_connect_failed(p, timeout ? POOL_CONNECT_TIMEOUT : POOL_CONNECT_FAILED, str_of(reason));
}

static void on_pool_connected(void *owner, struct conn *cn)
{
    struct pool_conn *pc = OBJ_CAST(owner, struct pool_conn, POOL_CONN_MAGIC);
    struct cluster *c = pc->cluster;

    pc->pool->num_connecting--;
    pc->state = POOL_CONN_FULL;
    stats_record(c->stats, c->thread, CLUSTER_UPSTREAM_CX_CONNECT_MS, ms_since(pc, pc->started_us));
    if (c->config->max_connection_duration_ms)
        timer_arm(&pc->age, c->config->max_connection_duration_ms);
    if (pc->proto->client_new) {
        pc->client = pc->proto->client_new(pc);
        pool_conn_take_back(pc);
    }
    pool_on_connected(pc->pool, pc);
}

/* Idle: the peer has ended, or has sent something nobody asked for. One whose slot is just being
 * handed over is looked at then. */
static void on_pool_read(void *owner, struct conn *cn)
{
    struct pool_conn *pc = OBJ_CAST(owner, struct pool_conn, POOL_CONN_MAGIC);
    if (pc->state == POOL_CONN_CLOSING || pc->slots_used > 0)
        return;
    if (cn->in.len > 0 && pc->client)
        pool_stat(pc->pool, CLUSTER_UPSTREAM_CX_PROTOCOL_ERROR);
    if (cn->eof || pc->client)
        pool_conn_shut(pc);
}

static void on_pool_closed(void *owner, struct conn *cn, enum conn_close_reason why)
{
    struct pool_conn *pc = OBJ_CAST(owner, struct pool_conn, POOL_CONN_MAGIC);
    if (pc->state == POOL_CONN_CONNECTING)
        connect_failed(pc, why);
    else if (pc->slots_used > 0)
        pool_requeue(pc->pool, pc);
    pool_conn_over(pc, why);
}

static const struct conn_ops pool_ops = {
    .on_connected = on_pool_connected,
    .on_read = on_pool_read,
    .on_closed = on_pool_closed,
};

void pool_conn_take_back(struct pool_conn *pc)
{
    if (pc->client && pc->proto->keeps_callbacks)
        return;
    if (pc->client && pc->conn.ops != &pool_ops) {
        pc->client_ops = pc->conn.ops;
        pc->client_owner = pc->conn.owner;
    }
    conn_set_owner(&pc->conn, &pool_ops, pc);
    while (pc->conn.read_pauses > 0)
        conn_resume_read(&pc->conn);
}

void pool_conn_hand_over(struct pool_conn *pc)
{
    if (pc->client && pc->proto->keeps_callbacks)
        return;
    if (pc->client && pc->client_ops)
        conn_set_owner(&pc->conn, pc->client_ops, pc->client_owner);
    if (pc->conn.in.len || pc->conn.eof)
        conn_read_again(&pc->conn);
}

enum { PEEK_AFTER_US = 1000000 };

bool pool_conn_alive(struct pool_conn *pc)
{
    if (!pc->client && pc->conn.in.len) /* a server that speaks first */
        return !pc->conn.eof && !conn_closing(&pc->conn);
    if (pc->slots_used > 0)
        return true;
    if (pc->proto->keeps_callbacks) /* it is being read from all the time */
        return !pc->conn.eof && !pc->conn.closed_seen && !conn_closing(&pc->conn);
    /* An end that the loop has seen is known without asking; the socket itself is asked, which
     * costs a system call, only of a connection that rested long enough for its server to tire of
     * it. */
    if (loop_now_us(pc->conn.loop) - pc->parked_us < PEEK_AFTER_US)
        return !pc->conn.eof && !pc->conn.closed_seen && !pc->conn.in.len &&
               !conn_closing(&pc->conn);
    return !conn_peer_ended(&pc->conn);
}

void pool_conn_park(struct pool_conn *pc)
{
    uint64_t ms = pc->cluster->config->idle_timeout_ms;
    pc->parked_us = loop_now_us(pc->conn.loop);
    if (ms)
        timer_arm(&pc->idle, ms);
}

/* --- the beginning --- */

static void on_idle(void *arg)
{
    struct pool_conn *pc = OBJ_CAST(arg, struct pool_conn, POOL_CONN_MAGIC);
    if (pc->slots_used > 0 || pc->state == POOL_CONN_CLOSING)
        return;
    pool_stat(pc->pool, CLUSTER_UPSTREAM_CX_IDLE_TIMEOUT);
    pool_conn_shut(pc);
}

static void on_age(void *arg)
{
    struct pool_conn *pc = OBJ_CAST(arg, struct pool_conn, POOL_CONN_MAGIC);
    if (pc->state == POOL_CONN_CLOSING)
        return;
    pool_stat(pc->pool, CLUSTER_UPSTREAM_CX_MAX_DURATION_REACHED);
    pc->draining = true;
    if (pc->slots_used == 0)
        pool_conn_shut(pc);
}

static void complete(void *arg, struct conn_connect *how)
{
    const struct pool_conn *pc = arg;
    const struct cluster_config *config = pc->cluster->config;
    how->keepalive = config->keepalive;
    how->keepalive_time_s = config->keepalive_time_s;
    how->keepalive_interval_s = config->keepalive_interval_s;
    how->keepalive_probes = config->keepalive_probes;
    how->transparent = pc->pool->source != NULL;
    how->mark = pc->pool->mark;
    cluster_bind_fill(config->bind, how);
    if (pc->pool->source)
        how->bind = pc->pool->source;
}

/* `fd` 0: none is connected yet. */
static void open_conn(struct pool_conn *pc, const struct addr *peer, int fd, uint64_t timeout_ms)
{
    const struct cluster_config *config = pc->cluster->config;
    uint32_t i = pc->host->transport_index < config->num_transports ? pc->host->transport_index : 0;
    struct transport_options transport = pc->pool->transport;
    transport.alpn_fallback = pc->proto->alpn;
    transport.num_alpn_fallback = pc->proto->num_alpn;
    struct conn_connect how = {
        .peer = peer,
        .factory = config->num_transports ? config->transports[i] : NULL,
        .transport_opts = &transport,
        .timeout_ms = timeout_ms,
        .connected_fd = fd,
    };
    complete(pc, &how);
    conn_init_connecting(&pc->conn, pc->cluster->loop, &how, &pool_ops, pc);
    pc->immediate = pc->conn.fd < 0;
    conn_set_limits(&pc->conn, config->buffer_limit);
}

static void on_raced(void *arg, int fd, const struct addr *peer, int err)
{
    struct pool_conn *pc = OBJ_CAST(arg, struct pool_conn, POOL_CONN_MAGIC);
    uint64_t limit = pc->cluster->config->connect_timeout_ms, used = ms_since(pc, pc->started_us);
    pc->race = NULL;
    if (fd >= 0) {
        open_conn(pc, peer, fd, limit > used ? limit - used : 1);
        return;
    }
    enum conn_close_reason why = err == ETIMEDOUT ? CONN_CLOSED_CONNECT_TIMEOUT
                                                  : CONN_CLOSED_CONNECT;
    pc->conn.err = err;
    connect_failed(pc, why);
    pool_conn_over(pc, why);
}

static void begin_connect(struct pool_conn *pc)
{
    const struct cluster_config *config = pc->cluster->config;
    const struct host *h = pc->host;
    struct addr addrs[CONN_RACE_MAX];
    if (LIKELY(!h->num_more)) {
        open_conn(pc, &h->addr, 0, config->connect_timeout_ms);
        return;
    }
    uint32_t n = conn_race_order(&h->addr, h->more, h->num_more, config->first_family,
                                 config->first_count, addrs);
    pc->conn.fd = -1;
    pc->race = conn_race_new(pc->cluster->loop, addrs, n, config->connect_timeout_ms, complete,
                             on_raced, pc);
}

void pool_conn_start(struct pool *p)
{
    struct pool_conn *pc = NEW(struct pool_conn);
    struct cluster *c = p->owner->cluster;

    pc->magic = POOL_CONN_MAGIC;
    pc->pool = p;
    pc->proto = p->proto;
    pc->host = host_ref(p->host);
    pc->cluster = c;
    pc->priority = (uint8_t)p->priority;
    pc->state = POOL_CONN_CONNECTING;
    pc->started_us = loop_now_us(c->loop);
    cluster_hold(c);
    timer_init(&pc->idle, c->loop, on_idle, pc);
    timer_init(&pc->age, c->loop, on_age, pc);
    task_init(&pc->free_task, free_conn, pc);
    list_push_tail(&p->connecting, &pc->link);
    p->num_connecting++;
    p->num_conns++;
    count_start(pc);
    begin_connect(pc);
}
