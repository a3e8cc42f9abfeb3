#include "cluster/pool.h"

#include "base/hash.h"
#include "cluster/pool_private.h"
#include "cluster/solo_conn.h"

const struct pool_protocol pool_protocol_tcp = {.name = "tcp"};

static struct pool_conn *conn_at(struct list *link)
{
    return CONTAINER_OF(link, struct pool_conn, link);
}

static struct pool_request *request_at(struct list *link)
{
    return CONTAINER_OF(link, struct pool_request, link);
}

/* --- the pools of a cluster --- */

struct pools *pools_new(struct cluster *c)
{
    struct pools *ps = NEW(struct pools);
    ps->cluster = c;
    map_init(&ps->map, true);
    list_init(&ps->dying);
    return ps;
}

/* max_connection_pools is about HTTP. */
static bool is_counted(const struct pool_protocol *proto)
{
    return proto != &pool_protocol_tcp;
}

static void pool_destroy(struct pool *p)
{
    if (is_counted(p->proto))
        circuit_give(p->owner->cluster->circuit, p->priority, CIRCUIT_POOLS);
    task_cancel(&p->free_task);
    if (p->owner->last == p)
        p->owner->last = NULL;
    arena_cleanup(&p->arena);
    host_unref(p->host);
    mem_free(p);
}

static void finish(struct pool_request *rq)
{
    struct cluster *c = rq->cluster;
    rq->cluster = NULL;
    rq->pool = NULL;
    rq->ready = NULL;
    cluster_release(c);
}

/* The asker of a request may outlive its worker's pools by a little; cancelling must be harmless.
 */
static void forget_requests(struct list *l)
{
    struct list *e;
    while ((e = list_pop_head(l))) {
        struct pool_request *rq = request_at(e);
        task_cancel(&rq->task);
        finish(rq);
    }
}

static void pool_end(void *arg)
{
    struct pool *p = arg;
    struct list *lists[] = {&p->ready, &p->full, &p->connecting, &p->closing};

    forget_requests(&p->pending);
    forget_requests(&p->granted);
    for (unsigned i = 0; i < ARRAY_LEN(lists); i++) {
        while (!list_empty(lists[i]))
            pool_conn_destroy(conn_at(lists[i]->next));
    }
    pool_destroy(p);
}

void pools_free(struct pools **psp)
{
    struct pools *ps = *psp;
    if (!ps)
        return;
    *psp = NULL;
    map_cleanup(&ps->map, pool_end);
    while (!list_empty(&ps->dying))
        pool_conn_destroy(conn_at(ps->dying.next));
    mem_free(ps);
}

static void on_free(void *arg)
{
    struct pool *p = arg;
    if (p->num_conns || p->num_pending || !list_empty(&p->granted))
        return; /* used again meanwhile */
    map_remove(&p->owner->map, str_n((const char *)&p->key, sizeof(p->key)));
    pool_destroy(p);
}

void pool_maybe_free(struct pool *p)
{
    if (p->num_conns == 0 && p->num_pending == 0 && list_empty(&p->granted))
        loop_defer_free(p->owner->cluster->loop, &p->free_task);
}

static void copy_origin(struct pool *p, const struct proxy_origin *from)
{
    struct proxy_origin *to = ARENA_NEW(&p->arena, struct proxy_origin);
    struct addr *ends = arena_alloc(&p->arena, 2 * sizeof(*ends));
    struct proxy_tlv *first = NULL, **at = &first;

    ends[0] = *from->src;
    ends[1] = *from->dst;
    for (const struct proxy_tlv *t = from->tlvs; t; t = t->next) {
        *at = ARENA_NEW(&p->arena, struct proxy_tlv);
        **at = (struct proxy_tlv){NULL, t->type, arena_str(&p->arena, t->value)};
        at = &(*at)->next;
    }
    *to = (struct proxy_origin){&ends[0], &ends[1], first};
    p->transport.origin = to;
}

static void copy_options(struct pool *p, const struct pool_options *opts)
{
    const struct transport_options *from = &opts->transport;
    if (from->origin)
        copy_origin(p, from->origin);
    p->mark = opts->mark;
    if (opts->source) {
        p->source = ARENA_NEW(&p->arena, struct addr);
        *p->source = *opts->source;
    }
    struct str *alpn;
    p->transport.sni_override = arena_str(&p->arena, from->sni_override);
    if (from->num_alpn_override == 0)
        return;
    alpn = arena_alloc(&p->arena, from->num_alpn_override * sizeof(*alpn));
    for (size_t i = 0; i < from->num_alpn_override; i++)
        alpn[i] = arena_str(&p->arena, from->alpn_override[i]);
    p->transport.alpn_override = alpn;
    p->transport.num_alpn_override = from->num_alpn_override;
}

static struct pool *pool_new(struct pools *ps, const struct pool_key *key, struct host *h,
                             const struct pool_options *opts)
{
    struct pool *p = NEW(struct pool);
    p->owner = ps;
    p->key = *key;
    p->host = host_ref(h);
    p->proto = key->proto;
    p->priority = (enum priority)key->priority;
    arena_init(&p->arena, 0);
    if (opts && opts->key)
        copy_options(p, opts);
    list_init(&p->ready);
    list_init(&p->full);
    list_init(&p->connecting);
    list_init(&p->closing);
    list_init(&p->pending);
    list_init(&p->granted);
    task_init(&p->free_task, on_free, p);
    map_put(&ps->map, str_n((const char *)&p->key, sizeof(p->key)), p);
    return p;
}

/* NULL: that would be one pool too many. */
static struct pool *pool_for(struct pools *ps, struct host *h, const struct pool_protocol *proto,
                             const struct pool_options *opts, enum priority priority)
{
    struct pool_key key = {h, proto, opts ? opts->key : 0, priority};
    struct pool *p = ps->last;

    if (p && memcmp(&p->key, &key, sizeof(key)) == 0)
        return p;
    p = map_get(&ps->map, str_n((const char *)&key, sizeof(key)));
    if (!p && is_counted(proto) && !circuit_take(ps->cluster->circuit, priority, CIRCUIT_POOLS))
        return NULL;
    if (!p)
        p = pool_new(ps, &key, h, opts);
    ps->last = p;
    return p;
}

size_t pools_num_pools(const struct pools *ps)
{
    return map_count(&ps->map);
}

size_t pools_num_conns(const struct pools *ps)
{
    size_t n = 0, it = 0;
    struct str key;
    void *p;
    while (map_next(&ps->map, &it, &key, &p))
        n += ((struct pool *)p)->num_conns;
    return n;
}

/* --- handing out slots --- */

static void connect_more(struct pool *p);
static uint64_t expected_slots(const struct pool *p);

/* A connection that was reused may have ended since it was chosen; another one is better than a
 * request that is reset. */
static bool still_good(const struct pool_conn *pc)
{
    bool unasked = pc->conn.in.len && !pc->proto->keeps_callbacks;
    return pc->requests < 2 || !pc->client || !(pc->conn.eof || unasked || conn_closing(&pc->conn));
}

static void count_slot(struct pool_conn *pc)
{
    struct host *h = pc->host;
    pool_stat(pc->pool, CLUSTER_UPSTREAM_RQ_TOTAL);
    pool_gauge(pc->pool, CLUSTER_UPSTREAM_RQ_ACTIVE, 1);
    atomic_fetch_add_explicit(&h->rq_total, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->rq_active, 1, memory_order_relaxed);
}

static void run_request(void *arg)
{
    struct pool_request *rq = arg;
    struct pool_conn *pc = rq->ready;
    pool_slot_cb cb = rq->cb;
    void *cb_arg = rq->arg;
    enum pool_result result = rq->result;
    char detail[sizeof(rq->detail)];

    list_remove(&rq->link);
    if (pc && pc->slots_used == 1 && !still_good(pc)) {
        struct pool *p = pc->pool;
        list_push_tail(&p->granted, &rq->link);
        pool_requeue(p, pc);
        pool_conn_shut(pc);
        connect_more(p);
        return;
    }
    memcpy(detail, rq->detail, sizeof(detail));
    if (pc) {
        count_slot(pc);
        pool_conn_hand_over(pc);
    }
    finish(rq);
    cb(cb_arg, pc, result, str_of(detail));
}

static void post(struct pool_request *rq, enum pool_result r)
{
    rq->result = r;
    loop_post(rq->cluster->loop, &rq->task);
}

static void fail(struct pool_request *rq, enum pool_result r, struct str detail)
{
    size_t len = detail.len < sizeof(rq->detail) - 1 ? detail.len : sizeof(rq->detail) - 1;
    if (len)
        memcpy(rq->detail, detail.p, len);
    rq->detail[len] = 0;
    post(rq, r);
}

/* Until the peer has said how many streams it allows, what it said on an earlier connection holds.
 */
static uint32_t slots_of(const struct pool_conn *pc)
{
    const struct pool_protocol *proto = pc->proto;
    uint32_t n = proto->streams_allowed ? proto->streams_allowed(pc->client) : 1;
    uint32_t seen = pc->pool->streams_seen;
    return !pc->streams_known && seen && seen < n ? seen : n;
}

static bool has_slot(const struct pool_conn *pc)
{
    return !pc->draining && pc->slots_used < slots_of(pc);
}

/* grant gives a slot of pc to rq, which is on no list, if the breaker has one more request. */
static bool grant(struct pool_conn *pc, struct pool_request *rq)
{
    struct pool *p = pc->pool;
    uint32_t max = p->owner->cluster->config->max_requests_per_connection;

    if (!circuit_take(p->owner->cluster->circuit, rq->priority, CIRCUIT_RQ)) {
        pool_stat(p, CLUSTER_UPSTREAM_RQ_ACTIVE_OVERFLOW);
        fail(rq, POOL_OVERFLOW, STR_NULL);
        return false;
    }
    timer_disarm(&pc->idle);
    pc->slots_used++;
    pc->requests++;
    if (max && pc->requests >= max && !pc->draining) {
        pc->draining = true;
        pool_stat(p, CLUSTER_UPSTREAM_CX_MAX_REQUESTS);
    }
    rq->ready = pc;
    list_push_tail(&p->granted, &rq->link);
    post(rq, POOL_READY);
    return true;
}

static void move_conn(struct pool_conn *pc, struct list *to, enum pool_conn_state state)
{
    list_remove(&pc->link);
    pc->state = (uint8_t)state;
    list_push_head(to, &pc->link);
}

/* settle files a connection by what it can still give. */
static void settle(struct pool_conn *pc)
{
    struct pool *p = pc->pool;
    if (p->owner->cluster->removed ||
        atomic_load_explicit(&pc->host->removed, memory_order_relaxed))
        pc->draining = true;
    if (pc->slots_used == 0 && pc->draining) {
        pool_conn_shut(pc);
        return;
    }
    if (has_slot(pc)) {
        move_conn(pc, &p->ready, POOL_CONN_READY);
        if (pc->slots_used == 0)
            pool_conn_park(pc);
    } else {
        move_conn(pc, &p->full, POOL_CONN_FULL);
    }
}

static void unqueue(struct pool *p, struct pool_request *rq)
{
    list_remove(&rq->link);
    p->num_pending--;
    circuit_give(p->owner->cluster->circuit, rq->priority, CIRCUIT_PENDING);
    pool_gauge(p, CLUSTER_UPSTREAM_RQ_PENDING_ACTIVE, -1);
    atomic_fetch_sub_explicit(&p->host->rq_pending_active, 1, memory_order_relaxed);
}

static struct pool_request *pop_pending(struct pool *p)
{
    struct pool_request *rq = request_at(p->pending.next);
    unqueue(p, rq);
    return rq;
}

/* Whether pc served somebody before, or, with many streams, is older than the request. */
static bool used_before(const struct pool_conn *pc, const struct pool_request *rq)
{
    return pc->requests && (!pc->proto->streams_allowed || pc->started_us < rq->asked_us);
}

/* The oldest request that pc will do for. */
static struct pool_request *next_for(struct pool *p, const struct pool_conn *pc)
{
    LIST_FOREACH_SAFE(it, &p->pending) {
        struct pool_request *rq = request_at(it);
        if (rq->fresh && used_before(pc, rq))
            continue;
        unqueue(p, rq);
        return rq;
    }
    return NULL;
}

static void serve_pending(struct pool *p, struct pool_conn *pc)
{
    struct pool_request *rq;
    while (p->num_pending && has_slot(pc) && (rq = next_for(p, pc)))
        (void)grant(pc, rq);
    /* What waits for a fresh one, while no more may be opened, gets the place of this one. */
    if (p->num_pending > expected_slots(p) && pc->slots_used == 0)
        pc->draining = true;
    settle(pc);
}

/* --- asking --- */

static bool host_has_room(const struct pool *p)
{
    const struct circuit_limits *l = &p->owner->cluster->config->limits[p->priority];
    return atomic_load_explicit(&p->host->cx_active, memory_order_relaxed) < l->max_cx_per_host;
}

/* What the connections that are being opened will serve. */
static uint64_t expected_slots(const struct pool *p)
{
    const struct pool_protocol *proto = p->proto;
    uint64_t each = proto->streams_expected ? proto->streams_expected(p->owner->cluster->config)
                                            : 1;
    if (p->streams_seen && p->streams_seen < each)
        each = p->streams_seen;
    return p->num_connecting * each;
}

/* connect_more opens connections for the requests that none is being opened for. At the limit they
 * wait for one that there is; the first connection of a pool is always allowed, because nothing
 * else could serve them. TCP connections serve once and may last for ever: nobody waits for those.
 */
static void connect_more(struct pool *p)
{
    struct circuit *circuit = p->owner->cluster->circuit;
    while (p->num_pending > expected_slots(p)) {
        if (host_has_room(p) && circuit_take(circuit, p->priority, CIRCUIT_CX)) {
            pool_conn_start(p);
            continue;
        }
        pool_stat(p, CLUSTER_UPSTREAM_CX_OVERFLOW);
        if (p->proto == &pool_protocol_tcp) {
            struct pool_request *newest = request_at(p->pending.prev);
            unqueue(p, newest);
            fail(newest, POOL_OVERFLOW, STR_NULL);
            continue;
        }
        if (p->num_conns) {
            if (!list_empty(&p->ready)) { /* only those that want a fresh one wait beside it */
                struct pool_conn *idle = conn_at(p->ready.prev);
                if (idle->slots_used == 0)
                    pool_conn_shut(idle);
            }
            return;
        }
        circuit_take_always(circuit, p->priority, CIRCUIT_CX);
        pool_conn_start(p);
    }
}

/* preconnect_policy: connections for requests that are yet to come, as many as the ratio makes of
 * those that are there. A few at a time, and only what the breaker has left: nobody waits for them.
 */
static void connect_ahead(struct pool *p)
{
    enum { AT_A_TIME = 3 };
    double ratio = p->owner->cluster->config->preconnect_ratio;
    uint64_t active = 0, ready = 0;
    LIST_FOREACH(it, &p->full)
        active += conn_at(it)->slots_used;
    LIST_FOREACH(it, &p->ready) {
        const struct pool_conn *pc = conn_at(it);
        active += pc->slots_used;
        ready += slots_of(pc) - pc->slots_used;
    }
    for (int i = 0; i < AT_A_TIME; i++) {
        double wanted = (double)(p->num_pending + active) * ratio;
        if ((double)(expected_slots(p) + ready + active) >= wanted || !host_has_room(p) ||
            !circuit_take(p->owner->cluster->circuit, p->priority, CIRCUIT_CX))
            return;
        pool_conn_start(p);
    }
}

static void add_pending(struct pool *p, struct pool_request *rq, bool first)
{
    p->num_pending++;
    pool_gauge(p, CLUSTER_UPSTREAM_RQ_PENDING_ACTIVE, 1);
    atomic_fetch_add_explicit(&p->host->rq_pending_active, 1, memory_order_relaxed);
    if (first)
        list_push_head(&p->pending, &rq->link);
    else
        list_push_tail(&p->pending, &rq->link);
}

static struct pool_conn *find_ready(struct pool *p)
{
    while (!list_empty(&p->ready)) {
        struct pool_conn *pc = conn_at(p->ready.next);
        if (!has_slot(pc)) { /* a client has set draining or allows fewer streams now */
            settle(pc);
            continue;
        }
        if (pool_conn_alive(pc))
            return pc;
        pool_conn_shut(pc);
    }
    return NULL;
}

void pool_acquire(struct cluster *c, struct host *h, const struct pool_protocol *proto,
                  const struct pool_options *opts, enum priority priority, struct pool_request *rq,
                  pool_slot_cb cb, void *arg)
{
    struct pool *p = pool_for(c->pools, h, proto, opts, priority);
    struct pool_conn *pc;

    *rq = (struct pool_request){.pool = p, .cluster = c, .cb = cb, .arg = arg};
    rq->priority = priority;
    rq->asked_us = loop_now_us(c->loop);
    task_init(&rq->task, run_request, rq);
    cluster_hold(c);
    rq->fresh = opts && opts->fresh;
    if (!p) {
        stats_inc(c->stats, c->thread, CLUSTER_UPSTREAM_CX_POOL_OVERFLOW);
        fail(rq, POOL_OVERFLOW, STR_NULL);
        return;
    }
    pc = rq->fresh ? NULL : find_ready(p);
    if (pc) {
        if (grant(pc, rq))
            settle(pc);
        if (UNLIKELY(c->config->preconnect_ratio > 1))
            connect_ahead(p);
        return;
    }
    if (!circuit_take(c->circuit, priority, CIRCUIT_PENDING)) {
        pool_stat(p, CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW);
        fail(rq, POOL_OVERFLOW, STR_NULL);
        pool_maybe_free(p);
        return;
    }
    pool_stat(p, CLUSTER_UPSTREAM_RQ_PENDING_TOTAL);
    add_pending(p, rq, false);
    connect_more(p);
    if (UNLIKELY(c->config->preconnect_ratio > 1))
        connect_ahead(p);
}

/* take_slot_back undoes grant. */
static void take_slot_back(struct pool_request *rq)
{
    struct pool_conn *pc = rq->ready;
    list_remove(&rq->link);
    task_cancel(&rq->task);
    rq->ready = NULL;
    pc->slots_used--;
    pc->requests--;
    circuit_give(rq->cluster->circuit, rq->priority, CIRCUIT_RQ);
}

void pool_cancel(struct pool_request *rq)
{
    struct pool *p = rq->pool;
    struct pool_conn *pc = rq->ready;

    if (!rq->cluster)
        return;
    if (pc) {
        take_slot_back(rq);
        serve_pending(p, pc);
    } else if (list_linked(&rq->link)) {
        unqueue(p, rq);
        pool_stat(p, CLUSTER_UPSTREAM_RQ_CANCELLED);
        pool_maybe_free(p);
    }
    task_cancel(&rq->task);
    finish(rq);
}

void pool_requeue(struct pool *p, struct pool_conn *pc)
{
    struct cluster *c = p->owner->cluster;
    uint64_t given = 0;
    LIST_FOREACH(it, &p->granted)
        given += request_at(it)->ready == pc;
    bool fresh = pc->requests <= given; /* nobody has ever had a slot */
    LIST_FOREACH_SAFE(it, &p->granted) {
        struct pool_request *rq = request_at(it);
        if (rq->ready != pc)
            continue;
        take_slot_back(rq);
        if (fresh) { /* once more would be for ever with a peer that accepts and closes */
            fail(rq, POOL_CONNECT_FAILED, STR_NULL);
            continue;
        }
        circuit_take_always(c->circuit, rq->priority, CIRCUIT_PENDING);
        add_pending(p, rq, true);
    }
}

/* --- what connections tell --- */

void pool_on_connected(struct pool *p, struct pool_conn *pc)
{
    serve_pending(p, pc);
}

void pool_on_connect_failed(struct pool *p, enum pool_result r, struct str detail)
{
    while (p->num_pending > expected_slots(p)) {
        pool_stat(p, CLUSTER_UPSTREAM_RQ_PENDING_FAILURE_EJECT);
        fail(pop_pending(p), r, detail);
    }
}

void pool_on_gone(struct pool *p)
{
    connect_more(p);
    pool_maybe_free(p);
}

void pool_release(struct pool_conn *pc, bool reusable)
{
    struct pool *p = pc->pool;

    CHECK(pc->magic == POOL_CONN_MAGIC && pc->slots_used > 0);
    if (UNLIKELY(!p)) {
        solo_released(pc, reusable);
        return;
    }
    pool_conn_count(pc);
    circuit_give(p->owner->cluster->circuit, p->priority, CIRCUIT_RQ);
    pool_gauge(p, CLUSTER_UPSTREAM_RQ_ACTIVE, -1);
    atomic_fetch_sub_explicit(&pc->host->rq_active, 1, memory_order_relaxed);
    if (!reusable)
        pc->draining = true;
    if (pc->slots_used == 1 && pc->conn.fd < 0 && !list_linked(&pc->conn.closed_task.link)) {
        pool_conn_over(pc, pc->conn.why); /* the user has had on_closed */
        return;
    }
    pc->slots_used--;
    if (pc->slots_used == 0)
        pool_conn_take_back(pc);
    serve_pending(p, pc);
}

void pool_conn_changed(struct pool_conn *pc)
{
    if (pc->solo)
        solo_changed(pc);
    if (!pc->pool)
        return;
    pc->streams_known = true;
    if (!pc->draining)
        pc->pool->streams_seen = slots_of(pc);
    if (pc->state == POOL_CONN_READY || pc->state == POOL_CONN_FULL)
        serve_pending(pc->pool, pc);
}

void pool_conn_ended(struct pool_conn *pc, enum conn_close_reason why)
{
    if (pc->solo)
        solo_ended(pc);
    if (!pc->pool) /* with the last slot */
        return;
    pc->draining = true;
    if (pc->slots_used > 0)
        pool_requeue(pc->pool, pc);
    pool_conn_over(pc, why);
}

/* --- draining --- */

static void drain_list(struct list *l)
{
    LIST_FOREACH_SAFE(it, l) {
        struct pool_conn *pc = conn_at(it);
        pc->draining = true;
        if (pc->slots_used == 0)
            pool_conn_shut(pc);
    }
}

static void drain_pool(struct pool *p)
{
    drain_list(&p->ready);
    drain_list(&p->full);
}

void pools_drain(struct pools *ps)
{
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&ps->map, &it, &key, &value);) {
        struct pool *p = value;
        drain_pool(p);
        /* What is being opened was begun with the old configuration: it will be opened again. */
        LIST_FOREACH(link, &p->connecting)
            conn_at(link)->draining = true;
    }
}

/* Streams on HTTP connections end in their own time; a TCP connection is all there is of its use.
 */
static void close_unhealthy(struct pool *p)
{
    drain_pool(p);
    if (p->proto != &pool_protocol_tcp)
        return;
    LIST_FOREACH(link, &p->full)
        conn_close(&conn_at(link)->conn, CONN_CLOSE_NOW, 0);
}

void pools_hosts_changed(struct pools *ps, bool membership)
{
    const struct cluster_config *config = ps->cluster->config;
    bool all = membership && config->close_on_host_set_change;
    struct str key;
    void *value;

    for (size_t it = 0; map_next(&ps->map, &it, &key, &value);) {
        struct pool *p = value;
        if (all || atomic_load_explicit(&p->host->removed, memory_order_relaxed))
            drain_pool(p);
        else if (config->close_on_health_failure && !host_healthy(p->host))
            close_unhealthy(p);
    }
}
