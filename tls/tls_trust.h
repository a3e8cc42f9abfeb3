/* Trust anchors and revocation lists, parsed once and shared by all who validate with the same
 * bytes. Immutable after it is made; verification from any thread. Made, counted and freed on the
 * main thread. */
#pragma once

#include "base/errors.h"
#include "base/refcount.h"
#include "tls/cert_info.h"
#include "tls/dedup.h"
#include <openssl/base.h>
#include <openssl/pool.h>

struct tls_trust {
    struct refcount refs;
    struct dedup_entry entry;
    X509_STORE *store;
    STACK_OF(CRYPTO_BUFFER) * ca_names; /* DER subjects, for a server's certificate request */
    bool has_crl;
    struct arena arena;
    struct cert_info *certs;
    size_t num_certs;
};

struct tls_trust_source {   /* PEM; borrowed for the call */
    struct str ca, ca_path; /* CA certificates, and CRLs among them; path for /certs */
    struct str crl;         /* more CRLs; may be empty */
};

/* tls_trust_new returns the anchors with one reference, or NULL with errors at trusted_ca or crl
 * below the current path. Every anchor counts, an intermediate one too, as in Envoy. */
struct tls_trust *tls_trust_new(const struct tls_trust_source *src, struct errors *e);

/* tls_trust_ref and tls_trust_unref count; NULL is fine. */
struct tls_trust *tls_trust_ref(struct tls_trust *t);
void tls_trust_unref(struct tls_trust *t);

struct tls_chain_rules {
    bool server; /* we are the server: the peer must be a client */
    bool allow_expired;
    bool leaf_crl_only;
    uint32_t max_depth; /* intermediate certificates at most; 0: 100 */
};

/* tls_trust_verify builds and checks the chain of the peer's certificates (leaf first; at least
 * one) to an anchor: true if it holds. Else *out_error is the X509_V_ERR_ code and *out_depth
 * where. */
bool tls_trust_verify(const struct tls_trust *t, X509 *const *chain, size_t num,
                      const struct tls_chain_rules *rules, int *out_error, int *out_depth);
