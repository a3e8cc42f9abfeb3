/* The body of admin's /certs: every certificate and anchor that a context in use holds. Main
 * thread. */
#pragma once

#include "base/json.h"
#include <stdint.h>

/* tls_certs_write writes envoy.admin.v3.Certificates as JSON; `now_s`: seconds since the epoch. One
 * entry for each context, which many clusters and filter chains may share. */
void tls_certs_write(struct json_writer *w, int64_t now_s);
