#include "cluster/lb.h"

#include "base/random.h"

static uint32_t random_pick(struct lb *lb, const struct host_list *list, struct lb_list_state *st,
                            const struct lb_request *rq)
{
    return (uint32_t)random_below(list->num);
}

const struct lb_ops lb_random = {.name = "random", .pick = random_pick};
