#include "proxy/observe/format_out.h"

#include "base/utf8.h"

void format_out_begin(struct format_out *o, struct buffer *b)
{
    size_t len;
    o->b = b;
    o->base = o->pos = buffer_reserve(b, 1, &len);
    o->end = o->base + len;
    o->left = SIZE_MAX;
    o->json = false;
    o->num_pending = 0;
}

void format_out_end(struct format_out *o)
{
    buffer_commit(o->b, (size_t)(o->pos - o->base));
    o->base = o->pos = o->end = NULL;
}

static void append(struct format_out *o, const char *p, size_t len)
{
    if (UNLIKELY(len > (size_t)(o->end - o->pos))) {
        size_t room;
        buffer_commit(o->b, (size_t)(o->pos - o->base));
        o->base = o->pos = buffer_reserve(o->b, len, &room);
        o->end = o->base + room;
    }
    if (len)
        memcpy(o->pos, p, len);
    o->pos += len;
}

static void flush_pending(struct format_out *o)
{
    for (unsigned i = 0; i < o->num_pending; i++)
        append(o, o->pending[i].p, o->pending[i].len);
    o->num_pending = 0;
}

void format_out_hold(struct format_out *o, struct str s)
{
    if (o->num_pending == FORMAT_OUT_PENDING)
        flush_pending(o); /* not reached: json_format.c bounds the depth */
    o->pending[o->num_pending++] = s;
}

void format_out_drop(struct format_out *o, unsigned keep)
{
    if (o->num_pending > keep)
        o->num_pending = keep;
}

void format_out_raw(struct format_out *o, struct str s)
{
    flush_pending(o);
    append(o, s.p, s.len);
}

static void escape_number(struct format_out *o, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    append(o, u, sizeof(u));
}

static void escape_byte(struct format_out *o, unsigned char c)
{
    switch (c) {
    case '"':
        append(o, "\\\"", 2);
        return;
    case '\\':
        append(o, "\\\\", 2);
        return;
    case '\b':
        append(o, "\\b", 2);
        return;
    case '\f':
        append(o, "\\f", 2);
        return;
    case '\n':
        append(o, "\\n", 2);
        return;
    case '\r':
        append(o, "\\r", 2);
        return;
    case '\t':
        append(o, "\\t", 2);
        return;
    }
    escape_number(o, c);
}

static bool needs_care(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\' || c >= 0x80;
}

/* How many bytes of s, from its start, are plain ASCII that JSON takes as it is. Eight at a time:
 * of each byte the highest bit of `care` says whether it needs_care (or, above such a byte, may be
 * set for nothing, which the second loop finds out). */
static size_t plain_len(struct str s)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    size_t i = 0;
    for (; i + 8 <= s.len; i += 8) {
        uint64_t w;
        memcpy(&w, s.p + i, sizeof(w));
        uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
        uint64_t care = (w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & high;
        if (care)
            break;
    }
    while (i < s.len && !needs_care((unsigned char)s.p[i]))
        i++;
    return i;
}

/* RFC 8259 section 7 asks for no more escapes than these. What is not UTF-8 has all that is not
 * printable ASCII as numbers. */
static void append_escaped(struct format_out *o, struct str s)
{
    size_t from = 0, plain = plain_len(s);
    if (LIKELY(plain == s.len)) {
        append(o, s.p, s.len);
        return;
    }
    bool utf8 = utf8_ok(s);
    for (size_t i = utf8 ? plain : 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool special = c < 0x20 || c == '"' || c == '\\';
        if (!special && (utf8 || c < 0x7f))
            continue;
        append(o, s.p + from, i - from);
        if (utf8)
            escape_byte(o, c);
        else
            escape_number(o, c);
        from = i + 1;
    }
    append(o, s.p + from, s.len - from);
}

void format_out_put(struct format_out *o, struct str s)
{
    if (s.len > o->left)
        s.len = o->left;
    o->left -= s.len;
    flush_pending(o);
    if (o->json && s.len)
        append_escaped(o, s);
    else
        append(o, s.p, s.len);
}

struct str format_u64(uint64_t n, char *buf)
{
    char *p = buf + FORMAT_U64_MAX;
    do {
        *--p = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    return str_n(p, (size_t)(buf + FORMAT_U64_MAX - p));
}

struct str format_i64(int64_t n, char *buf)
{
    struct str s = format_u64(n < 0 ? -(uint64_t)n : (uint64_t)n, buf);
    if (n >= 0)
        return s;
    char *p = buf + (s.p - buf) - 1; /* the most negative number has 19 digits */
    *p = '-';
    return str_n(p, s.len + 1);
}
