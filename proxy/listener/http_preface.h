/* Is it HTTP? What the http_inspector learns from the first bytes of a plaintext connection: the
 * preface of HTTP/2 (RFC 9113 section 3.4) or the request line of HTTP/1 (RFC 9112 section 3). As
 * lenient as a request line that the HTTP codec is to judge may be: what looks like HTTP must not
 * slip past the connection manager. Bytes are looked at again from the start at each call; nothing
 * is kept. Any thread. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"

enum http_preface {
    HTTP_PREFACE_MORE, /* so far it may be HTTP */
    HTTP_PREFACE_NONE, /* it cannot be: known at the first byte that does not fit */
    HTTP_PREFACE_10,   /* any version that is neither 1.1 nor the preface of HTTP/2 */
    HTTP_PREFACE_11,
    HTTP_PREFACE_2,
};

/* http_preface_look says what the bytes received so far begin. */
enum http_preface http_preface_look(struct str bytes) WARN_UNUSED;
