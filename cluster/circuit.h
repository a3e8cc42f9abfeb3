/* Circuit breakers: counts of a cluster for the whole process, shared by the workers as relaxed
 * atomics, against the limits in force. Both priorities. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum priority { PRIORITY_DEFAULT, PRIORITY_HIGH };
enum circuit_kind { CIRCUIT_CX, CIRCUIT_PENDING, CIRCUIT_RQ, CIRCUIT_RETRIES, NUM_CIRCUIT_KINDS };

struct circuit_limits {
    uint64_t max[NUM_CIRCUIT_KINDS]; /* 1024, 1024, 1024, 3 by default */
    bool track_remaining;
    bool has_retry_budget;
    double budget_per_cent;
    uint32_t budget_min;
};

struct circuit {
    struct {
        _Alignas(64) _Atomic uint64_t active;
        _Atomic uint64_t max;
        _Atomic bool open;
    } c[2][NUM_CIRCUIT_KINDS];
};

/* circuit_take counts one more if the limit allows it. False: overflow; nothing was counted. Any
 * thread. */
bool circuit_take(struct circuit *c, enum priority p, enum circuit_kind k)
    __attribute__((warn_unused_result));

/* circuit_take_always counts one more whatever the limit (a connection a host needs to have at
 * all). */
void circuit_take_always(struct circuit *c, enum priority p, enum circuit_kind k);

/* circuit_give counts one less. */
void circuit_give(struct circuit *c, enum priority p, enum circuit_kind k);
