/* Circuit breakers: counts of a cluster for the whole process, shared by the workers as relaxed
 * atomics, against the limits in force. Both priorities. */
#pragma once

#include "base/alloc.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum priority { PRIORITY_DEFAULT, PRIORITY_HIGH };
enum circuit_kind {
    CIRCUIT_CX,
    CIRCUIT_PENDING,
    CIRCUIT_RQ,
    CIRCUIT_RETRIES,
    CIRCUIT_POOLS, /* max_connection_pools; unset UINT64_MAX */
    NUM_CIRCUIT_KINDS
};
enum { CIRCUIT_STRIDE = 8 };

/* What a Thresholds message was compiled to. */
struct circuit_limits {
    uint64_t max[NUM_CIRCUIT_KINDS]; /* of CIRCUIT_RETRIES: unless has_retry_budget */
    bool track_remaining;
    bool has_retry_budget;
    double budget_per_cent;
    uint32_t budget_min;
    uint32_t max_cx_per_host; /* per_host_thresholds; UINT32_MAX: none */
};

enum {
    CIRCUIT_DEFAULT_MAX = 1024,
    CIRCUIT_DEFAULT_RETRIES = 3,    /* where max_retries stands for a budget that is not there */
    CIRCUIT_DEFAULT_BUDGET = 20,    /* per cent, when a retry_budget does not say */
    CIRCUIT_DEFAULT_BUDGET_MIN = 3, /* retries at once that are always allowed */
};

struct circuit {
    struct {
        _Atomic uint64_t active;
        _Atomic uint64_t max;
    } c[2][CIRCUIT_STRIDE]; /* a power of 2: found without a product. Those that a request touches
                               are 64 bytes a priority */
    struct {
        _Atomic uint32_t budget_ppm; /* of active and pending requests; UINT32_MAX: no budget */
        _Atomic uint32_t budget_min;
    } retry[2];
};

/* circuit_limits_default sets the limits of a cluster that says nothing: 1024 of each, and for
 * retries a budget of 20 % of what is under way, at least 3 (docs/differences.md). */
void circuit_limits_default(struct circuit_limits *l);

/* circuit_init prepares a circuit with the default limits and nothing counted. */
void circuit_init(struct circuit *c);

/* circuit_set_limits puts the limits of one priority in force; what is counted stays. Main thread,
 * while workers count. */
void circuit_set_limits(struct circuit *c, enum priority p, const struct circuit_limits *l);

/* circuit_take counts one more if the limit allows it. False: overflow; nothing was counted. Any
 * thread. The limit is never exceeded; at the limit a slot that is being given back at the same
 * moment may be missed. */
bool circuit_take(struct circuit *c, enum priority p, enum circuit_kind k) WARN_UNUSED;

/* circuit_take_always counts one more whatever the limit (the one connection that a host needs to
 * have). Any thread. */
void circuit_take_always(struct circuit *c, enum priority p, enum circuit_kind k);

/* circuit_give counts one less. Any thread. */
void circuit_give(struct circuit *c, enum priority p, enum circuit_kind k);

/* circuit_active is what is counted now; circuit_max the limit in force, for retries the one that a
 * retry budget gives at this moment: budget per cent of the active and pending requests, at least
 * min_retry_concurrency. Any thread. */
uint64_t circuit_active(const struct circuit *c, enum priority p, enum circuit_kind k);
uint64_t circuit_max(const struct circuit *c, enum priority p, enum circuit_kind k);

/* circuit_is_open says whether one more would be refused: the *_open gauges. Any thread. */
bool circuit_is_open(const struct circuit *c, enum priority p, enum circuit_kind k);

/* circuit_remaining is how many more are allowed: the remaining_* gauges. Any thread. */
uint64_t circuit_remaining(const struct circuit *c, enum priority p, enum circuit_kind k);
