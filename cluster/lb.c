#include "cluster/lb.h"

#include "base/random.h"

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
    }
    return &lb_round_robin;
}

struct lb *lb_new(const struct cluster_config *config)
{
    struct lb *lb = NEW(struct lb);
    lb->ops = ops_of(config->lb_policy);
    lb->choice_count = config->choice_count;
    lb->start = random_u64() >> 1;
    return lb;
}

static void drop_states(struct lb *lb)
{
    for (uint32_t i = 0; i < lb->num_lists; i++) {
        edf_cleanup(&lb->lists[i].edf);
        edf_cleanup(&lb->lists[i].places);
        lb->lists[i].built = lb->lists[i].spread = false;
    }
}

void lb_free(struct lb **lbp)
{
    struct lb *lb = *lbp;
    if (!lb)
        return;
    *lbp = NULL;
    drop_states(lb);
    mem_free(lb->lists);
    mem_free(lb);
}

void lb_update(struct lb *lb, const struct host_set *set)
{
    drop_states(lb);
    lb->set = set;
    lb->lists = mem_realloc(lb->lists, set->num_lists * sizeof(*lb->lists));
    for (uint32_t i = lb->num_lists; i < set->num_lists; i++)
        lb->lists[i] = (struct lb_list_state){.next = lb->start};
    lb->num_lists = set->num_lists;
}

/* choose_priority follows the load table: healthy hosts of all priorities first, then degraded. */
static const struct host_priority *choose_priority(const struct host_set *set,
                                                   enum host_list_kind *kind)
{
    uint32_t dice, sum = 0;
    *kind = HOSTS_HEALTHY;
    if (set->num_priorities == 1 && set->priorities[0].load[HOSTS_HEALTHY] == 100)
        return &set->priorities[0];
    dice = (uint32_t)random_below(100);
    for (unsigned k = HOSTS_HEALTHY; k < NUM_HOST_LISTS; k++) {
        for (uint32_t i = 0; i < set->num_priorities; i++) {
            sum += set->priorities[i].load[k];
            if (dice < sum) {
                *kind = (enum host_list_kind)k;
                return &set->priorities[i];
            }
        }
    }
    return &set->priorities[0];
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

static const struct host_list *choose_list(struct lb *lb, bool *panic)
{
    struct places places;
    const struct host_list *list;
    struct lb_list_state *st;
    bool any = false;

    places.priority = choose_priority(lb->set, &places.kind);
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

static bool was_tried(const struct lb_request *rq, const struct host *h)
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

    while (tries-- > 0) {
        const struct host_list *list = choose_list(lb, &c.panic);
        if (list->num == 0) {
            c.host = NULL;
            return c;
        }
        c.host = list->hosts[lb->ops->pick(lb, list, &lb->lists[list->id], rq)];
        if (!was_tried(rq, c.host))
            break;
    }
    return c;
}
