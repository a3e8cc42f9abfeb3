/* The two messages of grpc.health.v1 and their framing (gRPC over HTTP/2,
 * "Length-Prefixed-Message"). Any thread. */
#pragma once

#include "base/arena.h"

/* grpc_health_request frames a HealthCheckRequest for a service, in the arena. */
struct str grpc_health_request(struct arena *a, struct str service);

/* grpc_health_serving reads the body of an answer: exactly one message, which says SERVING. */
bool grpc_health_serving(struct str body);
