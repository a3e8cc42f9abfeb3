/* A bounds-checked cursor over protobuf's wire format: cuts a serialised message into its fields
 * without unpacking it. For the walker, and for cutting a response or a bootstrap into the spans of
 * its resources. Any thread. */
#pragma once

#include "base/alloc.h"
#include "base/str.h"

enum wire_type {
    WIRE_VARINT = 0,
    WIRE_I64 = 1,
    WIRE_LEN = 2,
    WIRE_GROUP_START = 3,
    WIRE_GROUP_END = 4,
    WIRE_I32 = 5,
};

struct wire {
    const uint8_t *p, *end;
};

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;   /* VARINT, I64, I32 */
    struct str bytes; /* LEN: the payload, in the input */
    struct str whole; /* tag and all */
};

enum wire_result { WIRE_FIELD, WIRE_END, WIRE_BAD };

/* wire_init sets the cursor to the start of a serialised message. */
static inline void wire_init(struct wire *w, struct str bytes)
{
    w->p = (const uint8_t *)bytes.p;
    w->end = bytes.len ? w->p + bytes.len : w->p; /* NULL + 0 is undefined */
}

/* wire_next reads the next field. WIRE_BAD: truncated, a varint over 10 bytes, a field number of 0
 * or over 2^29-1, a length beyond the end, wire type 6 or 7; *why then says what. Groups come out
 * as their start and end tags. */
enum wire_result wire_next(struct wire *w, struct wire_field *f, const char **why) WARN_UNUSED;

/* wire_varint reads one varint (packed fields); false at the end or if malformed. */
bool wire_varint(struct wire *w, uint64_t *out) WARN_UNUSED;
