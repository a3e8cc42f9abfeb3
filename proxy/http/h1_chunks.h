/* Taking a chunked body apart (RFC 9112 7.1), byte by byte where it is framing and block by block
 * where it is payload. Belongs to the user of the buffers. */
#pragma once

#include "base/buffer.h"
#include "proxy/http/h1_message.h"

/* Zeroed before the first byte of a body. */
struct h1_chunks {
    uint64_t left;   /* of the size being read, or of the chunk */
    uint16_t digits; /* of the size */
    uint16_t ext;    /* bytes of the extension */
    uint8_t state;
};

/* h1_chunks_read moves up to `max` payload bytes from `in` to `out`. H1_DONE: the last chunk's line
 * is read, the trailer section follows in `in`. H1_MORE: all of `in` is read, or max is reached.
 * H1_BAD: what was good before the error is in `out`. */
enum h1_status h1_chunks_read(struct h1_chunks *c, struct buffer *in, struct buffer *out,
                              size_t max) WARN_UNUSED;
