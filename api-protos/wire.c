#include "api-protos/wire.h"

static bool varint(struct wire *w, size_t max_bytes, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < max_bytes && w->p < w->end; i++) {
        uint8_t b = *w->p++;
        if (i == 9 && b > 1)
            return false;
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

bool wire_varint(struct wire *w, uint64_t *out)
{
    return varint(w, 10, out);
}

static bool fixed(struct wire *w, size_t len, uint64_t *out)
{
    if ((size_t)(w->end - w->p) < len)
        return false;
    *out = 0;
    for (size_t i = 0; i < len; i++)
        *out |= (uint64_t)w->p[i] << (8 * i);
    w->p += len;
    return true;
}

static enum wire_result bad(const char **why, const char *text)
{
    *why = text;
    return WIRE_BAD;
}

enum wire_result wire_next(struct wire *w, struct wire_field *f, const char **why)
{
    uint64_t tag, len;
    const uint8_t *start = w->p;
    if (w->p >= w->end)
        return WIRE_END;
    if (!varint(w, 5, &tag) || tag > UINT32_MAX)
        return bad(why, "a field tag that is malformed or cut off");
    f->number = (uint32_t)(tag >> 3);
    f->type = (enum wire_type)(tag & 7);
    f->value = 0;
    f->bytes = STR_NULL;
    if (f->number == 0)
        return bad(why, "field number 0");
    switch (f->type) {
    case WIRE_VARINT:
        if (!wire_varint(w, &f->value))
            return bad(why, "a varint that is malformed or cut off");
        break;
    case WIRE_I64:
        if (!fixed(w, 8, &f->value))
            return bad(why, "a 64-bit value that is cut off");
        break;
    case WIRE_I32:
        if (!fixed(w, 4, &f->value))
            return bad(why, "a 32-bit value that is cut off");
        break;
    case WIRE_LEN:
        if (!varint(w, 5, &len))
            return bad(why, "a length that is malformed or cut off");
        if (len > (uint64_t)(w->end - w->p))
            return bad(why, "a length beyond the end of the message");
        f->bytes = str_n((const char *)w->p, (size_t)len);
        w->p += len;
        break;
    case WIRE_GROUP_START:
    case WIRE_GROUP_END:
        break;
    default:
        return bad(why, "an unknown wire type");
    }
    f->whole = str_n((const char *)start, (size_t)(w->p - start));
    return WIRE_FIELD;
}
