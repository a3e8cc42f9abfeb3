// covers: proxy/filters/grpc_frames.c
/* A body of gRPC in pieces of a size that the first byte says: however it is cut, the same messages
 * begin. The same bytes as base64, there and back, and as a path. */
#include "base/base64.h"
#include "proxy/filters/grpc_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t count(const uint8_t *data, size_t len, size_t piece)
{
    struct grpc_frames g = {0};
    struct buffer b, part;
    buffer_init(&b);
    buffer_add(&b, data, len);
    while (b.len) {
        size_t rest = grpc_frames_rest(&g, &b);
        CHECK(rest > 0 && rest <= b.len);
        buffer_init(&part);
        buffer_move(&part, &b, piece ? piece : rest);
        (void)grpc_frames_inspect(&g, &part);
        buffer_cleanup(&part);
    }
    return g.count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct str service, method;
    if (len < 1)
        return 0;
    size_t piece = data[0];
    data++;
    len--;
    uint64_t n = count(data, len, len + 1);
    CHECK(count(data, len, piece) == n && count(data, len, 1) == n);
    if (grpc_path_split(str_n((const char *)data, len), &service, &method))
        CHECK(service.len && method.len && service.len + method.len + 2 <= len);
    for (size_t i = 0; i + 4 <= len; i += 4) {
        char out[3], back[4];
        int got = base64_group((const char *)data + i, out);
        if (got < 0)
            continue;
        CHECK(base64_write(out, (size_t)got, back) == 4 && memcmp(back, data + i, 4) == 0);
    }
    return 0;
}
