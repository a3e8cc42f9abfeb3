/* Writing the wire format by official field. Used by json_in.c only. */
#pragma once

#include "api-protos/official.h"
#include "base/alloc.h"

struct encoder {
    char *p; /* on the heap, the owner's to free */
    size_t len, cap;
    bool omit_zero; /* scalars that are zero are not written (no presence) */
    bool packed;    /* values of a packed field: no tags */
};

/* encode_number writes a varint or fixed value of the field's type; signed ones sign-extended. */
void encode_number(struct encoder *w, const struct official_field *f, uint64_t v);

/* encode_floating writes a double or float. */
void encode_floating(struct encoder *w, const struct official_field *f, double v);

/* encode_bytes writes a string or bytes. */
void encode_bytes(struct encoder *w, const struct official_field *f, struct str s);

/* encode_open begins a message of the field (or its packed values) and returns a mark for
 * encode_close, which writes its length. */
size_t encode_open(struct encoder *w, const struct official_field *f);
void encode_close(struct encoder *w, size_t mark);

/* encode_begin_packed says whether the values of a repeated field are packed, and if so drops their
 * tags until encode_end_packed, which also closes the mark. */
bool encode_begin_packed(struct encoder *w, const struct official_field *f);
void encode_end_packed(struct encoder *w, size_t mark);
