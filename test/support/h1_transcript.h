/* What the HTTP/1 parser makes of a stream of bytes, as text: for tests and fuzz targets that
 * compare readings. */
#pragma once

#include "base/buffer.h"
#include "proxy/http/h1_message.h"
#include "proxy/http/headers.h"

struct h1_reading {
    struct h1_rules rules;
    bool responses; /* else requests */
    bool to_head;   /* the responses are to HEAD */
    size_t step;    /* bytes that arrive at once */
    /* Called for each head that was read, NULL: not. */
    void (*on_head)(const struct headers *h, const struct h1_message *m,
                    const struct h1_reading *r);
};

/* h1_transcript reads messages one after the other until the first error, the first that ends its
 * connection, or the end, and appends what there was to `out`. */
void h1_transcript(struct buffer *out, const void *p, size_t len, const struct h1_reading *r);
