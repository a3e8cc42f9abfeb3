/* How a peer is judged: CertificateValidationContext, compiled. A part is what one message says (in
 * place, or a secret from SDS); a validation is one part, or the default of a combined context with
 * a secret laid over it. Both immutable and counted. Made and freed on the main thread, used by
 * any. */
#pragma once

#include "base/errors.h"
#include "tls/san_match.h"
#include "tls/tls_trust.h"

struct tls_digest {
    uint8_t bytes[SHA256_DIGEST_LENGTH];
};

struct tls_validation_part {
    struct refcount refs;
    struct arena arena;
    struct str ca, ca_path; /* PEM; empty: none */
    struct str crl;
    struct san_matcher *sans;
    size_t num_sans;
    struct tls_digest *hashes, *spkis; /* of the leaf certificate, of its public key */
    size_t num_hashes, num_spkis;
    bool allow_expired, accept_untrusted, leaf_crl_only;
    bool has_depth;
    uint32_t max_depth;
    struct str *files; /* what it was read from, for watching */
    size_t num_files;
    struct dedup_key key;    /* of all that decides */
    struct tls_trust *trust; /* of its own ca and crl; keeps the parsed form alive */
};

/* tls_validation_part_new compiles the message, files being read now. One reference, the caller's;
 * NULL with errors below the current path. */
struct tls_validation_part *
tls_validation_part_new(const TLS_V3(CertificateValidationContext) * from, struct errors *e);
struct tls_validation_part *tls_validation_part_ref(struct tls_validation_part *p);
void tls_validation_part_unref(struct tls_validation_part *p);

struct tls_validation {
    struct refcount refs;
    struct tls_validation_part *parts[2];
    size_t num_parts;
    struct tls_trust *trust; /* NULL: chains are not checked */
    bool allow_expired, accept_untrusted, leaf_crl_only;
    uint32_t max_depth;
    struct dedup_key key;
};

/* tls_validation_new joins `base` (NULL: none) and `over`, whose set fields replace or, if
 * repeated, follow those of base. One reference; NULL with errors at the current path: names to
 * match without an anchor are worth nothing, so they are refused. */
struct tls_validation *tls_validation_new(struct tls_validation_part *base,
                                          struct tls_validation_part *over, struct errors *e);
struct tls_validation *tls_validation_ref(struct tls_validation *v);
void tls_validation_unref(struct tls_validation *v);
