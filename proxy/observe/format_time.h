/* Times in format strings: strftime with fractions of a second (%f, %3f, %6f, %9f, %E3S ...),
 * compiled once. UTC or local time. */
#pragma once

#include "base/arena.h"
#include "proxy/observe/format_out.h"

struct format_time_part {
    char conversion; /* 0: the text; 's', 'f', ... */
    uint8_t digits;  /* of %f */
    struct str text; /* literal, or the conversion for strftime, NUL-terminated */
};

struct format_time {
    struct format_time_part *parts; /* NULL: ISO 8601 with milliseconds */
    size_t num_parts;
    bool local;
};

/* format_time_compile parses the parameter (empty: ISO 8601) into t. */
void format_time_compile(struct format_time *t, struct arena *a, struct str param, bool local);

/* format_time_put writes wall_us, microseconds since the epoch. */
void format_time_put(const struct format_time *t, uint64_t wall_us, struct format_out *o);
