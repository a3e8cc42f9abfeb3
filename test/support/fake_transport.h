/* A transport whose handshake goes as the test says and which carries nothing. For unit tests. */
#pragma once

#include "tls/transport.h"

struct fake_transport {
    struct transport t; /* first */
    enum io_status handshake[8];
    unsigned asked; /* how often the handshake was driven; the test may set it */
    unsigned freed;
};

/* fake_transport_init: the handshake answers with the `n` (1 to 8) given, the last one for ever. */
void fake_transport_init(struct fake_transport *f, const enum io_status *handshake, size_t n);
