/* Where the pieces of a formatted line go: straight into a buffer's free space, cut after a length,
 * escaped for JSON on the way. Texts can be held back until it is known that a value follows them.
 * One user at a time; used by format.c and json_format.c. */
#pragma once

#include "base/buffer.h"

enum { FORMAT_OUT_PENDING = 128 };

struct format_out {
    struct buffer *b;
    char *base, *pos, *end; /* the buffer's free space; base..pos is not committed yet */
    size_t left;            /* how many bytes more this value may have */
    bool json;              /* values are escaped for a JSON string */
    unsigned num_pending;
    struct str pending[FORMAT_OUT_PENDING];
};

/* format_out_begin starts writing to the end of b; format_out_end commits what was written. Between
 * them nothing else may touch b. */
void format_out_begin(struct format_out *o, struct buffer *b);
void format_out_end(struct format_out *o);

/* format_out_raw writes s as it is, after what was held back. */
void format_out_raw(struct format_out *o, struct str s);

/* format_out_put writes a piece of a value: cut to what is left of it, escaped when o->json is
 * set. In JSON, a piece that is not UTF-8 has each of its bytes above 0x7f written as the code
 * point of that number, as Envoy does. An empty piece still says that there is a value. */
void format_out_put(struct format_out *o, struct str s);

/* format_out_hold holds s (not copied) back until the next write; format_out_drop forgets all but
 * the first `keep` of what is held back. */
void format_out_hold(struct format_out *o, struct str s);
void format_out_drop(struct format_out *o, unsigned keep);

/* format_u64 and format_i64 write n as decimal digits to the end of buf, of so many bytes, and view
 * them. */
enum { FORMAT_U64_MAX = 20, FORMAT_I64_MAX = 20 };
struct str format_u64(uint64_t n, char *buf);
struct str format_i64(int64_t n, char *buf);
