/* The health probes that speak HTTP: one request, whose status, payload and headers decide; and
 * grpc.health.v1.Health/Check. */
#pragma once

#include "cluster/health_probe.h"

extern const struct health_probe_ops http_probe, grpc_probe;
