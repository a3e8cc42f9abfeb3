/* What the parts of the HTTP/1 parser share: verdicts, rules, character classes. Plain data; any
 * thread. */
#pragma once

#include "base/str.h"

enum h1_status { H1_MORE, H1_DONE, H1_BAD };

/* Why a message was refused. */
struct h1_error {
    uint16_t status;   /* to answer a request with */
    struct str detail; /* Envoy's response code detail; static */
};

struct h1_rules {
    uint32_t max_bytes;        /* names and values of one head, its target too */
    uint32_t max_count;        /* fields */
    bool accept_http_10;       /* requests; otherwise 426 */
    struct str default_host;   /* of HTTP/1.0 requests without any; empty: 400 */
    bool allow_chunked_length; /* a Content-Length beside chunked is dropped, else refused */
    bool keep_case;            /* names are kept as they were received, too */
    bool keep_reason;
    bool (*may_upgrade)(const void *arg, struct str protocol); /* NULL: any */
    const void *arg;
};

enum h1_body {
    H1_BODY_NONE,
    H1_BODY_LENGTH,
    H1_BODY_CHUNKED,
    H1_BODY_CLOSE,  /* responses: until the peer ends the connection */
    H1_BODY_TUNNEL, /* requests that ask for one: what follows is no HTTP once it is granted */
};

struct h1_message {
    enum h1_body body;
    uint64_t length;      /* with H1_BODY_LENGTH, not 0 */
    bool keep_alive;      /* the peer lets the connection persist */
    bool expect_continue; /* requests: Expect: 100-continue */
    bool connect;         /* requests: CONNECT */
};

/* Bytes after a head that may be loaded together with its last ones. */
enum { H1_PADDING = 8 };

#define H1_CODEC_ERROR STR("http1.codec_error")
#define H1_INVALID_CHARACTERS STR("http1.invalid_characters")
#define H1_HEADERS_TOO_LARGE STR("http1.headers_too_large")
#define H1_TOO_MANY_HEADERS STR("http1.too_many_headers")

/* h1_token_lower: the lower-case form of a token character (RFC 9110 5.6.2), 0 for any other byte.
 */
extern const uint8_t h1_token_lower[256];

/* h1_value_char says whether a byte may be in a field value: no control but the tab. */
static inline bool h1_value_char(uint8_t c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* h1_refuse fills *err; always false. */
static inline bool h1_refuse(struct h1_error *err, uint16_t status, struct str detail)
{
    *err = (struct h1_error){status, detail};
    return false;
}
