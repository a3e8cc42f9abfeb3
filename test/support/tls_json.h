/* TLS contexts and secrets written as JSON, for tests. */
#pragma once

#include "base/errors.h"
#include "test/support/test_certs.h"
#include "tls/tls_factory.h"

/* tls_json_factory compiles a DownstreamTlsContext or UpstreamTlsContext given as JSON in which %s
 * are quoted PEM texts (json_quote). NULL with errors in e. */
struct transport_factory *tls_json_factory(struct tls_secrets *secrets, bool server,
                                           const char *json, struct errors *e);

/* tls_json_secret serialises a Secret given as JSON into the arena. Aborts on errors. */
struct str tls_json_secret(const char *json, struct arena *a);

/* json_quote returns text as a JSON string, quotes included, in the arena. */
const char *json_quote(const char *text, struct arena *a);
