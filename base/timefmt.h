/* Timestamps as text, in UTC. Each thread remembers the last second it wrote, so that one more in
 * the same second costs a copy. Any thread. */
#pragma once

#include "base/str.h"

enum {
    TIMEFMT_ISO_LEN = 24,  /* 2026-11-23T02:17:00.178Z */
    TIMEFMT_HTTP_LEN = 29, /* Mon, 23 Nov 2026 02:17:00 GMT */
};

/* timefmt_iso writes wall_us (microseconds since the epoch) in ISO 8601 with milliseconds:
 * TIMEFMT_ISO_LEN bytes, no NUL. Years 1970 to 9999; later ones are shown as the last moment of
 * 9999. */
void timefmt_iso(uint64_t wall_us, char *out);

/* timefmt_http writes the IMF-fixdate of RFC 9110 section 5.6.7: TIMEFMT_HTTP_LEN bytes, no NUL. */
void timefmt_http(uint64_t wall_us, char *out);
