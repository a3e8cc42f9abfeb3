/* envoy.config.core.v3.SubstitutionFormatString compiled: a text or a JSON object made of format
 * operators, as access logs and local replies have it. Compiled on main, immutable. */
#pragma once

#include "proxy/observe/format.h"

struct pb_opts;

struct format_string {
    struct format *text; /* one of the two */
    struct json_format *json;
    struct str content_type; /* as configured; empty: not */
};

/* format_string_compile compiles the message into arena a. `pb` says how unknown fields of its
 * formatters are treated (NULL: as in dynamic resources). False after an error in e. Main. */
bool format_string_compile(struct format_string *f, struct arena *a, const void *msg,
                           const struct pb_opts *pb, struct errors *e);

/* format_string_append evaluates it to the end of b; JSON ends with a line feed. Any worker. */
void format_string_append(const struct format_string *f, const struct stream_info *si,
                          struct buffer *b);
