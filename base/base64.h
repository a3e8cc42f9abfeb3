/* Base64 (RFC 4648 section 4) with padding. Any thread. */
#pragma once

#include "base/arena.h"

/* base64_encode encodes into the arena. */
struct str base64_encode(struct arena *a, struct str s);

/* base64_decode decodes all of s into the arena; false if it is not what base64_encode writes:
 * another length, other characters, bits that no byte owns. */
bool base64_decode(struct arena *a, struct str s, struct str *out) WARN_UNUSED;
