/* Writing HTTP/1 messages into a connection's output (RFC 9112): heads in one piece, bodies with
 * their framing. The writer decides the framing and leaves out what belongs to a connection; its
 * user only says when a body ends. On the connection's loop. */
#pragma once

#include "base/buffer.h"
#include "proxy/http/headers.h"

enum h1_framing {
    H1_OUT_NONE,   /* no body: what is given is dropped */
    H1_OUT_LENGTH, /* as many bytes as content-length said */
    H1_OUT_CHUNKED,
    H1_OUT_CLOSE, /* until the connection ends */
};

/* A body that is being written. */
struct h1_out {
    enum h1_framing framing;
    uint64_t left; /* with H1_OUT_LENGTH */
};

struct http1_options;

/* What a response's head depends on besides its fields. */
struct h1_reply {
    bool end;      /* no body follows */
    bool to_head;  /* the request was HEAD */
    uint8_t minor; /* of the request */
    bool tunnel;   /* grants an upgrade or CONNECT: no framing, and what follows is no HTTP */
    const struct http1_options *options; /* in which form; NULL: the defaults */
    bool close; /* say that the connection ends; with H1_OUT_CLOSE it is said anyway */
};

/* h1_write_request writes the head of a request; `how` (NULL: the defaults) says in which form,
 * `end` that no body follows. */
struct h1_out h1_write_request(struct buffer *out, const struct headers *h,
                               const struct http1_options *how, bool end);

/* h1_write_response writes the head of a response. */
struct h1_out h1_write_response(struct buffer *out, const struct headers *h,
                                const struct h1_reply *how);

/* h1_write_informational writes a 1xx response. */
void h1_write_informational(struct buffer *out, const struct headers *h);

/* h1_write_data writes all of b (emptied) and, with `end`, what ends the body. False: the body is
 * longer or shorter than content-length said; what fits was written and the connection must not be
 * used again. */
bool h1_write_data(struct h1_out *o, struct buffer *out, struct buffer *b, bool end) WARN_UNUSED;

/* h1_write_trailers ends the body with trailers, which only a chunked one can carry. False as
 * above. */
bool h1_write_trailers(struct h1_out *o, struct buffer *out, const struct headers *h) WARN_UNUSED;

/* h1_write_error writes a whole small response with a text body, `connection: close` in it. */
void h1_write_error(struct buffer *out, unsigned status, bool to_head);

/* h1_reason is the phrase for a status, "Unknown" for those without. */
struct str h1_reason(unsigned status);
