/* Finding the end of a message's head, or of a trailer section, in a connection's input, without
 * looking at a byte twice and without making it contiguous before it is whole. One for each
 * direction of a connection, on its loop. */
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "proxy/http/h1_message.h"

/* Zeroed before first use. */
struct h1_scan {
    size_t len;     /* bytes looked at; when done: of the head, its empty line included */
    size_t line;    /* of them in the line that has not ended */
    uint32_t lines; /* ended; the last, empty one not counted */
    bool cr;        /* the last byte was CR */
    struct buffer
        held; /* what there is of an unfinished head: input buffers are smaller than the limit */
};

/* h1_scan_head looks at the bytes that came. H1_MORE: it has taken them all. H1_BAD: too large, too
 * many fields, or a line feed without CR; *err says which. `trailers`: the section may be empty and
 * has no start line. */
enum h1_status h1_scan_head(struct h1_scan *s, struct buffer *in, const struct h1_rules *rules,
                            bool trailers, struct h1_error *err) WARN_UNUSED;

/* h1_scan_take copies the head that was found into arena a, as the parser wants it, puts back into
 * `in` what follows it, and is ready for the next one. */
char *h1_scan_take(struct h1_scan *s, struct buffer *in, struct arena *a);

/* h1_scan_begun says whether there is an unfinished head. */
static inline bool h1_scan_begun(const struct h1_scan *s)
{
    return s->len != 0;
}

enum h1_kind { H1_REQUEST, H1_RESPONSE };

/* h1_scan_may_be says whether the unfinished head can become that of a message: it begins with a
 * method, or with a version. */
bool h1_scan_may_be(const struct h1_scan *s, enum h1_kind kind);

/* h1_scan_skip_empty_lines drops what RFC 9112 2.2 lets come before a request, up to *budget bytes
 * of CRLF. False if that is used up, or for a CR without LF. A lone CR at the end of what is there
 * stays. */
bool h1_scan_skip_empty_lines(struct buffer *in, uint32_t *budget) WARN_UNUSED;

/* h1_scan_cleanup frees what is held. */
void h1_scan_cleanup(struct h1_scan *s);
