#include "cluster/dns_hosts.h"

#include "base/backoff.h"
#include "base/map.h"

static const struct stats_def dns_hosts_defs[] = {DNS_HOSTS_STATS(STATS_DEF)};
struct stats_table dns_hosts_stats_table = STATS_TABLE(dns_hosts_defs);

struct target { /* an endpoint that is a name */
    struct dns_hosts *owner;
    const struct assigned_endpoint *endpoint;
    struct resolver_query query;
    struct timer timer;
    struct backoff backoff;
    struct addr *addrs; /* owned; with the port */
    uint32_t num_addrs;
};

struct dns_hosts {
    struct loop *loop;
    struct resolver *resolver;
    const struct dns_config *config;
    struct load_assignment *names; /* referenced */
    struct stats_scope *stats;
    const struct dns_hosts_ops *ops;
    void *arg;
    struct target *targets;
    uint32_t num_targets;
    struct task start; /* endpoints that need no question */
};

static void count(struct dns_hosts *d, uint32_t stat)
{
    stats_inc(d->stats, loop_thread_index(d->loop), stat);
}

/* --- from answers to an assignment ------------------------------------------------------------ */

static bool seen_before(struct map *seen, const struct addr *a)
{
    return map_put(seen, addr_key(a), seen) != NULL;
}

/* expand lists the addresses of one endpoint; `out` has room for them. */
static uint32_t expand(const struct assigned_endpoint *ep, const struct target *t, struct map *seen,
                       struct assigned_endpoint *out)
{
    uint32_t n = 0;

    if (ep->dns_name.len == 0) {
        if (!seen_before(seen, &ep->addr))
            out[n++] = *ep;
        return n;
    }
    for (uint32_t i = 0; i < t->num_addrs; i++) {
        if (seen_before(seen, &t->addrs[i]))
            continue;
        out[n] = *ep;
        out[n].addr = t->addrs[i];
        out[n].dns_name = STR_NULL;
        if (ep->hc_port && ep->hc_addr.sa.sa_family == AF_UNSPEC) {
            out[n].hc_addr = t->addrs[i];
            addr_set_port(&out[n].hc_addr, ep->hc_port);
        }
        n++;
    }
    return n;
}

static uint32_t room_for(const struct assigned_locality *l, const struct target *t)
{
    uint32_t room = 0;
    for (uint32_t i = 0; i < l->num_endpoints; i++)
        room += l->endpoints[i].dns_name.len ? (t++)->num_addrs : 1;
    return room;
}

/* Addresses that two names share count once, for the first. */
static struct load_assignment *assemble(struct dns_hosts *d)
{
    struct load_assignment *la = load_assignment_over(d->names);
    struct assigned_locality *v = arena_alloc(&la->arena, la->num_localities * sizeof(*v));
    const struct target *t = d->targets;
    struct map seen;

    map_init(&seen, true);
    for (uint32_t i = 0; i < la->num_localities; i++) {
        const struct assigned_locality *l = &d->names->localities[i];
        struct assigned_endpoint *eps = arena_alloc(&la->arena, room_for(l, t) * sizeof(*eps));
        v[i] = *l;
        v[i].endpoints = eps;
        v[i].num_endpoints = 0;
        for (uint32_t k = 0; k < l->num_endpoints; k++) {
            const struct assigned_endpoint *ep = &l->endpoints[k];
            v[i].num_endpoints += expand(ep, t, &seen, eps + v[i].num_endpoints);
            t += ep->dns_name.len ? 1 : 0;
        }
    }
    la->localities = v;
    map_cleanup(&seen, NULL);
    return la;
}

static void publish(struct dns_hosts *d)
{
    struct load_assignment *la = assemble(d);
    d->ops->on_members(d->arg, la);
    load_assignment_unref(la);
}

/* --- answers ---------------------------------------------------------------------------------- */

static bool contains(const struct target *t, const struct addr *ip)
{
    for (uint32_t i = 0; i < t->num_addrs; i++) {
        if (addr_eq_ip(&t->addrs[i], ip))
            return true;
    }
    return false;
}

/* Servers give the same addresses in ever another order. */
static bool same_addrs(const struct target *t, const struct addr *addrs, uint32_t num)
{
    if (t->num_addrs != num)
        return false;
    for (uint32_t i = 0; i < num; i++) {
        if (!addr_eq_ip(&t->addrs[i], &addrs[i])) {
            for (uint32_t k = 0; k < num; k++) {
                if (!contains(t, &addrs[k]))
                    return false;
            }
            return true;
        }
    }
    return true;
}

static void take(struct target *t, const struct addr *addrs, uint32_t num)
{
    mem_free(t->addrs);
    t->addrs = mem_alloc(num * sizeof(*addrs));
    t->num_addrs = num;
    for (uint32_t i = 0; i < num; i++) {
        t->addrs[i] = addrs[i];
        addr_set_port(&t->addrs[i], t->endpoint->dns_port);
    }
}

static uint64_t next_wait(struct target *t, const struct dns_answer *a, bool failed)
{
    const struct dns_config *config = t->owner->config;
    uint64_t age = loop_now_ms(t->owner->loop) - a->at_ms, wait = config->refresh_ms;

    if (failed && config->failure_base_ms)
        return backoff_next_ms(&t->backoff) + random_below(config->jitter_ms);
    if (!failed && config->respect_ttl && a->ttl_ms)
        wait = a->ttl_ms;
    if (!failed)
        backoff_reset(&t->backoff);
    wait = wait > age ? wait - age : 1; /* who got it from memory asks again with the others */
    return wait + random_below(config->jitter_ms);
}

static void on_answer(void *arg, const struct dns_answer *a)
{
    struct target *t = arg;
    struct dns_hosts *d = t->owner;
    uint32_t num = d->config->logical && a->num_addrs > 1 ? 1 : a->num_addrs;
    bool failed = a->status == DNS_FAILED || (d->config->logical && num == 0), use;

    count(d, failed ? DNS_HOSTS_FAILURE : DNS_HOSTS_SUCCESS);
    timer_arm(&t->timer, next_wait(t, a, failed));
    /* After a failure what others knew of the name is better than nothing. */
    use = failed ? t->num_addrs == 0 && num > 0 : !same_addrs(t, a->addrs, num);
    if (!use) {
        d->ops->on_answer(d->arg, failed);
        return;
    }
    take(t, a->addrs, num);
    publish(d);
}

static void ask(void *arg)
{
    struct target *t = arg;
    struct dns_hosts *d = t->owner;
    count(d, DNS_HOSTS_ATTEMPT);
    resolver_ask(d->resolver, &d->config->resolver, t->endpoint->dns_name, d->config->family,
                 d->config->refresh_ms, d->config->respect_ttl, &t->query);
}

static void start(void *arg)
{
    publish(arg);
}

/* --- life ------------------------------------------------------------------------------------- */

static void add_target(struct dns_hosts *d, const struct assigned_endpoint *ep)
{
    struct target *t = &d->targets[d->num_targets++];
    t->owner = d;
    t->endpoint = ep;
    t->query.on_answer = on_answer;
    t->query.arg = t;
    timer_init(&t->timer, d->loop, ask, t);
    backoff_init(&t->backoff, d->config->failure_base_ms, d->config->failure_max_ms);
}

struct dns_hosts *dns_hosts_new(struct loop *l, struct resolver *r, const struct dns_config *config,
                                struct load_assignment *names, struct stats_scope *stats,
                                const struct dns_hosts_ops *ops, void *arg)
{
    struct dns_hosts *d = NEW(struct dns_hosts);
    uint32_t total = 0;

    d->loop = l;
    d->resolver = r;
    d->config = config;
    d->names = load_assignment_ref(names);
    d->stats = stats;
    d->ops = ops;
    d->arg = arg;
    task_init(&d->start, start, d);
    for (uint32_t i = 0; i < names->num_localities; i++)
        total += names->localities[i].num_endpoints;
    d->targets = mem_zalloc(total * sizeof(*d->targets));
    for (uint32_t i = 0; i < names->num_localities; i++) {
        const struct assigned_locality *loc = &names->localities[i];
        for (uint32_t k = 0; k < loc->num_endpoints; k++) {
            if (loc->endpoints[k].dns_name.len)
                add_target(d, &loc->endpoints[k]);
        }
    }
    if (d->num_targets < total || total == 0)
        loop_post(l, &d->start);
    for (uint32_t i = 0; i < d->num_targets; i++)
        ask(&d->targets[i]);
    return d;
}

void dns_hosts_free(struct dns_hosts **dp)
{
    struct dns_hosts *d = *dp;
    if (!d)
        return;
    *dp = NULL;
    task_cancel(&d->start);
    for (uint32_t i = 0; i < d->num_targets; i++) {
        resolver_cancel(&d->targets[i].query);
        timer_disarm(&d->targets[i].timer);
        mem_free(d->targets[i].addrs);
    }
    load_assignment_unref(d->names);
    mem_free(d->targets);
    mem_free(d);
}
