/* Retry: which policy is in force for a request, and whether an outcome is worth another try. Pure
 * functions; worker. */
#pragma once

#include "proxy/router/router.h"

/* retry_init sets r->retry, retries_left and retry_names from the route and the request's headers
 * (x-envoy-max-retries, x-envoy-retry-on, x-envoy-retry-grpc-on, x-envoy-retriable-status-codes,
 * x-envoy-retriable-header-names), which are taken out of the request. */
void retry_init(struct router *r);

/* retry_wants_response says whether a response head is of a kind to be tried again. */
bool retry_wants_response(const struct router *r, const struct headers *h);

/* retry_wait_ms is how long the response wants us to stay away, by the policy's reset headers; 0:
 * it does not say, or it is too long. */
uint64_t retry_wait_ms(const struct router *r, const struct headers *h);

/* retry_wants_failure the same for a try without response. `started`: some of the request was given
 * to the connection. */
bool retry_wants_failure(const struct router *r, enum try_failure f, bool started);

/* retry_header_valid says whether the value of an x-envoy-* request header about retries and
 * timeouts is well-formed (strict_check_headers). */
bool retry_header_valid(struct str name, struct str value);
