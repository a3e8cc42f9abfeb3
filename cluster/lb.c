#include "cluster/lb.h"

#include "base/random.h"
#include "cluster/lb_subset.h"
#include <math.h>

static const struct lb_ops *ops_of(enum lb_policy policy)
{
    switch (policy) {
    case LB_ROUND_ROBIN:
    case LB_CLUSTER_PROVIDED: /* never asked: original_dst.c provides the host */
        break;
    case LB_LEAST_REQUEST:
        return &lb_least_request;
    case LB_RANDOM:
        return &lb_random;
    case LB_RING_HASH:
    case LB_MAGLEV:
        return &lb_hash;
    }
    return &lb_round_robin;
}

struct lb *lb_new(const struct cluster_config *config, const struct circuit *circuit)
{
    struct lb *lb = NEW(struct lb);
    lb->ops = ops_of(config->lb_policy);
    lb->choice_count = config->choice_count;
    lb->active_bias = config->active_bias;
    lb->full_scan = config->full_scan;
    lb->balance_factor = config->balance_factor;
    lb->circuit = circuit;
    lb->slow = config->slow_start;
    lb->start = random_u64() >> 1;
    return lb;
}

static bool same_slow(const struct slow_start *a, const struct slow_start *b)
{
    if (!a || !b)
        return a == b;
    return a->window_ms == b->window_ms && a->aggression == b->aggression && a->least == b->least;
}

bool lb_same(const struct cluster_config *a, const struct cluster_config *b)
{
    return a->lb_policy == b->lb_policy && a->choice_count == b->choice_count &&
           a->active_bias == b->active_bias && a->full_scan == b->full_scan &&
           a->balance_factor == b->balance_factor && same_slow(a->slow_start, b->slow_start);
}

static void drop_states(struct lb *lb)
{
    for (uint32_t i = 0; i < lb->num_lists; i++) {
        edf_cleanup(&lb->lists[i].edf);
        edf_cleanup(&lb->lists[i].places);
        lb->lists[i].built = lb->lists[i].spread = false;
    }
}

static void drop_inner(struct lb *lb)
{
    for (uint32_t i = 0; i < lb->num_inner; i++)
        lb_free(&lb->inner[i]);
}

void lb_free(struct lb **lbp)
{
    struct lb *lb = *lbp;
    if (!lb)
        return;
    *lbp = NULL;
    drop_states(lb);
    drop_inner(lb);
    mem_free(lb->inner);
    mem_free(lb->lists);
    mem_free(lb->shuffle);
    mem_free(lb);
}

static void update_inner(struct lb *lb, const struct host_set *set)
{
    drop_inner(lb);
    mem_free(lb->inner);
    lb->num_inner = set->subsets ? set->subsets->num : 0;
    lb->inner = set->subsets ? mem_zalloc(lb->num_inner * sizeof(*lb->inner)) : NULL;
}

struct lb *lb_like(const struct lb *lb, const struct host_set *set)
{
    struct lb *l = NEW(struct lb);
    l->ops = lb->ops;
    l->choice_count = lb->choice_count;
    l->active_bias = lb->active_bias;
    l->full_scan = lb->full_scan;
    l->balance_factor = lb->balance_factor;
    l->circuit = lb->circuit;
    l->slow = lb->slow;
    l->start = random_u64() >> 1;
    lb_update(l, set);
    return l;
}

static uint64_t slow_from(const struct host *h)
{
    return atomic_load_explicit(&h->slow_from_ms, memory_order_relaxed);
}

void lb_update(struct lb *lb, const struct host_set *set)
{
    drop_states(lb);
    update_inner(lb, set);
    lb->set = set;
    lb->lists = mem_realloc(lb->lists, set->num_lists * sizeof(*lb->lists));
    for (uint32_t i = lb->num_lists; i < set->num_lists; i++)
        lb->lists[i] = (struct lb_list_state){.next = lb->start};
    lb->num_lists = set->num_lists;
    lb->slow_until_ms = 0;
    for (uint32_t i = 0; lb->slow && i < set->num_hosts; i++) {
        uint64_t until = slow_from(set->hosts[i]) + lb->slow->window_ms;
        lb->slow_until_ms = until > lb->slow_until_ms ? until : lb->slow_until_ms;
    }
}

double lb_slow_weight(const struct lb *lb, const struct host *h, double weight)
{
    uint64_t from = slow_from(h), past = lb->now_ms > from ? lb->now_ms - from : 1;
    double share;
    if (past >= lb->slow->window_ms)
        return weight;
    share = (double)(past ? past : 1) / (double)lb->slow->window_ms;
    if (lb->slow->aggression != 1)
        share = pow(share, 1 / lb->slow->aggression);
    return weight * (share > lb->slow->least ? share : lb->slow->least);
}

/* --- the priorities that a retry leaves (PreviousPrioritiesConfig) --- */

enum { ALL = 100 };

static bool in_list(const struct host_list *list, const struct host *h)
{
    for (uint32_t i = 0; i < list->num; i++) {
        if (list->hosts[i] == h)
            return true;
    }
    return false;
}

/* How much a priority could take, per cent; 0 for one that is left. */
static uint32_t availability(const struct host_set *set, uint32_t i, const bool *left)
{
    const struct host_priority *p = &set->priorities[i];
    uint64_t n = p->lists[HOSTS_ALL].num;
    uint64_t per_cent = n ? p->lists[HOSTS_HEALTHY].num * (uint64_t)set->overprovisioning / n : 0;
    return left[i] ? 0 : per_cent > ALL ? ALL : (uint32_t)per_cent;
}

static uint32_t sum_of(const struct host_set *set, const bool *left)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < set->num_priorities; i++)
        sum += availability(set, i, left);
    return sum > ALL ? ALL : sum;
}

/* Which priorities have been tried; when all are, it begins again with none. */
static void find_left(const struct host_set *set, const struct lb_request *rq, bool *left)
{
    size_t from = 0, every = rq->update_frequency;
    for (size_t to = every; to <= rq->num_attempted; to += every) {
        for (size_t k = from; k < to; k++) {
            for (uint32_t i = 0; i < set->num_priorities; i++)
                left[i] |= in_list(&set->priorities[i].lists[HOSTS_ALL], rq->attempted[k]);
        }
        if (sum_of(set, left))
            continue;
        memset(left, 0, (HOST_PRIORITY_MAX + 1) * sizeof(*left));
        from = to;
    }
}

/* NULL: nothing was tried so far, or nothing is healthy. */
static const struct host_priority *other_priority(const struct host_set *set,
                                                  const struct lb_request *rq)
{
    bool left[HOST_PRIORITY_MAX + 1] = {0};
    find_left(set, rq, left);
    uint32_t sum = sum_of(set, left), dice = (uint32_t)random_below(ALL), load = 0;
    const struct host_priority *first = NULL;
    for (uint32_t i = 0; sum && i < set->num_priorities; i++) {
        uint32_t share = availability(set, i, left) * ALL / sum;
        load += share;
        if (share && !first)
            first = &set->priorities[i];
        if (share && dice < load)
            return &set->priorities[i];
    }
    return first; /* what rounding has left over */
}

const struct host_priority *lb_priority(const struct host_set *set, uint32_t dice,
                                        enum host_list_kind *kind)
{
    uint32_t sum = 0;
    for (unsigned k = HOSTS_HEALTHY; k < NUM_HOST_LISTS; k++) {
        for (uint32_t i = 0; i < set->num_priorities; i++) {
            sum += set->priorities[i].load[k];
            if (dice < sum) {
                *kind = (enum host_list_kind)k;
                return &set->priorities[i];
            }
        }
    }
    *kind = HOSTS_HEALTHY;
    return &set->priorities[0];
}

/* choose_priority follows the load table: healthy hosts of all priorities first, then degraded. */
static const struct host_priority *
choose_priority(const struct host_set *set, const struct lb_request *rq, enum host_list_kind *kind)
{
    if (rq->update_frequency && rq->num_attempted >= rq->update_frequency &&
        set->num_priorities > 1) {
        const struct host_priority *p = other_priority(set, rq);
        *kind = HOSTS_HEALTHY;
        if (p)
            return p;
    }
    *kind = HOSTS_HEALTHY;
    if (set->num_priorities == 1 && set->priorities[0].load[HOSTS_HEALTHY] == 100)
        return &set->priorities[0];
    return lb_priority(set, (uint32_t)random_below(ALL), kind);
}

struct places { /* the localities of one priority that can be chosen, for edf */
    const struct host_priority *priority;
    enum host_list_kind kind;
};

static double place_weight(const void *arg, uint32_t i)
{
    const struct places *p = arg;
    double w = p->priority->localities[i].effective[p->kind];
    return w > 0 ? w : 1e-9; /* edf needs more than 0; choose_list passes such a one by */
}

static const struct host_list *choose_list(struct lb *lb, const struct lb_request *rq, bool *panic)
{
    struct places places;
    const struct host_list *list;
    struct lb_list_state *st;
    bool any = false;

    places.priority = choose_priority(lb->set, rq, &places.kind);
    *panic = places.priority->panic;
    if (*panic)
        return &places.priority->lists[HOSTS_ALL];
    list = &places.priority->lists[places.kind];
    for (uint32_t i = 0; i < places.priority->num_localities && !any; i++)
        any = places.priority->localities[i].effective[places.kind] > 0;
    if (!any)
        return list;
    st = &lb->lists[list->id];
    if (!st->spread) {
        edf_build(&st->places, places.priority->num_localities, place_weight, &places);
        st->spread = true;
    }
    for (;;) {
        uint32_t i = edf_pick(&st->places, place_weight, &places);
        if (places.priority->localities[i].effective[places.kind] > 0)
            return &places.priority->localities[i].lists[places.kind];
    }
}

bool lb_was_tried(const struct lb_request *rq, const struct host *h)
{
    for (size_t i = 0; i < rq->num_tried; i++) {
        if (rq->tried[i] == h)
            return true;
    }
    return false;
}

struct lb_choice lb_pick(struct lb *lb, const struct lb_request *rq)
{
    struct lb_choice c = {0};
    unsigned tries = rq->max_tries ? rq->max_tries : 1;

    if (lb->set->subsets)
        return lb_subset_pick(lb, rq);
    if (lb->ops->choose)
        return lb->ops->choose(lb, rq);
    while (tries-- > 0) {
        const struct host_list *list = choose_list(lb, rq, &c.panic);
        if (list->num == 0) {
            c.host = NULL;
            return c;
        }
        c.host = list->hosts[lb->ops->pick(lb, list, &lb->lists[list->id], rq)];
        if (!lb_was_tried(rq, c.host))
            break;
    }
    return c;
}
