#include "cluster/host.h"

#include "base/alloc.h"
#include "cluster/load_assignment.h"
#include <time.h>

static struct str keep(char **at, struct str s)
{
    struct str copy = {*at, s.len};
    if (s.len)
        memcpy(*at, s.p, s.len);
    *at += s.len;
    return copy;
}

static void host_free(void *arg)
{
    struct host *h = arg;
    mem_free(h->more);
    mem_free(h->text);
    mem_free(h->labels);
    mem_free(h);
}

static void begin_slowly(struct host *h)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t); /* what loop_now_ms goes by */
    atomic_store_explicit(&h->slow_from_ms,
                          (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000,
                          memory_order_relaxed);
}

struct host *host_new(const struct reclaim_home *home, const struct host_info *info)
{
    char text[ADDR_TEXT_MAX];
    struct str address = addr_format(&info->addr, text);
    struct host *h = NEW(struct host);
    char *at;

    reclaim_init(&h->reclaim, home, host_free, h);
    h->addr = info->addr;
    h->text = mem_alloc(address.len + info->hostname.len + info->region.len + info->zone.len +
                        info->sub_zone.len + info->hc_hostname.len);
    at = h->text;
    h->address_text = keep(&at, address);
    h->hostname = keep(&at, info->hostname);
    h->region = keep(&at, info->region);
    h->zone = keep(&at, info->zone);
    h->sub_zone = keep(&at, info->sub_zone);
    h->transport_index = info->transport_index;
    h->hc_addr = info->hc_addr.sa.sa_family ? info->hc_addr : info->addr;
    h->hc_hostname = keep(&at, info->hc_hostname);
    h->hc_disabled = info->hc_disabled;
    h->success_rate[0] = h->success_rate[1] = -1;
    h->weight = 1;
    begin_slowly(h);
    if (info->num_more) {
        h->num_more = info->num_more;
        h->more = mem_alloc(info->num_more * sizeof(*h->more));
        memcpy(h->more, info->more, info->num_more * sizeof(*h->more));
    }
    return h;
}

struct host *host_ref(struct host *h)
{
    if (h)
        reclaim_ref(&h->reclaim);
    return h;
}

void host_unref(struct host *h)
{
    if (h)
        reclaim_unref(&h->reclaim);
}

static bool same_more(const struct host *h, const struct host_info *info)
{
    if (h->num_more != info->num_more)
        return false;
    for (uint32_t i = 0; i < h->num_more; i++) {
        if (!addr_eq(&h->more[i], &info->more[i]))
            return false;
    }
    return true;
}

bool host_is(const struct host *h, const struct host_info *info)
{
    const struct addr *hc_addr = info->hc_addr.sa.sa_family ? &info->hc_addr : &info->addr;
    return same_more(h, info) && addr_eq(&h->addr, &info->addr) && addr_eq(&h->hc_addr, hc_addr) &&
           h->hc_disabled == info->hc_disabled && str_eq(h->hc_hostname, info->hc_hostname) &&
           h->transport_index == info->transport_index && str_eq(h->hostname, info->hostname) &&
           str_eq(h->region, info->region) && str_eq(h->zone, info->zone) &&
           str_eq(h->sub_zone, info->sub_zone);
}

bool host_set_labels(struct host *h, const struct labels *l)
{
    if (labels_equal(h->labels, l))
        return false;
    mem_free(h->labels);
    h->labels = labels_copy(l);
    return true;
}

bool host_set_flag(struct host *h, uint32_t flag)
{
    uint32_t before = atomic_fetch_or_explicit(&h->health, flag, memory_order_relaxed);
    return (before & flag) != flag;
}

bool host_clear_flag(struct host *h, uint32_t flag)
{
    uint32_t before = atomic_fetch_and_explicit(&h->health, ~flag, memory_order_relaxed);
    if (before & flag & HOST_FAILED_ACTIVE_HC)
        begin_slowly(h);
    return (before & flag) != 0;
}
