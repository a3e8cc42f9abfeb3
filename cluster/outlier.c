#include "cluster/outlier.h"

#include "base/log.h"
#include "base/obj.h"
#include "base/random.h"
#include "cluster/outlier_log.h"
#include "cluster/table.h"
#include <math.h>

enum { OUTLIER_MAGIC = 0x4f55544c };

struct outlier {
    uint32_t magic;
    struct loop *loop;
    const struct outlier_config *config;
    struct str cluster;
    struct stats_scope *stats;
    const struct event_log *log;
    const struct outlier_ops *ops;
    void *arg;
    struct list hosts; /* struct outlier_host: those that were ever ejected */
    uint32_t num_ejected;
    struct outlier_rates rates[2];
    struct timer sweep;
};

/* What an outlier is called and where it counts. */
struct kind {
    const char *name;
    uint32_t detected, enforced;
    bool total; /* ejections_total, an old name, counts it too */
};

static const struct kind kinds[NUM_OUTLIER_KINDS] = {
    [OUTLIER_5XX] = {"CONSECUTIVE_5XX", OUTLIER_DETECTED_5XX, OUTLIER_ENFORCED_5XX, true},
    [OUTLIER_GATEWAY] = {"CONSECUTIVE_GATEWAY_FAILURE", OUTLIER_DETECTED_GATEWAY,
                         OUTLIER_ENFORCED_GATEWAY, false},
    [OUTLIER_LOCAL] = {"CONSECUTIVE_LOCAL_ORIGIN_FAILURE", OUTLIER_DETECTED_LOCAL,
                       OUTLIER_ENFORCED_LOCAL, false},
    [OUTLIER_RATE] = {"SUCCESS_RATE", OUTLIER_DETECTED_RATE, OUTLIER_ENFORCED_RATE, true},
    [OUTLIER_LOCAL_RATE] = {"SUCCESS_RATE_LOCAL_ORIGIN", OUTLIER_DETECTED_LOCAL_RATE,
                            OUTLIER_ENFORCED_LOCAL_RATE, false},
    [OUTLIER_PERCENTAGE] = {"FAILURE_PERCENTAGE", OUTLIER_DETECTED_PERCENTAGE,
                            OUTLIER_ENFORCED_PERCENTAGE, false},
    [OUTLIER_LOCAL_PERCENTAGE] = {"FAILURE_PERCENTAGE_LOCAL_ORIGIN",
                                  OUTLIER_DETECTED_LOCAL_PERCENTAGE,
                                  OUTLIER_ENFORCED_LOCAL_PERCENTAGE, false},
};

void outlier_config_default(struct outlier_config *c)
{
    *c = (struct outlier_config){
        .consecutive = {5, 5, 5},
        .enforcing = {[OUTLIER_5XX] = 100,
                      [OUTLIER_LOCAL] = 100,
                      [OUTLIER_RATE] = 100,
                      [OUTLIER_LOCAL_RATE] = 100},
        .rate_min_hosts = 5,
        .rate_volume = 100,
        .rate_factor = 1900,
        .percentage = 85,
        .percentage_min_hosts = 5,
        .percentage_volume = 50,
        .uneject_on_check = true,
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

static void count_rate(struct host *h, bool local, bool success)
{
    atomic_fetch_add_explicit(&h->rate[local], HOST_RATE_REQUEST + success, memory_order_relaxed);
}

static void count_status(const struct outlier_config *config, struct host *h, unsigned status)
{
    count_rate(h, false, status < 500);
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
        if (config->split_local)
            count_rate(h, true, true);
        count_status(config, h, status);
        return;
    case OUTCOME_TCP_OK:
        clear(&h->consecutive_local);
        if (config->split_local)
            count_rate(h, true, true);
        if (!config->split_local)
            count_status(config, h, 200);
        return;
    case OUTCOME_CONNECT_FAILED:
    case OUTCOME_CONNECT_TIMEOUT:
    case OUTCOME_TIMEOUT:
    case OUTCOME_RESET:
        break;
    }
    if (!config->split_local) {
        count_status(config, h, o == OUTCOME_TIMEOUT ? 504 : 503);
        return;
    }
    count_rate(h, true, false);
    failed(h, &h->consecutive_local, config, OUTLIER_LOCAL);
}

/* --- deciding, on main --- */

static struct outlier_host *at(struct list *link)
{
    return CONTAINER_OF(link, struct outlier_host, link);
}

static uint32_t num_hosts(const struct outlier *o)
{
    uint32_t num;
    (void)o->ops->hosts(o->arg, &num);
    return num;
}

static bool room_to_eject(const struct outlier *o)
{
    if (o->num_ejected == 0 && o->config->always_eject_one)
        return true;
    return 100 * (uint64_t)(o->num_ejected + 1) <=
           (uint64_t)o->config->max_ejection_per_cent * num_hosts(o);
}

static void count(struct outlier *o, uint32_t stat)
{
    stats_inc(o->stats, loop_thread_index(o->loop), stat);
}

static void show_active(struct outlier *o)
{
    stats_gauge_set(o->stats, loop_thread_index(o->loop), OUTLIER_EJECTIONS_ACTIVE, o->num_ejected);
}

static void log_event(const struct outlier *o, const struct host *h, enum outlier_kind kind,
                      bool eject, bool enforced)
{
    const struct outlier_host *oh = h->outlier;
    struct outlier_event ev = {
        .type = kinds[kind].name,
        .cluster = o->cluster,
        .host = h,
        .wall_us = loop_wall_us(o->loop),
        .eject = eject,
        .enforced = enforced,
        .ejections = oh ? oh->ejections : 0,
        .last_us = oh ? oh->changed_us : 0,
        .shape = kind < NUM_OUTLIER_ROWS      ? OUTLIER_EVENT_ROW
                 : kind >= OUTLIER_PERCENTAGE ? OUTLIER_EVENT_PERCENTAGE
                                              : OUTLIER_EVENT_RATE,
    };
    bool local = kind == OUTLIER_LOCAL_RATE || kind == OUTLIER_LOCAL_PERCENTAGE;
    ev.rate = h->success_rate[local];
    ev.average = o->rates[local].average;
    ev.threshold = o->rates[local].threshold;
    if (o->log)
        outlier_log_event(o->log, &ev);
}

static struct outlier_host *know(struct outlier *o, struct host *h)
{
    struct outlier_host *oh = h->outlier;
    if (oh)
        return oh;
    oh = h->outlier = NEW(struct outlier_host);
    oh->host = host_ref(h);
    list_push_tail(&o->hosts, &oh->link);
    return oh;
}

static void eject(struct outlier *o, struct host *h, enum outlier_kind kind)
{
    struct outlier_host *oh;

    if (!room_to_eject(o)) {
        count(o, OUTLIER_EJECTIONS_OVERFLOW);
        return;
    }
    if (kinds[kind].total)
        count(o, OUTLIER_EJECTIONS_TOTAL);
    if (random_below(100) >= o->config->enforcing[kind]) {
        log_event(o, h, kind, true, false);
        return;
    }
    count(o, OUTLIER_EJECTIONS_ENFORCED_TOTAL);
    count(o, kinds[kind].enforced);
    oh = know(o, h);
    oh->ejected = true;
    oh->ejections++;
    oh->ejected_ms = loop_now_ms(o->loop);
    oh->jitter_ms = o->config->jitter_ms ? random_below(o->config->jitter_ms + 1) : 0;
    if (oh->count * o->config->base_ejection_ms <
        o->config->max_ejection_ms + o->config->base_ejection_ms)
        oh->count++;
    o->num_ejected++;
    show_active(o);
    LOG_INFO(upstream, "outlier: host %.*s is ejected: %s", STR_ARG(h->address_text),
             kinds[kind].name);
    host_set_flag(h, HOST_FAILED_OUTLIER);
    log_event(o, h, kind, true, true);
    oh->changed_us = loop_wall_us(o->loop);
    o->ops->changed(o->arg);
}

static void detected(struct outlier *o, struct host *h, enum outlier_kind kind)
{
    _Atomic uint32_t *counts[NUM_OUTLIER_ROWS] = {
        [OUTLIER_5XX] = &h->consecutive_5xx,
        [OUTLIER_GATEWAY] = &h->consecutive_gateway,
        [OUTLIER_LOCAL] = &h->consecutive_local,
    };
    if (h->outlier && h->outlier->ejected)
        return;
    count(o, kinds[kind].detected);
    if (kind == OUTLIER_5XX)
        count(o, OUTLIER_EJECTIONS_CONSECUTIVE_5XX);
    eject(o, h, kind);
    atomic_store_explicit(counts[kind], 0, memory_order_relaxed); /* so that it can be met again */
}

static void on_report(void *arg)
{
    struct host *h = arg;
    uint32_t reached = atomic_exchange_explicit(&h->outlier_reported, 0, memory_order_relaxed);
    struct outlier *o = NULL;

    /* A host that has left its cluster may outlive it. */
    if (!atomic_load_explicit(&h->removed, memory_order_relaxed) && h->state)
        o = h->state->outlier;
    for (unsigned kind = 0; o && kind < NUM_OUTLIER_ROWS; kind++) {
        if (reached & (1u << kind))
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

static void end_ejection(struct outlier *o, struct outlier_host *oh)
{
    take_back(o, oh);
    log_event(o, oh->host, OUTLIER_5XX, false, false); /* the kind is not said any more */
    oh->changed_us = loop_wall_us(o->loop);
    LOG_INFO(upstream, "outlier: host %.*s is back", STR_ARG(oh->host->address_text));
}

void outlier_health_passed(struct outlier *o, struct host *h)
{
    if (!o->config->uneject_on_check || !h->outlier || !h->outlier->ejected)
        return;
    end_ejection(o, h->outlier);
    show_active(o);
    o->ops->changed(o->arg);
}

static bool is_over(const struct outlier *o, const struct outlier_host *oh)
{
    uint64_t wait = oh->count * o->config->base_ejection_ms;
    if (wait > o->config->max_ejection_ms)
        wait = o->config->max_ejection_ms;
    return loop_now_ms(o->loop) - oh->ejected_ms >= wait + oh->jitter_ms;
}

/* --- once an interval --- */

static void look_over(struct outlier *o)
{
    bool changed = false;
    LIST_FOREACH_SAFE(it, &o->hosts) {
        struct outlier_host *oh = at(it);
        if (!oh->ejected) { /* it behaves: its next ejection will be shorter */
            oh->count -= oh->count > 0;
        } else if (is_over(o, oh)) {
            end_ejection(o, oh);
            changed = true;
        }
    }
    if (!changed)
        return;
    show_active(o);
    o->ops->changed(o->arg);
}

/* take_rates ends the interval: what was counted in it becomes the hosts' rates. Returns in
 * volumes[] how many requests each had. */
static void take_rates(struct host *const *hosts, uint32_t num, bool local,
                       const struct outlier_config *c, uint32_t *volumes)
{
    uint32_t enough = c->rate_volume < c->percentage_volume ? c->rate_volume : c->percentage_volume;
    for (uint32_t i = 0; i < num; i++) {
        struct host *h = hosts[i];
        uint64_t counted = 0;
        if (atomic_load_explicit(&h->rate[local], memory_order_relaxed))
            counted = atomic_exchange_explicit(&h->rate[local], 0, memory_order_relaxed);
        volumes[i] = (uint32_t)(counted >> 32);
        h->success_rate[local] = -1;
        if (volumes[i] == 0 || volumes[i] < enough || (h->outlier && h->outlier->ejected)) {
            volumes[i] = 0;
            continue;
        }
        h->success_rate[local] = 100.0 * (double)(uint32_t)counted / volumes[i];
    }
}

static void detect(struct outlier *o, struct host *h, enum outlier_kind kind)
{
    count(o, kinds[kind].detected);
    if (!h->outlier || !h->outlier->ejected)
        eject(o, h, kind);
}

/* A host is an outlier if it is so many standard deviations worse than the average. */
static void compare_rates(struct outlier *o, struct host *const *hosts, uint32_t num, bool local,
                          const uint32_t *volumes)
{
    const struct outlier_config *c = o->config;
    double sum = 0, squares = 0, mean;
    uint32_t n = 0;

    for (uint32_t i = 0; i < num; i++) {
        if (volumes[i] && volumes[i] >= c->rate_volume) {
            sum += hosts[i]->success_rate[local];
            n++;
        }
    }
    if (n == 0 || n < c->rate_min_hosts)
        return;
    mean = sum / n;
    for (uint32_t i = 0; i < num; i++) {
        double off = hosts[i]->success_rate[local] - mean;
        if (volumes[i] && volumes[i] >= c->rate_volume)
            squares += off * off;
    }
    o->rates[local].average = mean;
    o->rates[local].threshold = mean - c->rate_factor / 1000.0 * sqrt(squares / n);
    for (uint32_t i = 0; i < num; i++) {
        if (!volumes[i] || volumes[i] < c->rate_volume ||
            hosts[i]->success_rate[local] >= o->rates[local].threshold)
            continue;
        count(o, OUTLIER_EJECTIONS_SUCCESS_RATE);
        detect(o, hosts[i], local ? OUTLIER_LOCAL_RATE : OUTLIER_RATE);
    }
}

static void compare_percentages(struct outlier *o, struct host *const *hosts, uint32_t num,
                                bool local, const uint32_t *volumes)
{
    const struct outlier_config *c = o->config;
    uint32_t n = 0;
    for (uint32_t i = 0; i < num; i++)
        n += volumes[i] && volumes[i] >= c->percentage_volume;
    if (n == 0 || n < c->percentage_min_hosts)
        return;
    for (uint32_t i = 0; i < num; i++) {
        if (volumes[i] && volumes[i] >= c->percentage_volume &&
            100.0 - hosts[i]->success_rate[local] >= c->percentage)
            detect(o, hosts[i], local ? OUTLIER_LOCAL_PERCENTAGE : OUTLIER_PERCENTAGE);
    }
}

static void compare(struct outlier *o)
{
    uint32_t num;
    struct host *const *hosts = o->ops->hosts(o->arg, &num);
    uint32_t *volumes = mem_alloc((num + 1) * sizeof(*volumes));

    for (unsigned local = 0; local < 2; local++) {
        take_rates(hosts, num, local, o->config, volumes);
        o->rates[local] = (struct outlier_rates){-1, -1};
        compare_rates(o, hosts, num, local, volumes);
        compare_percentages(o, hosts, num, local, volumes);
    }
    mem_free(volumes);
}

static void on_sweep(void *arg)
{
    struct outlier *o = OBJ_CAST(arg, struct outlier, OUTLIER_MAGIC);
    look_over(o);
    compare(o);
    timer_arm(&o->sweep, o->config->interval_ms);
}

struct outlier *outlier_new(struct loop *l, const struct outlier_config *config, struct str cluster,
                            struct stats_scope *stats, const struct event_log *log,
                            const struct outlier_ops *ops, void *arg)
{
    struct outlier *o = NEW(struct outlier);
    o->magic = OUTLIER_MAGIC;
    o->loop = l;
    o->config = config;
    o->cluster = cluster;
    o->stats = stats;
    o->log = log;
    o->ops = ops;
    o->arg = arg;
    o->rates[0] = o->rates[1] = (struct outlier_rates){-1, -1};
    list_init(&o->hosts);
    timer_init(&o->sweep, l, on_sweep, o);
    timer_arm(&o->sweep, config->interval_ms);
    return o;
}

void outlier_configure(struct outlier *o, const struct outlier_config *config)
{
    bool other = o->config->interval_ms != config->interval_ms;
    o->config = config;
    if (other)
        timer_arm(&o->sweep, config->interval_ms);
}

const struct outlier_rates *outlier_rates(const struct outlier *o, bool local)
{
    return &o->rates[local];
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
