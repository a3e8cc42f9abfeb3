/* One version of what a filter chain or cluster does TLS with: the shared context, how the peer is
 * judged, which name is asked for. Connections pin the version they were opened with; a rotation
 * makes a new one. Immutable but for the client's kept sessions.
 *
 * Made on the main thread; opened and unpinned by any thread; always freed on the main thread. */
#pragma once

#include "base/mailbox.h"
#include "base/refcount.h"
#include "base/stats.h"
#include "tls/tls_context.h"
#include "tls/tls_validation.h"

enum { TLS_SESSIONS_MAX = 64 };

struct tls_config {
    struct refcount refs;
    struct message free_message;
    struct tls_context *context;
    struct tls_validation *validation;             /* NULL: the peer is not judged */
    struct stats_scope *stats;                     /* NULL: nothing is counted */
    char *sni;                                     /* client; NULL: none */
    bool sni_must_match;                           /* auto_sni_san_validation */
    uint8_t session_context[SHA256_DIGEST_LENGTH]; /* server: sessions of others are not resumed */
    unsigned num_sessions;
    _Atomic(SSL_SESSION *) *sessions; /* client: each taken by one connection at a time */
};

struct tls_config_parts {
    struct tls_context *context; /* all borrowed: the config takes its own references */
    struct tls_validation *validation;
    struct stats_scope *stats; /* must outlive every connection */
    const char *sni;
    bool sni_must_match;
    unsigned max_sessions; /* client; at most TLS_SESSIONS_MAX are kept */
};

/* tls_config_new returns a version with one reference. */
struct tls_config *tls_config_new(const struct tls_config_parts *parts);

/* tls_config_ref and tls_config_unref count, on any thread. The last reference sends it to the main
 * thread to be freed. */
struct tls_config *tls_config_ref(struct tls_config *c);
void tls_config_unref(struct tls_config *c);

/* tls_set_main says where the main thread is: its mailbox, or NULL, when all is done on one thread
 * (tests). Before the first config, and NULL before the mailbox is closed. */
void tls_set_main(struct mailbox *main);

/* tls_config_take_session returns a session to resume, which the caller frees, or NULL. A TLS 1.2
 * session stays for others too (RFC 8446, appendix C.4: TLS 1.3 tickets are used once). */
SSL_SESSION *tls_config_take_session(struct tls_config *c);

/* tls_config_keep_session keeps a session, dropping an older one if there is no room. Takes it. */
void tls_config_keep_session(struct tls_config *c, SSL_SESSION *session);
