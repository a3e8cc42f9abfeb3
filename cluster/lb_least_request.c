#include "cluster/lb.h"

#include "base/random.h"
#include <math.h>

static uint32_t active(const struct host *h)
{
    return atomic_load_explicit(&h->rq_active, memory_order_relaxed);
}

struct busy {
    const struct host_list *list;
    const struct lb *lb;
};

/* A busy host counts for less; the weight is read again at each of its picks. */
static double busy_weight(const void *arg, uint32_t i)
{
    const struct busy *b = arg;
    double requests = (double)active(b->list->hosts[i]) + 1.0, bias = b->lb->active_bias;
    double weight = b->list->weights ? b->list->weights[i] : 1;
    if (lb_is_slow(b->lb))
        weight = lb_slow_weight(b->lb, b->list->hosts[i], weight);
    return bias == 0 ? weight : weight / (bias == 1.0 ? requests : pow(requests, bias));
}

/* The least busy of all; among equals each with the same chance. */
static uint32_t full_scan(const struct host_list *list)
{
    uint32_t best = 0, least = UINT32_MAX, equals = 0;
    for (uint32_t i = 0; i < list->num; i++) {
        uint32_t n = active(list->hosts[i]);
        if (n > least)
            continue;
        equals = n < least ? 1 : equals + 1;
        if (equals == 1 || random_below(equals) == 0)
            best = i;
        least = n;
    }
    return best;
}

/* With equal weights the least busy of a few random ones is nearly as good as the least busy of
 * all, and does not send every worker to the same host. */
static uint32_t least_request_pick(struct lb *lb, const struct host_list *list,
                                   struct lb_list_state *st, const struct lb_request *rq)
{
    uint32_t best, least;

    if (list->weights || lb_is_slow(lb)) {
        const struct busy busy = {list, lb};
        if (!st->built) {
            edf_build(&st->edf, list->num, busy_weight, &busy);
            st->built = true;
        }
        return edf_pick(&st->edf, busy_weight, &busy);
    }
    if (lb->full_scan)
        return full_scan(list);
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
