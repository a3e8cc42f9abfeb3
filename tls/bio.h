/* The BIO below an SSL: ciphertext in and out of a socket through buffers of our own. One recv(2)
 * of up to 64 KiB feeds many records, and what SSL writes is gathered and leaves in one send(2)
 * without SIGPIPE. The large buffers belong to the thread and are shared by all its connections:
 * a connection holds memory only for what could not be taken or sent within one call.
 *
 * Owner: one struct tls_bio inside each tls transport, on the connection's loop. Every call of the
 * transport is enclosed by tls_bio_begin and tls_bio_end. */
#pragma once

#include "base/alloc.h"
#include "tls/transport.h"
#include <openssl/base.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    TLS_BIO_IN = 65536,             /* one recv */
    TLS_BIO_OUT = 4 * 16384 + 1024, /* four full records and what encryption adds */
    TLS_BIO_ROOM = 16384 + 256,     /* a record and what encryption adds (RFC 8446, section 5.2) */
};

struct tls_bio {
    int fd;
    int err;           /* errno of the socket's latest failure, 0 none */
    int recv_err;      /* of receiving */
    bool eof;          /* the peer's FIN was read */
    bool drained;      /* in this call recv had nothing more: do not ask again */
    const uint8_t *in; /* received, not yet taken by SSL: in the thread's buffer or in `kept` */
    size_t in_len;
    uint8_t *kept; /* heap copy of what SSL left between two calls */
    uint8_t *out;  /* heap copy of what the socket did not take */
    size_t out_off, out_len, out_cap;
    size_t scratch_len; /* bytes in the thread's output buffer, within a call */
    uint64_t bytes_in, bytes_out;
};

/* tls_bio_init prepares b for fd, which stays the caller's, and installs it in ssl, which must not
 * outlive b. */
void tls_bio_init(struct tls_bio *b, int fd, SSL *ssl);

/* tls_bio_cleanup frees what is held back. */
void tls_bio_cleanup(struct tls_bio *b);

/* tls_bio_begin opens a call on this connection: the socket may be asked again. */
void tls_bio_begin(struct tls_bio *b);

/* tls_bio_flush sends what has gathered: IO_OK when all is gone, IO_AGAIN when the socket takes no
 * more (the rest is kept), IO_ERROR with b->err. */
enum io_status tls_bio_flush(struct tls_bio *b);

/* tls_bio_end closes the call: what was received and not taken is copied aside, then as
 * tls_bio_flush. */
enum io_status tls_bio_end(struct tls_bio *b);

/* tls_bio_out_room is how much more output fits before it should be flushed. */
size_t tls_bio_out_room(const struct tls_bio *b);
