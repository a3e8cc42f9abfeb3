/* What BoringSSL asks during a handshake: is this peer's certificate good, which of ours to show,
 * which protocol to speak, how to seal a ticket. Callbacks on the connection's thread. */
#pragma once

#include "tls/tls_context.h"

struct tls_transport;

/* tls_handshake_install sets the callbacks of a context made of `p`; mode is SSL_VERIFY_*. */
void tls_handshake_install(SSL_CTX *ctx, int mode, const struct tls_params *p);

/* tls_handshake_set_alpn lets a server's context choose by its own list. */
void tls_handshake_set_alpn(struct tls_context *c);

/* tls_handshake_bind ties ssl to its transport, tls_handshake_transport finds it again. */
void tls_handshake_bind(SSL *ssl, struct tls_transport *t);
struct tls_transport *tls_handshake_transport(const SSL *ssl);
