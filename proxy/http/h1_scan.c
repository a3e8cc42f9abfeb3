#include "proxy/http/h1_scan.h"

/* Blocks that the bytes of one head can lie in: it is bounded, and all but the outer ones are full.
 */
enum { MAX_BLOCKS = 64 };

/* Looks at one block. H1_DONE: the empty line was there. */
static enum h1_status scan_block(struct h1_scan *s, const char *p, size_t len, uint32_t max_lines,
                                 struct h1_error *err)
{
    const char *end = p + len;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl) {
            s->len += (size_t)(end - p);
            s->line += (size_t)(end - p);
            s->cr = end[-1] == '\r';
            return H1_MORE;
        }
        size_t n = (size_t)(nl - p);
        bool cr = n ? nl[-1] == '\r' : s->cr;
        size_t line = s->line + n;
        s->len += n + 1;
        s->line = 0;
        s->cr = false;
        p = nl + 1;
        if (!cr) {
            h1_refuse(err, 400, H1_CODEC_ERROR);
            return H1_BAD;
        }
        if (line == 1)
            return H1_DONE;
        if (++s->lines > max_lines) {
            h1_refuse(err, 431, H1_TOO_MANY_HEADERS);
            return H1_BAD;
        }
    }
    return H1_MORE;
}

enum h1_status h1_scan_head(struct h1_scan *s, struct buffer *in, const struct h1_rules *rules,
                            bool trailers, struct h1_error *err)
{
    struct iovec iov[MAX_BLOCKS];
    if (s->held.len)
        buffer_move(&s->held, in, in->len);
    const struct buffer *b = s->held.len ? &s->held : in;
    int n = buffer_iov(b, iov, MAX_BLOCKS);
    uint32_t max_lines = rules->max_count + (trailers ? 0 : 1);
    /* The limit is on names and values; separators and the rest of the start line come on top. */
    size_t max_len = (size_t)rules->max_bytes + 4 * ((size_t)rules->max_count + 1) + 32;
    size_t skip = s->len;
    for (int i = 0; i < n && s->len < max_len; i++) {
        size_t len = iov[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        const char *p = (const char *)iov[i].iov_base + skip;
        len -= skip;
        skip = 0;
        if (len > max_len - s->len)
            len = max_len - s->len;
        enum h1_status r = scan_block(s, p, len, max_lines, err);
        if (r != H1_MORE)
            return r;
    }
    if (s->len >= max_len || s->len < b->len) {
        h1_refuse(err, 431, H1_HEADERS_TOO_LARGE);
        return H1_BAD;
    }
    buffer_move(&s->held, in, in->len);
    return H1_MORE;
}

char *h1_scan_take(struct h1_scan *s, struct buffer *in, struct arena *a)
{
    struct buffer *b = s->held.len ? &s->held : in;
    size_t len = s->len;
    char *p = arena_bytes(a, len + H1_PADDING);
    CHECK(buffer_copy_out(b, 0, p, len) == len);
    memset(p + len, '\n', H1_PADDING);
    buffer_drain(b, len);
    if (s->held.len) {
        buffer_move(&s->held, in, in->len);
        buffer_move(in, &s->held, s->held.len);
    }
    s->len = s->line = 0;
    s->lines = 0;
    s->cr = false;
    return p;
}

bool h1_scan_may_be(const struct h1_scan *s, enum h1_kind kind)
{
    static const struct str version = {"HTTP/1.", 7};
    char start[32];
    size_t len = buffer_copy_out(&s->held, 0, start, sizeof(start));
    if (kind == H1_RESPONSE)
        return memcmp(start, version.p, len < version.len ? len : version.len) == 0;
    size_t i = 0;
    while (i < len && h1_token_lower[(uint8_t)start[i]])
        i++;
    return i == len || (start[i] == ' ' && i > 0);
}

bool h1_scan_skip_empty_lines(struct buffer *in, uint32_t *budget)
{
    char two[2];
    while (buffer_copy_out(in, 0, two, 2) == 2 && two[0] == '\r') {
        if (two[1] != '\n' || *budget < 2)
            return false;
        *budget -= 2;
        buffer_drain(in, 2);
    }
    return true;
}

void h1_scan_cleanup(struct h1_scan *s)
{
    buffer_cleanup(&s->held);
    *s = (struct h1_scan){0};
}
