#include "api-protos/encode.h"

#include "api-protos/wire.h"

static char *grow(struct encoder *w, size_t len)
{
    w->p = mem_grow_array(w->p, &w->cap, w->len + len, 1);
    w->len += len;
    return w->p + w->len - len;
}

static size_t varint_len(uint64_t v)
{
    size_t n = 1;
    for (; v > 0x7f; v >>= 7)
        n++;
    return n;
}

static void put_varint(char *out, uint64_t v)
{
    for (; v > 0x7f; v >>= 7)
        *out++ = (char)(0x80 | (v & 0x7f));
    *out = (char)v;
}

static void varint(struct encoder *w, uint64_t v)
{
    put_varint(grow(w, varint_len(v)), v);
}

static void fixed(struct encoder *w, uint64_t v, size_t len)
{
    char *out = grow(w, len);
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(v >> (8 * i));
}

static void tag(struct encoder *w, const struct official_field *f, enum wire_type type)
{
    if (!w->packed)
        varint(w, (uint64_t)f->number << 3 | type);
}

void encode_number(struct encoder *w, const struct official_field *f, uint64_t v)
{
    if (v == 0 && w->omit_zero)
        return;
    switch ((enum official_type)f->type) {
    case TYPE_FIXED64:
    case TYPE_SFIXED64:
        tag(w, f, WIRE_I64);
        fixed(w, v, 8);
        return;
    case TYPE_FIXED32:
    case TYPE_SFIXED32:
        tag(w, f, WIRE_I32);
        fixed(w, v, 4);
        return;
    case TYPE_SINT32:
    case TYPE_SINT64:
        tag(w, f, WIRE_VARINT);
        varint(w, v << 1 ^ (uint64_t) - (int64_t)(v >> 63));
        return;
    default:
        tag(w, f, WIRE_VARINT);
        varint(w, v);
        return;
    }
}

void encode_floating(struct encoder *w, const struct official_field *f, double v)
{
    uint64_t bits;
    float single = (float)v;
    uint32_t single_bits;
    memcpy(&bits, &v, sizeof(bits));
    memcpy(&single_bits, &single, sizeof(single_bits));
    /* -0 is not the default value */
    if (w->omit_zero && bits == 0)
        return;
    if (f->type == TYPE_FLOAT) {
        tag(w, f, WIRE_I32);
        fixed(w, single_bits, 4);
    } else {
        tag(w, f, WIRE_I64);
        fixed(w, bits, 8);
    }
}

void encode_bytes(struct encoder *w, const struct official_field *f, struct str s)
{
    if (s.len == 0 && w->omit_zero)
        return;
    tag(w, f, WIRE_LEN);
    varint(w, s.len);
    if (s.len)
        memcpy(grow(w, s.len), s.p, s.len);
}

size_t encode_open(struct encoder *w, const struct official_field *f)
{
    bool packed = w->packed;
    w->packed = false;
    tag(w, f, WIRE_LEN);
    w->packed = packed;
    return w->len;
}

void encode_close(struct encoder *w, size_t mark)
{
    size_t len = w->len - mark, n = varint_len(len);
    (void)grow(w, n);
    memmove(w->p + mark + n, w->p + mark, len);
    put_varint(w->p + mark, len);
}

bool encode_begin_packed(struct encoder *w, const struct official_field *f)
{
    w->packed = f->type != TYPE_STRING && f->type != TYPE_BYTES && f->type != TYPE_MESSAGE;
    return w->packed;
}

void encode_end_packed(struct encoder *w, size_t mark)
{
    w->packed = false;
    encode_close(w, mark);
}
