#include "cluster/lb_table.h"

#include "base/alloc.h"

struct lb_table {
    struct lb_ring *ring; /* one of the two */
    struct lb_maglev *maglev;
};

struct lb_table *lb_table_new(const struct lb_table_config *config,
                              const struct lb_table_entry *entries, uint32_t num)
{
    struct lb_table *t = NEW(struct lb_table);
    switch (config->kind) {
    case LB_TABLE_RING:
        t->ring = lb_ring_new(config, entries, num);
        break;
    case LB_TABLE_MAGLEV:
        t->maglev = lb_maglev_new(config, entries, num);
        break;
    }
    return t;
}

void lb_table_free(struct lb_table **tp)
{
    struct lb_table *t = *tp;
    if (!t)
        return;
    *tp = NULL;
    lb_ring_free(&t->ring);
    lb_maglev_free(&t->maglev);
    mem_free(t);
}

bool lb_table_step(struct lb_table *t, uint64_t *budget)
{
    return t->ring ? lb_ring_step(t->ring, budget) : lb_maglev_step(t->maglev, budget);
}

uint32_t lb_table_find(const struct lb_table *t, uint64_t hash, uint32_t attempt)
{
    return t->ring ? lb_ring_find(t->ring, hash, attempt)
                   : lb_maglev_find(t->maglev, hash, attempt);
}

struct lb_table_size lb_table_size_of(const struct lb_table *t)
{
    return t->ring ? lb_ring_size(t->ring) : lb_maglev_size(t->maglev);
}
