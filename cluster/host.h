/* Host: one upstream endpoint of a cluster, matched by address across updates so that it keeps its
 * state. Created and freed on main; counted references from host sets, pools and requests; the
 * mutable fields are relaxed atomics on lines of their own, shared by all workers. */
#pragma once

#include "base/addr.h"
#include "base/refcount.h"
#include "base/str.h"
#include <stdatomic.h>
#include <stdint.h>

struct pb_struct; /* metadata, see host.c */

enum { /* why a host is not healthy; several may hold */
       HOST_FAILED_ACTIVE_HC = 1,
       HOST_FAILED_OUTLIER = 2,
       HOST_FAILED_EDS = 4, /* UNHEALTHY, DRAINING, TIMEOUT */
       HOST_DEGRADED_EDS = 8,
};

struct host {
    struct refcount ref;
    struct addr addr;
    struct str address_text; /* "10.0.0.1:80", as %UPSTREAM_HOST% */
    struct str hostname;
    struct str region, zone, sub_zone;
    uint32_t weight, priority;
    uint32_t transport_index; /* which transport_socket_match applies; see cluster.h */
    struct outlier_host *outlier;

    _Alignas(64) _Atomic uint32_t health; /* HOST_* set; 0 healthy */
    _Atomic uint32_t cx_active, rq_active;
    _Atomic uint64_t cx_total, cx_connect_fail, rq_total, rq_success, rq_error, rq_timeout;
    _Atomic uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
};

/* host_ref and host_unref: any thread. The last unref frees through main. */
struct host *host_ref(struct host *h);
void host_unref(struct host *h);

/* host_healthy says whether the balancer may prefer it. Any thread. */
static inline bool host_healthy(const struct host *h)
{
    return (atomic_load_explicit(&h->health, memory_order_relaxed) &
            (HOST_FAILED_ACTIVE_HC | HOST_FAILED_OUTLIER | HOST_FAILED_EDS)) == 0;
}

/* An immutable list of hosts by priority, published as a whole. Reference counted. */
struct host_set {
    struct refcount ref;
    struct host **hosts; /* all, priority by priority */
    uint32_t num_hosts;
    uint32_t *priority_start; /* num_priorities + 1 offsets into hosts */
    uint32_t num_priorities;
    uint32_t overprovisioning; /* per cent, 140 by default */
};
