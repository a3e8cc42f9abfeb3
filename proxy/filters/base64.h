/* Base64 (RFC 4648 section 4) of bodies. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* base64_encode writes n bytes as 4 * ceil(n / 3) characters; returns how many. */
size_t base64_encode(const char *in, size_t n, char *out);

/* base64_group decodes four characters; returns how many bytes they are, -1 if they are no group:
 * characters that are not of the alphabet, padding elsewhere than at the end, bits left over. */
int base64_group(const char in[4], char out[3]);
