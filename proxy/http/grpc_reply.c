#include "proxy/http/grpc_reply.h"

#include "base/alloc.h"

enum { GRPC_TIMEOUT_MAX = 99999999 }; /* eight digits */

unsigned grpc_status_of_http(unsigned http)
{
    switch (http) {
    case 400:
        return 13;
    case 401:
        return 16;
    case 403:
        return 7;
    case 404:
        return 12;
    case 429:
    case 502:
    case 503:
    case 504:
        return 14;
    default:
        return 2;
    }
}

struct str grpc_timeout_text(struct arena *a, uint64_t ms)
{
    static const struct {
        char unit;
        unsigned next; /* how many of it the next one is */
    } units[] = {{'m', 1000}, {'S', 60}, {'M', 60}, {'H', 1}};
    uint64_t n = ms;
    size_t i = 0;
    for (; n > GRPC_TIMEOUT_MAX && i + 1 < ARRAY_LEN(units); i++)
        n /= units[i].next;
    if (n > GRPC_TIMEOUT_MAX)
        n = GRPC_TIMEOUT_MAX;
    return arena_printf(a, "%llu%c", (unsigned long long)n, units[i].unit);
}

struct str grpc_message_encode(struct arena *a, struct str text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *p = arena_bytes(a, 3 * text.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c >= 0x20 && c < 0x7f && c != '%') {
            p[n++] = (char)c;
            continue;
        }
        p[n++] = '%';
        p[n++] = digits[c >> 4];
        p[n++] = digits[c & 15];
    }
    return str_n(p, n);
}
