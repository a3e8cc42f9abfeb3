/* Http1ProtocolOptions compiled: of a cluster, and of a connection manager (proxy/network). Plain
 * data. */
#pragma once

#include "base/errors.h"

struct http1_options {
    bool trailers;          /* enable_trailers */
    bool proper_case;       /* header_key_format: names are written with capitals */
    bool preserve_case;     /* names are written as they were received */
    bool proper_case_added; /* with preserve_case: those that were added here get capitals */
    bool forward_reason;    /* with preserve_case: the upstream's reason phrase is kept */
    bool full_url;          /* send_fully_qualified_url */
    bool chunked_length;    /* allow_chunked_length */
};

/* http1_options_compile reads an envoy.config.core.v3.Http1ProtocolOptions message; the path of its
 * field has been pushed. NULL: the defaults. Main. */
void http1_options_compile(struct http1_options *out, const void *msg, struct errors *e);
