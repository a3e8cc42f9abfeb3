#include "cluster/lb.h"

struct turns {
    const struct lb *lb;
    const struct host_list *list;
};

static double host_weight(const void *arg, uint32_t i)
{
    const struct turns *t = arg;
    double weight = t->list->weights ? t->list->weights[i] : 1;
    return lb_is_slow(t->lb) ? lb_slow_weight(t->lb, t->list->hosts[i], weight) : weight;
}

static uint32_t round_robin_pick(struct lb *lb, const struct host_list *list,
                                 struct lb_list_state *st, const struct lb_request *rq)
{
    const struct turns turns = {lb, list};
    if (!list->weights && !lb_is_slow(lb))
        return (uint32_t)(st->next++ % list->num);
    if (!st->built) {
        edf_build(&st->edf, list->num, host_weight, &turns);
        st->built = true;
    }
    return edf_pick(&st->edf, host_weight, &turns);
}

const struct lb_ops lb_round_robin = {.name = "round_robin", .pick = round_robin_pick};
