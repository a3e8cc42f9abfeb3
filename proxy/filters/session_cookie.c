#include "proxy/filters/session_cookie.h"

#include "base/base64.h"
#include "base/cursor.h"

/* Tags: field number * 8 + wire type (varint 0, length-delimited 2). */
enum { TAG_ADDRESS = 1 << 3 | 2, TAG_EXPIRES = 2 << 3, VARINT_MAX = 10 };

static bool varint(struct cursor *c, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < VARINT_MAX; i++) {
        uint8_t byte;
        if (!cursor_u8(c, &byte))
            return false;
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* False: not such a message. */
static bool read_message(struct str bytes, struct str *address, uint64_t *expires)
{
    struct cursor c = cursor_of(bytes);
    while (c.len) {
        uint64_t tag, n;
        if (!varint(&c, &tag) || !varint(&c, &n))
            return false;
        if (tag == TAG_EXPIRES)
            *expires = n;
        else if (tag != TAG_ADDRESS || n > c.len || !cursor_bytes(&c, (size_t)n, address))
            return false;
    }
    return true;
}

struct str session_cookie_read(struct arena *a, struct str value, uint64_t now)
{
    struct str bytes, address = STR_NULL;
    uint64_t expires = 0;
    if (!base64_decode(a, value, &bytes))
        return STR_NULL;
    if (!read_message(bytes, &address, &expires))
        return bytes;
    return expires && expires < now ? STR_NULL : address;
}

static size_t put_varint(char *out, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (char)(v | 0x80);
    out[n++] = (char)v;
    return n;
}

struct str session_cookie_write(struct arena *a, struct str address, uint64_t expires)
{
    char *p = arena_bytes(a, address.len + 2 + 2 * VARINT_MAX);
    size_t n = 0;
    p[n++] = TAG_ADDRESS;
    n += put_varint(p + n, address.len);
    if (address.len)
        memcpy(p + n, address.p, address.len);
    n += address.len;
    if (expires) {
        p[n++] = TAG_EXPIRES;
        n += put_varint(p + n, expires);
    }
    return base64_encode(a, str_n(p, n));
}
