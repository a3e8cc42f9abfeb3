#include "cluster/lb_table.h"

static const struct lb_table_ops *ops_of(enum lb_table_kind kind)
{
    switch (kind) {
    case LB_TABLE_RING:
        break;
    case LB_TABLE_MAGLEV:
        return &lb_maglev;
    }
    return &lb_ring;
}

struct lb_table *lb_table_new(const struct lb_table_config *config,
                              const struct lb_table_entry *entries, uint32_t num)
{
    const struct lb_table_ops *ops = ops_of(config->kind);
    struct lb_table *t = ops->make(config, entries, num);
    t->ops = ops;
    return t;
}

void lb_table_free(struct lb_table **tp)
{
    struct lb_table *t = *tp;
    *tp = NULL;
    if (t)
        t->ops->free(t);
}

bool lb_table_step(struct lb_table *t, uint64_t *budget)
{
    return t->ops->step(t, budget);
}

uint32_t lb_table_find(const struct lb_table *t, uint64_t hash, uint32_t attempt)
{
    return t->ops->find(t, hash, attempt);
}

struct lb_table_size lb_table_size_of(const struct lb_table *t)
{
    return t->size;
}
