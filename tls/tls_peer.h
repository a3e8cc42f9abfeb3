/* Who is at the other end: struct tls_peer out of an established session. */
#pragma once

#include "tls/tls_transport.h"

struct tls_peer_info {
    struct arena arena;
    struct tls_peer peer;
};

/* tls_peer_info_new reads all that is known of the peer of an established connection. */
struct tls_peer_info *tls_peer_info_new(const struct tls_transport *t);

/* tls_peer_info_free frees it; *p becomes NULL. */
void tls_peer_info_free(struct tls_peer_info **p);
