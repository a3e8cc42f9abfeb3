/* Envoy's statistics of TLS, below the prefix of a listener or a cluster: "ssl.handshake" and so
 * on. */
#pragma once

#include "base/stats.h"

#define TLS_STATS(X)                                                                               \
    X(TLS_CONNECTION_ERROR, "ssl.connection_error", COUNTER)                                       \
    X(TLS_HANDSHAKE, "ssl.handshake", COUNTER)                                                     \
    X(TLS_SESSION_REUSED, "ssl.session_reused", COUNTER)                                           \
    X(TLS_NO_CERTIFICATE, "ssl.no_certificate", COUNTER)                                           \
    X(TLS_FAIL_VERIFY_NO_CERT, "ssl.fail_verify_no_cert", COUNTER)                                 \
    X(TLS_FAIL_VERIFY_ERROR, "ssl.fail_verify_error", COUNTER)                                     \
    X(TLS_FAIL_VERIFY_SAN, "ssl.fail_verify_san", COUNTER)                                         \
    X(TLS_FAIL_VERIFY_CERT_HASH, "ssl.fail_verify_cert_hash", COUNTER)

enum tls_stat {
    TLS_STATS(STATS_ENUM) TLS_CONTEXT_UPDATE_BY_SDS,
    TLS_UPSTREAM_NOT_READY,
    TLS_DOWNSTREAM_NOT_READY,
    TLS_NUM_STATS
};

/* tls_stats_new registers the statistics of a listener (server) or cluster whose prefix is `parts`
 * ({"cluster"}, {name, tag}). Shown from their first use on. Main thread; freed with
 * stats_scope_free. */
struct stats_scope *tls_stats_new(const struct stats_part *parts, size_t num_parts, bool server);

/* tls_stats_inc counts on the calling thread; s may be NULL. */
void tls_stats_inc(struct stats_scope *s, enum tls_stat stat);

/* tls_stats_name counts under family and name ("ssl.ciphers.", "TLS_AES_128_GCM_SHA256"); s and
 * name may be NULL. */
void tls_stats_name(struct stats_scope *s, const char *family, const char *name);
