#include "cluster/cluster.h"

#include "base/random.h"
#include "cluster/lb.h"
#include "cluster/original_dst.h"
#include "cluster/outlier.h"

enum { MILLION = 1000000 };

static void count_subset(const struct cluster *c, const struct lb_choice *choice)
{
    switch (choice->subset) {
    case LB_SUBSET_NONE:
        return;
    case LB_SUBSET_SELECTED:
        stats_inc(c->stats, c->thread, CLUSTER_LB_SUBSETS_SELECTED);
        return;
    case LB_SUBSET_FALLBACK:
        if (choice->host)
            stats_inc(c->stats, c->thread, CLUSTER_LB_SUBSETS_FALLBACK);
        return;
    case LB_SUBSET_PANIC:
        if (choice->host)
            stats_inc(c->stats, c->thread, CLUSTER_LB_SUBSETS_FALLBACK_PANIC);
    }
}

struct host *cluster_pick(struct cluster *c, const struct lb_request *rq)
{
    struct lb_choice choice = {0};

    if (c->original_dst) {
        choice.host = original_dst_pick(c->original_dst, rq);
    } else {
        struct host *wanted = rq->override_host ? host_set_find(c->hosts, rq->override_host) : NULL;
        if (wanted && host_healthy(wanted))
            return host_ref(wanted);
        if (rq->override_host && rq->override_strict)
            return NULL;
        if (c->config->slow_start)
            c->lb->now_ms = loop_now_ms(c->loop);
        choice = lb_pick(c->lb, rq);
        if (choice.panic)
            stats_inc(c->stats, c->thread, CLUSTER_LB_HEALTHY_PANIC);
        count_subset(c, &choice);
    }
    return host_ref(choice.host);
}

enum cluster_drop cluster_drops(struct cluster *c)
{
    uint32_t ppm = c->hosts->drop_ppm;
    if (ppm == 0 || random_below(MILLION) >= ppm)
        return CLUSTER_DROP_NONE;
    stats_inc(c->stats, c->thread, CLUSTER_UPSTREAM_RQ_DROP_OVERLOAD);
    return ppm >= MILLION ? CLUSTER_DROP_ALL : CLUSTER_DROP_THIS;
}

static void add_one(_Atomic uint64_t *n)
{
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

void cluster_count_outcome(struct cluster *c, struct host *h, enum host_outcome o, unsigned status)
{
    switch (o) {
    case OUTCOME_STATUS:
        add_one(status >= 500 ? &h->rq_error : &h->rq_success);
        break;
    case OUTCOME_TIMEOUT:
        add_one(&h->rq_timeout);
        add_one(&h->rq_error);
        break;
    case OUTCOME_CONNECT_FAILED:
    case OUTCOME_CONNECT_TIMEOUT:
    case OUTCOME_RESET:
        add_one(&h->rq_error);
        break;
    case OUTCOME_TCP_OK:
        break;
    }
    if (c->config->outlier)
        outlier_report(c->config->outlier, h, o, status);
}
