/* Active health checks of one cluster: a session for each host with timers, thresholds and flags
 * on the host. At most HEALTH_CHECKS_MAX checks of a process are under way at a time; others wait
 * for one to end. Main thread. */
#pragma once

#include "cluster/health_probe.h"

struct health_checker;

enum { HEALTH_CHECKS_MAX = 1024 };

/* Shared by the checkers of a process; zero it, and list_init the list. */
struct health_budget {
    uint32_t running;
    struct list waiting; /* struct health_session */
};

struct health_checker_ops {
    /* The health of a host changed, or who counts: build the host set again. */
    void (*changed)(void *arg);
    /* Every host has been checked once. Comes from the loop, again after new hosts. */
    void (*settled)(void *arg);
    /* A host passed a check. */
    void (*passed)(void *arg, struct host *h);
};

/* health_checker_new makes a checker without hosts. config (with config->health) and state are
 * referenced. */
struct health_checker *health_checker_new(struct loop *l, struct health_budget *budget,
                                          struct cluster_config *config,
                                          struct cluster_state *state,
                                          const struct health_checker_ops *ops, void *arg);

/* health_checker_configure takes another configuration: where it checks in the same way the
 * sessions go on, otherwise they begin again without a word on the hosts' health. */
void health_checker_configure(struct health_checker *c, struct cluster_config *config);

/* health_checker_sync gives a session to each of the hosts that has none and is to be checked, and
 * ends the others'. */
void health_checker_sync(struct health_checker *c, struct host *const *hosts, uint32_t num);

/* health_checker_pending is how many hosts have not had their first check. */
uint32_t health_checker_pending(const struct health_checker *c);

/* health_checker_free ends all checks and sets *c to NULL. The hosts are no longer taken for
 * failed. NULL is fine. */
void health_checker_free(struct health_checker **c);

/* health_host_new marks a new member of a cluster with health checks: failed until it passes, or in
 * the health of `before`, whose place it takes and who is checked in the same way (NULL: nobody).
 */
void health_host_new(const struct cluster_config *config, struct host *h,
                     const struct host *before);

/* health_report_fail: the host asked in an answer to be left out
 * (x-envoy-immediate-health-check-fail). Without a health check it has no effect. Any thread. */
void health_report_fail(struct host *h);
