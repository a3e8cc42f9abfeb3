/* Names in a certificate: subject alternative names as views, and matching of host names. Any
 * thread. */
#pragma once

#include "base/arena.h"
#include "base/str.h"
#include <openssl/base.h>
#include <stdbool.h>

enum san_type {
    SAN_DNS,
    SAN_URI,
    SAN_EMAIL,
    SAN_IP, /* as text: "127.0.0.1", "::1" */
};

struct san {
    enum san_type type;
    struct str text;
};

/* san_list reads the subject alternative names of a certificate into the arena, in their order.
 * Other kinds of names are left out, and so are names with a byte that is not printable ASCII: with
 * a NUL or a line end inside it is no name (RFC 5280, section 4.2.1.6) and must neither match nor
 * reach a log. */
size_t san_list(const X509 *cert, struct arena *a, struct san **out);

/* san_dns_match says whether the DNS name of a certificate, which may begin with a wildcard label
 * "*.", stands for `host` (RFC 6125: whole label, left-most, at least two labels after it, case
 * ignored). */
bool san_dns_match(struct str pattern, struct str host);
