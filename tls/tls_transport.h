/* The TLS transport: struct transport on BoringSSL. One object a connection, on its loop; it pins
 * the version of the configuration that it was opened with. */
#pragma once

#include "tls/bio.h"
#include "tls/tls_config.h"
#include "tls/tls_verify.h"
#include "tls/transport.h"

struct tls_peer_info;

struct tls_transport {
    struct transport base;
    uint32_t magic;
    SSL *ssl;
    struct tls_bio bio;
    struct tls_config *config;    /* pinned */
    const struct tls_cert *local; /* the certificate we showed, NULL if none; of config */
    struct tls_peer_info *peer;   /* made when first asked for */
    char *failure;                /* text of the failure, NULL while there is none */
    char *detail;                 /* what the verification said */
    char *expected_name;          /* the leaf must be for it, besides the rest */
    enum tls_verdict verdict;
    bool server, established, failed, shut_sent, no_session;
    bool owed; /* the last byte of `out` is encrypted but waits for the socket: see on_write */
};

/* tls_transport_open makes a transport for fd, which stays the caller's, taking a reference of
 * config. opts may be NULL. */
struct transport *tls_transport_open(struct tls_config *config, int fd,
                                     const struct transport_options *opts);
