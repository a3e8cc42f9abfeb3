/* Secrets: the resource type envoy.extensions.transport_sockets.tls.v3.Secret, compiled. Immutable
 * and counted, main thread. tls_secrets is the process's place of them: it registers the type with
 * the xDS client and knows the static ones of the bootstrap. */
#pragma once

#include "base/errors.h"
#include "base/loop.h"
#include "base/map.h"
#include "tls/tls_cert.h"
#include "tls/tls_tickets.h"
#include "tls/tls_validation.h"
#include "xds/xds.h"

struct pb_opts; /* api-protos/message.h */

enum tls_secret_kind { TLS_SECRET_CERT, TLS_SECRET_VALIDATION, TLS_SECRET_TICKETS };

struct tls_secret {
    struct refcount refs;
    enum tls_secret_kind kind;
    struct tls_cert *cert;                  /* TLS_SECRET_CERT */
    struct tls_validation_part *validation; /* TLS_SECRET_VALIDATION */
    struct tls_tickets *tickets;            /* TLS_SECRET_TICKETS */
    /* A secret from a source that names files is read again when something is moved into one of
     * these directories; then bytes is the serialized secret. Owned; none for what is in place. */
    struct arena arena;
    struct str bytes;
    struct str *directories;
    size_t num_directories;
};

extern const struct resource_ops tls_secret_ops;

/* tls_secret_kind_name is "tls_certificate", "validation_context" or "session_ticket_keys". */
const char *tls_secret_kind_name(enum tls_secret_kind kind);

/* tls_secret_of_cert, tls_secret_of_validation and tls_secret_of_tickets wrap what the
 * configuration holds in place. Take the reference given. */
struct tls_secret *tls_secret_of_cert(struct tls_cert *cert);
struct tls_secret *tls_secret_of_validation(struct tls_validation_part *part);
struct tls_secret *tls_secret_of_tickets(struct tls_tickets *tickets);

/* tls_secret_ref and tls_secret_unref count; NULL is fine. */
struct tls_secret *tls_secret_ref(struct tls_secret *s);
void tls_secret_unref(struct tls_secret *s);

/* tls_secret_compile compiles a serialized Secret; one reference, NULL with errors. opts NULL: as
 * zeroed. */
struct tls_secret *tls_secret_compile(struct str bytes, const struct pb_opts *opts,
                                      struct errors *e);

/* tls_secret_same says whether two secrets of one kind hold the same. */
bool tls_secret_same(const struct tls_secret *a, const struct tls_secret *b);

/* tls_cert_compile reads a TlsCertificate, files now; NULL with errors below the current path. */
struct tls_cert *tls_cert_compile(const TLS_V3(TlsCertificate) * from, struct errors *e);

struct secret_files;

struct tls_secrets {
    struct loop *loop;
    struct xds *xds; /* NULL: no SDS (tests) */
    /* How secrets of a source are read; set by the owner; NULL: as zeroed. */
    const struct pb_opts *pb;
    struct map fixed;           /* name -> struct tls_secret, of the bootstrap */
    struct secret_files *files; /* made when first needed */
};

/* tls_secrets_new registers the Secret type with x (may be NULL). One a process; freed after all
 * factories. tls_secrets_free sets *s to NULL. */
struct tls_secrets *tls_secrets_new(struct loop *main, struct xds *x);
void tls_secrets_free(struct tls_secrets **s);

/* tls_secrets_add_static compiles one serialized Secret of static_resources.secrets; false after an
 * error in e. Before the resources that name it. */
bool tls_secrets_add_static(struct tls_secrets *s, struct str bytes, struct errors *e) WARN_UNUSED;

/* tls_secrets_find returns a static secret (borrowed), or NULL. */
struct tls_secret *tls_secrets_find(const struct tls_secrets *s, struct str name);
