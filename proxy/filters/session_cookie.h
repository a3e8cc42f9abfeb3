/* Session cookie: what the value of a stateful_session cookie says. It is base64 of the protobuf
 * message {string address = 1; uint64 expires = 2}, as Envoy writes it, so that both can serve the
 * same sessions; or base64 of the address alone, its older form. Any thread. */
#pragma once

#include "base/arena.h"

/* session_cookie_read returns the address of a cookie's value; empty: it says none, or is older
 * than its `expires` (seconds since the epoch; `now` is the present). */
struct str session_cookie_read(struct arena *a, struct str value, uint64_t now);

/* session_cookie_write makes a value; `expires` 0: never. */
struct str session_cookie_write(struct arena *a, struct str address, uint64_t expires);
