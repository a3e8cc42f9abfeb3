/* Transport: what turns a socket's bytes into payload and back: raw_buffer or tls. One object a
 * connection, used by tls/conn.c only, on the connection's loop. */
#pragma once

#include "base/addr.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/refcount.h"
#include "base/str.h"
#include <stdbool.h>

enum io_status {
    IO_OK,    /* done what was asked; for reads: `max` was reached and more may be waiting */
    IO_AGAIN, /* the socket has nothing more (read) or takes nothing more (write) now */
    IO_EOF,   /* the peer ended its direction cleanly (FIN; for TLS: close_notify) */
    IO_ERROR, /* reset, TLS alert, truncation (FIN without close_notify) */
};

struct transport;

/* What is known of the peer after the handshake. Views live as long as the transport. NULL for
 * raw_buffer. */
struct tls_peer {
    bool verified;              /* a certificate was presented and verified */
    const struct str *uri_sans; /* of the peer's leaf certificate */
    size_t num_uri_sans;
    const struct str *dns_sans;
    size_t num_dns_sans;
    struct str subject; /* RFC 2253 text */
    struct str issuer;
    struct str serial;             /* lower-case hex */
    struct str fingerprint_sha256; /* lower-case hex */
    struct str cert_pem_urlencoded;
    const void *chain; /* of certificates, for tls_peer_chain_pem; NULL: none, or not kept */
    const struct str *local_uri_sans;
    size_t num_local_uri_sans;
    struct str local_subject;
    struct str version; /* "TLSv1.3" */
    struct str cipher;  /* Envoy's %DOWNSTREAM_TLS_CIPHER% text */
    struct str alpn;    /* negotiated, or empty */
    struct str sni;     /* requested server name, or empty */
};

/* tls_peer_chain_pem is the peer's whole chain, leaf first, percent-encoded like the leaf in
 * cert_pem_urlencoded; made anew by each call, in arena a. Empty: there is none. As long as the
 * connection. */
struct str tls_peer_chain_pem(const struct tls_peer *p, struct arena *a);

struct transport_ops {
    const char *name;
    /* handshake goes on with the handshake: IO_OK when it is finished (raw: at once). */
    enum io_status (*handshake)(struct transport *t);
    /* read appends up to about `max` payload bytes to `in`, coming back with IO_OK only if max was
     * reached. Bytes may have been appended whatever the status. */
    enum io_status (*read)(struct transport *t, struct buffer *in, size_t max);
    /* write takes bytes from the front of `out`: IO_OK when all are on their way. A vectored write,
     * never a SIGPIPE. */
    enum io_status (*write)(struct transport *t, struct buffer *out);
    /* shut ends our direction (close_notify for TLS, then FIN): IO_OK or IO_AGAIN or IO_ERROR. */
    enum io_status (*shut)(struct transport *t);
    /* peer says who is there; NULL for raw. */
    const struct tls_peer *(*peer)(struct transport *t);
    /* failure is the reason of the last IO_ERROR in Envoy's words ("TLS_error:|268435581:..."), or
     * empty. */
    struct str (*failure)(struct transport *t);
    void (*free)(struct transport *t);
};

struct transport {
    const struct transport_ops *ops;
    int fd;
    bool
        pending; /* after handshake: payload was received already; read although no event says so */
    uint64_t bytes_in, bytes_out; /* on the wire */
};

/* Where transports for new connections come from: one per filter chain or per cluster (endpoint
 * match). Immutable to its users and shared by threads; reference counted. */
struct transport_factory {
    const struct transport_factory_ops *ops;
    struct refcount refs;
};

/* A TLV of a PROXY header. */
struct proxy_tlv {
    struct proxy_tlv *next;
    uint8_t type;
    struct str value;
};

/* What a PROXY header towards an upstream says of the downstream connection. */
struct proxy_origin {
    const struct addr *src, *dst;
    const struct proxy_tlv *tlvs; /* candidates; the configuration chooses */
};

struct transport_options { /* per connection, all may be empty; borrowed for the call */
    struct str sni_override;
    const struct str *alpn_override;
    size_t num_alpn_override;
    const struct str *alpn_fallback; /* where the context names none */
    size_t num_alpn_fallback;
    const struct proxy_origin *origin; /* NULL: the proxy itself */
};

struct transport_factory_ops {
    /* open makes the transport for fd, or NULL when secrets are not there yet (the caller closes).
     */
    struct transport *(*open)(struct transport_factory *f, int fd,
                              const struct transport_options *opts);
    /* ready says whether secrets are there. Any thread. */
    bool (*ready)(struct transport_factory *f);
    void (*free)(struct transport_factory *f); /* main thread */
};

/* transport_factory_ref and transport_factory_unref count; the last one frees (main thread). NULL
 * is fine. */
static inline struct transport_factory *transport_factory_ref(struct transport_factory *f)
{
    if (f)
        refcount_inc(&f->refs);
    return f;
}
static inline void transport_factory_unref(struct transport_factory *f)
{
    if (f && refcount_dec(&f->refs))
        f->ops->free(f);
}

/* transport_raw_open makes a raw_buffer transport on fd. */
struct transport *transport_raw_open(int fd);
