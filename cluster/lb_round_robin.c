#include "cluster/lb.h"

static double host_weight(const void *arg, uint32_t i)
{
    const struct host_list *list = arg;
    return list->weights[i];
}

static uint32_t round_robin_pick(struct lb *lb, const struct host_list *list,
                                 struct lb_list_state *st, const struct lb_request *rq)
{
    if (!list->weights)
        return (uint32_t)(st->next++ % list->num);
    if (!st->built) {
        edf_build(&st->edf, list->num, host_weight, list);
        st->built = true;
    }
    return edf_pick(&st->edf, host_weight, list);
}

const struct lb_ops lb_round_robin = {.name = "round_robin", .pick = round_robin_pick};
