/* An SSL_CTX and what it stands on: the part of a TLS configuration that does not depend on whose
 * names are expected, so that thousands of clusters share one. Immutable once made; connections of
 * any thread use it. Made and freed on the main thread. */
#pragma once

#include "base/errors.h"
#include "base/refcount.h"
#include "tls/tls_cert.h"
#include "tls/tls_tickets.h"
#include "tls/tls_trust.h"

struct tls_context {
    struct refcount refs;
    struct dedup_entry entry;
    struct list link;     /* of all, for /certs */
    uint32_t num_current; /* factories whose new connections get it; main thread */
    SSL_CTX *ssl_ctx;
    bool server, require_sni;
    struct tls_cert **certs;
    size_t num_certs;
    struct tls_trust *trust;
    struct tls_tickets *tickets;
    struct str alpn; /* in preference, as on the wire: length, name */
    struct arena arena;
};

/* tls_params: what a context is made of. The strings are BoringSSL's lists joined with ':', empty
 * for the default. */
struct tls_params {
    bool server;
    uint16_t min_version, max_version;
    struct str ciphers, groups, sigalgs;
    struct str alpn;
    struct tls_cert **certs; /* the context takes its own references */
    size_t num_certs;
    struct tls_trust *trust;         /* whose names a server asks for; NULL: none */
    bool ask_client, require_client; /* server: certificate wanted, needed */
    bool require_sni;
    bool prefer_client_ciphers;
    bool no_tickets; /* server: no resumption; client: no session kept */
    struct tls_tickets
        *tickets; /* server: configured keys; NULL: BoringSSL makes and rotates them */
    uint64_t session_timeout_s; /* server; 0: default */
};

/* tls_context_new returns a context with one reference, an existing one if all is equal; NULL with
 * errors at the current path. */
struct tls_context *tls_context_new(const struct tls_params *p, struct errors *e);
struct tls_context *tls_context_ref(struct tls_context *c);
void tls_context_unref(struct tls_context *c);

/* tls_context_of returns the context of an SSL_CTX of ours. */
struct tls_context *tls_context_of(const SSL_CTX *ssl_ctx);

/* tls_context_check_list says whether BoringSSL knows the cipher suite, group or signature
 * algorithm `name`; false otherwise. For error messages that name the culprit. */
enum tls_list { TLS_LIST_CIPHERS, TLS_LIST_GROUPS, TLS_LIST_SIGALGS };
bool tls_context_check_list(enum tls_list list, const char *name);

/* tls_context_foreach calls fn for every context that new connections get; those that only older
 * connections still hold are left out. Main thread. */
void tls_context_foreach(void (*fn)(void *arg, const struct tls_context *c), void *arg);
