#include "cluster/health.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/obj.h"
#include "base/random.h"
#include "cluster/cluster_bind.h"
#include "cluster/health_log.h"
#include "cluster/membership.h"
#include "cluster/table.h"

enum { HEALTH_CHECKER_MAGIC = 0x48434b52, HEALTH_SESSION_MAGIC = 0x48435353 };

struct health_session {
    uint32_t magic;
    struct list link;
    struct list wait_link; /* in the budget's list */
    struct health_checker *checker;
    struct host *host; /* referenced */
    struct health_probe *probe;
    struct addr peer; /* where it is asked */
    struct timer interval, timeout;
    uint32_t num_healthy, num_unhealthy; /* outcomes in a row, while they do not decide yet */
    uint32_t mark;
    bool first; /* has no outcome yet */
    bool running;
};

struct health_checker {
    uint32_t magic;
    struct loop *loop;
    struct health_budget *budget;
    struct cluster_config *config; /* referenced */
    struct cluster_state *state;   /* referenced */
    struct cluster view;           /* for codecs: no worker has it */
    const struct health_checker_ops *ops;
    void *arg;
    struct list sessions;
    uint32_t num_pending, num_healthy, num_degraded;
    uint32_t mark;
};

enum transition { UNCHANGED, CHANGE_PENDING, CHANGED };

static void begin(struct health_session *s);

/* --- statistics and events --- */

static void count(struct health_checker *c, uint32_t stat)
{
    stats_inc(c->state->health_stats, loop_thread_index(c->loop), stat);
}

static void show(struct health_checker *c)
{
    unsigned thread = loop_thread_index(c->loop);
    stats_gauge_set(c->state->health_stats, thread, HEALTH_STAT_HEALTHY, c->num_healthy);
    stats_gauge_set(c->state->health_stats, thread, HEALTH_STAT_DEGRADED, c->num_degraded);
}

static void event(struct health_session *s, enum health_event ev, const struct health_result *r)
{
    struct health_checker *c = s->checker;
    const struct health_event_info info = {
        .cluster = c->config->name,
        .host = s->host,
        .wall_us = loop_wall_us(c->loop),
        .failure = r->failure,
        .status = r->status,
        .first = s->first,
    };
    health_log_event(c->config->health, ev, &info);
}

static bool has(const struct health_session *s, uint32_t flag)
{
    return (atomic_load_explicit(&s->host->health, memory_order_relaxed) & flag) != 0;
}

/* --- how long until the next check --- */

static uint64_t with_jitter(const struct health_config *h, uint64_t ms, uint64_t jitter_ms)
{
    uint64_t part = ms * h->interval_jitter_per_cent / 100;
    ms += random_below(part);
    ms += random_below(jitter_ms);
    return ms ? ms : 1;
}

/* Before the cluster has had a connection nobody is in a hurry. */
static uint64_t next_ms(struct health_checker *c, bool ok, enum transition t)
{
    const struct health_config *h = c->config->health;
    uint64_t ms;
    if (!stats_used(c->state->stats, CLUSTER_UPSTREAM_CX_TOTAL))
        ms = ok && t != CHANGE_PENDING ? h->no_traffic_healthy_ms : h->no_traffic_ms;
    else if (ok)
        ms = t == CHANGE_PENDING ? h->healthy_edge_ms : h->interval_ms;
    else
        ms = t == CHANGE_PENDING ? h->unhealthy_edge_ms : h->unhealthy_ms;
    return with_jitter(h, ms, h->interval_jitter_ms);
}

/* --- outcomes --- */

static enum transition passed(struct health_session *s, const struct health_result *r)
{
    struct health_checker *c = s->checker;
    enum transition t = UNCHANGED;

    s->num_unhealthy = 0;
    if (has(s, HOST_FAILED_ACTIVE_HC)) {
        t = CHANGE_PENDING;
        host_clear_flag(s->host, HOST_HC_TIMEOUT);
        if (s->first || ++s->num_healthy >= c->config->health->healthy_threshold) {
            t = CHANGED;
            host_clear_flag(s->host, HOST_FAILED_ACTIVE_HC | HOST_EXCLUDED);
            c->num_healthy++;
            event(s, HEALTH_ADD, r);
        }
    }
    if (t != CHANGED && c->config->health->log_successes)
        event(s, HEALTH_SUCCESS, r);
    if (host_clear_flag(s->host, HOST_PENDING_ACTIVE_HC))
        t = CHANGED;
    if (r->degraded == has(s, HOST_DEGRADED_ACTIVE_HC))
        return t;
    if (r->degraded) {
        host_set_flag(s->host, HOST_DEGRADED_ACTIVE_HC);
        c->num_degraded++;
    } else {
        host_clear_flag(s->host, HOST_DEGRADED_ACTIVE_HC);
        c->num_degraded--;
    }
    event(s, r->degraded ? HEALTH_DEGRADED : HEALTH_NO_LONGER_DEGRADED, r);
    return t == UNCHANGED ? CHANGED : t;
}

static bool of_network(enum health_failure f)
{
    return f == HEALTH_NETWORK || f == HEALTH_NETWORK_TIMEOUT;
}

/* An answer that says no decides at once; what may be the network's fault has to repeat itself. */
static enum transition failed(struct health_session *s, const struct health_result *r)
{
    struct health_checker *c = s->checker;
    enum transition t = UNCHANGED;
    bool patient = of_network(r->failure) || r->retriable;

    s->num_healthy = 0;
    if (!has(s, HOST_FAILED_ACTIVE_HC)) {
        t = CHANGE_PENDING;
        if (!patient || ++s->num_unhealthy >= c->config->health->unhealthy_threshold) {
            t = CHANGED;
            host_set_flag(s->host, HOST_FAILED_ACTIVE_HC);
            c->num_healthy--;
            event(s, HEALTH_EJECT, r);
        }
    }
    if (r->failure == HEALTH_NETWORK_TIMEOUT && has(s, HOST_FAILED_ACTIVE_HC))
        host_set_flag(s->host, HOST_HC_TIMEOUT);
    else
        host_clear_flag(s->host, HOST_HC_TIMEOUT);
    if (host_clear_flag(s->host, HOST_PENDING_ACTIVE_HC))
        t = CHANGED;
    if (s->first || c->config->health->log_failures)
        event(s, HEALTH_FAILURE, r);
    count(c, HEALTH_STAT_FAILURE);
    if (of_network(r->failure))
        count(c, HEALTH_STAT_NETWORK_FAILURE);
    else if (r->failure == HEALTH_PASSIVE)
        count(c, HEALTH_STAT_PASSIVE_FAILURE);
    return t;
}

static void settle_first(struct health_session *s)
{
    struct health_checker *c = s->checker;
    if (!s->first)
        return;
    s->first = false;
    if (--c->num_pending == 0)
        c->ops->settled(c->arg);
}

static enum transition take(struct health_session *s, const struct health_result *r)
{
    struct health_checker *c = s->checker;
    enum transition t = r->ok ? passed(s, r) : failed(s, r);

    if (r->ok)
        count(c, HEALTH_STAT_SUCCESS);
    show(c);
    if (t == CHANGED) {
        LOG_INFO(upstream, "health check: host %.*s of %.*s is %s", STR_ARG(s->host->address_text),
                 STR_ARG(c->config->name), r->ok ? "healthy" : "unhealthy");
        c->ops->changed(c->arg);
    }
    settle_first(s);
    if (r->ok && !has(s, HOST_FAILED_ACTIVE_HC))
        c->ops->passed(c->arg, s->host);
    return t;
}

/* --- one check --- */

static void next_waiting(struct health_budget *b)
{
    struct list *it;
    while (b->running < HEALTH_CHECKS_MAX && (it = list_pop_head(&b->waiting)))
        begin(CONTAINER_OF(it, struct health_session, wait_link));
}

static void ended(struct health_session *s)
{
    timer_disarm(&s->timeout);
    if (!s->running)
        return;
    s->running = false;
    s->checker->budget->running--;
}

void health_session_done(struct health_session *s, const struct health_result *r)
{
    struct health_budget *b = s->checker->budget;
    if (!s->running)
        return;
    ended(s);
    timer_arm(&s->interval, next_ms(s->checker, r->ok, take(s, r)));
    next_waiting(b);
}

static void on_timeout(void *arg)
{
    struct health_session *s = OBJ_CAST(arg, struct health_session, HEALTH_SESSION_MAGIC);
    const struct health_result late = {.failure = HEALTH_NETWORK_TIMEOUT};
    s->probe->ops->abandon(s->probe);
    health_session_done(s, &late);
}

static void begin(struct health_session *s)
{
    struct health_checker *c = s->checker;
    s->running = true;
    c->budget->running++;
    count(c, HEALTH_STAT_ATTEMPT);
    timer_arm(&s->timeout, c->config->health->timeout_ms);
    s->probe->ops->check(s->probe);
}

static void on_interval(void *arg)
{
    struct health_session *s = OBJ_CAST(arg, struct health_session, HEALTH_SESSION_MAGIC);
    if (s->checker->budget->running < HEALTH_CHECKS_MAX)
        begin(s);
    else
        list_push_tail(&s->checker->budget->waiting, &s->wait_link);
}

/* --- what a host says of itself --- */

static void on_fail(void *arg)
{
    const struct health_result r = {.failure = HEALTH_PASSIVE};
    struct host *h = arg;

    atomic_store_explicit(&h->fail_reported, false, memory_order_relaxed);
    if (h->health_session) {
        host_set_flag(h, HOST_EXCLUDED);
        (void)take(h->health_session, &r);
    }
    host_unref(h);
}

void health_report_fail(struct host *h)
{
    if (!atomic_load_explicit(&h->checked, memory_order_relaxed) || !h->reclaim.home ||
        atomic_exchange_explicit(&h->fail_reported, true, memory_order_relaxed))
        return;
    mailbox_call(h->reclaim.home->mailbox, on_fail, host_ref(h));
}

void health_host_new(const struct cluster_config *config, struct host *h, const struct host *before)
{
    if (!config->health || h->hc_disabled)
        return;
    if (before && before->health_session && !before->health_session->first &&
        addr_eq(&before->hc_addr, &h->hc_addr)) {
        host_set_flag(h, atomic_load_explicit(&before->health, memory_order_relaxed) &
                             (HOST_FAILED_ACTIVE_HC | HOST_DEGRADED_ACTIVE_HC | HOST_HC_TIMEOUT));
        return;
    }
    host_set_flag(h, HOST_FAILED_ACTIVE_HC);
    if (config->exclude_unchecked)
        host_set_flag(h, HOST_PENDING_ACTIVE_HC);
}

/* --- sessions --- */

static void session_new(struct health_checker *c, struct host *h)
{
    struct health_session *s = NEW(struct health_session);
    const struct health_config *config = c->config->health;

    s->magic = HEALTH_SESSION_MAGIC;
    s->checker = c;
    s->host = host_ref(h);
    s->peer = h->hc_addr;
    if (config->alt_port)
        addr_set_port(&s->peer, (uint16_t)config->alt_port);
    s->first = true;
    s->mark = c->mark;
    timer_init(&s->interval, c->loop, on_interval, s);
    timer_init(&s->timeout, c->loop, on_timeout, s);
    list_push_tail(&c->sessions, &s->link);
    h->health_session = s;
    atomic_store_explicit(&h->checked, true, memory_order_relaxed);
    c->num_pending++;
    c->num_healthy += !has(s, HOST_FAILED_ACTIVE_HC);
    c->num_degraded += has(s, HOST_DEGRADED_ACTIVE_HC);
    s->probe = config->probe->make(s);
    timer_arm(&s->interval,
              config->initial_jitter_ms ? random_below(config->initial_jitter_ms) : 0);
}

static void session_free(struct health_session *s)
{
    struct health_checker *c = s->checker;

    ended(s);
    timer_disarm(&s->interval);
    list_remove(&s->wait_link);
    list_remove(&s->link);
    s->probe->ops->free(s->probe);
    c->num_pending -= s->first;
    c->num_healthy -= !has(s, HOST_FAILED_ACTIVE_HC);
    c->num_degraded -= has(s, HOST_DEGRADED_ACTIVE_HC);
    s->host->health_session = NULL;
    atomic_store_explicit(&s->host->checked, false, memory_order_relaxed);
    host_unref(s->host);
    s->magic = 0;
    mem_free(s);
}

static struct health_session *at(struct list *link)
{
    return CONTAINER_OF(link, struct health_session, link);
}

void health_checker_sync(struct health_checker *c, struct host *const *hosts, uint32_t num)
{
    c->mark++;
    for (uint32_t i = 0; i < num; i++) {
        if (hosts[i]->hc_disabled)
            continue;
        if (hosts[i]->health_session)
            hosts[i]->health_session->mark = c->mark;
        else
            session_new(c, hosts[i]);
    }
    LIST_FOREACH_SAFE(it, &c->sessions) {
        if (at(it)->mark != c->mark)
            session_free(at(it));
    }
    show(c);
    next_waiting(c->budget);
}

uint32_t health_checker_pending(const struct health_checker *c)
{
    return c->num_pending;
}

/* --- the checker --- */

static void take_config(struct health_checker *c, struct cluster_config *config)
{
    struct cluster_config *old = c->config;
    c->config = cluster_config_ref(config);
    c->view.config = config;
    cluster_config_unref(old);
}

static void make_stats(struct cluster_state *s)
{
    const struct stats_part parts[] = {
        {STR("cluster"), NULL}, {s->stat_name, "envoy_cluster_name"}, {STR("health_check"), NULL}};
    if (!s->health_stats)
        s->health_stats = stats_scope_new(&health_stats_table, parts, ARRAY_LEN(parts));
}

struct health_checker *health_checker_new(struct loop *l, struct health_budget *budget,
                                          struct cluster_config *config,
                                          struct cluster_state *state,
                                          const struct health_checker_ops *ops, void *arg)
{
    struct health_checker *c = NEW(struct health_checker);
    c->magic = HEALTH_CHECKER_MAGIC;
    c->loop = l;
    c->budget = budget;
    c->state = cluster_state_ref(state);
    c->ops = ops;
    c->arg = arg;
    list_init(&c->sessions);
    make_stats(state);
    c->view.loop = l;
    c->view.thread = loop_thread_index(l);
    c->view.circuit = &state->circuit;
    c->view.stats = state->stats;
    take_config(c, config);
    return c;
}

void health_checker_configure(struct health_checker *c, struct cluster_config *config)
{
    const struct cluster_config *old = c->config;
    bool same = old->health->hash == config->health->hash &&
                old->connection_hash == config->connection_hash && str_eq(old->name, config->name);
    if (same) {
        take_config(c, config);
        return;
    }
    struct list hosts;
    list_init(&hosts);
    LIST_FOREACH_SAFE(it, &c->sessions) {
        list_remove(it);
        list_push_tail(&hosts, it);
    }
    /* The old sessions end with the old configuration, whose probes they are. */
    struct host **again = NULL;
    size_t num = 0, cap = 0;
    LIST_FOREACH_SAFE(it, &hosts) {
        again = mem_grow_array(again, &cap, num + 1, sizeof(struct host *));
        again[num++] = host_ref(at(it)->host);
        session_free(at(it));
    }
    take_config(c, config);
    for (size_t i = 0; i < num; i++) {
        session_new(c, again[i]);
        host_unref(again[i]);
    }
    mem_free(again);
    show(c);
}

void health_checker_free(struct health_checker **cp)
{
    struct health_checker *c = *cp;
    bool changed = false;
    if (!c)
        return;
    *cp = NULL;
    LIST_FOREACH_SAFE(it, &c->sessions) {
        struct host *h = host_ref(at(it)->host);
        session_free(at(it));
        changed |= host_clear_flag(h, HOST_FAILED_ACTIVE_HC | HOST_DEGRADED_ACTIVE_HC |
                                          HOST_PENDING_ACTIVE_HC | HOST_EXCLUDED | HOST_HC_TIMEOUT);
        host_unref(h);
    }
    show(c);
    if (changed)
        c->ops->changed(c->arg);
    next_waiting(c->budget);
    cluster_config_unref(c->config);
    cluster_state_unref(c->state);
    c->magic = 0;
    mem_free(c);
}

/* --- for probes --- */

const struct health_config *health_session_config(const struct health_session *s)
{
    return s->checker->config->health;
}

struct host *health_session_host(const struct health_session *s)
{
    return s->host;
}

struct cluster *health_session_cluster(const struct health_session *s)
{
    return &s->checker->view;
}

struct str health_session_hostname(const struct health_session *s, struct str configured)
{
    if (s->host->hc_hostname.len)
        return s->host->hc_hostname;
    return configured.len ? configured : s->checker->config->name;
}

void health_session_verified(struct health_session *s)
{
    count(s->checker, HEALTH_STAT_VERIFY_CLUSTER);
}

void health_session_connect(const struct health_session *s, const struct str *alpn, size_t num_alpn,
                            struct transport_options *opts, struct conn_connect *out)
{
    const struct cluster_config *config = s->checker->config;
    const struct health_config *h = config->health;
    uint32_t i = h->has_transport ? h->transport : s->host->transport_index;

    *opts = (struct transport_options){
        .alpn_override = h->alpn,
        .num_alpn_override = h->num_alpn,
        .alpn_fallback = alpn,
        .num_alpn_fallback = num_alpn,
    };
    *out = (struct conn_connect){
        .peer = &s->peer,
        .factory = i < config->num_transports ? config->transports[i] : NULL,
        .transport_opts = opts,
        .timeout_ms = h->timeout_ms,
        .keepalive = config->keepalive,
        .keepalive_time_s = config->keepalive_time_s,
        .keepalive_interval_s = config->keepalive_interval_s,
        .keepalive_probes = config->keepalive_probes,
    };
    cluster_bind_fill(config->bind, out);
}
