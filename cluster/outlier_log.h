/* The event log of outlier detection: envoy.data.cluster.v3.OutlierDetectionEvent as JSON. Main
 * thread. */
#pragma once

#include "cluster/event_log.h"

enum outlier_event_shape { OUTLIER_EVENT_ROW, OUTLIER_EVENT_RATE, OUTLIER_EVENT_PERCENTAGE };

struct outlier_event {
    const char *type;
    struct str cluster;
    const struct host *host;
    uint64_t wall_us, last_us; /* last_us: of the last event of the host; 0: none */
    bool eject;                /* else it is taken back */
    bool enforced;
    uint32_t ejections;
    enum outlier_event_shape shape;
    double rate, average, threshold;
};

/* outlier_log_event writes one line; a log that is not open is fine. */
void outlier_log_event(const struct event_log *log, const struct outlier_event *ev);
