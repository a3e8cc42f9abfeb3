#include "proxy/network/tcp_proxy.h"

#include "api-protos/wkt.h"
#include "base/obj.h"
#include "base/random.h"
#include "cluster/cluster_stats.h"
#include "cluster/pool.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "proxy/listener/downstream.h"
#include "proxy/observe/access_log.h"
#include "proxy/worker.h"

typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy TcpProxy;
#define TCP_PROXY(x) ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__##x

enum { TCP_MAGIC = 0x54435058, DEFAULT_IDLE_MS = 3600000, FLUSH_MS = 5000 };

#define TCP_STATS(X)                                                                               \
    X(TCP_CX_TOTAL, "downstream_cx_total", COUNTER)                                                \
    X(TCP_CX_NO_ROUTE, "downstream_cx_no_route", COUNTER)                                          \
    X(TCP_CX_TX, "downstream_cx_tx_bytes_total", COUNTER)                                          \
    X(TCP_CX_RX, "downstream_cx_rx_bytes_total", COUNTER)                                          \
    X(TCP_PAUSED, "downstream_flow_control_paused_reading_total", COUNTER)                         \
    X(TCP_RESUMED, "downstream_flow_control_resumed_reading_total", COUNTER)                       \
    X(TCP_IDLE, "idle_timeout", COUNTER)                                                           \
    X(TCP_MAX_DURATION, "max_downstream_connection_duration", COUNTER)

enum { TCP_STATS(STATS_ENUM) TCP_NUM_STATS };
static const struct stats_def stat_defs[] = {TCP_STATS(STATS_DEF)};
static struct stats_table stat_table = STATS_TABLE(stat_defs);

/* --- configuration --- */

struct target {
    struct str cluster;
    uint32_t weight;
};

struct tcp_config {
    struct arena *arena;
    struct stats_scope *stats; /* "tcp.<stat_prefix>." */
    struct target *targets;
    size_t num_targets;
    uint64_t total_weight;
    uint64_t idle_ms, max_ms;
    uint32_t connect_attempts;
    struct access_log **logs;
    size_t num_logs;
    uint64_t log_interval_ms; /* 0: at the end only */
    bool log_connected;
};

static void config_free(void *config)
{
    struct tcp_config *c = config;
    for (size_t i = 0; i < c->num_logs; i++)
        access_log_release(c->logs[i]);
    stats_scope_free(&c->stats);
    struct arena *a = c->arena;
    arena_free(&a);
}

static void compile_targets(struct tcp_config *c, const TcpProxy *m, struct errors *e)
{
    if (m->cluster_specifier_case == TCP_PROXY(CLUSTER_SPECIFIER_CLUSTER)) {
        c->targets = ARENA_NEW(c->arena, struct target);
        c->targets[0] = (struct target){arena_str(c->arena, str_of(m->cluster)), 1};
        c->num_targets = 1;
        c->total_weight = 1;
        return;
    }
    if (m->cluster_specifier_case != TCP_PROXY(CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS)) {
        errors_add(e, NULL, "cluster or weighted_clusters is required");
        return;
    }
    size_t n = m->weighted_clusters->n_clusters;
    c->targets = arena_zalloc(c->arena, (n + 1) * sizeof(*c->targets));
    c->num_targets = n;
    for (size_t i = 0; i < n; i++) {
        c->targets[i].cluster = arena_str(c->arena,
                                          str_of(m->weighted_clusters->clusters[i]->name));
        c->targets[i].weight = m->weighted_clusters->clusters[i]->weight;
        c->total_weight += c->targets[i].weight;
    }
    if (!c->total_weight)
        errors_add(e, "weighted_clusters", "the weights must not all be 0");
}

static void compile_log_options(struct tcp_config *c, const TcpProxy *m, struct errors *e)
{
    if (!m->access_log_options)
        return;
    size_t mark = errors_push(e, "access_log_options");
    c->log_interval_ms = wkt_duration_ms(m->access_log_options->access_log_flush_interval, 0, e,
                                         "access_log_flush_interval");
    c->log_connected = m->access_log_options->flush_access_log_on_connected;
    errors_pop(e, mark);
}

static void *compile(const struct compile_env *env, const void *msg, struct errors *e)
{
    const TcpProxy *m = msg;
    size_t before = e->num_errors;
    struct arena *a = arena_new(1024);
    struct tcp_config *c = ARENA_NEW(a, struct tcp_config);
    c->arena = a;
    compile_targets(c, m, e);
    c->idle_ms = wkt_duration_ms(m->idle_timeout, DEFAULT_IDLE_MS, e, "idle_timeout");
    c->max_ms = wkt_duration_ms(m->max_downstream_connection_duration, 0, e,
                                "max_downstream_connection_duration");
    c->connect_attempts = wkt_u32(m->max_connect_attempts, 1);
    c->logs = arena_zalloc(a, (m->n_access_log + 1) * sizeof(*c->logs));
    for (size_t i = 0; i < m->n_access_log; i++) {
        size_t mark = errors_push_index(e, "access_log", i);
        struct access_log *l = access_log_compile(a, m->access_log[i], env->files, env->pb, e);
        if (l)
            c->logs[c->num_logs++] = l;
        errors_pop(e, mark);
    }
    compile_log_options(c, m, e);
    if (e->num_errors > before) {
        config_free(c);
        return NULL;
    }
    struct stats_part parts[] = {{STR("tcp"), NULL}, {str_of(m->stat_prefix), "envoy_tcp_prefix"}};
    if (!env->validate)
        c->stats = stats_scope_new(&stat_table, parts, ARRAY_LEN(parts));
    return c;
}

/* --- one connection --- */

struct tcp_conn {
    uint32_t magic;
    const struct tcp_config *config;
    struct downstream *d;
    struct cluster *cluster; /* held */
    struct host *host;       /* referenced */
    struct pool_request slot;
    struct pool_conn *up; /* NULL before the slot and after its end */
    struct stream_info info;
    struct timer idle, age, log_interval;
    uint32_t attempts;
    bool down_closed; /* the downstream connection is over */
    bool down_paused; /* reading it waits for the upstream */
    bool up_paused;
};

static void count(struct tcp_conn *t, uint32_t stat)
{
    stats_inc(t->config->stats, t->d->worker->index, stat);
}

static void connect_upstream(struct tcp_conn *t);

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
    timer_disarm(&t->idle);
    timer_disarm(&t->age);
    timer_disarm(&t->log_interval);
    pool_cancel(&t->slot);
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

/* Both sides are gone: the connection is over. */
static void check_over(struct tcp_conn *t)
{
    if (t->down_closed && !t->up)
        finish(t);
}

/* What the client still sends must not make a reset of our end that takes the last bytes along. */
static void close_down(struct tcp_conn *t)
{
    if (!t->down_closed)
        conn_close(&t->d->conn, CONN_CLOSE_LINGER, FLUSH_MS);
}

static void touch(struct tcp_conn *t)
{
    if (t->config->idle_ms)
        timer_arm(&t->idle, t->config->idle_ms);
}

/* --- pumps --- */

/* Moves what `from` has to `to`, and its end too. */
static void pump(struct tcp_conn *t, struct conn *from, struct conn *to)
{
    if (from->in.len) {
        conn_write(to, &from->in);
        touch(t);
    }
    if (from->eof)
        conn_shut_write(to);
}

/* Both directions have ended and been sent: nothing is left to do. */
static void check_ends(struct tcp_conn *t)
{
    struct conn *down = &t->d->conn;
    if (t->up && down->eof && t->up->conn.eof) {
        conn_close(&t->up->conn, CONN_CLOSE_FLUSH, FLUSH_MS);
        close_down(t);
    }
}

static void down_read(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    t->info.downstream_last_rx_us = loop_now_us(c->loop);
    if (!t->up)
        return; /* kept until the upstream is there; `in` is bounded */
    pump(t, c, &t->up->conn);
    check_ends(t);
}

static void up_read(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    uint64_t now = loop_now_us(c->loop);
    if (!t->info.upstream_first_rx_us)
        t->info.upstream_first_rx_us = now;
    t->info.upstream_last_rx_us = now;
    if (t->down_closed) {
        buffer_drain(&c->in, c->in.len);
        return;
    }
    pump(t, c, &t->d->conn);
    check_ends(t);
}

static void down_above(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    if (!t->up || t->up_paused)
        return;
    t->up_paused = true;
    conn_pause_read(&t->up->conn);
    stats_inc(t->cluster->stats, t->d->worker->index,
              CLUSTER_UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL);
}

static void down_below(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    if (!t->up || !t->up_paused)
        return;
    t->up_paused = false;
    conn_resume_read(&t->up->conn);
    stats_inc(t->cluster->stats, t->d->worker->index,
              CLUSTER_UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
}

static void up_above(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    if (t->down_paused || t->down_closed)
        return;
    t->down_paused = true;
    conn_pause_read(&t->d->conn);
    count(t, TCP_PAUSED);
}

static void up_below(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    if (!t->down_paused || t->down_closed)
        return;
    t->down_paused = false;
    conn_resume_read(&t->d->conn);
    count(t, TCP_RESUMED);
}

/* --- ends --- */

static void down_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    t->down_closed = true;
    if (why == CONN_CLOSED_RESET || why == CONN_CLOSED_TLS)
        t->info.flags |= t->info.flags ? 0 : FLAG(DOWNSTREAM_CONNECTION_TERMINATION);
    pool_cancel(&t->slot);
    if (t->up)
        conn_close(&t->up->conn, why == CONN_CLOSED_RESET ? CONN_CLOSE_RESET : CONN_CLOSE_FLUSH,
                   FLUSH_MS);
    check_over(t);
}

static void up_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_MAGIC);
    struct pool_conn *pc = t->up;
    t->up = NULL;
    t->info.upstream_wire_bytes_received = c->bytes_read;
    t->info.upstream_wire_bytes_sent = c->bytes_written;
    bool reset = why == CONN_CLOSED_RESET || why == CONN_CLOSED_TLS;
    if (reset && !t->down_closed)
        t->info.flags |= FLAG(UPSTREAM_CONNECTION_TERMINATION);
    cluster_count_outcome(t->cluster, t->host, reset ? OUTCOME_RESET : OUTCOME_TCP_OK, 0);
    pool_release(pc, false);
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

static void connected(void *owner, struct conn *c)
{
}

static const struct conn_ops down_ops = {connected, down_read, down_below, down_above, down_closed};
static const struct conn_ops up_ops = {connected, up_read, up_below, up_above, up_closed};

/* --- connecting upstream --- */

static void describe(struct tcp_conn *t)
{
    struct stream_info *si = &t->info;
    si->upstream_local = t->up->conn.local;
    si->upstream_remote = t->host->addr;
    si->upstream_first_tx_us = loop_now_us(t->d->worker->loop);
    stream_info_set_upstream_tls(si, conn_peer(&t->up->conn), t->d->arena);
}

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result r, struct str detail)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    if (r == POOL_READY) {
        t->up = pc;
        describe(t);
        if (t->config->log_connected)
            write_logs(t, LOG_TYPE_TCP_UPSTREAM_CONNECTED);
        conn_set_owner(&pc->conn, &up_ops, t);
        conn_set_half_close(&pc->conn, true);
        conn_set_limits(&pc->conn, t->cluster->config->buffer_limit);
        conn_read_again(&pc->conn); /* a server that speaks first */
        conn_read_again(&t->d->conn);
        return;
    }
    t->info.upstream_failure = arena_str(t->d->arena, detail);
    if (r == POOL_OVERFLOW) {
        t->info.flags |= FLAG(UPSTREAM_OVERFLOW);
    } else if (t->attempts < t->config->connect_attempts) {
        connect_upstream(t);
        return;
    } else {
        t->info.flags |= FLAG(UPSTREAM_CONNECTION_FAILURE) | FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED);
        stats_inc(t->cluster->stats, t->d->worker->index,
                  CLUSTER_UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED);
    }
    close_down(t);
}

static void connect_upstream(struct tcp_conn *t)
{
    struct lb_request lb = {.original_dst = &t->d->info.local, .max_tries = 1};
    struct host *h = cluster_pick(t->cluster, &lb);
    if (!h) {
        stats_inc(t->cluster->stats, t->d->worker->index, CLUSTER_UPSTREAM_CX_NONE_HEALTHY);
        t->info.flags |= FLAG(NO_HEALTHY_UPSTREAM);
        close_down(t);
        return;
    }
    host_unref(t->host);
    t->host = h;
    t->attempts++;
    t->info.attempts = t->attempts;
    t->info.upstream_host = arena_str(t->d->arena, h->address_text);
    t->slot = (struct pool_request){0};
    struct pool_options opts;
    pool_acquire(t->cluster, h, &pool_protocol_tcp, downstream_pool_options(&t->d->info, &opts),
                 PRIORITY_DEFAULT, &t->slot, on_slot, t);
}

static struct str choose_cluster(const struct tcp_config *c)
{
    if (c->num_targets == 1)
        return c->targets[0].cluster;
    uint64_t at = random_below(c->total_weight);
    for (size_t i = 0; i < c->num_targets; i++) {
        if (at < c->targets[i].weight)
            return c->targets[i].cluster;
        at -= c->targets[i].weight;
    }
    return STR_NULL;
}

static void on_idle(void *arg)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    count(t, TCP_IDLE);
    t->info.flags |= FLAG(STREAM_IDLE_TIMEOUT);
    if (!t->down_closed)
        conn_close(&t->d->conn, CONN_CLOSE_FLUSH, FLUSH_MS);
}

static void on_age(void *arg)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    count(t, TCP_MAX_DURATION);
    t->info.flags |= FLAG(DURATION_TIMEOUT);
    if (!t->down_closed)
        conn_close(&t->d->conn, CONN_CLOSE_FLUSH, FLUSH_MS);
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
    if (t->config->log_interval_ms)
        timer_arm(&t->log_interval, t->config->log_interval_ms);
    touch(t);
    if (t->config->max_ms)
        timer_arm(&t->age, t->config->max_ms);
    worker_count(&d->worker->num_active, 1);
    worker_count(&d->worker->num_started, 1);
    count(t, TCP_CX_TOTAL);
    conn_set_owner(&d->conn, &down_ops, t);
    conn_set_half_close(&d->conn, true);
    struct str name = choose_cluster(t->config);
    t->info.upstream_cluster = name;
    t->cluster = worker_clusters_find(d->worker->clusters, name);
    if (!t->cluster) {
        count(t, TCP_CX_NO_ROUTE);
        t->info.flags |= FLAG(NO_CLUSTER_FOUND);
        close_down(t);
        return;
    }
    cluster_hold(t->cluster);
    connect_upstream(t);
}

const struct network_filter_ops tcp_proxy_filter = {
    .name = "envoy.filters.network.tcp_proxy",
    .type_name = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    .compile = compile,
    .free = config_free,
    .start = start,
};
