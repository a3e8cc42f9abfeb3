#include "cluster/outlier.h"

#include "base/log.h"
#include "base/obj.h"
#include "base/random.h"
#include "cluster/table.h"

enum { OUTLIER_MAGIC = 0x4f55544c };

struct outlier {
    uint32_t magic;
    struct loop *loop;
    const struct outlier_config *config;
    struct stats_scope *stats;
    const struct outlier_ops *ops;
    void *arg;
    struct list hosts; /* struct outlier_host: ejected, or with a count still to go down */
    uint32_t num_ejected;
    struct timer sweep; /* armed while there are such */
};

static const char *const kind_names[NUM_OUTLIER_KINDS] = {
    [OUTLIER_5XX] = "consecutive_5xx",
    [OUTLIER_GATEWAY] = "consecutive_gateway_failure",
    [OUTLIER_LOCAL] = "consecutive_local_origin_failure",
};

void outlier_config_default(struct outlier_config *c)
{
    *c = (struct outlier_config){
        .consecutive = {5, 5, 5},
        .enforcing = {[OUTLIER_GATEWAY] = 0, [OUTLIER_5XX] = 100, [OUTLIER_LOCAL] = 100},
        .interval_ms = 10000,
        .base_ejection_ms = 30000,
        .max_ejection_ms = 300000,
        .max_ejection_per_cent = 10,
    };
}

/* --- counting, on workers --- */

static void on_report(void *arg);

static void report(struct host *h, enum outlier_kind kind)
{
    uint32_t before = atomic_fetch_or_explicit(&h->outlier_reported, 1u << kind,
                                               memory_order_relaxed);
    if (before || !h->reclaim.home)
        return; /* the message that is under way brings this one too */
    mailbox_call(h->reclaim.home->mailbox, on_report, host_ref(h));
}

static void failed(struct host *h, _Atomic uint32_t *count, const struct outlier_config *config,
                   enum outlier_kind kind)
{
    uint32_t n = atomic_fetch_add_explicit(count, 1, memory_order_relaxed) + 1;
    if (n == config->consecutive[kind])
        report(h, kind);
}

/* A store only where it changes something: healthy hosts' lines stay shared between the workers. */
static void clear(_Atomic uint32_t *count)
{
    if (atomic_load_explicit(count, memory_order_relaxed))
        atomic_store_explicit(count, 0, memory_order_relaxed);
}

static void count_status(const struct outlier_config *config, struct host *h, unsigned status)
{
    if (status < 500) {
        clear(&h->consecutive_5xx);
        clear(&h->consecutive_gateway);
        return;
    }
    if (status == 502 || status == 503 || status == 504)
        failed(h, &h->consecutive_gateway, config, OUTLIER_GATEWAY);
    else
        clear(&h->consecutive_gateway);
    failed(h, &h->consecutive_5xx, config, OUTLIER_5XX);
}

void outlier_report(const struct outlier_config *config, struct host *h, enum host_outcome o,
                    unsigned status)
{
    switch (o) {
    case OUTCOME_STATUS:
        clear(&h->consecutive_local);
        count_status(config, h, status);
        return;
    case OUTCOME_TCP_OK:
        clear(&h->consecutive_local);
        if (!config->split_local)
            count_status(config, h, 200);
        return;
    case OUTCOME_CONNECT_FAILED:
    case OUTCOME_CONNECT_TIMEOUT:
    case OUTCOME_TIMEOUT:
    case OUTCOME_RESET:
        break;
    }
    if (config->split_local)
        failed(h, &h->consecutive_local, config, OUTLIER_LOCAL);
    else
        count_status(config, h, o == OUTCOME_TIMEOUT ? 504 : 503);
}

/* --- deciding, on main --- */

static struct outlier_host *at(struct list *link)
{
    return CONTAINER_OF(link, struct outlier_host, link);
}

static bool room_to_eject(const struct outlier *o)
{
    uint64_t hosts = o->ops->num_hosts(o->arg);
    if (o->num_ejected == 0 && o->config->always_eject_one)
        return true;
    return 100 * (uint64_t)(o->num_ejected + 1) <= o->config->max_ejection_per_cent * hosts;
}

static void count(struct outlier *o, uint32_t stat)
{
    stats_inc(o->stats, loop_thread_index(o->loop), stat);
}

static void show_active(struct outlier *o)
{
    stats_gauge_set(o->stats, loop_thread_index(o->loop), OUTLIER_EJECTIONS_ACTIVE, o->num_ejected);
}

static void eject(struct outlier *o, struct host *h, enum outlier_kind kind)
{
    static const uint32_t enforced[] = {
        [OUTLIER_5XX] = OUTLIER_ENFORCED_5XX,
        [OUTLIER_GATEWAY] = OUTLIER_ENFORCED_GATEWAY,
        [OUTLIER_LOCAL] = OUTLIER_ENFORCED_LOCAL,
    };
    struct outlier_host *oh = h->outlier;

    if (!room_to_eject(o)) {
        count(o, OUTLIER_EJECTIONS_OVERFLOW);
        return;
    }
    if (kind == OUTLIER_5XX)
        count(o, OUTLIER_EJECTIONS_TOTAL); /* an old name that Envoy keeps for this kind */
    if (random_below(100) >= o->config->enforcing[kind])
        return;
    count(o, OUTLIER_EJECTIONS_ENFORCED_TOTAL);
    count(o, enforced[kind]);
    if (!oh) {
        oh = h->outlier = NEW(struct outlier_host);
        oh->host = host_ref(h);
        list_push_tail(&o->hosts, &oh->link);
    }
    oh->ejected = true;
    oh->ejected_ms = loop_now_ms(o->loop);
    oh->jitter_ms = o->config->jitter_ms ? random_below(o->config->jitter_ms + 1) : 0;
    if (oh->count * o->config->base_ejection_ms <
        o->config->max_ejection_ms + o->config->base_ejection_ms)
        oh->count++;
    o->num_ejected++;
    show_active(o);
    if (!timer_armed(&o->sweep))
        timer_arm(&o->sweep, o->config->interval_ms);
    LOG_INFO(upstream, "outlier: host %.*s is ejected: %s", STR_ARG(h->address_text),
             kind_names[kind]);
    host_set_flag(h, HOST_FAILED_OUTLIER);
    o->ops->changed(o->arg);
}

static void detected(struct outlier *o, struct host *h, enum outlier_kind kind)
{
    static const uint32_t stats[] = {
        [OUTLIER_5XX] = OUTLIER_DETECTED_5XX,
        [OUTLIER_GATEWAY] = OUTLIER_DETECTED_GATEWAY,
        [OUTLIER_LOCAL] = OUTLIER_DETECTED_LOCAL,
    };
    _Atomic uint32_t *counts[] = {
        [OUTLIER_5XX] = &h->consecutive_5xx,
        [OUTLIER_GATEWAY] = &h->consecutive_gateway,
        [OUTLIER_LOCAL] = &h->consecutive_local,
    };
    if (h->outlier && h->outlier->ejected)
        return;
    count(o, stats[kind]);
    if (kind == OUTLIER_5XX)
        count(o, OUTLIER_EJECTIONS_CONSECUTIVE_5XX);
    eject(o, h, kind);
    atomic_store_explicit(counts[kind], 0, memory_order_relaxed); /* so that it can be met again */
}

static void on_report(void *arg)
{
    struct host *h = arg;
    uint32_t kinds = atomic_exchange_explicit(&h->outlier_reported, 0, memory_order_relaxed);
    struct outlier *o = NULL;

    /* A host that has left its cluster may outlive it. */
    if (!atomic_load_explicit(&h->removed, memory_order_relaxed) && h->state)
        o = h->state->outlier;
    for (unsigned kind = 0; o && kind < NUM_OUTLIER_KINDS; kind++) {
        if (kinds & (1u << kind))
            detected(o, h, (enum outlier_kind)kind);
    }
    host_unref(h);
}

static void forget(struct outlier_host *oh)
{
    struct host *h = oh->host;
    list_remove(&oh->link);
    h->outlier = NULL;
    mem_free(oh);
    host_unref(h);
}

static void take_back(struct outlier *o, struct outlier_host *oh)
{
    struct host *h = oh->host;
    oh->ejected = false;
    o->num_ejected--;
    host_clear_flag(h, HOST_FAILED_OUTLIER);
    /* Or the counter that was near its threshold ejects it again at its first failure. */
    atomic_store_explicit(&h->consecutive_5xx, 0, memory_order_relaxed);
    atomic_store_explicit(&h->consecutive_gateway, 0, memory_order_relaxed);
    atomic_store_explicit(&h->consecutive_local, 0, memory_order_relaxed);
}

static bool is_over(const struct outlier *o, const struct outlier_host *oh)
{
    uint64_t wait = oh->count * o->config->base_ejection_ms;
    if (wait > o->config->max_ejection_ms)
        wait = o->config->max_ejection_ms;
    return loop_now_ms(o->loop) - oh->ejected_ms >= wait + oh->jitter_ms;
}

static void on_sweep(void *arg)
{
    struct outlier *o = OBJ_CAST(arg, struct outlier, OUTLIER_MAGIC);
    bool changed = false;

    LIST_FOREACH_SAFE(it, &o->hosts) {
        struct outlier_host *oh = at(it);
        if (!oh->ejected) {
            if (--oh->count == 0)
                forget(oh);
        } else if (is_over(o, oh)) {
            take_back(o, oh);
            changed = true;
            LOG_INFO(upstream, "outlier: host %.*s is back", STR_ARG(oh->host->address_text));
        }
    }
    if (!list_empty(&o->hosts))
        timer_arm(&o->sweep, o->config->interval_ms);
    if (!changed)
        return;
    show_active(o);
    o->ops->changed(o->arg);
}

struct outlier *outlier_new(struct loop *l, const struct outlier_config *config,
                            struct stats_scope *stats, const struct outlier_ops *ops, void *arg)
{
    struct outlier *o = NEW(struct outlier);
    o->magic = OUTLIER_MAGIC;
    o->loop = l;
    o->config = config;
    o->stats = stats;
    o->ops = ops;
    o->arg = arg;
    list_init(&o->hosts);
    timer_init(&o->sweep, l, on_sweep, o);
    return o;
}

void outlier_configure(struct outlier *o, const struct outlier_config *config)
{
    o->config = config;
    if (timer_armed(&o->sweep))
        timer_arm(&o->sweep, config->interval_ms);
}

void outlier_free(struct outlier **op)
{
    struct outlier *o = *op;
    bool changed = false;

    if (!o)
        return;
    *op = NULL;
    LIST_FOREACH_SAFE(it, &o->hosts) {
        if (at(it)->ejected) {
            take_back(o, at(it));
            changed = true;
        }
        forget(at(it));
    }
    show_active(o);
    timer_disarm(&o->sweep);
    if (changed)
        o->ops->changed(o->arg);
    o->magic = 0;
    mem_free(o);
}

void outlier_host_removed(struct outlier *o, struct host *h)
{
    if (!h->outlier)
        return;
    if (h->outlier->ejected) {
        take_back(o, h->outlier);
        show_active(o);
    }
    forget(h->outlier);
}

uint32_t outlier_num_ejected(const struct outlier *o)
{
    return o->num_ejected;
}
