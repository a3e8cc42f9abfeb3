#include "proxy/http/h1_parse.h"

#include "base/alloc.h"

/* clang-format off */
const uint8_t h1_token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|',
    ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',
    ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9',
#define LETTER(upper, lower) [lower] = lower, [upper] = lower,
    LETTER('A', 'a') LETTER('B', 'b') LETTER('C', 'c') LETTER('D', 'd') LETTER('E', 'e')
    LETTER('F', 'f') LETTER('G', 'g') LETTER('H', 'h') LETTER('I', 'i') LETTER('J', 'j')
    LETTER('K', 'k') LETTER('L', 'l') LETTER('M', 'm') LETTER('N', 'n') LETTER('O', 'o')
    LETTER('P', 'p') LETTER('Q', 'q') LETTER('R', 'r') LETTER('S', 's') LETTER('T', 't')
    LETTER('U', 'u') LETTER('V', 'v') LETTER('W', 'w') LETTER('X', 'x') LETTER('Y', 'y')
    LETTER('Z', 'z')
#undef LETTER
};
/* clang-format on */

enum {
    MAX_NOMINATED = 10, /* fields that one message's Connection may name, as Envoy */
    SPARE_FIELDS = 12,  /* what the proxy will add to a request or response */
};

/* --- fields --- */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* The first of eight bytes that is a control character or DEL; 8 if none is. */
static unsigned first_control(const char *p)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t x;
    memcpy(&x, p, 8);
    uint64_t del = x ^ ones * 0x7f;
    uint64_t hit = (((x - ones * 0x20) & ~x) | ((del - ones) & ~del)) & ones * 0x80;
    return hit ? (unsigned)__builtin_ctzll(hit) / 8 : 8;
}
#else
static unsigned first_control(const char *p)
{
    unsigned i = 0;
    while (i < 8 && (uint8_t)p[i] >= 0x20 && p[i] != 0x7f)
        i++;
    return i;
}
#endif

/* The first byte from p on that may not be in a value; every line ends in one. */
static char *value_end(char *p)
{
    for (;;) {
        unsigned n = first_control(p);
        p += n;
        if (n < 8) {
            if (*p != '\t')
                return p;
            p++;
        }
    }
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* One line `name: value CRLF` at *at. The scan has seen that each LF follows a CR and that an empty
 * line ends the head, so a search for a CR ends in it. */
static bool parse_field(char **at, struct headers *h, struct h1_error *err)
{
    char *name = *at;
    char *p = name;
    uint8_t c;
    while ((c = h1_token_lower[(uint8_t)*p]) != 0)
        *p++ = (char)c;
    size_t name_len = (size_t)(p - name);
    if (name_len == 0 || *p != ':')
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    p++;
    while (is_blank(*p))
        p++;
    char *value = p;
    p = value_end(p);
    if (*p != '\r')
        return h1_refuse(err, 400, H1_INVALID_CHARACTERS);
    if (p[1] != '\n')
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    *at = p + 2;
    while (p > value && is_blank(p[-1]))
        p--;
    size_t value_len = (size_t)(p - value);
    h->bytes += name_len + value_len;
    headers_add(h, str_n(name, name_len), str_n(value, value_len));
    return true;
}

/* Names as they stand, before they are made lower case: views of a copy. */
static void keep_names(const char *p, uint32_t num, struct headers *h)
{
    struct str *raw = arena_alloc(h->arena, (num + 1) * sizeof(*raw));
    for (uint32_t i = 0; i < num; i++) {
        size_t len = 0;
        while (h1_token_lower[(uint8_t)p[len]])
            len++;
        raw[i] = arena_str(h->arena, str_n(p, len));
        while (*p++ != '\n')
            continue;
    }
    h->raw = raw;
    h->num_raw = num;
}

static bool parse_fields(char *p, uint32_t num, const struct h1_rules *rules, struct headers *h,
                         struct h1_error *err)
{
    if (rules->keep_case)
        keep_names(p, num, h);
    headers_reserve(h, num + SPARE_FIELDS);
    for (uint32_t i = 0; i < num; i++)
        if (!parse_field(&p, h, err))
            return false;
    if (h->bytes > rules->max_bytes)
        return h1_refuse(err, 431, H1_HEADERS_TOO_LARGE);
    return true;
}

/* --- fields about the connection --- */

struct connection_options {
    bool close, keep_alive, upgrade;
};

static bool may_be_nominated(enum header_id id)
{
    return id != HDR_HOST && id != HDR_X_FORWARDED_FOR && id != HDR_X_FORWARDED_PROTO &&
           id != HDR_X_FORWARDED_HOST && id != HDR_X_FORWARDED_CLIENT_CERT;
}

/* Drops what one option of Connection names. */
static bool drop_nominated(struct headers *h, struct str token)
{
    char lower[64];
    if (token.len > sizeof(lower))
        return false;
    for (size_t i = 0; i < token.len; i++) {
        lower[i] = (char)h1_token_lower[(uint8_t)token.p[i]];
        if (!lower[i])
            return false;
    }
    struct str name = str_n(lower, token.len);
    if (!may_be_nominated(header_id_of(name)))
        return false;
    if (!str_eq(name, STR("te")))
        headers_remove(h, name);
    return true;
}

/* RFC 9110 7.6.1. False: it names what must not be dropped, or too much. */
static bool read_connection(struct headers *h, struct connection_options *o)
{
    unsigned nominated = 0;
    for (struct header *f = headers_known(h, HDR_CONNECTION); f; f = headers_next(h, f)) {
        struct str rest = f->value, token;
        while (str_next(&rest, ',', &token)) {
            token = str_trim(token);
            if (token.len == 0)
                continue;
            if (str_ieq(token, STR("close")))
                o->close = true;
            else if (str_ieq(token, STR("keep-alive")))
                o->keep_alive = true;
            else if (str_ieq(token, STR("upgrade")))
                o->upgrade = true;
            else if (++nominated > MAX_NOMINATED || !drop_nominated(h, token))
                return false;
        }
    }
    return true;
}

static void keep_te_trailers(struct headers *h)
{
    bool trailers = false;
    for (struct header *f = headers_known(h, HDR_TE); f; f = headers_next(h, f)) {
        struct str rest = f->value, token;
        while (str_next(&rest, ',', &token))
            trailers = trailers || str_ieq(str_trim(token), STR("trailers"));
    }
    if (trailers)
        headers_set_known(h, HDR_TE, STR("trailers"));
    else
        headers_remove_known(h, HDR_TE);
}

static void drop_connection_fields(struct headers *h)
{
    static const enum header_id drop[] = {HDR_KEEP_ALIVE, HDR_PROXY_CONNECTION,
                                          HDR_TRANSFER_ENCODING, HDR_CONNECTION, HDR_UPGRADE};
    size_t num = ARRAY_LEN(drop) - (h->upgrade ? 2 : 0);
    for (size_t i = 0; i < num; i++)
        if (h->first[drop[i]])
            headers_remove_known(h, drop[i]);
    if (h->upgrade)
        headers_set_known(h, HDR_CONNECTION, STR("upgrade"));
    if (h->first[HDR_TE])
        keep_te_trailers(h);
}

/* An upgrade is asked for or granted by both fields, in HTTP/1.1 (RFC 9110 7.8). HTTP/2 is spoken
 * by prior knowledge only: a request to change to it is served as it is (RFC 9113 3.1). One that
 * has content is served as it is, too: where it ends would be where the other protocol begins. */
static bool is_upgrade(struct headers *h, const struct h1_message *m, bool nominated,
                       const struct h1_rules *rules)
{
    const struct header *f = headers_known(h, HDR_UPGRADE);
    if (!nominated || !f || h->minor == 0 || m->body != H1_BODY_NONE)
        return false;
    if (!str_ieq(f->value, STR("h2c")))
        return !rules->may_upgrade || rules->may_upgrade(rules->arg, f->value);
    headers_remove(h, STR("http2-settings"));
    return false;
}

static bool read_persistence(struct headers *h, struct h1_message *m, bool may_upgrade,
                             const struct h1_rules *rules)
{
    struct connection_options o = {0};
    if (h->first[HDR_CONNECTION] && !read_connection(h, &o))
        return false;
    h->upgrade = may_upgrade && is_upgrade(h, m, o.upgrade, rules);
    if (o.close || (h->minor == 0 && !o.keep_alive))
        m->keep_alive = false;
    drop_connection_fields(h);
    return true;
}

/* --- framing --- */

/* Content-Length: digits, once. */
static bool read_length(struct headers *h, uint64_t *out)
{
    struct header *f = headers_known(h, HDR_CONTENT_LENGTH);
    return !headers_next(h, f) && str_to_u64(f->value, out);
}

/* RFC 9112 6.1 and 6.3, without regard to what kind of message it is. */
static bool read_framing(struct headers *h, const struct h1_rules *rules, struct h1_message *m,
                         struct h1_error *err)
{
    struct header *te = headers_known(h, HDR_TRANSFER_ENCODING);
    bool has_length = h->first[HDR_CONTENT_LENGTH] != 0;
    m->body = H1_BODY_NONE;
    m->length = 0;
    if (has_length && !read_length(h, &m->length))
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    if (!te) {
        if (m->length)
            m->body = H1_BODY_LENGTH;
        return true;
    }
    if (h->minor == 0)
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    if (headers_next(h, te) || !str_ieq(te->value, STR("chunked")))
        return h1_refuse(err, 501, STR("http1.invalid_transfer_encoding"));
    if (has_length) {
        if (!rules->allow_chunked_length)
            return h1_refuse(err, 400, STR("http1.content_length_and_chunked_not_allowed"));
        headers_remove_known(h, HDR_CONTENT_LENGTH);
        m->keep_alive = false;
    }
    m->body = H1_BODY_CHUNKED;
    m->length = 0;
    return true;
}

/* --- the target --- */

/* Unreserved characters, sub-delimiters but the comma, and the percent sign; letters and digits are
 * tokens. */
static bool host_char(uint8_t c)
{
    static const bool allowed[256] = {
        ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1,  ['%'] = 1, ['!'] = 1, ['$'] = 1, ['&'] = 1,
        ['('] = 1, [')'] = 1, ['*'] = 1, ['\''] = 1, ['+'] = 1, [';'] = 1, ['='] = 1,
    };
    uint8_t lower = h1_token_lower[c];
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || allowed[c];
}

static bool port_valid(struct str port)
{
    uint64_t n;
    return port.len == 0 || (str_to_u64(port, &n) && n <= UINT16_MAX);
}

bool h1_authority_valid(struct str a)
{
    size_t i = 0;
    if (a.len && a.p[0] == '[') {
        for (i = 1; i < a.len && a.p[i] != ']'; i++)
            if (!host_char((uint8_t)a.p[i]) && a.p[i] != ':')
                return false;
        if (i < 3 || i == a.len)
            return false;
        i++;
    } else {
        while (i < a.len && host_char((uint8_t)a.p[i]))
            i++;
        if (i == 0)
            return false;
    }
    return i == a.len || (a.p[i] == ':' && port_valid(str_n(a.p + i + 1, a.len - i - 1)));
}

static bool invalid_url(struct h1_error *err)
{
    return h1_refuse(err, 400, STR("http1.invalid_url"));
}

/* CONNECT's host and port (RFC 9112 3.2.3). */
static bool parse_authority_form(struct str target, struct headers *h, struct h1_error *err)
{
    ptrdiff_t colon = -1;
    for (size_t i = 0; i < target.len; i++)
        if (target.p[i] == ':')
            colon = (ptrdiff_t)i;
    if (colon < 0 || (size_t)colon + 1 == target.len || !h1_authority_valid(target))
        return invalid_url(err);
    if (target.p[0] == '[' && target.p[colon - 1] != ']')
        return invalid_url(err);
    h->authority = target;
    return true;
}

/* scheme://authority[/path][?query] (RFC 9112 3.2.2). */
static bool parse_absolute_form(struct str target, struct headers *h, struct h1_error *err)
{
    ptrdiff_t colon = str_find(target, STR("://"));
    if (colon <= 0)
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    struct str scheme = str_n(target.p, (size_t)colon);
    if (str_ieq(scheme, STR("http")))
        h->scheme = STR("http");
    else if (str_ieq(scheme, STR("https")))
        h->scheme = STR("https");
    else
        return h1_refuse(err, 400, STR("http1.invalid_scheme"));
    struct str rest = str_n(target.p + colon + 3, target.len - (size_t)colon - 3);
    size_t n = 0;
    while (n < rest.len && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    h->authority = str_n(rest.p, n);
    ptrdiff_t at = str_chr(h->authority, '@'); /* who is asked, not as whom (RFC 9110 4.2.4) */
    if (at >= 0)
        h->authority = str_n(rest.p + at + 1, n - (size_t)at - 1);
    if (!h1_authority_valid(h->authority))
        return invalid_url(err);
    h->path = str_n(rest.p + n, rest.len - n);
    if (h->path.len == 0)
        h->path = STR("/");
    else if (h->path.p[0] == '?')
        h->path = arena_printf(h->arena, "/%.*s", STR_ARG(h->path));
    return true;
}

static bool parse_target(struct str target, struct headers *h, struct h1_message *m,
                         struct h1_error *err)
{
    for (size_t i = 0; i < target.len; i++) {
        uint8_t c = (uint8_t)target.p[i];
        if (c > 0x7f)
            return h1_refuse(err, 400, H1_CODEC_ERROR);
        if (c == '#')
            return h1_refuse(err, 400, STR("path_normalization_failed"));
    }
    h->bytes += target.len;
    m->connect = str_eq(h->method, STR("CONNECT"));
    if (m->connect)
        return parse_authority_form(target, h, err);
    h->path = target;
    if (target.p[0] == '/')
        return true;
    if (str_eq(target, STR("*")))
        return str_eq(h->method, STR("OPTIONS")) || invalid_url(err);
    return parse_absolute_form(target, h, err);
}

/* --- start lines --- */

/* HTTP/d.d at p, at the end of a line. */
static bool parse_version(struct str v, const struct h1_rules *rules, struct headers *h,
                          struct h1_error *err)
{
    if (v.len != 8 || memcmp(v.p, "HTTP/", 5) != 0 || v.p[6] != '.' || v.p[5] < '0' ||
        v.p[5] > '9' || v.p[7] < '0' || v.p[7] > '9')
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    if (v.p[5] == '1' && v.p[7] == '1') {
        h->minor = 1;
        return true;
    }
    h->minor = 0;
    if (!rules->accept_http_10)
        return h1_refuse(err, 426, STR("low_version"));
    if (v.p[5] == '1' && v.p[7] == '0')
        return true;
    return h1_refuse(err, 400, H1_CODEC_ERROR);
}

/* method SP target SP version CRLF; *at then stands behind it. */
static bool parse_request_line(char **at, const struct h1_rules *rules, struct headers *h,
                               struct h1_message *m, struct h1_error *err)
{
    char *line = *at;
    char *p = line;
    while (h1_token_lower[(uint8_t)*p])
        p++;
    h->method = str_n(line, (size_t)(p - line));
    if (h->method.len == 0 || *p != ' ')
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    char *end = value_end(p);
    if (*end != '\r')
        return h1_refuse(err, 400, H1_INVALID_CHARACTERS);
    if (end[1] != '\n')
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    *at = end + 2;
    char *target = ++p;
    while (p < end && !is_blank(*p))
        p++;
    if (p == target)
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    if (p == end) /* HTTP/0.9 has no version */
        return rules->accept_http_10 ? h1_refuse(err, 400, H1_CODEC_ERROR)
                                     : h1_refuse(err, 426, STR("low_version"));
    if (*p != ' ')
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    h->bytes += h->method.len;
    if (!parse_version(str_n(p + 1, (size_t)(end - p) - 1), rules, h, err))
        return false;
    return parse_target(str_n(target, (size_t)(p - target)), h, m, err);
}

/* Host, exactly once (RFC 9112 3.2); an absolute target overrides it. HTTP/1.0 may lack it, if the
 * configuration says which it then is (RFC 9112 3.3). */
static bool read_host(struct headers *h, const struct h1_rules *rules, struct h1_error *err)
{
    struct header *host = headers_known(h, HDR_HOST);
    if (!host && !h->authority.p && h->minor == 0 && rules->default_host.len)
        h->authority = rules->default_host;
    if (!host)
        return h->authority.p || h1_refuse(err, 400, STR("missing_host_header"));
    if (headers_next(h, host) || !h1_authority_valid(host->value))
        return h1_refuse(err, 400, STR("http.invalid_authority"));
    if (!h->authority.p)
        h->authority = host->value;
    headers_remove_at(h, host);
    return true;
}

bool h1_parse_request(char *head, uint32_t lines, const struct h1_rules *rules, struct headers *h,
                      struct h1_message *m, struct h1_error *err)
{
    char *p = head;
    *m = (struct h1_message){.keep_alive = true};
    if (!parse_request_line(&p, rules, h, m, err) || !parse_fields(p, lines - 1, rules, h, err) ||
        !read_host(h, rules, err) || !read_framing(h, rules, m, err))
        return false;
    if (!read_persistence(h, m, !m->connect, rules))
        return h1_refuse(err, 400, STR("http1.connection_header_rejected"));
    struct header *expect = headers_known(h, HDR_EXPECT);
    m->expect_continue = expect && h->minor >= 1 && str_ieq(expect->value, STR("100-continue"));
    if (m->connect) { /* has no content (RFC 9110 9.3.6) */
        headers_remove_known(h, HDR_CONTENT_LENGTH);
        m->keep_alive = false;
        h->upgrade = true;
    }
    if (h->upgrade)
        m->body = H1_BODY_TUNNEL;
    return true;
}

/* HTTP/1.d SP status [SP reason] CRLF; *at then stands behind it. */
static bool parse_status_line(char **at, const struct h1_rules *rules, struct headers *h,
                              struct h1_error *err)
{
    char *p = *at;
    char *end = value_end(p);
    if (*end != '\r' || end[1] != '\n')
        return h1_refuse(err, 502, H1_CODEC_ERROR);
    *at = end + 2;
    size_t len = (size_t)(end - p);
    if (len < 12 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
        return h1_refuse(err, 502, H1_CODEC_ERROR);
    if (len > 12 && p[12] != ' ')
        return h1_refuse(err, 502, H1_CODEC_ERROR);
    uint64_t status;
    if (!str_to_u64(str_n(p + 9, 3), &status) || status < 100)
        return h1_refuse(err, 502, H1_CODEC_ERROR);
    if (rules->keep_reason && len > 13)
        h->reason = str_n(p + 13, len - 13);
    h->minor = p[7] == '1';
    h->status = (uint16_t)status;
    return true;
}

/* RFC 9112 6.3, 1 to 3 and 8. */
static bool settle_response_body(struct headers *h, bool to_head, struct h1_message *m,
                                 struct h1_error *err)
{
    bool never = h->status < 200 || h->status == 204;
    if (never && m->body != H1_BODY_NONE)
        return h1_refuse(err, 502, H1_CODEC_ERROR);
    if (never)
        headers_remove_known(h, HDR_CONTENT_LENGTH);
    if (never || h->status == 304 || to_head) {
        m->body = H1_BODY_NONE;
        m->length = 0;
    } else if (m->body == H1_BODY_NONE && !h->first[HDR_CONTENT_LENGTH]) {
        m->body = H1_BODY_CLOSE;
    }
    return true;
}

bool h1_parse_response(char *head, uint32_t lines, const struct h1_rules *rules, bool to_head,
                       struct headers *h, struct h1_message *m, struct h1_error *err)
{
    char *p = head;
    *m = (struct h1_message){.keep_alive = true};
    if (!parse_status_line(&p, rules, h, err) || !parse_fields(p, lines - 1, rules, h, err) ||
        !read_framing(h, rules, m, err) || !settle_response_body(h, to_head, m, err))
        return false;
    if (!read_persistence(h, m, h->status == 101, rules))
        return h1_refuse(err, 502, H1_CODEC_ERROR);
    if (m->body == H1_BODY_CLOSE)
        m->keep_alive = false;
    return true;
}

/* --- trailers --- */

bool h1_parse_trailers(char *section, uint32_t lines, const struct h1_rules *rules,
                       struct headers *h, struct h1_error *err)
{
    if (!parse_fields(section, lines, rules, h, err))
        return false;
    /* Nobody means well with a second framing or host. */
    if (h->first[HDR_CONTENT_LENGTH] || h->first[HDR_TRANSFER_ENCODING] || h->first[HDR_HOST])
        return h1_refuse(err, 400, H1_CODEC_ERROR);
    HEADERS_FOREACH(f, h) {
        if (!headers_may_trail(f))
            headers_remove_at(h, f);
    }
    return true;
}
