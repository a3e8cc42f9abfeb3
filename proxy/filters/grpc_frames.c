#include "proxy/filters/grpc_frames.h"

enum { PREFIX = 5 }; /* flags and length of a message */

bool grpc_path_split(struct str path, struct str *service, struct str *method)
{
    ptrdiff_t query = str_chr(path, '?');
    if (query >= 0)
        path.len = (size_t)query;
    if (path.len == 0 || path.p[0] != '/')
        return false;
    path = str_n(path.p + 1, path.len - 1);
    ptrdiff_t at = str_chr(path, '/');
    if (at <= 0)
        return false;
    *service = str_n(path.p, (size_t)at);
    *method = str_n(path.p + at + 1, path.len - (size_t)at - 1);
    return method->len > 0 && str_chr(*method, '/') < 0;
}

uint64_t grpc_frames_inspect(struct grpc_frames *g, const struct buffer *b)
{
    uint64_t before = g->count;
    size_t off = 0;
    unsigned char byte;
    while (off < b->len) {
        if (g->have == PREFIX) {
            size_t rest = b->len - off, skip = g->left < rest ? g->left : rest;
            off += skip;
            g->left -= (uint32_t)skip;
            if (g->left == 0)
                g->have = 0;
            continue;
        }
        (void)buffer_copy_out(b, off++, &byte, 1);
        if (g->have == 0) {
            g->count++;
            g->left = 0;
        } else {
            g->left = g->left << 8 | byte;
        }
        if (++g->have == PREFIX && g->left == 0)
            g->have = 0;
    }
    return g->count - before;
}

size_t grpc_frames_rest(const struct grpc_frames *g, const struct buffer *b)
{
    size_t want = g->have == PREFIX ? g->left : (size_t)(PREFIX - g->have);
    return want < b->len ? want : b->len;
}
