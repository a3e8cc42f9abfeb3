/* Retry: which policy is in force for a request, and whether an outcome is worth another try. Pure
 * functions; worker. */
#pragma once

#include "proxy/router/router.h"

/* retry_init sets r->retry, retries_left, the timeouts from route and request headers
 * (x-envoy-max-retries, x-envoy-retry-on, x-envoy-retry-grpc-on, x-envoy-upstream-rq-timeout-ms,
 * x-envoy-upstream-rq-per-try-timeout-ms, which are taken out of the request). */
void retry_init(struct router *r);

/* retry_wants_response says whether a response head is of a kind to be tried again. */
bool retry_wants_response(const struct router *r, const struct headers *h);

/* retry_wants_failure the same for a try without response. `started`: some of the request was given
 * to the connection. */
bool retry_wants_failure(const struct router *r, enum try_failure f, bool started);
