/* The PROXY protocol's header, written before the payload of a connection (haproxy.org's
 * specification, versions 1 and 2). Any thread. */
#pragma once

#include "base/buffer.h"
#include "tls/transport.h"

/* proxy_header_write appends the header of a connection from src to dst. Addresses of different
 * families, or that are not IP, become UNKNOWN (1) or LOCAL (2), without TLVs. `version` is 1 or 2;
 * only the latter has TLVs. False: there were more of them than fit, and the rest is left out. */
bool proxy_header_write(struct buffer *out, unsigned version, const struct addr *src,
                        const struct addr *dst, const struct proxy_tlv *tlvs);
