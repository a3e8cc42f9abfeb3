#include "proxy/http/h1_chunks.h"

enum { MAX_EXTENSION = 1024, MAX_SIZE_DIGITS = 16 };

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_SPACE, /* after the size; only an extension may follow */
    CHUNK_EXT,
    CHUNK_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_LAST,
};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool step_size(struct h1_chunks *c, char ch)
{
    int v = hex_value(ch);
    if (v >= 0) {
        c->left = c->left << 4 | (unsigned)v;
        return ++c->digits <= MAX_SIZE_DIGITS;
    }
    if (!c->digits)
        return false;
    if (ch == '\r')
        c->state = CHUNK_LF;
    else if (ch == ';')
        c->state = CHUNK_EXT;
    else if (ch == ' ' || ch == '\t')
        c->state = CHUNK_SPACE;
    else
        return false;
    return true;
}

/* One byte of framing. */
static bool step(struct h1_chunks *c, char ch)
{
    switch ((enum chunk_state)c->state) {
    case CHUNK_SIZE:
        return step_size(c, ch);
    case CHUNK_SPACE:
        if (ch == ';')
            c->state = CHUNK_EXT;
        return (ch == ';' || ch == ' ' || ch == '\t') && ++c->ext <= MAX_EXTENSION;
    case CHUNK_EXT:
        if (ch == '\r') {
            c->state = CHUNK_LF;
            return true;
        }
        return h1_value_char((uint8_t)ch) && ++c->ext <= MAX_EXTENSION;
    case CHUNK_LF:
        c->state = c->left ? CHUNK_DATA : CHUNK_LAST;
        return ch == '\n';
    case CHUNK_DATA_CR:
        c->state = CHUNK_DATA_LF;
        return ch == '\r';
    case CHUNK_DATA_LF:
        *c = (struct h1_chunks){.state = CHUNK_SIZE};
        return ch == '\n';
    case CHUNK_DATA:
    case CHUNK_LAST:
        break;
    }
    return false;
}

/* Framing up to the next payload, the end, or the end of a block. */
static bool read_framing(struct h1_chunks *c, struct buffer *in)
{
    struct str s = buffer_peek(in);
    size_t used = 0;
    bool good = true;
    while (good && used < s.len && c->state != CHUNK_DATA && c->state != CHUNK_LAST)
        good = step(c, s.p[used++]);
    buffer_drain(in, used);
    return good;
}

enum h1_status h1_chunks_read(struct h1_chunks *c, struct buffer *in, struct buffer *out,
                              size_t max)
{
    while (in->len && c->state != CHUNK_LAST) {
        if (c->state != CHUNK_DATA) {
            if (!read_framing(c, in))
                return H1_BAD;
            continue;
        }
        if (max == 0)
            return H1_MORE;
        size_t moved = buffer_move(out, in, c->left < max ? (size_t)c->left : max);
        max -= moved;
        c->left -= moved;
        if (c->left == 0)
            c->state = CHUNK_DATA_CR;
    }
    return c->state == CHUNK_LAST ? H1_DONE : H1_MORE;
}
