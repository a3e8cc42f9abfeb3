/* Policies: how a route's requests are tried, copied and redirected: retries, hedging, mirrors,
 * internal redirects, what is kept of a body. Compiled on main, immutable afterwards; they live in
 * the arena of the route table. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "base/str.h"
#include "proxy/router/header_steps.h"
#include <stdbool.h>
#include <stdint.h>

struct header_match;
struct regex_list;
struct route;

/* retry_on words. X(id, "word") */
#define RETRY_ON(X)                                                                                \
    X(5XX, "5xx")                                                                                  \
    X(GATEWAY_ERROR, "gateway-error")                                                              \
    X(CONNECT_FAILURE, "connect-failure")                                                          \
    X(RETRIABLE_4XX, "retriable-4xx")                                                              \
    X(REFUSED_STREAM, "refused-stream")                                                            \
    X(RETRIABLE_STATUS_CODES, "retriable-status-codes")                                            \
    X(RESET, "reset")                                                                              \
    X(RESET_BEFORE_REQUEST, "reset-before-request")                                                \
    X(RETRIABLE_HEADERS, "retriable-headers")                                                      \
    X(ENVOY_RATELIMITED, "envoy-ratelimited")                                                      \
    X(HTTP3_POST_CONNECT_FAILURE, "http3-post-connect-failure")                                    \
    X(GRPC_CANCELLED, "cancelled")                                                                 \
    X(GRPC_DEADLINE_EXCEEDED, "deadline-exceeded")                                                 \
    X(GRPC_RESOURCE_EXHAUSTED, "resource-exhausted")                                               \
    X(GRPC_UNAVAILABLE, "unavailable")                                                             \
    X(GRPC_INTERNAL, "internal")

enum retry_on_bit {
#define X(id, word) RETRY_BIT_##id,
    RETRY_ON(X)
#undef X
        NUM_RETRY_ON
};
#define RETRY(id) (1u << RETRY_BIT_##id)

struct reset_header { /* a response header that says when to come again */
    struct str name;  /* lower case */
    bool timestamp;   /* in seconds since the epoch; otherwise in seconds from now */
};

struct retry_policy {
    uint32_t on; /* RETRY(...) set */
    uint32_t num_retries;
    uint64_t per_try_timeout_ms, per_try_idle_timeout_ms; /* 0: none */
    uint64_t backoff_base_ms, backoff_max_ms;             /* 25, 250 */
    const uint16_t *status_codes;
    size_t num_status_codes;
    const struct header_match *response_headers; /* retriable_headers */
    size_t num_response_headers;
    const struct header_match *request_headers; /* retriable_request_headers; none: all requests */
    size_t num_request_headers;
    const struct reset_header *reset_headers; /* rate_limited_retry_back_off */
    size_t num_reset_headers;
    uint64_t reset_max_ms;     /* longer waits than this are not waited for; 300 s */
    uint32_t update_frequency; /* of retry_priority previous_priorities; 0: none */
    bool previous_hosts;       /* retry_host_predicate previous_hosts */
    uint32_t host_attempts;    /* host_selection_retry_max_attempts, 1 */
};

struct hedge_policy {
    bool on_per_try_timeout; /* the late try goes on beside the next one */
};

/* request_mirror_policies */
struct mirror {
    struct str cluster; /* empty: in the header */
    struct str header;  /* lower case */
    uint32_t ppm;
    bool plain_host; /* no "-shadow" after the host */
    struct str host; /* instead of the request's; empty: that one */
    struct header_steps changes;
};

struct mirrors {
    const struct mirror *v;
    size_t n;
};

/* internal_redirect_policy */
enum redirect_predicate {
    REDIRECT_ALLOW_LISTED_ROUTES,
    REDIRECT_PREVIOUS_ROUTES,
    REDIRECT_SAFE_CROSS_SCHEME,
};

struct redirect_check {
    enum redirect_predicate kind;
    const struct str *routes; /* allowed route names */
    size_t num_routes;
};

struct internal_redirects {
    uint32_t max;  /* of one request; 1 */
    bool codes[9]; /* 300 + index */
    bool cross_scheme;
    const struct redirect_check *checks;
    size_t num_checks;
    const struct str *copy; /* response headers for the next request; lower case */
    size_t num_copy;
};

/* The policies that a virtual host gives to the routes that have none of their own. */
struct route_policies {
    const struct retry_policy *retry;
    const struct hedge_policy *hedge;
    struct mirrors mirrors;
    bool has_body_limit;
    uint64_t body_limit;
    bool timeout_retry_header;
};

/* retry_policy_compile compiles a RetryPolicy message; regular expressions go to l. */
struct retry_policy *retry_policy_compile(struct regex_list *l, struct arena *a, const void *msg,
                                          struct errors *e);

/* route_action_policies_compile reads the policies of a RouteAction message into r; a route without
 * a retry policy keeps the one that r has. */
void route_action_policies_compile(struct route *r, struct regex_list *l, struct arena *a,
                                   const void *action_msg, struct errors *e);

/* mirrors_compile compiles n RequestMirrorPolicy messages. */
struct mirrors mirrors_compile(struct regex_list *l, struct arena *a, void *const *msgs, size_t n,
                               struct errors *e);

/* vhost_policies_compile reads those of a VirtualHost message; `above` are the table's mirrors. */
void vhost_policies_compile(struct route_policies *p, struct regex_list *l, struct arena *a,
                            const void *vhost_msg, struct mirrors above, struct errors *e);

/* route_policies_inherit gives a compiled route (its Route message is `route_msg`) what it takes
 * over from its virtual host: a policy is never merged, the most specific one stands. */
void route_policies_inherit(struct route *r, const void *route_msg,
                            const struct route_policies *above);
