/* Certificates made on the spot, for tests: any issuer, names and dates. Aborts on failure. */
#pragma once

#include "base/str.h"
#include <openssl/base.h>
#include <stdbool.h>

struct test_cert {
    X509 *x509;
    EVP_PKEY *key;
    char *pem, *key_pem; /* this certificate alone */
    char *chain_pem;     /* followed by its issuers but the root */
};

struct test_cert_options {
    const char *cn;
    const struct test_cert *issuer; /* NULL: signed by itself */
    const char *san;                /* "URI:spiffe://td/a,DNS:x.example,IP:127.0.0.1,email:a@b" */
    int from_days, to_days;         /* from now; both 0: yesterday to in 30 days */
    bool ca, rsa, weak_rsa, client_only, server_only;
    const char *raw_dns; /* a DNS name with any bytes ... */
    size_t raw_dns_len;  /* ... this long */
};

/* test_cert_new makes a certificate; test_cert_free frees it, *c becomes NULL. */
struct test_cert *test_cert_new(const struct test_cert_options *o);
void test_cert_free(struct test_cert **c);

/* test_crl makes a CRL of the issuer that revokes one certificate (NULL: none), as PEM to free with
 * mem_free. */
char *test_crl(const struct test_cert *issuer, const struct test_cert *revoked);

/* test_cert_digest writes the SHA-256 of the certificate in hex, test_cert_spki that of its key in
 * base64. Both NUL-terminated. */
void test_cert_digest(const struct test_cert *c, char out[65]);
void test_cert_spki(const struct test_cert *c, char out[45]);
