/* Character classes of HTTP/1 and what the files of its parser share. Constant; any thread. */
#pragma once

#include "base/str.h"

/* Bytes after a head that may be loaded together with its last ones. */
enum { H1_PADDING = 8 };

#define H1_DETAIL_CODEC STR("http1.codec_error")

/* h1_token_lower: the lower-case form of a token character (RFC 9110 5.6.2), 0 for any other byte.
 */
extern const uint8_t h1_token_lower[256];

/* h1_value_char says whether a byte may be in a field value: no control but the tab. */
static inline bool h1_value_char(uint8_t c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}
