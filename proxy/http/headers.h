/* HTTP header fields of one message: an ordered list, names in lower case, in an arena.
 * The pseudo-headers :method, :path, :authority, :scheme and :status stand apart and are found
 * under their names too, so that matchers and format operators need no special case. One user at a
 * time. */
#pragma once

#include "base/arena.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

/* Fields the proxy itself looks at: found by number in O(1). X(id, "name") */
#define HTTP_KNOWN_HEADERS(X)                                                                      \
    X(HOST, "host")                                                                                \
    X(CONNECTION, "connection")                                                                    \
    X(CONTENT_LENGTH, "content-length")                                                            \
    X(TRANSFER_ENCODING, "transfer-encoding")                                                      \
    X(CONTENT_TYPE, "content-type")                                                                \
    X(DATE, "date")                                                                                \
    X(EXPECT, "expect")                                                                            \
    X(KEEP_ALIVE, "keep-alive")                                                                    \
    X(PROXY_CONNECTION, "proxy-connection")                                                        \
    X(SERVER, "server")                                                                            \
    X(TE, "te")                                                                                    \
    X(TRAILER, "trailer")                                                                          \
    X(UPGRADE, "upgrade")                                                                          \
    X(USER_AGENT, "user-agent")                                                                    \
    X(LOCATION, "location")                                                                        \
    X(VIA, "via")                                                                                  \
    X(GRPC_STATUS, "grpc-status")                                                                  \
    X(GRPC_MESSAGE, "grpc-message")                                                                \
    X(GRPC_TIMEOUT, "grpc-timeout")                                                                \
    X(X_FORWARDED_FOR, "x-forwarded-for")                                                          \
    X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                      \
    X(X_FORWARDED_HOST, "x-forwarded-host")                                                        \
    X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert")                                          \
    X(X_REQUEST_ID, "x-request-id")                                                                \
    X(X_ENVOY_INTERNAL, "x-envoy-internal")                                                        \
    X(X_ENVOY_EXTERNAL_ADDRESS, "x-envoy-external-address")                                        \
    X(X_ENVOY_ORIGINAL_PATH, "x-envoy-original-path")                                              \
    X(X_ENVOY_DECORATOR_OPERATION, "x-envoy-decorator-operation")                                  \
    X(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count")                                              \
    X(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "x-envoy-expected-rq-timeout-ms")                            \
    X(X_ENVOY_UPSTREAM_SERVICE_TIME, "x-envoy-upstream-service-time")                              \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, "x-envoy-upstream-rq-timeout-ms")                            \
    X(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, "x-envoy-upstream-rq-per-try-timeout-ms")            \
    X(X_ENVOY_RETRY_ON, "x-envoy-retry-on")                                                        \
    X(X_ENVOY_RETRY_GRPC_ON, "x-envoy-retry-grpc-on")                                              \
    X(X_ENVOY_MAX_RETRIES, "x-envoy-max-retries")                                                  \
    X(X_ENVOY_OVERLOADED, "x-envoy-overloaded")                                                    \
    X(X_ENVOY_RATELIMITED, "x-envoy-ratelimited")                                                  \
    X(X_ENVOY_LOCAL_OVERLOADED, "x-envoy-local-overloaded")                                        \
    X(X_ENVOY_UPSTREAM_CANARY, "x-envoy-upstream-canary")                                          \
    X(X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL, "x-envoy-immediate-health-check-fail")                  \
    X(ACCEPT_ENCODING, "accept-encoding")                                                          \
    X(CONTENT_ENCODING, "content-encoding")                                                        \
    X(COOKIE, "cookie")

enum header_id {
#define X(id, name) HDR_##id,
    HTTP_KNOWN_HEADERS(X)
#undef X
        HDR_NUM_KNOWN,
    HDR_OTHER = HDR_NUM_KNOWN,
};

struct header {
    struct str name; /* lower case */
    struct str value;
    uint8_t id;   /* enum header_id */
    bool removed; /* skipped by everything; keeps the order of the rest */
};

struct headers {
    struct arena *arena; /* where what is added goes */
    struct header *v;
    uint32_t n, cap;
    uint32_t live;                              /* not removed */
    uint16_t first[HDR_NUM_KNOWN];              /* 1 + index of the first of that id, 0: none */
    struct str method, path, authority, scheme; /* requests; empty p: absent */
    uint16_t status;                            /* responses */
    uint8_t minor;                              /* HTTP/1.minor it came as; HEADERS_HTTP2 */
    bool
        upgrade; /* asks for, or (101) grants, another protocol: upgrade and connection are there */
    const struct str *raw; /* names as they were received, by index; NULL: not kept */
    uint32_t num_raw;
    struct str reason; /* the phrase that came with the status; empty: not kept */
    size_t bytes;      /* names and values received, for limits and stats */
};

enum { HEADERS_HTTP2 = 2 }; /* of minor */

/* headers_init makes an empty list in arena a. */
void headers_init(struct headers *h, struct arena *a);

/* header_id_of finds the id of a lower-case name, HDR_OTHER if it is none of the known. */
enum header_id header_id_of(struct str lower_name);

/* headers_reserve makes room for `more` fields at once. Adding may move the fields: pointers to
 * them hold until the next headers_add, headers_set or headers_reserve. */
void headers_reserve(struct headers *h, uint32_t more);

/* headers_add appends a field whose lower-case name and value live at least as long as the arena.
 */
struct header *headers_add(struct headers *h, struct str lower_name, struct str value);

/* headers_add_known the same by id, the name being static. */
struct header *headers_add_known(struct headers *h, enum header_id id, struct str value);

/* headers_set replaces the first field of that id and removes the others, or appends. */
void headers_set_known(struct headers *h, enum header_id id, struct str value);
void headers_set(struct headers *h, struct str lower_name, struct str value);

/* headers_known returns the first field of that id, or NULL. */
struct header *headers_known(const struct headers *h, enum header_id id);

/* headers_find returns the first field of that lower-case name, or NULL. */
struct header *headers_find(const struct headers *h, struct str lower_name);

/* headers_next returns the next field with the same name as f, or NULL. */
struct header *headers_next(const struct headers *h, const struct header *f);

/* headers_value returns the value for a lower-case name, pseudo-headers included ("host" is then
 * ":authority"); several fields of the name are joined with "," in arena a. False if there is none.
 */
bool headers_value(const struct headers *h, struct str lower_name, struct arena *a,
                   struct str *out);

/* headers_is_grpc says whether the content-type is gRPC's. */
bool headers_is_grpc(const struct headers *h);

/* headers_remove_known and headers_remove drop all fields of a name; true if there was one. */
bool headers_remove_known(struct headers *h, enum header_id id);
bool headers_remove(struct headers *h, struct str lower_name);

/* headers_remove_at drops one field. */
void headers_remove_at(struct headers *h, struct header *f);

/* headers_copy makes `to` an independent copy of `from` in arena a (views are copied too). */
void headers_copy(struct headers *to, const struct headers *from, struct arena *a);

/* headers_may_trail says whether a field may come in a trailer section: routing, identity and how
 * to read the content may not (RFC 9110 6.5.1). */
bool headers_may_trail(const struct header *f);

#define HEADERS_FOREACH(f, h)                                                                      \
    for (struct header *f = (h)->v; f && f < (h)->v + (h)->n; f++)                                 \
        if (!f->removed)
