/* What failed, in the words that Envoy's %UPSTREAM_TRANSPORT_FAILURE_REASON% and
 * %DOWNSTREAM_TRANSPORT_FAILURE_REASON% print, spaces as underscores. */
#pragma once

#include "base/str.h"
#include <stdbool.h>
#include <stddef.h>

struct tls_failure {
    bool verify;   /* the peer's certificate was refused */
    bool no_cert;  /* a certificate was required and none came */
    bool protocol; /* anything else that TLS itself found wrong */
};

/* tls_failure_text empties the thread's queue of BoringSSL's errors into
 * "TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end" and
 * classifies them. `sys_err`: errno of the socket or 0; `detail` follows the reason of a refused
 * certificate. The text is owned by the caller (mem_free); NULL when nothing is known. */
char *tls_failure_text(int sys_err, struct str detail, struct tls_failure *out);
