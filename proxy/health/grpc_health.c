#include "proxy/health/grpc_health.h"

#include "api-protos/wire.h"
#include "base/cursor.h"

enum { PREFIX = 5, FIELD_SERVICE = 1 << 3 | WIRE_LEN, FIELD_STATUS = 1, SERVING = 1 };

struct str grpc_health_request(struct arena *a, struct str service)
{
    char *out = arena_bytes(a, PREFIX + 1 + 10 + service.len), *p = out + PREFIX;
    uint32_t n;

    if (service.len) {
        *p++ = FIELD_SERVICE;
        for (size_t left = service.len;; left >>= 7) {
            *p++ = (char)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
            if (left <= 0x7f)
                break;
        }
        memcpy(p, service.p, service.len);
        p += service.len;
    }
    n = (uint32_t)(p - out) - PREFIX;
    out[0] = 0; /* not compressed */
    for (int i = 0; i < 4; i++)
        out[1 + i] = (char)(n >> (24 - 8 * i));
    return str_n(out, n + PREFIX);
}

bool grpc_health_serving(struct str body)
{
    struct wire_field f;
    struct cursor c = cursor_of(body);
    struct wire w;
    const char *why;
    uint64_t status = 0, compressed, len;

    if (!cursor_be(&c, 1, &compressed) || compressed || !cursor_be(&c, 4, &len) || len != c.len)
        return false;
    wire_init(&w, cursor_rest(&c));
    for (;;) {
        switch (wire_next(&w, &f, &why)) {
        case WIRE_BAD:
            return false;
        case WIRE_END:
            return status == SERVING;
        case WIRE_FIELD:
            if (f.number == FIELD_STATUS && f.type == WIRE_VARINT)
                status = f.value;
        }
    }
}
