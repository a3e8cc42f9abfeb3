#include "cluster/circuit.h"

enum { PPM_PER_CENT = 10000, NO_BUDGET = -1 };

void circuit_limits_default(struct circuit_limits *l)
{
    *l = (struct circuit_limits){
        .max = {CIRCUIT_DEFAULT_MAX, CIRCUIT_DEFAULT_MAX, CIRCUIT_DEFAULT_MAX,
                CIRCUIT_DEFAULT_RETRIES, UINT64_MAX},
        .has_retry_budget = true,
        .budget_per_cent = CIRCUIT_DEFAULT_BUDGET,
        .budget_min = CIRCUIT_DEFAULT_BUDGET_MIN,
        .max_cx_per_host = UINT32_MAX,
    };
}

void circuit_init(struct circuit *c)
{
    struct circuit_limits l;
    circuit_limits_default(&l);
    for (unsigned p = 0; p < ARRAY_LEN(c->c); p++) {
        for (unsigned k = 0; k < NUM_CIRCUIT_KINDS; k++)
            atomic_init(&c->c[p][k].active, 0);
        circuit_set_limits(c, (enum priority)p, &l);
    }
}

void circuit_set_limits(struct circuit *c, enum priority p, const struct circuit_limits *l)
{
    uint32_t ppm = (uint32_t)NO_BUDGET;
    for (unsigned k = 0; k < NUM_CIRCUIT_KINDS; k++)
        atomic_store_explicit(&c->c[p][k].max, l->max[k], memory_order_relaxed);
    if (l->has_retry_budget)
        ppm = (uint32_t)(l->budget_per_cent * PPM_PER_CENT);
    atomic_store_explicit(&c->retry[p].budget_min, l->budget_min, memory_order_relaxed);
    atomic_store_explicit(&c->retry[p].budget_ppm, ppm, memory_order_relaxed);
}

uint64_t circuit_active(const struct circuit *c, enum priority p, enum circuit_kind k)
{
    return atomic_load_explicit(&c->c[p][k].active, memory_order_relaxed);
}

uint64_t circuit_max(const struct circuit *c, enum priority p, enum circuit_kind k)
{
    uint32_t ppm, min;
    uint64_t allowed;

    if (k != CIRCUIT_RETRIES)
        return atomic_load_explicit(&c->c[p][k].max, memory_order_relaxed);
    ppm = atomic_load_explicit(&c->retry[p].budget_ppm, memory_order_relaxed);
    if (ppm == (uint32_t)NO_BUDGET)
        return atomic_load_explicit(&c->c[p][k].max, memory_order_relaxed);
    min = atomic_load_explicit(&c->retry[p].budget_min, memory_order_relaxed);
    allowed = (circuit_active(c, p, CIRCUIT_RQ) + circuit_active(c, p, CIRCUIT_PENDING)) * ppm /
              (100u * PPM_PER_CENT);
    return allowed > min ? allowed : min;
}

bool circuit_take(struct circuit *c, enum priority p, enum circuit_kind k)
{
    uint64_t before = atomic_fetch_add_explicit(&c->c[p][k].active, 1, memory_order_relaxed);
    if (LIKELY(before < circuit_max(c, p, k)))
        return true;
    circuit_give(c, p, k);
    return false;
}

void circuit_take_always(struct circuit *c, enum priority p, enum circuit_kind k)
{
    atomic_fetch_add_explicit(&c->c[p][k].active, 1, memory_order_relaxed);
}

void circuit_give(struct circuit *c, enum priority p, enum circuit_kind k)
{
    uint64_t before = atomic_fetch_sub_explicit(&c->c[p][k].active, 1, memory_order_relaxed);
    CHECK(before > 0);
}

bool circuit_is_open(const struct circuit *c, enum priority p, enum circuit_kind k)
{
    return circuit_active(c, p, k) >= circuit_max(c, p, k);
}

uint64_t circuit_remaining(const struct circuit *c, enum priority p, enum circuit_kind k)
{
    uint64_t active = circuit_active(c, p, k), max = circuit_max(c, p, k);
    return active < max ? max - active : 0;
}
