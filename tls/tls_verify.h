/* Judging a peer's certificate chain by a validation, on any thread. */
#pragma once

#include "tls/tls_validation.h"

/* tls_verify_needed says whether a peer's certificate is looked at at all. */
bool tls_verify_needed(const struct tls_validation *v);

enum tls_verdict {
    TLS_VERIFIED,
    TLS_UNVERIFIED, /* let through: nothing to check against, or accept_untrusted */
    TLS_FAILED_CHAIN,
    TLS_FAILED_SAN,
    TLS_FAILED_HASH,
};

enum { TLS_DETAIL_MAX = 1024, TLS_PEER_CHAIN_MAX = 32 };

struct tls_verify_result {
    enum tls_verdict verdict;
    uint8_t alert;               /* to send if it failed */
    char detail[TLS_DETAIL_MAX]; /* Envoy's words for what is wrong */
};

/* tls_verify judges the peer's chain (leaf first, at least one; v may be NULL).
 * `server`: we are the server. `sni_name`: a DNS name that the leaf must be for besides everything
 * else; empty: none. Any thread. */
void tls_verify(const struct tls_validation *v, X509 *const *chain, size_t num, bool server,
                struct str sni_name, struct tls_verify_result *out);
