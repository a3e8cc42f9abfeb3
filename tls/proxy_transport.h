/* The transport socket upstream_proxy_protocol: a PROXY header first, then another transport (TLS,
 * or none). The factory is immutable and shared; opened on any thread. */
#pragma once

#include "tls/transport.h"

struct proxy_transport_config {
    unsigned version;              /* 1 or 2 */
    bool pass_all;                 /* TLVs of the downstream connection */
    bool pass[256];                /* else those of these types */
    const struct proxy_tlv *added; /* take the place of those with their type */
};

/* proxy_transport_factory makes one over `inner` (takes the reference; NULL: raw_buffer), with a
 * copy of config. One reference, the caller's. Main. */
struct transport_factory *proxy_transport_factory(struct transport_factory *inner,
                                                  const struct proxy_transport_config *config);

/* proxy_transport_inner is what is below, if f is one of these (NULL: raw_buffer), else f. Any
 * thread. */
struct transport_factory *proxy_transport_inner(struct transport_factory *f);

/* proxy_transport_header appends the header that a connection from `origin` gets; NULL: one from
 * `src` to `dst` (1), or one that says so (2: LOCAL). */
void proxy_transport_header(const struct proxy_transport_config *config,
                            const struct proxy_origin *origin, const struct addr *src,
                            const struct addr *dst, struct buffer *out);
