/* Outlier detection: hosts that fail several times in a row, or more often than the others, are
 * left out for a while. Workers count into the host's shared counters, so a threshold holds for the
 * whole process; the worker whose count of failures in a row reaches its threshold tells main. Main
 * decides, compares the hosts' success rates once an interval, publishes their health and takes
 * them back in time. */
#pragma once

#include "cluster/cluster.h"
#include "cluster/event_log.h"

/* In the order in which they are looked at when one answer reaches several thresholds. */
enum outlier_kind {
    OUTLIER_GATEWAY,
    OUTLIER_5XX,
    OUTLIER_LOCAL,
    OUTLIER_RATE, /* the statistical ones: of answers, and of what began here */
    OUTLIER_LOCAL_RATE,
    OUTLIER_PERCENTAGE,
    OUTLIER_LOCAL_PERCENTAGE,
    NUM_OUTLIER_KINDS,
    NUM_OUTLIER_ROWS = OUTLIER_RATE,
};

/* What an OutlierDetection message was compiled to; the defaults are the documented ones. */
struct outlier_config {
    uint32_t consecutive[NUM_OUTLIER_ROWS]; /* 5 each */
    uint32_t enforcing[NUM_OUTLIER_KINDS];  /* per cent: 0, 100, 100, 100, 100, 0, 0 */
    uint32_t rate_min_hosts, rate_volume;   /* 5 hosts of 100 requests each */
    uint32_t rate_factor;                   /* 1900: thousandths of the standard deviation */
    uint32_t percentage;                    /* 85 per cent of failures */
    uint32_t percentage_min_hosts, percentage_volume; /* 5 hosts of 50 requests each */
    uint64_t interval_ms;      /* 10 s: how often hosts are compared and ejections looked over */
    uint64_t base_ejection_ms; /* 30 s */
    uint64_t max_ejection_ms;  /* 300 s, or the base if that is more */
    uint64_t jitter_ms;        /* 0 */
    uint32_t max_ejection_per_cent; /* 10 */
    bool always_eject_one;
    bool uneject_on_check; /* true: a health check that passes ends an ejection */
    bool split_local;      /* failures to connect and timeouts count apart from answers */
};

/* outlier_config_default sets the documented defaults. */
void outlier_config_default(struct outlier_config *c);

/* outlier_report counts the outcome of a try at a host. Worker. */
void outlier_report(const struct outlier_config *config, struct host *h, enum host_outcome o,
                    unsigned status);

/* --- main thread ------------------------------------------------------------------------------ */

struct outlier; /* one a cluster with outlier detection */

struct outlier_ops {
    /* The hosts that the cluster has now, until its next change. */
    struct host *const *(*hosts)(void *arg, uint32_t *num);
    /* The health of a host changed: build the host set again. */
    void (*changed)(void *arg);
};

/* outlier_new starts detection: struct cluster_state's `outlier` is how reports find it. Config is
 * borrowed until outlier_configure; the log (NULL: none), the name and the rest for its life. */
struct outlier *outlier_new(struct loop *l, const struct outlier_config *config, struct str cluster,
                            struct stats_scope *stats, const struct event_log *log,
                            const struct outlier_ops *ops, void *arg);

/* outlier_configure takes another configuration; what is ejected stays so, for as long as that one
 * says. */
void outlier_configure(struct outlier *o, const struct outlier_config *config);

/* outlier_free ends detection and sets *o to NULL. Hosts that are ejected come back: changed is
 * called if there were any. NULL is fine. */
void outlier_free(struct outlier **o);

/* outlier_host_removed forgets a host that is no longer a member. */
void outlier_host_removed(struct outlier *o, struct host *h);

/* outlier_health_passed: a host passed its active health check. */
void outlier_health_passed(struct outlier *o, struct host *h);

/* What the last interval gave, for one kind of success rate; -1: too little was known. */
struct outlier_rates {
    double average, threshold;
};

/* outlier_rates are those of answers (local false) or of what began here. */
const struct outlier_rates *outlier_rates(const struct outlier *o, bool local);

/* outlier_num_ejected is how many hosts are out now. */
uint32_t outlier_num_ejected(const struct outlier *o);
