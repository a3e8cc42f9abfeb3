/* A certificate chain with its private key, parsed and checked once and shared by all contexts that
 * use the same bytes. Immutable. Made, counted and freed on the main thread; workers read it
 * through the context that holds it. */
#pragma once

#include "base/errors.h"
#include "base/refcount.h"
#include "tls/cert_info.h"
#include "tls/dedup.h"
#include <openssl/base.h>

struct tls_cert {
    struct refcount refs;
    struct dedup_entry entry;
    SSL_CREDENTIAL *credential;
    struct arena arena;
    struct cert_info *chain; /* leaf first */
    size_t num_chain;
    struct str *uri_sans; /* of the leaf */
    size_t num_uri_sans;
    struct str *dns_names; /* of the leaf: DNS names, or its common name if it has none */
    size_t num_dns_names;
    bool ecdsa;
};

struct tls_cert_source { /* PEM; borrowed for the call */
    struct str chain, key, password;
    struct str chain_path; /* shown by /certs */
};

/* tls_cert_new returns the certificate with one reference, or NULL with errors at the fields
 * certificate_chain, private_key or password below the current path: unreadable, not matching, of a
 * kind or size that is not safe. One that has expired or is not yet valid is a warning: clocks
 * differ. */
struct tls_cert *tls_cert_new(const struct tls_cert_source *src, struct errors *e);

/* tls_cert_ref and tls_cert_unref count. */
struct tls_cert *tls_cert_ref(struct tls_cert *c);
void tls_cert_unref(struct tls_cert *c);

/* tls_cert_matches_name says whether the leaf is for this host name. */
bool tls_cert_matches_name(const struct tls_cert *c, struct str host);

/* tls_cert_of returns the certificate behind a credential of ours. */
const struct tls_cert *tls_cert_of(const SSL_CREDENTIAL *credential);

/* tls_buffer_pool is the process's pool of certificates' bytes, own ones and peers': equal ones are
 * held once. */
CRYPTO_BUFFER_POOL *tls_buffer_pool(void);

/* tls_pem_error empties BoringSSL's error queue and returns the newest reason, or `def`. */
const char *tls_pem_error(const char *def);
