#include "proxy/network/tcp_proxy.h"

#include "base/obj.h"
#include "base/random.h"
#include "cluster/cluster_stats.h"
#include "proxy/network/tcp_conn.h"
#include "proxy/observe/access_log.h"

enum { LINGER_MS = 5000 };

/* --- the end of it all --- */

static void write_logs(struct tcp_conn *t, enum log_type type)
{
    struct downstream *d = t->d;
    t->info.end_us = loop_now_us(d->worker->loop);
    t->info.bytes_received = d->conn.bytes_read;
    t->info.bytes_sent = d->conn.bytes_written;
    access_logs_write(t->config->logs, t->config->num_logs, &t->info, type);
}

static void on_log_interval(void *arg)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    timer_arm(&t->log_interval, t->config->log_interval_ms);
    write_logs(t, LOG_TYPE_TCP_PERIODIC);
}

static void finish(struct tcp_conn *t)
{
    struct downstream *d = t->d;
    unsigned thread = d->worker->index;
    tcp_connect_stop(t);
    timer_disarm(&t->idle);
    timer_disarm(&t->age);
    timer_disarm(&t->log_interval);
    if (t->flushing)
        stats_gauge_dec(t->config->stats, thread, TCP_FLUSH_ACTIVE);
    stats_add(t->config->stats, thread, TCP_CX_RX, d->conn.bytes_read);
    stats_add(t->config->stats, thread, TCP_CX_TX, d->conn.bytes_written);
    write_logs(t, LOG_TYPE_TCP_CONNECTION_END);
    host_unref(t->host);
    if (t->cluster)
        cluster_release(t->cluster);
    t->magic = 0;
    worker_count(&d->worker->num_active, -1);
    downstream_done(d);
}

static bool has_host(const struct tcp_conn *t)
{
    return t->up || (t->tunnel.cs && t->tunnel.granted);
}

/* Both sides are gone: the connection is over. */
static void check_over(struct tcp_conn *t)
{
    if (t->down_closed && !t->up && !t->tunnel.cs)
        finish(t);
}

/* What the client still sends must not make a reset of our end that takes the last bytes along. */
static void close_down(struct tcp_conn *t)
{
    if (!t->down_closed)
        conn_close_slowly(&t->d->conn, t->config->flush_ms, LINGER_MS);
}

/* --- quiet --- */

static void touch(struct tcp_conn *t)
{
    const struct tcp_config *c = t->config;
    uint64_t ms = c->idle_ms;
    if (t->half_closed && c->half_close_ms && (!ms || c->half_close_ms < ms))
        ms = c->half_close_ms;
    if (ms)
        timer_arm(&t->idle, ms);
}

/* A direction that has ended: the rest has its own time. */
static void note_half_close(struct tcp_conn *t)
{
    if (t->half_closed)
        return;
    t->half_closed = true;
    touch(t);
}

static void close_old(struct tcp_conn *t, uint32_t stat, uint64_t flag)
{
    if (t->down_closed || conn_closing(&t->d->conn))
        return;
    tcp_count(t, stat);
    t->info.flags |= flag;
    conn_close(&t->d->conn, CONN_CLOSE_FLUSH, LINGER_MS);
}

static void on_idle(void *arg)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    bool half = t->half_closed && t->config->half_close_ms < t->config->idle_ms;
    close_old(t, half ? TCP_HALF_CLOSE : TCP_IDLE, FLAG(STREAM_IDLE_TIMEOUT));
}

static void on_age(void *arg)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    close_old(t, TCP_MAX_DURATION, FLAG(DURATION_TIMEOUT));
}

/* --- pumps --- */

/* Both directions have ended and been sent: nothing is left to do. */
static void check_ends(struct tcp_conn *t)
{
    if (!t->d->conn.eof)
        return;
    if (t->up && t->up->conn.eof) {
        conn_close(&t->up->conn, CONN_CLOSE_FLUSH, t->config->flush_ms);
        close_down(t);
    } else if (t->tunnel.received_end) {
        close_down(t);
    }
}

static void send_up(struct tcp_conn *t, struct buffer *b, bool end)
{
    if (!t->up) {
        tcp_tunnel_send(t, b, end);
        return;
    }
    if (b->len)
        conn_write(&t->up->conn, b);
    if (end)
        conn_shut_write(&t->up->conn);
}

/* There is no host yet: `in` keeps the bytes, and is bounded. */
static void read_early(struct tcp_conn *t, const struct conn *c)
{
    if (t->config->limits_early && c->in.len && !t->early) {
        t->early = true;
        tcp_count(t, TCP_EARLY_DATA);
    }
    if (t->connecting || t->target || t->config->connect_mode != TCP_CONNECT_ON_DATA)
        return;
    if (c->in.len)
        tcp_connect_start(t);
    else if (c->eof)
        close_down(t);
}

static void down_read(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    t->info.downstream_last_rx_us = loop_now_us(c->loop);
    if (c->in.len)
        touch(t);
    if (!has_host(t)) {
        read_early(t, c);
        return;
    }
    send_up(t, &c->in, c->eof);
    if (c->eof)
        note_half_close(t);
    check_ends(t);
}

void tcp_conn_from_host(struct tcp_conn *t, struct buffer *in, bool end)
{
    uint64_t now = loop_now_us(t->d->worker->loop);
    if (!t->info.upstream_first_rx_us)
        t->info.upstream_first_rx_us = now;
    t->info.upstream_last_rx_us = now;
    if (t->down_closed) {
        buffer_drain(in, in->len);
        return;
    }
    if (in->len) {
        conn_write(&t->d->conn, in);
        touch(t);
    }
    if (!end)
        return;
    conn_shut_write(&t->d->conn);
    note_half_close(t);
}

static void up_read(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    tcp_conn_from_host(t, &c->in, c->eof);
    if (!t->down_closed)
        check_ends(t);
}

static void down_above(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    if (!has_host(t) || t->up_paused)
        return;
    t->up_paused = true;
    if (t->up)
        conn_pause_read(&t->up->conn);
    else
        t->tunnel.cs->ops->pause(t->tunnel.cs);
    stats_inc(t->cluster->stats, t->d->worker->index,
              CLUSTER_UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
}

static void down_below(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    touch(t); /* a client that reads slowly is not idle */
    if (!has_host(t) || !t->up_paused)
        return;
    t->up_paused = false;
    if (t->up)
        conn_resume_read(&t->up->conn);
    else
        t->tunnel.cs->ops->resume(t->tunnel.cs);
    stats_inc(t->cluster->stats, t->d->worker->index,
              CLUSTER_UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
}

void tcp_conn_host_full(struct tcp_conn *t)
{
    if (t->down_paused || t->down_closed)
        return;
    t->down_paused = true;
    conn_pause_read(&t->d->conn);
    tcp_count(t, TCP_PAUSED);
}

void tcp_conn_host_drained(struct tcp_conn *t)
{
    touch(t);
    if (!t->down_paused || t->down_closed)
        return;
    t->down_paused = false;
    conn_resume_read(&t->d->conn);
    tcp_count(t, TCP_RESUMED);
}

static void up_above(void *owner, struct conn *c)
{
    tcp_conn_host_full(OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC));
}

static void up_below(void *owner, struct conn *c)
{
    tcp_conn_host_drained(OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC));
}

/* --- ends --- */

/* The host gets what was sent to it, unless the client is gone for good. */
static void close_up(struct tcp_conn *t, bool reset)
{
    struct conn *up;
    if (!t->up) {
        tcp_tunnel_close(t);
        return;
    }
    up = &t->up->conn;
    if (!reset && up->out.len && !conn_closing(up)) {
        t->flushing = true;
        tcp_count(t, TCP_FLUSH_TOTAL);
        stats_gauge_inc(t->config->stats, t->d->worker->index, TCP_FLUSH_ACTIVE);
    }
    conn_close(up, reset ? CONN_CLOSE_RESET : CONN_CLOSE_FLUSH, t->config->flush_ms);
}

static void down_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    t->down_closed = true;
    if (why == CONN_CLOSED_RESET || why == CONN_CLOSED_TLS)
        t->info.flags |= t->info.flags ? 0 : FLAG(DOWNSTREAM_CONNECTION_TERMINATION);
    tcp_connect_stop(t);
    close_up(t, why == CONN_CLOSED_RESET);
    check_over(t);
}

void tcp_conn_host_over(struct tcp_conn *t, bool reset)
{
    if (reset && !t->down_closed)
        t->info.flags |= FLAG(UPSTREAM_CONNECTION_TERMINATION);
    cluster_count_outcome(t->cluster, t->host, reset ? OUTCOME_RESET : OUTCOME_TCP_OK, 0);
    if (t->down_closed) {
        check_over(t);
        return;
    }
    if (t->down_paused) {
        t->down_paused = false;
        conn_resume_read(&t->d->conn);
    }
    if (reset)
        conn_close(&t->d->conn, CONN_CLOSE_RESET, 0);
    else
        close_down(t);
}

static void up_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    struct pool_conn *pc = t->up;
    t->up = NULL;
    t->info.upstream_wire_bytes_received = c->bytes_read;
    t->info.upstream_wire_bytes_sent = c->bytes_written;
    struct cluster *cluster = t->cluster;
    cluster_hold(cluster); /* the slot is given back in it */
    tcp_conn_host_over(t, why == CONN_CLOSED_RESET || why == CONN_CLOSED_TLS);
    pool_release(pc, false);
    cluster_release(cluster);
}

static void connected(void *owner, struct conn *c)
{
}

static const struct conn_ops down_ops = {connected, down_read, down_below, down_above, down_closed};
const struct conn_ops tcp_conn_up_ops = {connected, up_read, up_below, up_above, up_closed};

/* --- the beginning --- */

void tcp_conn_joined(struct tcp_conn *t)
{
    struct downstream *d = t->d;
    if (t->config->log_connected)
        write_logs(t, LOG_TYPE_TCP_UPSTREAM_CONNECTED);
    if (t->config->limits_early)
        conn_set_limits(&d->conn, downstream_buffer_limit(d));
    conn_read_again(&d->conn);
}

void tcp_conn_refused(struct tcp_conn *t)
{
    close_down(t);
}

static void arm_limits(struct tcp_conn *t)
{
    const struct tcp_config *c = t->config;
    if (c->log_interval_ms)
        timer_arm(&t->log_interval, c->log_interval_ms);
    touch(t);
    if (c->max_ms)
        timer_arm(&t->age,
                  c->max_ms + random_below((uint64_t)((double)c->max_ms * c->max_jitter) + 1));
}

static void start(void *config, struct downstream *d)
{
    struct tcp_conn *t = ARENA_NEW(d->arena, struct tcp_conn);
    struct loop *l = d->worker->loop;
    t->magic = TCP_MAGIC;
    t->config = config;
    t->d = d;
    d->filter_state = t;
    t->info.conn = &d->info;
    t->info.start_us = loop_now_us(l);
    t->info.start_wall_us = d->info.start_wall_us;
    t->info.downstream_remote = d->info.remote;
    t->info.metadata = d->info.metadata;
    d->stream = &t->info;
    timer_init(&t->idle, l, on_idle, t);
    timer_init(&t->age, l, on_age, t);
    timer_init(&t->log_interval, l, on_log_interval, t);
    arm_limits(t);
    worker_count(&d->worker->num_active, 1);
    worker_count(&d->worker->num_started, 1);
    tcp_count(t, TCP_CX_TOTAL);
    conn_set_owner(&d->conn, &down_ops, t);
    conn_set_half_close(&d->conn, true);
    if (t->config->limits_early)
        conn_set_limits(&d->conn, t->config->max_early ? t->config->max_early : 1);
    if (t->config->connect_mode == TCP_CONNECT_NOW)
        tcp_connect_start(t);
    else
        conn_read_again(&d->conn);
}

const struct network_filter_ops tcp_proxy_filter = {
    .name = "envoy.filters.network.tcp_proxy",
    .type_name = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    .compile = tcp_config_compile,
    .free = tcp_config_free,
    .start = start,
};
