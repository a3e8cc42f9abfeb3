/* Who is at the other end: struct tls_peer out of an established session. What a certificate says
 * is read once and shared by all connections of a thread to the same peer. */
#pragma once

#include "tls/tls_transport.h"

struct tls_identity;

struct tls_peer_info {
    struct tls_peer peer;
    struct tls_identity *identity; /* NULL: the peer has shown no certificate */
};

/* tls_peer_info_new reads all that is known of the peer of an established connection. Views into
 * the session live as long as the transport. */
struct tls_peer_info *tls_peer_info_new(const struct tls_transport *t);

/* tls_peer_info_free frees it, on the thread that made it and before the session; *p becomes NULL.
 */
void tls_peer_info_free(struct tls_peer_info **p);
