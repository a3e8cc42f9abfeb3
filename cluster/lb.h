/* Load balancing: which host of a set gets the next request. One struct lb for each worker and
 * cluster, made with the worker's first use of the cluster; what the host set knows (lists by
 * priority and health, loads) is shared, and the balancer's own state is kept a list and dropped
 * when a new host set comes.
 *
 * A policy is one file with a struct lb_ops. It picks from one list; priorities, panic, localities
 * and the hosts to pass by are common to all (lb.c). Worker's thread. */
#pragma once

#include "cluster/cluster.h"
#include "cluster/edf.h"

struct lb_list_state {
    bool built;        /* edf is valid */
    bool spread;       /* localities: edf over them is valid */
    uint64_t next;     /* round robin over equal weights */
    struct edf edf;    /* weighted schedule of the list */
    struct edf places; /* weighted schedule of the localities of this priority and kind */
};

struct lb {
    const struct lb_ops *ops;
    const struct host_set *set; /* borrowed from the cluster */
    struct lb_list_state *lists;
    uint32_t num_lists;
    uint32_t choice_count;
    uint64_t start;                /* random: where round robin begins */
    double active_bias;            /* least request */
    bool full_scan;                /* least request: of all hosts */
    const struct circuit *circuit; /* borrowed; NULL: nothing is active */
    uint32_t balance_factor;       /* hash: per cent of the average load; 0: no bound */
    const struct slow_start *slow; /* borrowed from the configuration; NULL: none */
    uint64_t now_ms;               /* for it: the caller's clock */
    uint64_t slow_until_ms;        /* from then on no host of the set is slow any more */
    struct lb **inner;             /* of the set's subsets, by their ids; NULL: not used yet */
    uint32_t num_inner;
    uint32_t *shuffle, shuffle_cap; /* hash: 0, 1, 2, ... between picks, and as many again */
};

enum lb_subset_choice { LB_SUBSET_NONE, LB_SUBSET_SELECTED, LB_SUBSET_FALLBACK, LB_SUBSET_PANIC };

struct lb_choice {
    struct host *host; /* borrowed; NULL: none healthy */
    bool panic;        /* chosen from all hosts, healthy or not */
    enum lb_subset_choice subset;
};

struct lb_ops {
    const char *name;
    /* pick returns an index into list, which is not empty. `st` is zeroed when the list is new. */
    uint32_t (*pick)(struct lb *lb, const struct host_list *list, struct lb_list_state *st,
                     const struct lb_request *rq);
    /* choose, in the place of pick, chooses from the whole set; NULL: with pick. */
    struct lb_choice (*choose)(struct lb *lb, const struct lb_request *rq);
};

extern const struct lb_ops lb_round_robin;
extern const struct lb_ops lb_least_request;
extern const struct lb_ops lb_random;
extern const struct lb_ops lb_hash; /* RING_HASH and MAGLEV */

/* lb_new makes a balancer of the configured policy; `circuit` counts the requests of the cluster
 * (borrowed; NULL: nobody does). lb_free frees it and sets *lb to NULL. */
struct lb *lb_new(const struct cluster_config *config, const struct circuit *circuit);
void lb_free(struct lb **lb);

/* lb_update takes a new host set (borrowed until the next update). */
void lb_update(struct lb *lb, const struct host_set *set);

/* lb_priority chooses a priority and which of its lists by the load table: dice 0 to 99. For the
 * balancers. */
const struct host_priority *lb_priority(const struct host_set *set, uint32_t dice,
                                        enum host_list_kind *kind);

/* lb_was_tried says whether rq wants h to be passed by. For the balancers. */
bool lb_was_tried(const struct lb_request *rq, const struct host *h);

/* lb_is_slow says whether some host of the set is in its slow start, and lb_slow_weight what is
 * left of a host's weight then. For the balancers. */
static inline bool lb_is_slow(const struct lb *lb)
{
    return lb->slow && lb->now_ms < lb->slow_until_ms;
}
double lb_slow_weight(const struct lb *lb, const struct host *h, double weight);

/* lb_like makes a balancer of the same policy over another set. lb_subset_pick is lb_pick in a set
 * that is divided (lb_subset.h). */
struct lb *lb_like(const struct lb *lb, const struct host_set *set);
struct lb_choice lb_subset_pick(struct lb *lb, const struct lb_request *rq);

/* lb_same says whether a balancer of one configuration serves for the other. */
bool lb_same(const struct cluster_config *a, const struct cluster_config *b);

/* lb_pick chooses a host. If rq->tried holds it, it chooses again, up to rq->max_tries times in
 * all; the last choice stands. */
struct lb_choice lb_pick(struct lb *lb, const struct lb_request *rq);
