/* The event log of health checks: envoy.data.core.v3.HealthCheckEvent as JSON. Main thread. */
#pragma once

#include "cluster/health_probe.h"

enum health_event {
    HEALTH_EJECT,
    HEALTH_ADD,
    HEALTH_FAILURE,
    HEALTH_DEGRADED,
    HEALTH_NO_LONGER_DEGRADED,
    HEALTH_SUCCESS,
};

struct health_event_info {
    struct str cluster;
    const struct host *host;
    uint64_t wall_us;
    enum health_failure failure;
    unsigned status;
    bool first;
};

/* health_log_event writes one line; without a log it does nothing. */
void health_log_event(const struct health_config *c, enum health_event ev,
                      const struct health_event_info *i);
