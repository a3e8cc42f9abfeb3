#include "proxy/http/h2_guard.h"

enum {
    MAX_CONTINUATIONS = 8,
    RESETS_BURST = 1000, /* as nghttp2's own limit for clients that cancel */
    RESETS_PER_SECOND = 33,
    FREE_WINDOW_UPDATES = 5,
};

void h2_guard_init(struct h2_guard *g, const struct http2_options *opts, uint32_t max_block_bytes,
                   uint64_t now_ms)
{
    *g = (struct h2_guard){.opts = opts, .max_block_bytes = max_block_bytes};
    rate_init(&g->resets, RESETS_BURST, RESETS_PER_SECOND, 1000, now_ms);
}

struct h2_frame h2_frame_parse(const uint8_t *p)
{
    return (struct h2_frame){
        .length = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2],
        .type = p[3],
        .flags = p[4],
        .stream = ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]) &
                  0x7fffffff,
    };
}

static bool is_empty(const struct h2_frame *f)
{
    bool padded = f->type == H2_DATA && (f->flags & H2_FLAG_PADDED) && f->padding;
    return f->length == 0 || (padded && f->length == f->padding + 1u);
}

/* Frames that carry nothing and end nothing, one after the other. */
static bool empty_flood(struct h2_guard *g, const struct h2_frame *f)
{
    bool ends = f->type != H2_CONTINUATION && (f->flags & H2_FLAG_END_STREAM);
    if (!is_empty(f) || ends) {
        g->empty_run = 0;
        return false;
    }
    return ++g->empty_run > g->opts->max_empty_frames;
}

/* The header block is decoded as it comes: the bytes and the pieces are bounded while it does. */
static bool block_flood(struct h2_guard *g, const struct h2_frame *f)
{
    if (f->type == H2_CONTINUATION) {
        g->block_frames++;
        g->block_bytes += f->length;
    } else {
        g->block_frames = 0;
        g->block_bytes = f->length;
    }
    return g->block_frames > MAX_CONTINUATIONS || g->block_bytes > g->max_block_bytes;
}

bool h2_guard_frame(struct h2_guard *g, const struct h2_frame *f, uint32_t *stat)
{
    switch (f->type) {
    case H2_HEADERS:
    case H2_CONTINUATION:
        *stat = H2_TOO_MANY_HEADER_FRAMES;
        if (block_flood(g, f))
            return false;
        *stat = H2_EMPTY_FRAMES_FLOOD;
        return !empty_flood(g, f);
    case H2_DATA:
        *stat = H2_EMPTY_FRAMES_FLOOD;
        return !empty_flood(g, f);
    case H2_PRIORITY:
        *stat = H2_PRIORITY_FLOOD;
        return ++g->priority_frames <=
               (uint64_t)g->opts->max_priority_frames_per_stream * (1 + g->streams);
    case H2_WINDOW_UPDATE:
        *stat = H2_WINDOW_UPDATE_FLOOD;
        return ++g->window_updates <=
               FREE_WINDOW_UPDATES +
                   2 * (g->streams + g->opts->max_window_updates_per_data_frame * g->data_sent);
    default:
        return true;
    }
}

bool h2_guard_reset(struct h2_guard *g, uint64_t now_ms)
{
    return rate_take(&g->resets, 1, now_ms);
}
