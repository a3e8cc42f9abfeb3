#include "cluster/lb.h"

#include "base/random.h"

static uint32_t active(const struct host *h)
{
    return atomic_load_explicit(&h->rq_active, memory_order_relaxed);
}

/* A busy host counts for less; the weight is read again at each of its picks. */
static double busy_weight(const void *arg, uint32_t i)
{
    const struct host_list *list = arg;
    return (double)list->weights[i] / ((double)active(list->hosts[i]) + 1.0);
}

/* With equal weights the least busy of a few random ones is nearly as good as the least busy of
 * all, and does not send every worker to the same host. */
static uint32_t least_request_pick(struct lb *lb, const struct host_list *list,
                                   struct lb_list_state *st, const struct lb_request *rq)
{
    uint32_t best, least;

    if (list->weights) {
        if (!st->built) {
            edf_build(&st->edf, list->num, busy_weight, list);
            st->built = true;
        }
        return edf_pick(&st->edf, busy_weight, list);
    }
    best = (uint32_t)random_below(list->num);
    least = active(list->hosts[best]);
    for (uint32_t i = 1; i < lb->choice_count; i++) {
        uint32_t other = (uint32_t)random_below(list->num), n = active(list->hosts[other]);
        if (n < least) {
            best = other;
            least = n;
        }
    }
    return best;
}

const struct lb_ops lb_least_request = {.name = "least_request", .pick = least_request_pick};
