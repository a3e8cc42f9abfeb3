/* Base64 (RFC 4648 section 4) with padding. Any thread. */
#pragma once

#include "base/arena.h"

/* base64_encode encodes into the arena; base64_write writes n bytes as 4 * ceil(n / 3) characters
 * and returns how many. */
struct str base64_encode(struct arena *a, struct str s);
size_t base64_write(const char *in, size_t n, char *out);

/* base64_decode decodes all of s into the arena; false if it is not what base64_encode writes:
 * another length, other characters, bits that no byte owns. */
bool base64_decode(struct arena *a, struct str s, struct str *out) WARN_UNUSED;

/* base64_group decodes four characters; returns how many bytes they are, -1 if they are no group:
 * characters that are not of the alphabet, padding elsewhere than at the end, bits left over. */
int base64_group(const char in[4], char out[3]);
