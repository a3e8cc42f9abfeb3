/* Format strings with command operators (%REQ(:PATH)%, %RESPONSE_CODE%, ...): access logs, header
 * values, local replies. Compiled once on main, immutable, evaluated on the workers. Envoy's syntax
 * and results. */
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/errors.h"
#include "proxy/observe/stream_info.h"

struct format;

/* format_compile parses text into a format in arena a; NULL after an error in e (unknown operator,
 * bad argument). With `omit_empty` an absent value gives nothing, else "-". */
struct format *format_compile(struct arena *a, struct str text, bool omit_empty, struct errors *e);

/* format_is_plain says whether it has no operators, and gives the text. */
bool format_is_plain(const struct format *f, struct str *out_text);

/* format_append appends the text to b. Any worker. */
void format_append(const struct format *f, const struct stream_info *si, struct buffer *b);

/* format_str evaluates into an arena. */
struct str format_str(const struct format *f, const struct stream_info *si, struct arena *a);

/* json_format: a JSON object of formats (json_format of SubstitutionFormatString): nested objects
 * and lists, numbers kept as numbers when a value is exactly one numeric operator, as Envoy does.
 * `fields` is a google.protobuf.Struct message. */
struct json_format;
struct json_format *json_format_compile(struct arena *a, const void *struct_msg, bool omit_empty,
                                        bool sort_properties, struct errors *e);
void json_format_append(const struct json_format *f, const struct stream_info *si,
                        struct buffer *b);

/* response_flags_text writes the short names, comma separated, or "-". */
struct str response_flags_text(uint64_t flags, struct arena *a);

/* response_flag_find finds a flag by its short name; false if there is none. */
bool response_flag_find(struct str short_name, uint64_t *out);
