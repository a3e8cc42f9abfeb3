#include "proxy/http/h1_write.h"

#include "cluster/http1_options.h"
#include "proxy/http/h1_message.h"
#include <stdio.h>

/* Left out of what is sent on: they are the connection's, and the writer says them itself. */
#define BIT(id) (UINT64_C(1) << HDR_##id)
static const uint64_t connection_fields = BIT(CONNECTION) | BIT(KEEP_ALIVE) |
                                          BIT(PROXY_CONNECTION) | BIT(TRANSFER_ENCODING) |
                                          BIT(UPGRADE);
_Static_assert(HDR_NUM_KNOWN < 64, "a bit for each known field and one for the others");

#define CHUNKED_LINE STR("transfer-encoding: chunked\r\n")
#define NO_CONTENT_LINE STR("content-length: 0\r\n")
#define CLOSE_LINE STR("connection: close\r\n")
#define KEEP_ALIVE_LINE STR("connection: keep-alive\r\n")

/* --- pieces --- */

static char *put(char *p, struct str s)
{
    if (s.len)
        memcpy(p, s.p, s.len);
    return p + s.len;
}

static char *put_crlf(char *p)
{
    p[0] = '\r';
    p[1] = '\n';
    return p + 2;
}

static size_t fields_len(const struct headers *h, uint64_t leave_out)
{
    size_t len = 0;
    HEADERS_FOREACH(f, h)
        if (!(leave_out >> f->id & 1))
            len += f->name.len + f->value.len + 4;
    return len;
}

static char *put_fields(char *p, const struct headers *h, uint64_t leave_out)
{
    HEADERS_FOREACH(f, h) {
        if (leave_out >> f->id & 1)
            continue;
        p = put(p, f->name);
        *p++ = ':';
        *p++ = ' ';
        p = put(p, f->value);
        p = put_crlf(p);
    }
    return p;
}

/* --- names that are not lower case --- */

static bool is_plain(const struct http1_options *o)
{
    return !o || (!o->proper_case && !o->preserve_case);
}

/* X-Like-This: after anything that is no letter or digit a capital. */
static char *put_proper(char *p, struct str name)
{
    bool begins = true;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.p[i];
        bool letter = c >= 'a' && c <= 'z';
        *p++ = letter && begins ? (char)(c - 'a' + 'A') : c;
        begins = !letter && !(c >= '0' && c <= '9');
    }
    return p;
}

static char *put_name(char *p, struct str name, const struct str *raw,
                      const struct http1_options *o)
{
    if (o->preserve_case && raw && raw->len == name.len)
        return put(p, *raw);
    return o->proper_case || o->proper_case_added ? put_proper(p, name) : put(p, name);
}

/* The name as it was received; NULL if it was not. A field that was changed in place keeps it. */
static const struct str *raw_of(const struct headers *h, const struct header *f)
{
    size_t i = (size_t)(f - h->v);
    return h->raw && i < h->num_raw ? &h->raw[i] : NULL;
}

static char *put_styled_fields(char *p, const struct headers *h, uint64_t leave_out,
                               const struct http1_options *o)
{
    HEADERS_FOREACH(f, h) {
        if (leave_out >> f->id & 1)
            continue;
        p = put_name(p, f->name, raw_of(h, f), o);
        p = put(p, STR(": "));
        p = put(p, f->value);
        p = put_crlf(p);
    }
    return p;
}

/* Host was taken out of the list; how it was written is still known. */
static char *put_host(char *p, const struct headers *h, const struct http1_options *o)
{
    const struct str *raw = NULL;
    for (uint32_t i = 0; i < h->n && !is_plain(o); i++) {
        if (h->v[i].id == HDR_HOST)
            raw = raw_of(h, &h->v[i]);
    }
    p = is_plain(o) ? put(p, STR("host")) : put_name(p, STR("host"), raw, o);
    p = put(p, STR(": "));
    p = put(p, h->authority);
    return put_crlf(p);
}

/* A line of the writer's own, in lower case. */
static char *put_line(char *p, struct str line, const struct http1_options *o)
{
    ptrdiff_t colon = str_chr(line, ':');
    if (is_plain(o) || colon < 0)
        return put(p, line);
    p = put_name(p, str_n(line.p, (size_t)colon), NULL, o);
    return put(p, str_n(line.p + colon, line.len - (size_t)colon));
}

/* The length that the message announces; false if there is none, or not a number. */
static bool announced_length(const struct headers *h, uint64_t *out)
{
    struct header *f = headers_known(h, HDR_CONTENT_LENGTH);
    return f && str_to_u64(f->value, out);
}

/* --- heads --- */

/* Requests that carry a body more often than not say so when they have none. */
static bool usually_without_body(struct str method)
{
    static const struct str methods[] = {
        {"GET", 3}, {"HEAD", 4}, {"DELETE", 6}, {"TRACE", 5}, {"CONNECT", 7}};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (str_eq(method, methods[i]))
            return true;
    return false;
}

struct h1_out h1_write_request(struct buffer *out, const struct headers *h,
                               const struct http1_options *how, bool end)
{
    struct h1_out o = {H1_OUT_NONE, 0};
    uint64_t length = 0;
    bool has_length = announced_length(h, &length);
    uint64_t leave_out = connection_fields | BIT(HOST);
    struct str framing = STR_NULL;
    if (h->upgrade) { /* bytes follow once it is granted */
        leave_out &= ~(BIT(CONNECTION) | BIT(UPGRADE));
        leave_out |= BIT(CONTENT_LENGTH);
        o.framing = H1_OUT_CLOSE;
    } else if (end) {
        if (length || !has_length)
            leave_out |= BIT(CONTENT_LENGTH);
        if (length || (!has_length && !usually_without_body(h->method)))
            framing = NO_CONTENT_LINE;
    } else if (has_length) {
        o = (struct h1_out){H1_OUT_LENGTH, length};
    } else {
        o.framing = H1_OUT_CHUNKED;
        framing = CHUNKED_LINE;
        leave_out |= BIT(CONTENT_LENGTH);
    }
    struct str target = h->path.p ? h->path : h->authority;
    size_t room, len = h->method.len + target.len + 2 * h->authority.len + h->scheme.len +
                       framing.len + 64 + fields_len(h, leave_out);
    char *start = buffer_reserve(out, len, &room);
    char *p = put(start, h->method);
    *p++ = ' ';
    if (how && how->full_url && h->path.len && h->path.p[0] == '/') {
        p = put(p, h->scheme.len ? h->scheme : STR("http"));
        p = put(p, STR("://"));
        p = put(p, h->authority);
    }
    p = put(p, target);
    p = put(p, STR(" HTTP/1.1\r\n"));
    p = put_host(p, h, how);
    p = is_plain(how) ? put_fields(p, h, leave_out) : put_styled_fields(p, h, leave_out, how);
    p = put_line(p, framing, how);
    p = put_crlf(p);
    buffer_commit(out, (size_t)(p - start));
    return o;
}

static char *put_status_line(char *p, unsigned status, struct str reason)
{
    p = put(p, STR("HTTP/1.1 "));
    p[0] = (char)('0' + status / 100 % 10);
    p[1] = (char)('0' + status / 10 % 10);
    p[2] = (char)('0' + status % 10);
    p[3] = ' ';
    return put_crlf(put(p + 4, reason));
}

/* RFC 9112 6.3; what is announced stays if it can be true. */
static struct h1_out response_framing(const struct headers *h, const struct h1_reply *how,
                                      uint64_t *leave_out, struct str *line)
{
    uint64_t length = 0;
    bool has_length = announced_length(h, &length);
    if (!has_length)
        *leave_out |= BIT(CONTENT_LENGTH);
    if (h->status < 200 || h->status == 204) {
        *leave_out |= BIT(CONTENT_LENGTH);
        return (struct h1_out){H1_OUT_NONE, 0};
    }
    if (how->to_head || h->status == 304)
        return (struct h1_out){H1_OUT_NONE, 0};
    if (how->end) {
        if (length)
            *leave_out |= BIT(CONTENT_LENGTH);
        if (length || !has_length)
            *line = NO_CONTENT_LINE;
        return (struct h1_out){H1_OUT_NONE, 0};
    }
    if (has_length)
        return (struct h1_out){H1_OUT_LENGTH, length};
    if (how->minor == 0)
        return (struct h1_out){H1_OUT_CLOSE, 0};
    *line = CHUNKED_LINE;
    return (struct h1_out){H1_OUT_CHUNKED, 0};
}

struct h1_out h1_write_response(struct buffer *out, const struct headers *h,
                                const struct h1_reply *how)
{
    uint64_t leave_out = connection_fields;
    struct str framing = STR_NULL, connection = STR_NULL;
    struct h1_out o = {H1_OUT_CLOSE, 0};
    if (how->tunnel)
        leave_out = (leave_out & ~(BIT(CONNECTION) | BIT(UPGRADE))) | BIT(CONTENT_LENGTH);
    else
        o = response_framing(h, how, &leave_out, &framing);
    if (how->tunnel)
        connection = STR_NULL;
    else if (how->close || o.framing == H1_OUT_CLOSE)
        connection = CLOSE_LINE;
    else if (how->minor == 0)
        connection = KEEP_ALIVE_LINE;
    const struct http1_options *form = how->options;
    struct str reason = form && form->forward_reason && h->reason.p ? h->reason
                                                                    : h1_reason(h->status);
    size_t room, len = reason.len + connection.len + framing.len + 32 + fields_len(h, leave_out);
    char *start = buffer_reserve(out, len, &room);
    char *p = put_status_line(start, h->status, reason);
    p = is_plain(form) ? put_fields(p, h, leave_out) : put_styled_fields(p, h, leave_out, form);
    p = put_line(p, connection, form);
    p = put_line(p, framing, form);
    p = put_crlf(p);
    buffer_commit(out, (size_t)(p - start));
    return o;
}

void h1_write_informational(struct buffer *out, const struct headers *h)
{
    uint64_t leave_out = connection_fields | BIT(CONTENT_LENGTH);
    struct str reason = h1_reason(h->status);
    size_t room, len = reason.len + 32 + fields_len(h, leave_out);
    char *start = buffer_reserve(out, len, &room);
    char *p = put_status_line(start, h->status, reason);
    p = put_fields(p, h, leave_out);
    p = put_crlf(p);
    buffer_commit(out, (size_t)(p - start));
}

void h1_write_error(struct buffer *out, unsigned status, bool to_head)
{
    struct str reason = h1_reason(status);
    buffer_printf(out,
                  "HTTP/1.1 %u %.*s\r\ncontent-length: %zu\r\ncontent-type: text/plain\r\n"
                  "connection: close\r\n\r\n",
                  status, STR_ARG(reason), reason.len);
    if (!to_head)
        buffer_add_str(out, reason);
}

/* --- bodies --- */

static void write_chunk(struct buffer *out, struct buffer *b)
{
    static const char digits[] = "0123456789abcdef";
    char line[20];
    size_t at = sizeof(line);
    line[--at] = '\n';
    line[--at] = '\r';
    for (size_t n = b->len; n; n >>= 4)
        line[--at] = digits[n & 15];
    buffer_add(out, line + at, sizeof(line) - at);
    buffer_move(out, b, b->len);
    buffer_add(out, "\r\n", 2);
}

static bool write_length(struct h1_out *o, struct buffer *out, struct buffer *b, bool end)
{
    bool fits = b->len <= o->left;
    size_t n = fits ? b->len : (size_t)o->left;
    o->left -= n;
    buffer_move(out, b, n);
    buffer_drain(b, b->len);
    return fits && (!end || o->left == 0);
}

bool h1_write_data(struct h1_out *o, struct buffer *out, struct buffer *b, bool end)
{
    switch (o->framing) {
    case H1_OUT_NONE:
        buffer_drain(b, b->len);
        return true;
    case H1_OUT_LENGTH:
        return write_length(o, out, b, end);
    case H1_OUT_CLOSE:
        buffer_move(out, b, b->len);
        return true;
    case H1_OUT_CHUNKED:
        if (b->len)
            write_chunk(out, b);
        if (end)
            buffer_add_str(out, STR("0\r\n\r\n"));
        return true;
    }
    return false;
}

bool h1_write_trailers(struct h1_out *o, struct buffer *out, const struct headers *h)
{
    if (o->framing != H1_OUT_CHUNKED)
        return o->framing != H1_OUT_LENGTH || o->left == 0;
    uint64_t leave_out = connection_fields | BIT(HOST) | BIT(CONTENT_LENGTH) | BIT(TE);
    size_t room, len = 8 + fields_len(h, leave_out);
    char *start = buffer_reserve(out, len, &room);
    char *p = put(start, STR("0\r\n"));
    p = put_fields(p, h, leave_out);
    p = put_crlf(p);
    buffer_commit(out, (size_t)(p - start));
    return true;
}

/* --- phrases --- */

#define REASONS(X)                                                                                 \
    X(100, "Continue")                                                                             \
    X(101, "Switching Protocols")                                                                  \
    X(102, "Processing")                                                                           \
    X(103, "Early Hints")                                                                          \
    X(200, "OK")                                                                                   \
    X(201, "Created")                                                                              \
    X(202, "Accepted")                                                                             \
    X(203, "Non-Authoritative Information")                                                        \
    X(204, "No Content")                                                                           \
    X(205, "Reset Content")                                                                        \
    X(206, "Partial Content")                                                                      \
    X(207, "Multi-Status")                                                                         \
    X(208, "Already Reported")                                                                     \
    X(226, "IM Used")                                                                              \
    X(300, "Multiple Choices")                                                                     \
    X(301, "Moved Permanently")                                                                    \
    X(302, "Found")                                                                                \
    X(303, "See Other")                                                                            \
    X(304, "Not Modified")                                                                         \
    X(305, "Use Proxy")                                                                            \
    X(307, "Temporary Redirect")                                                                   \
    X(308, "Permanent Redirect")                                                                   \
    X(400, "Bad Request")                                                                          \
    X(401, "Unauthorized")                                                                         \
    X(402, "Payment Required")                                                                     \
    X(403, "Forbidden")                                                                            \
    X(404, "Not Found")                                                                            \
    X(405, "Method Not Allowed")                                                                   \
    X(406, "Not Acceptable")                                                                       \
    X(407, "Proxy Authentication Required")                                                        \
    X(408, "Request Timeout")                                                                      \
    X(409, "Conflict")                                                                             \
    X(410, "Gone")                                                                                 \
    X(411, "Length Required")                                                                      \
    X(412, "Precondition Failed")                                                                  \
    X(413, "Payload Too Large")                                                                    \
    X(414, "URI Too Long")                                                                         \
    X(415, "Unsupported Media Type")                                                               \
    X(416, "Range Not Satisfiable")                                                                \
    X(417, "Expectation Failed")                                                                   \
    X(418, "I'm a teapot")                                                                         \
    X(421, "Misdirected Request")                                                                  \
    X(422, "Unprocessable Entity")                                                                 \
    X(423, "Locked")                                                                               \
    X(424, "Failed Dependency")                                                                    \
    X(425, "Too Early")                                                                            \
    X(426, "Upgrade Required")                                                                     \
    X(428, "Precondition Required")                                                                \
    X(429, "Too Many Requests")                                                                    \
    X(431, "Request Header Fields Too Large")                                                      \
    X(451, "Unavailable For Legal Reasons")                                                        \
    X(500, "Internal Server Error")                                                                \
    X(501, "Not Implemented")                                                                      \
    X(502, "Bad Gateway")                                                                          \
    X(503, "Service Unavailable")                                                                  \
    X(504, "Gateway Timeout")                                                                      \
    X(505, "HTTP Version Not Supported")                                                           \
    X(506, "Variant Also Negotiates")                                                              \
    X(507, "Insufficient Storage")                                                                 \
    X(508, "Loop Detected")                                                                        \
    X(510, "Not Extended")                                                                         \
    X(511, "Network Authentication Required")

struct str h1_reason(unsigned status)
{
    switch (status) {
#define X(code, text)                                                                              \
    case code:                                                                                     \
        return STR(text);
        REASONS(X)
#undef X
    default:
        return STR("Unknown");
    }
}
