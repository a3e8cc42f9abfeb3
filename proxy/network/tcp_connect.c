/* Which host a connection of tcp_proxy is joined to, and how often that is tried. */
#include "base/hash.h"
#include "base/obj.h"
#include "base/random.h"
#include "cluster/cluster_stats.h"
#include "proxy/network/tcp_conn.h"
#include "proxy/observe/access_log.h"
#include "proxy/router/lb_match.h"

static void attempt(struct tcp_conn *t);

static void count_cluster(struct tcp_conn *t, uint32_t stat)
{
    stats_inc(t->cluster->stats, t->d->worker->index, stat);
}

static const struct tcp_target *choose_target(const struct tcp_config *c)
{
    uint64_t at = c->num_targets > 1 ? random_below(c->total_weight) : 0;
    for (size_t i = 0; i < c->num_targets; i++) {
        if (at < c->targets[i].weight)
            return &c->targets[i];
        at -= c->targets[i].weight;
    }
    return NULL;
}

static bool hash_of(const struct tcp_conn *t, uint64_t *out)
{
    const struct addr *from = &t->d->info.remote;
    char text[ADDR_TEXT_MAX];
    struct str s = STR_NULL;

    switch (t->config->hash) {
    case TCP_HASH_NONE:
        return false;
    case TCP_HASH_SOURCE_IP:
        if (addr_is_ip(from))
            s = addr_format_ip(from, text);
        break;
    case TCP_HASH_FILTER_STATE:
        s = filter_state_get(&t->info.filter_state, t->config->hash_key);
        break;
    }
    if (!s.p)
        return false;
    *out = hash_xxh64(s.p, s.len, 0);
    return true;
}

/* --- the slot --- */

static void describe(struct tcp_conn *t, struct pool_conn *pc)
{
    struct stream_info *si = &t->info;
    si->upstream_local = pc->conn.local;
    si->upstream_remote = pc->conn.peer;
    si->upstream_first_tx_us = loop_now_us(t->d->worker->loop);
    si->upstream_connect_us = si->upstream_first_tx_us - t->slot.asked_us;
    stream_info_set_upstream_tls(si, conn_peer(&pc->conn), t->d->arena);
}

static void join(struct tcp_conn *t, struct pool_conn *pc)
{
    t->up = pc;
    t->connecting = false;
    conn_set_owner(&pc->conn, &tcp_conn_up_ops, t);
    conn_set_half_close(&pc->conn, true);
    conn_set_limits(&pc->conn, t->cluster->config->buffer_limit);
    conn_read_again(&pc->conn); /* a server that speaks first */
    tcp_conn_joined(t);
}

void tcp_connect_failed(struct tcp_conn *t, struct str detail)
{
    if (detail.len)
        t->info.upstream_failure = arena_str(t->d->arena, detail);
    if (t->down_paused) /* by an exchange that is over */
        tcp_conn_host_drained(t);
    if (t->attempts < t->config->connect_attempts) {
        if (t->config->backoff_base_ms)
            timer_arm(&t->retry, backoff_next_ms(&t->backoff));
        else
            attempt(t);
        return;
    }
    t->info.flags |= FLAG(UPSTREAM_CONNECTION_FAILURE) | FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED);
    count_cluster(t, CLUSTER_UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED);
    t->connecting = false;
    tcp_conn_refused(t);
}

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result r, struct str detail)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC);
    switch (r) {
    case POOL_READY:
        describe(t, pc);
        if (t->config->tunnel)
            tcp_tunnel_open(t, pc);
        else
            join(t, pc);
        return;
    case POOL_OVERFLOW:
        t->info.flags |= FLAG(UPSTREAM_OVERFLOW);
        t->connecting = false;
        tcp_conn_refused(t);
        return;
    case POOL_CONNECT_FAILED:
    case POOL_CONNECT_TIMEOUT:
        tcp_connect_failed(t, detail);
        return;
    }
}

/* --- attempts --- */

static void attempt(struct tcp_conn *t)
{
    struct downstream *d = t->d;
    struct lb_request lb = {.original_dst = &d->info.local, .max_tries = 1};
    const struct lb_match *match = t->target->match;
    if (t->cluster->config->table)
        lb.has_hash = hash_of(t, &lb.hash);
    if (t->cluster->config->subsets && match) {
        lb.match = match->labels;
        lb.fallbacks = match->fallbacks;
        lb.num_fallbacks = match->num_fallbacks;
    }
    struct host *h = cluster_pick(t->cluster, &lb);
    if (!h) {
        count_cluster(t, CLUSTER_UPSTREAM_CX_NONE_HEALTHY);
        t->info.flags |= FLAG(NO_HEALTHY_UPSTREAM);
        t->connecting = false;
        tcp_conn_refused(t);
        return;
    }
    host_unref(t->host);
    t->host = h;
    t->attempts++;
    t->info.attempts = t->attempts;
    t->info.upstream_host = arena_str(d->arena, h->address_text);
    t->slot = (struct pool_request){0};
    struct pool_options opts;
    const struct pool_protocol *proto = t->config->tunnel ? tcp_tunnel_protocol(t)
                                                          : &pool_protocol_tcp;
    pool_acquire(t->cluster, h, proto,
                 downstream_pool_options(&d->info, t->cluster->config, t->tlvs, &opts),
                 PRIORITY_DEFAULT, &t->slot, on_slot, t);
}

static void on_retry(void *arg)
{
    attempt(OBJ_CAST(arg, struct tcp_conn, TCP_MAGIC));
}

/* The configured ones, unless a PROXY header came: then its own count. */
static void collect_tlvs(struct tcp_conn *t)
{
    const struct conn_info *info = &t->d->info;
    struct arena *a = t->d->arena;
    struct proxy_tlv **at = &t->tlvs;
    if (info->tlvs || !addr_eq(&info->remote, &info->direct_remote)) {
        t->tlvs = info->tlvs;
        return;
    }
    for (size_t i = 0; i < t->config->num_tlvs; i++) {
        const struct tcp_tlv *from = &t->config->tlvs[i];
        struct str value = from->value;
        if (from->format) {
            struct buffer b;
            buffer_init(&b);
            format_string_append(from->format, &t->info, &b);
            value = arena_str(a, buffer_pullup(&b, b.len));
            buffer_cleanup(&b);
        }
        *at = ARENA_NEW(a, struct proxy_tlv);
        **at = (struct proxy_tlv){NULL, from->type, value};
        at = &(*at)->next;
    }
}

static bool find_cluster(struct tcp_conn *t)
{
    t->target = choose_target(t->config);
    t->info.upstream_cluster = t->target->cluster;
    t->cluster = worker_clusters_find(t->d->worker->clusters, t->target->cluster);
    if (!t->cluster) {
        tcp_count(t, TCP_CX_NO_ROUTE);
        t->info.flags |= FLAG(NO_CLUSTER_FOUND);
        return false;
    }
    cluster_hold(t->cluster);
    enum cluster_drop drop = cluster_drops(t->cluster);
    if (drop == CLUSTER_DROP_NONE)
        return true;
    t->info.flags |= drop == CLUSTER_DROP_ALL ? FLAG(UNCONDITIONAL_DROP_OVERLOAD)
                                              : FLAG(DROP_OVERLOAD);
    return false;
}

void tcp_connect_start(struct tcp_conn *t)
{
    t->connecting = true;
    timer_init(&t->retry, t->d->worker->loop, on_retry, t);
    backoff_init(&t->backoff, t->config->backoff_base_ms, t->config->backoff_max_ms);
    if (find_cluster(t)) {
        if (t->cluster->config->proxy_header)
            collect_tlvs(t);
        attempt(t);
        return;
    }
    t->connecting = false;
    tcp_conn_refused(t);
}

void tcp_connect_stop(struct tcp_conn *t)
{
    t->connecting = false;
    timer_disarm(&t->retry);
    pool_cancel(&t->slot);
}
