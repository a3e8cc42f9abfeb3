/* DownstreamTlsContext and UpstreamTlsContext, compiled: all that they say themselves, and which
 * secrets they need from elsewhere. Immutable, main thread. tls_settings_build joins them with the
 * secrets into a version that connections can use. */
#pragma once

#include "tls/tls_config.h"
#include "tls/tls_secret.h"
#include "tls/tls_verify.h"

/* A secret that is needed: given in place or static (`fixed`), or to be had from a source. */
struct tls_secret_need {
    enum tls_secret_kind kind;
    struct tls_secret *fixed; /* a reference; NULL: subscribe */
    struct str name;
    struct xds_source *source; /* in the arena; NULL: fixed */
};

struct tls_settings {
    struct arena arena;
    struct tls_params params;      /* without certs, trust and tickets */
    struct tls_secret_need *needs; /* certificates first, in their order */
    size_t num_needs;
    size_t num_remote;                /* of them from a source */
    struct tls_validation_part *base; /* below the validation secret; NULL: none */
    const char *sni;
    bool sni_must_match;
    unsigned max_sessions;
};

/* tls_settings_of_downstream and tls_settings_of_upstream compile a message; `from` may be NULL (an
 * error). `parent`: the source of the resource that holds it, may be NULL. NULL with errors below
 * the current path; what can be tried without the secrets has been tried then. */
struct tls_settings *tls_settings_of_downstream(const TLS_V3(DownstreamTlsContext) * from,
                                                const struct tls_secrets *secrets,
                                                const struct xds_source *parent, struct errors *e);
struct tls_settings *tls_settings_of_upstream(const TLS_V3(UpstreamTlsContext) * from,
                                              const struct tls_secrets *secrets,
                                              const struct xds_source *parent, struct errors *e);

/* tls_settings_free frees it; *s becomes NULL. */
void tls_settings_free(struct tls_settings **s);

/* tls_settings_build makes a version: secrets[i] is that of needs[i] and of its kind. One
 * reference; NULL with errors. */
struct tls_config *tls_settings_build(const struct tls_settings *s,
                                      struct tls_secret *const *secrets, struct stats_scope *stats,
                                      struct errors *e);
