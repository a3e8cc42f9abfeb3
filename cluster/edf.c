#include "cluster/edf.h"

#include "base/random.h"
#include <stdbool.h>

static bool before(const struct edf_entry *a, const struct edf_entry *b)
{
    if (a->deadline < b->deadline)
        return true;
    return !(b->deadline < a->deadline) && a->order < b->order;
}

static void sift_down(struct edf *e, uint32_t at)
{
    struct edf_entry moving = e->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= e->num)
            break;
        if (child + 1 < e->num && before(&e->heap[child + 1], &e->heap[child]))
            child++;
        if (!before(&e->heap[child], &moving))
            break;
        e->heap[at] = e->heap[child];
        at = child;
    }
    e->heap[at] = moving;
}

void edf_build(struct edf *e, uint32_t num, edf_weight_fn weight, const void *arg)
{
    edf_cleanup(e);
    if (num == 0)
        return;
    e->heap = mem_alloc(num * sizeof(*e->heap));
    e->num = num;
    for (uint32_t i = 0; i < num; i++) {
        double phase = (double)(random_u64() >> 11) * 0x1p-53; /* [0, 1) */
        e->heap[i] = (struct edf_entry){phase / weight(arg, i), e->next_order++, i};
    }
    for (uint32_t i = num / 2; i-- > 0;)
        sift_down(e, i);
}

void edf_cleanup(struct edf *e)
{
    mem_free(e->heap);
    *e = (struct edf){0};
}

uint32_t edf_pick(struct edf *e, edf_weight_fn weight, const void *arg)
{
    uint32_t index = e->heap[0].index;
    e->now = e->heap[0].deadline;
    e->heap[0].deadline = e->now + 1.0 / weight(arg, index);
    e->heap[0].order = e->next_order++;
    sift_down(e, 0);
    return index;
}
