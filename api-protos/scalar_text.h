/* The text forms of the proto3 JSON mapping. Parsers return false if the text is not of the form or
 * out of range. Used inside api-protos only. Any thread. */
#pragma once

#include "base/alloc.h"
#include "base/arena.h"

/* scalar_i64 and scalar_u64 read an integer; 1.0 and 1e3 are integers too. */
bool scalar_i64(struct str s, int64_t *out) WARN_UNUSED;
bool scalar_u64(struct str s, uint64_t *out) WARN_UNUSED;

/* scalar_double reads a number; with `words` also NaN, Infinity and -Infinity. */
bool scalar_double(struct str s, bool words, double *out) WARN_UNUSED;

/* scalar_duration reads "-1.5s"; scalar_timestamp reads RFC 3339. */
bool scalar_duration(struct str s, int64_t *seconds, int32_t *nanos) WARN_UNUSED;
bool scalar_timestamp(struct str s, int64_t *seconds, int32_t *nanos) WARN_UNUSED;

/* scalar_base64 decodes either alphabet, padded or not, into the arena. */
bool scalar_base64(struct str s, struct arena *a, struct str *out) WARN_UNUSED;

/* scalar_snake turns a camelCase path into snake_case; scalar_camel the other way. */
struct str scalar_snake(struct str s, struct arena *a);
struct str scalar_camel(struct str s, struct arena *a);

/* scalar_duration_text, scalar_timestamp_text: 0, 3, 6 or 9 digits after the point, as many as are
 * needed. A time that is out of range gives an empty string. */
struct str scalar_duration_text(int64_t seconds, int32_t nanos, struct arena *a);
struct str scalar_timestamp_text(int64_t seconds, int32_t nanos, struct arena *a);

/* scalar_base64_text encodes with the standard alphabet and padding. */
struct str scalar_base64_text(struct str s, struct arena *a);

/* scalar_duration_ok says whether seconds and nanos are in range and of one sign. */
bool scalar_duration_ok(int64_t seconds, int32_t nanos);
