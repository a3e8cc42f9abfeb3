#include "test/support/h1_transcript.h"

#include "proxy/http/h1_chunks.h"
#include "proxy/http/h1_parse.h"
#include "proxy/http/h1_scan.h"

enum part { PART_HEAD, PART_LENGTH, PART_CHUNKS, PART_TRAILERS, PART_REST, PART_OVER };

struct reader {
    const struct h1_reading *how;
    struct buffer *out;
    struct buffer in;
    struct arena arena;
    struct h1_scan scan;
    struct h1_chunks chunks;
    struct h1_message message;
    enum part part;
    uint32_t empty_lines;
};

/* For which of two reasons may depend on how much had come. */
static void refused(struct reader *r)
{
    buffer_add_str(r->out, STR("refused\n"));
    r->part = PART_OVER;
}

static void write_fields(struct buffer *out, const struct headers *h)
{
    HEADERS_FOREACH(f, h) {
        buffer_printf(out, "%.*s=%.*s\n", STR_ARG(f->name), STR_ARG(f->value));
    }
}

static void message_ended(struct reader *r)
{
    buffer_add_str(r->out, STR("\nend\n"));
    r->part = r->message.keep_alive ? PART_HEAD : PART_OVER;
    r->empty_lines = 8;
}

static void head_read(struct reader *r, const struct headers *h)
{
    if (r->how->responses)
        buffer_printf(r->out, "%u\n", h->status);
    else
        buffer_printf(r->out, "%.*s %.*s %.*s %.*s\n", STR_ARG(h->method), STR_ARG(h->scheme),
                      STR_ARG(h->authority), STR_ARG(h->path));
    write_fields(r->out, h);
    buffer_printf(r->out, "body %d\n", r->message.body);
    if (r->how->on_head)
        r->how->on_head(h, &r->message, r->how);
    switch (r->message.body) {
    case H1_BODY_TUNNEL:
    case H1_BODY_NONE:
        message_ended(r);
        return;
    case H1_BODY_LENGTH:
        r->part = PART_LENGTH;
        return;
    case H1_BODY_CHUNKED:
        r->part = PART_CHUNKS;
        r->chunks = (struct h1_chunks){0};
        return;
    case H1_BODY_CLOSE:
        r->part = PART_REST;
        return;
    }
}

static bool read_head(struct reader *r)
{
    struct h1_error err;
    enum h1_kind kind = r->how->responses ? H1_RESPONSE : H1_REQUEST;
    if (kind == H1_REQUEST && !h1_scan_begun(&r->scan)) {
        if (!h1_scan_skip_empty_lines(&r->in, &r->empty_lines)) {
            refused(r);
            return false;
        }
        if (r->in.len == 0 || (r->in.len == 1 && buffer_peek(&r->in).p[0] == '\r'))
            return false;
    }
    enum h1_status s = h1_scan_head(&r->scan, &r->in, &r->how->rules, false, &err);
    if (s == H1_MORE && h1_scan_may_be(&r->scan, kind))
        return false;
    if (s != H1_DONE || r->scan.lines == 0) {
        refused(r);
        return false;
    }
    struct headers h;
    uint32_t lines = r->scan.lines;
    arena_reset(&r->arena);
    headers_init(&h, &r->arena);
    char *head = h1_scan_take(&r->scan, &r->in, &r->arena);
    bool good = r->how->responses
                    ? h1_parse_response(head, lines, &r->how->rules, r->how->to_head, &h,
                                        &r->message, &err)
                    : h1_parse_request(head, lines, &r->how->rules, &h, &r->message, &err);
    if (good)
        head_read(r, &h);
    else
        refused(r);
    return good;
}

static bool read_trailers(struct reader *r)
{
    struct h1_error err;
    enum h1_status s = h1_scan_head(&r->scan, &r->in, &r->how->rules, true, &err);
    if (s == H1_MORE)
        return false;
    struct headers h;
    headers_init(&h, &r->arena);
    uint32_t lines = r->scan.lines;
    if (s == H1_BAD || !h1_parse_trailers(h1_scan_take(&r->scan, &r->in, &r->arena), lines,
                                          &r->how->rules, &h, &err)) {
        refused(r);
        return false;
    }
    buffer_add_str(r->out, STR("\ntrailers\n"));
    write_fields(r->out, &h);
    message_ended(r);
    return true;
}

/* Does one thing; false when more bytes are needed or nothing more is read. */
static bool step(struct reader *r)
{
    switch (r->part) {
    case PART_HEAD:
        return r->in.len && read_head(r);
    case PART_LENGTH:
        r->message.length -= buffer_move(r->out, &r->in, r->message.length);
        if (r->message.length)
            return false;
        message_ended(r);
        return true;
    case PART_CHUNKS:
        switch (h1_chunks_read(&r->chunks, &r->in, r->out, SIZE_MAX)) {
        case H1_MORE:
            return false;
        case H1_BAD:
            refused(r);
            return false;
        case H1_DONE:
            r->part = PART_TRAILERS;
            return true;
        }
        return false;
    case PART_TRAILERS:
        return r->in.len && read_trailers(r);
    case PART_REST:
        buffer_move(r->out, &r->in, r->in.len);
        return false;
    case PART_OVER:
        return false;
    }
    return false;
}

void h1_transcript(struct buffer *out, const void *p, size_t len, const struct h1_reading *how)
{
    struct reader r = {.how = how, .out = out, .empty_lines = 8};
    const char *at = p;
    arena_init(&r.arena, 0);
    buffer_init(&r.in);
    while (len && r.part != PART_OVER) {
        size_t n = len < how->step ? len : how->step;
        buffer_add(&r.in, at, n);
        at += n;
        len -= n;
        while (step(&r))
            continue;
    }
    h1_scan_cleanup(&r.scan);
    buffer_cleanup(&r.in);
    arena_cleanup(&r.arena);
}
