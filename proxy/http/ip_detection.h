/* Original IP detection: who a request comes from, when another proxy stands before us. Compiled
 * original_ip_detection_extensions (envoy.extensions.http.original_ip_detection.*), immutable. */
#pragma once

#include "base/addr.h"
#include "base/arena.h"
#include "base/errors.h"
#include "proxy/http/headers.h"

struct ip_detection; /* the list */
struct pb_opts;

struct ip_detected {
    bool found;
    struct addr addr; /* when found */
    bool trusted;     /* good for deciding whether the request is internal, not only for logs */
    bool append;      /* our peer's address is appended to X-Forwarded-For */
    unsigned reject;  /* status to answer with; 0: none */
};

/* ip_detection_compile compiles n TypedExtensionConfig messages into arena a; NULL after errors.
 * Main. */
struct ip_detection *ip_detection_compile(struct arena *a, void *const *msgs, size_t n,
                                          const struct pb_opts *pb, struct errors *e);

/* ip_detect asks the extensions in their order until one finds an address or rejects. `peer` is the
 * connection's. Worker. */
struct ip_detected ip_detect(const struct ip_detection *d, const struct headers *h,
                             const struct addr *peer, struct arena *scratch);

/* xff_address is the address `hops` entries from the right end of an X-Forwarded-For; false if
 * there is none or it is no IP. */
bool xff_address(struct str xff, uint32_t hops, struct addr *out);
