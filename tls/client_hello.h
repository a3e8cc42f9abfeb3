/* The ClientHello of a connection that nobody has read yet: what the tls_inspector listener filter
 * learns by peeking. Bytes are looked at again from the start at each call; nothing is kept.
 * TLS 1.0 to 1.3 records (RFC 8446, sections 4.1.2 and 5.1), also a hello spread over several of
 * them. Any thread. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"

enum client_hello_status {
    CLIENT_HELLO_NEED_MORE, /* so far it may be one */
    CLIENT_HELLO_NOT_TLS,   /* it cannot be: known at the first byte that does not fit */
    CLIENT_HELLO_OK,
    CLIENT_HELLO_ERROR,     /* TLS, but malformed: no server would go on with it */
    CLIENT_HELLO_TOO_LARGE, /* TLS, over the limit */
};

enum {
    CLIENT_HELLO_MAX = 16384, /* bytes of all, Envoy's default of max_client_hello_size */
    CLIENT_HELLO_ALPN_MAX = 32,
    CLIENT_HELLO_NAME_MAX = 255,
};

struct client_hello {
    struct str sni;                         /* lower case, in sni_text; empty: none */
    struct str alpn[CLIENT_HELLO_ALPN_MAX]; /* views into the bytes, or into the workspace */
    size_t num_alpn;
    uint16_t max_version; /* highest offered: 0x0303 TLS 1.2, 0x0304 TLS 1.3 */
    size_t need;          /* NEED_MORE: bytes that must be there for the next call to get further */
    char sni_text[CLIENT_HELLO_NAME_MAX + 1];
};

/* client_hello_parse looks at the bytes received so far. `max` bounds the size of the hello (0:
 * CLIENT_HELLO_MAX). `workspace`, of at least bytes.len, is written only if the hello is spread
 * over several records. A host name that no DNS name can be (control bytes, a NUL, over 255 bytes)
 * is an ERROR, as are more than CLIENT_HELLO_ALPN_MAX protocols; an IP address there is taken as it
 * is. */
enum client_hello_status client_hello_parse(struct str bytes, size_t max, void *workspace,
                                            struct client_hello *out) WARN_UNUSED;
