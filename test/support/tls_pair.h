/* Two TLS transports over a socketpair, for tests: a client and a server driven in turns on one
 * thread. */
#pragma once

#include "test/support/test_certs.h"
#include "tls/tls_config.h"
#include "tls/transport.h"

/* What one side is made of; zeroed means nothing of it. PEM texts. */
struct tls_side {
    const char *chain, *key;   /* own certificate */
    const char *chain2, *key2; /* a second one */
    const char *ca, *crl;
    const char *uri_exact, *uri_prefix, *dns_exact, *regex, *ip_exact, *untyped_exact;
    const char *hash, *spki;
    bool allow_expired, accept_untrusted, leaf_crl_only;
    bool ask_client, require_client, require_sni, no_tickets;
    uint16_t min_version, max_version; /* 0: TLS 1.2, TLS 1.3 */
    const char *ciphers;
    const char *alpn; /* "h2,http/1.1" */
    const char *sni;
    bool sni_must_match;
    unsigned max_sessions;
    struct tls_tickets *tickets;
    struct stats_scope *stats;
};

/* tls_side_config makes a configuration of s; aborts on any error. */
struct tls_config *tls_side_config(const struct tls_side *s, bool server);

struct tls_pair {
    int fds[2];
    struct transport *client, *server;
    enum io_status client_status, server_status; /* of the handshake */
};

/* tls_pair_open opens both ends; the configurations stay the caller's. opts: the client's, or NULL.
 */
void tls_pair_open(struct tls_pair *p, struct tls_config *client, struct tls_config *server,
                   const struct transport_options *opts);

/* tls_pair_handshake drives both until neither gets further; true if both are done. */
bool tls_pair_handshake(struct tls_pair *p);

/* tls_pair_send carries `len` patterned bytes from one end to the other; true if all arrived. */
bool tls_pair_send(struct transport *from, struct transport *to, size_t len);

/* tls_pair_close frees both ends and closes their sockets. */
void tls_pair_close(struct tls_pair *p);
