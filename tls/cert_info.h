/* What admin's /certs, config checks and logs say of a certificate, read once when it is loaded. */
#pragma once

#include "base/arena.h"
#include "base/str.h"
#include "tls/san.h"

struct cert_info {
    struct str path;    /* file name, or "<inline>" */
    struct str serial;  /* lower-case hex */
    struct str subject; /* RFC 2253 */
    struct san *sans;
    size_t num_sans;
    int64_t not_before, not_after; /* seconds since the epoch */
};

/* cert_info_read fills *out from a certificate; all is in the arena, path is copied. */
void cert_info_read(struct cert_info *out, const X509 *cert, struct str path, struct arena *a);

/* cert_info_days returns the whole days from `now_s` (seconds since the epoch) until the
 * certificate ends, 0 if it has ended. */
uint64_t cert_info_days(const struct cert_info *c, int64_t now_s);

/* cert_serial and cert_name give a serial number as lower-case hex and a name as RFC 2253 text. */
struct str cert_serial(const X509 *cert, struct arena *a);
struct str cert_name(const X509_NAME *name, struct arena *a);
