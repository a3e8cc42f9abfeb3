#include "cluster/original_dst.h"

#include "base/log.h"
#include "base/map.h"
#include "base/obj.h"
#include "cluster/pools.h"
#include "cluster/worker_clusters.h"
#include <ifaddrs.h>

enum {
    ORIGINAL_DST_MAGIC = 0x4f445354,
    KEY_MAX = 16 + 4 + 2, /* address, scope, port */
    TIMER_MAX_MS = 24 * 3600 * 1000,
};

struct dst_host {
    struct host *host;
    uint64_t checked; /* generation of the own listeners that it was held against */
    bool used;        /* picked since the last sweep */
};

struct original_dst {
    uint32_t magic;
    struct cluster *cluster;
    struct map hosts; /* key of the address -> struct dst_host */
    struct timer sweep;
};

static struct str key_of(const struct addr *a, char *buf)
{
    struct str ip = addr_ip_bytes(a);
    uint16_t port = addr_port(a);
    uint32_t scope = a->sa.sa_family == AF_INET6 ? a->in6.sin6_scope_id : 0;
    memcpy(buf, &port, sizeof(port));
    memcpy(buf + 2, &scope, sizeof(scope));
    memcpy(buf + 6, ip.p, ip.len);
    return str_n(buf, 6 + ip.len);
}

static void free_dst_host(void *arg)
{
    struct dst_host *d = arg;
    atomic_store_explicit(&d->host->removed, true, memory_order_relaxed);
    host_unref(d->host);
    mem_free(d);
}

/* A cleanup interval may be "for ever" (Istio's is 9223372036 s). */
static void arm(struct original_dst *o)
{
    uint64_t ms = o->cluster->config->cleanup_interval_ms;
    if (map_count(&o->hosts) && ms <= TIMER_MAX_MS)
        timer_arm(&o->sweep, ms);
}

static void on_sweep(void *arg)
{
    struct original_dst *o = OBJ_CAST(arg, struct original_dst, ORIGINAL_DST_MAGIC);
    bool removed = false;
    struct str key;
    void *value;

    for (size_t it = 0; map_next(&o->hosts, &it, &key, &value);) {
        struct dst_host *d = value;
        uint32_t busy = atomic_load_explicit(&d->host->cx_active, memory_order_relaxed);
        if (d->used || busy) {
            d->used = false;
            continue;
        }
        map_remove(&o->hosts, key);
        free_dst_host(d);
        removed = true;
    }
    if (removed)
        pools_hosts_changed(o->cluster->pools, false);
    arm(o);
}

struct original_dst *original_dst_new(struct cluster *c)
{
    struct original_dst *o = NEW(struct original_dst);
    o->magic = ORIGINAL_DST_MAGIC;
    o->cluster = c;
    map_init(&o->hosts, true);
    timer_init(&o->sweep, c->loop, on_sweep, o);
    return o;
}

void original_dst_free(struct original_dst **op)
{
    struct original_dst *o = *op;
    if (!o)
        return;
    *op = NULL;
    timer_disarm(&o->sweep);
    map_cleanup(&o->hosts, free_dst_host);
    o->magic = 0;
    mem_free(o);
}

size_t original_dst_count(const struct original_dst *o)
{
    return map_count(&o->hosts);
}

/* Asked only for a port that a wildcard listener has: seldom. */
static bool is_local_address(const struct addr *dst)
{
    struct ifaddrs *all, *it;
    bool found = false;

    if (addr_is_loopback(dst) || addr_is_any(dst))
        return true;
    if (getifaddrs(&all) != 0)
        return false;
    for (it = all; it && !found; it = it->ifa_next) {
        struct addr a;
        socklen_t len;
        if (!it->ifa_addr)
            continue;
        len = it->ifa_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                  : sizeof(struct sockaddr_in);
        found = addr_from_sockaddr(&a, it->ifa_addr, len) && addr_eq_ip(&a, dst);
    }
    freeifaddrs(all);
    return found;
}

bool original_dst_is_own(const struct own_listeners *own, const struct addr *dst)
{
    for (uint32_t i = 0; own && i < own->num; i++) {
        const struct addr *l = &own->addrs[i];
        if (addr_port(l) != addr_port(dst))
            continue;
        if (addr_eq_ip(l, dst))
            return true;
        /* [::] takes IPv4 too; 0.0.0.0 does not take IPv6. */
        if (addr_is_any(l) && (l->sa.sa_family == AF_INET6 || dst->sa.sa_family == AF_INET) &&
            is_local_address(dst))
            return true;
    }
    return false;
}

static struct dst_host *make(struct original_dst *o, struct str key, const struct addr *dst)
{
    struct dst_host *d = NEW(struct dst_host);
    struct host_info info = {.addr = *dst};
    d->host = host_new(o->cluster->node->reclaim.home, &info);
    d->host->state = o->cluster->node->state;
    map_put(&o->hosts, key, d);
    if (!timer_armed(&o->sweep))
        arm(o);
    return d;
}

/* destination reads where to go; false if that is nowhere. */
static bool destination(struct cluster *c, const struct lb_request *rq, struct addr *dst)
{
    if (!rq->original_dst || !addr_is_ip(rq->original_dst))
        return false;
    *dst = *rq->original_dst;
    if (c->config->upstream_port_override)
        addr_set_port(dst, (uint16_t)c->config->upstream_port_override);
    return addr_port(dst) != 0;
}

struct host *original_dst_pick(struct original_dst *o, const struct lb_request *rq)
{
    struct cluster *c = o->cluster;
    const struct own_listeners *own = c->owner->table ? c->owner->table->own : NULL;
    uint64_t generation = own ? own->generation : 0;
    char buf[KEY_MAX], text[ADDR_TEXT_MAX];
    struct dst_host *d;
    struct addr dst;
    struct str key;

    if (!destination(c, rq, &dst)) {
        stats_inc(c->stats, c->thread, CLUSTER_ORIGINAL_DST_HOST_INVALID);
        return NULL;
    }
    key = key_of(&dst, buf);
    d = map_get(&o->hosts, key);
    if ((!d || d->checked != generation) && original_dst_is_own(own, &dst)) {
        LOG_EVERY(5000, upstream, LOG_LEVEL_WARN,
                  "cluster %.*s: not connecting to %.*s, a listener of this process",
                  STR_ARG(c->config->name), STR_ARG(addr_format(&dst, text)));
        return NULL;
    }
    if (!d)
        d = make(o, key, &dst);
    d->checked = generation;
    d->used = true;
    return d->host;
}
