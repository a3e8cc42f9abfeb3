/* The PROXY protocol's header, versions 1 and 2 ("The PROXY protocol", haproxy 3.0, sections 2.1
 * and 2.2), as the proxy_protocol listener filter peeks at it. Bytes are looked at again from the
 * start at each call; nothing is kept. Any thread. */
#pragma once

#include "base/addr.h"
#include "base/alloc.h"

enum proxy_header_status {
    PROXY_HEADER_MORE, /* so far it may be one */
    PROXY_HEADER_NONE, /* it is none: known at the first byte that does not fit a signature */
    PROXY_HEADER_OK,
    PROXY_HEADER_ERROR, /* a signature, and then nothing that the protocol allows */
};

enum { PROXY_HEADER_V1_MAX = 107, PROXY_HEADER_MAX = 16 + 65535 };

struct proxy_header {
    unsigned version; /* 1, 2; 0 while the signature is not whole */
    bool local;       /* no addresses: LOCAL or UNKNOWN; the socket's own hold */
    struct addr source, destination;
    size_t len;      /* of the whole header, once OK */
    struct str tlvs; /* version 2: checked to be whole; views the bytes */
    size_t need;     /* MORE: bytes that must be there for the next call to get further */
};

/* proxy_header_parse looks at the bytes received so far. Addresses must be of one family and
 * unicast; a version 2 header's addresses and TLVs must fill its length exactly. Only TCP and UDP
 * over IPv4 and IPv6. All of *out is set. */
enum proxy_header_status proxy_header_parse(struct str bytes, struct proxy_header *out) WARN_UNUSED;

/* proxy_tlv_next cuts the next TLV off *rest; false when none is left. */
bool proxy_tlv_next(struct str *rest, uint8_t *type, struct str *value) WARN_UNUSED;
