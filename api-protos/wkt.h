/* Reading well-known types: durations, wrappers, percents, Struct lookups. All take NULL for
 * "unset". Any thread; results are views into the message. */
#pragma once

#include "base/alloc.h"
#include "base/errors.h"
#include "base/str.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

/* wkt_duration_us and wkt_duration_ms read a Duration in microseconds or milliseconds (what is
 * smaller is rounded up to 1, so that a tiny duration is not "none"). Unset gives `def`. A negative
 * or malformed one (nanos out of range, signs that differ, over 315,576,000,000 s) is an error at
 * `field` and gives `def`; what does not fit is clamped to INT64_MAX. */
uint64_t wkt_duration_us(const Google__Protobuf__Duration *d, uint64_t def, struct errors *e,
                         const char *field);
uint64_t wkt_duration_ms(const Google__Protobuf__Duration *d, uint64_t def, struct errors *e,
                         const char *field);

/* wkt_duration_valid says whether seconds and nanos are in range and of one sign. */
bool wkt_duration_valid(const Google__Protobuf__Duration *d);

/* wkt_u32 and the rest read a wrapper, `def` when it is unset. */
static inline uint32_t wkt_u32(const Google__Protobuf__UInt32Value *v, uint32_t def)
{
    return v ? v->value : def;
}
static inline uint64_t wkt_u64(const Google__Protobuf__UInt64Value *v, uint64_t def)
{
    return v ? v->value : def;
}
static inline int32_t wkt_i32(const Google__Protobuf__Int32Value *v, int32_t def)
{
    return v ? v->value : def;
}
static inline bool wkt_bool(const Google__Protobuf__BoolValue *v, bool def)
{
    return v ? v->value : def;
}
static inline double wkt_double(const Google__Protobuf__DoubleValue *v, double def)
{
    return v ? v->value : def;
}
static inline struct str wkt_str(const Google__Protobuf__StringValue *v)
{
    return v ? str_of(v->value) : STR_NULL;
}

/* wkt_percent_ppm reads a Percent (0 to 100) as parts per million; unset gives `def`. */
uint32_t wkt_percent_ppm(const Envoy__Type__V3__Percent *p, uint32_t def);

/* wkt_fraction_ppm reads a FractionalPercent as parts per million, at most 1,000,000. */
uint32_t wkt_fraction_ppm(const Envoy__Type__V3__FractionalPercent *p, uint32_t def);

/* wkt_struct_get returns the value of a key, NULL if it has none. */
const Google__Protobuf__Value *wkt_struct_get(const Google__Protobuf__Struct *s, struct str key);

/* wkt_struct_path follows keys separated by `sep` ("istio.services") through nested Structs. */
const Google__Protobuf__Value *wkt_struct_path(const Google__Protobuf__Struct *s, struct str path,
                                               char sep);

/* wkt_value_str and wkt_value_struct view a Value as a string or Struct; empty or NULL otherwise.
 */
struct str wkt_value_str(const Google__Protobuf__Value *v);
const Google__Protobuf__Struct *wkt_value_struct(const Google__Protobuf__Value *v);

/* wkt_value_eq compares two Values deeply (NULL equals NULL only). */
bool wkt_value_eq(const Google__Protobuf__Value *a, const Google__Protobuf__Value *b);

/* wkt_timestamp_text formats microseconds since the epoch as RFC 3339 with milliseconds and Z. */
struct str wkt_timestamp_text(uint64_t wall_us, struct arena *a);
