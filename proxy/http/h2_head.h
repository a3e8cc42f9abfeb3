/* An HTTP/2 header block as a message's head (RFC 9113 8.2 and 8.3), field by field while it is
 * decoded. As strict as the HTTP/1 parser: what one reader takes for something else than another
 * does is refused. Knows no connection. One user at a time. */
#pragma once

#include "proxy/http/headers.h"

enum h2_head_kind { H2_HEAD_REQUEST, H2_HEAD_RESPONSE, H2_HEAD_TRAILERS };

enum h2_head_verdict {
    H2_HEAD_OK,
    H2_HEAD_MALFORMED, /* RFC 9113 8.1.1: the stream or the connection ends */
    H2_HEAD_TOO_LARGE, /* a limit of ours */
    H2_HEAD_REFUSED    /* well-formed, and to be answered with 400 */
};

struct h2_head_rules {
    uint32_t max_bytes; /* names and values as decoded, whatever becomes of them */
    uint32_t max_count; /* fields; pieces of Cookie have a limit of their own */
    bool allow_connect; /* RFC 8441 was offered */
};

struct h2_crumb;

struct h2_head {
    struct headers *h;
    enum h2_head_kind kind;
    enum h2_head_verdict verdict;
    struct str detail; /* of the verdict, Envoy's; static */
    uint32_t count, num_crumbs;
    struct h2_crumb *crumbs, *last_crumb;
    struct str host, protocol;
    uint64_t length; /* Content-Length */
    bool has_length;
    bool regular;  /* a field that is no pseudo-header was there */
    bool extended; /* RFC 8441: given on as GET with an Upgrade field */
    bool expect_continue;
};

/* h2_head_begin starts a block; h, initialised by the caller, and its arena take the fields. */
void h2_head_begin(struct h2_head *d, enum h2_head_kind kind, struct headers *h);

/* h2_head_field takes one field; name and value are copied. After the first that is wrong the rest
 * only counts. False: it has grown far beyond the limit, and decoding should end. */
bool h2_head_field(struct h2_head *d, const struct h2_head_rules *rules, struct str name,
                   struct str value);

/* h2_head_end judges the whole; `end`: END_STREAM was set. The headers are good if the verdict is
 * H2_HEAD_OK. */
enum h2_head_verdict h2_head_end(struct h2_head *d, const struct h2_head_rules *rules, bool end);
