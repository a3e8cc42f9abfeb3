#include "proxy/http/h2_head.h"

#include "proxy/http/h1_message.h"
#include "proxy/http/h1_parse.h"

enum {
    MAX_CRUMBS = 1000, /* a browser sends one for each cookie */
    PATIENCE = 8       /* times max_bytes, then nobody should decode on */
};

#define INVALID_FIELD STR("http2.invalid.header.field")
#define MESSAGING STR("http2.violation.of.messaging.rule")
#define TOO_MANY STR("http2.too_many_headers")

struct h2_crumb {
    struct h2_crumb *next;
    struct str value;
};

void h2_head_begin(struct h2_head *d, enum h2_head_kind kind, struct headers *h)
{
    *d = (struct h2_head){.h = h, .kind = kind};
}

static void wrong(struct h2_head *d, enum h2_head_verdict v, struct str detail)
{
    if (d->verdict != H2_HEAD_OK)
        return;
    d->verdict = v;
    d->detail = detail;
}

static void malformed(struct h2_head *d, struct str detail)
{
    wrong(d, H2_HEAD_MALFORMED, detail);
}

/* --- fields --- */

static bool name_valid(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = (uint8_t)name.p[i];
        if (h1_token_lower[c] !=
            c) /* 0 for what is no token; an upper-case letter is not its own */
            return false;
    }
    return name.len > 0;
}

static bool value_valid(struct str v)
{
    for (size_t i = 0; i < v.len; i++)
        if (!h1_value_char((uint8_t)v.p[i]))
            return false;
    return v.len == 0 ||
           (v.p[0] != ' ' && v.p[0] != '\t' && v.p[v.len - 1] != ' ' && v.p[v.len - 1] != '\t');
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!h1_token_lower[(uint8_t)s.p[i]])
            return false;
    return s.len > 0;
}

static void set_once(struct h2_head *d, struct str *field, struct str value)
{
    if (field->p)
        malformed(d, MESSAGING);
    *field = arena_str(d->h->arena, value);
}

static void set_status(struct h2_head *d, struct str value)
{
    uint64_t status = 0;
    if (d->h->status || value.len != 3 || !str_to_u64(value, &status) || status < 100)
        malformed(d, MESSAGING);
    else
        d->h->status = (uint16_t)status;
}

static void pseudo_header(struct h2_head *d, const struct h2_head_rules *rules, struct str name,
                          struct str value)
{
    struct headers *h = d->h;
    bool request = d->kind == H2_HEAD_REQUEST;
    if (d->regular || d->kind == H2_HEAD_TRAILERS || !value_valid(value))
        malformed(d, MESSAGING);
    else if (d->kind == H2_HEAD_RESPONSE && str_eq(name, STR(":status")))
        set_status(d, value);
    else if (request && str_eq(name, STR(":method")))
        set_once(d, &h->method, value);
    else if (request && str_eq(name, STR(":path")))
        set_once(d, &h->path, value);
    else if (request && str_eq(name, STR(":scheme")))
        set_once(d, &h->scheme, value);
    else if (request && str_eq(name, STR(":authority")))
        set_once(d, &h->authority, value);
    else if (request && rules->allow_connect && str_eq(name, STR(":protocol")))
        set_once(d, &d->protocol, value);
    else
        malformed(d, MESSAGING);
}

static void add_crumb(struct h2_head *d, struct str value)
{
    struct h2_crumb *c = ARENA_NEW(d->h->arena, struct h2_crumb);
    c->value = arena_str(d->h->arena, value);
    if (d->last_crumb)
        d->last_crumb->next = c;
    else
        d->crumbs = c;
    d->last_crumb = c;
}

static void content_length(struct h2_head *d, struct str value)
{
    if (d->has_length || !str_to_u64(value, &d->length))
        malformed(d, MESSAGING);
    d->has_length = true;
}

/* What has a meaning of its own; true: it is not to be added as it is. */
static bool special(struct h2_head *d, enum header_id id, struct str value)
{
    switch ((unsigned)id) {
    case HDR_CONNECTION:
    case HDR_KEEP_ALIVE:
    case HDR_PROXY_CONNECTION:
    case HDR_TRANSFER_ENCODING:
    case HDR_UPGRADE:
        malformed(d, MESSAGING); /* RFC 9113 8.2.2 */
        return true;
    case HDR_TE:
        if (!str_ieq(value, STR("trailers")))
            malformed(d, MESSAGING);
        return false;
    case HDR_CONTENT_LENGTH:
        content_length(d, value);
        return false;
    case HDR_EXPECT:
        d->expect_continue = str_ieq(value, STR("100-continue"));
        return false;
    case HDR_HOST:
        if (d->kind != H2_HEAD_REQUEST)
            return false;
        set_once(d, &d->host, value);
        return true;
    case HDR_COOKIE:
        if (d->kind != H2_HEAD_REQUEST)
            return false;
        add_crumb(d, value);
        return true;
    default:
        return false;
    }
}

static void regular_field(struct h2_head *d, struct str name, struct str value)
{
    struct headers *h = d->h;
    d->regular = true;
    if (!name_valid(name) || !value_valid(value)) {
        malformed(d, INVALID_FIELD);
        return;
    }
    if (special(d, header_id_of(name), value) || d->verdict != H2_HEAD_OK)
        return;
    headers_add(h, arena_str(h->arena, name), arena_str(h->arena, value));
}

bool h2_head_field(struct h2_head *d, const struct h2_head_rules *rules, struct str name,
                   struct str value)
{
    bool crumb = str_eq(name, STR("cookie"));
    d->h->bytes += name.len + value.len;
    if (crumb)
        d->num_crumbs++;
    else if (!(name.len && name.p[0] == ':'))
        d->count++;
    if (d->h->bytes > rules->max_bytes)
        wrong(d, H2_HEAD_TOO_LARGE, STR("http2.headers_too_large"));
    else if (d->count > rules->max_count || d->num_crumbs > MAX_CRUMBS)
        wrong(d, H2_HEAD_TOO_LARGE, TOO_MANY);
    if (d->verdict == H2_HEAD_TOO_LARGE)
        return d->h->bytes <= (size_t)rules->max_bytes * PATIENCE;
    if (d->verdict != H2_HEAD_OK)
        return true;
    if (name.len && name.p[0] == ':')
        pseudo_header(d, rules, name, value);
    else
        regular_field(d, name, value);
    return true;
}

/* --- the whole --- */

/* RFC 9113 8.2.3. */
static void join_crumbs(struct h2_head *d)
{
    if (!d->crumbs)
        return;
    size_t len = 0;
    for (const struct h2_crumb *c = d->crumbs; c; c = c->next)
        len += c->value.len + 2;
    char *text = arena_bytes(d->h->arena, len), *p = text;
    for (const struct h2_crumb *c = d->crumbs; c; c = c->next) {
        if (c->value.len)
            memcpy(p, c->value.p, c->value.len);
        p += c->value.len;
        *p++ = ';';
        *p++ = ' ';
    }
    headers_add_known(d->h, HDR_COOKIE, str_n(text, len - 2));
}

static bool path_valid(struct h2_head *d)
{
    struct str path = d->h->path;
    if (path.len == 0)
        return false;
    for (size_t i = 0; i < path.len; i++) {
        uint8_t c = (uint8_t)path.p[i];
        if (c <= 0x20 || c == 0x7f)
            return false;
    }
    if (path.p[0] != '/' && !(str_eq(path, STR("*")) && str_eq(d->h->method, STR("OPTIONS"))))
        return false;
    for (size_t i = 0; i < path.len; i++)
        if ((uint8_t)path.p[i] > 0x7f || path.p[i] == '#')
            wrong(d, H2_HEAD_REFUSED, STR("path_normalization_failed"));
    return true;
}

static bool scheme_valid(struct headers *h)
{
    if (str_ieq(h->scheme, STR("http")))
        h->scheme = STR("http");
    else if (str_ieq(h->scheme, STR("https")))
        h->scheme = STR("https");
    else
        return false;
    return true;
}

/* RFC 8441 as the rest of the proxy knows it: an upgrade of HTTP/1.1. */
static bool extended_connect(struct h2_head *d)
{
    struct headers *h = d->h;
    if (!str_eq(h->method, STR("CONNECT")) || !is_token(d->protocol))
        return false;
    d->extended = true;
    h->upgrade = true;
    h->method = STR("GET");
    headers_add_known(h, HDR_CONNECTION, STR("upgrade"));
    headers_add_known(h, HDR_UPGRADE, d->protocol);
    return true;
}

static bool target_valid(struct h2_head *d)
{
    struct headers *h = d->h;
    if (!is_token(h->method))
        return false;
    if (str_eq(h->method, STR("CONNECT")) && !d->protocol.p) /* RFC 9113 8.5 */
        return !h->path.p && !h->scheme.p && h->authority.len > 0;
    if (d->protocol.p && (!extended_connect(d) || !h->authority.len))
        return false;
    return scheme_valid(h) && path_valid(d);
}

static void settle_authority(struct h2_head *d)
{
    struct headers *h = d->h;
    if (d->host.p && h->authority.p && !str_ieq(d->host, h->authority)) {
        malformed(d, MESSAGING); /* RFC 9113 8.3.1 */
        return;
    }
    if (!h->authority.p)
        h->authority = d->host;
    if (!h->authority.p)
        wrong(d, H2_HEAD_REFUSED, STR("missing_host_header"));
    else if (!h1_authority_valid(h->authority))
        wrong(d, H2_HEAD_REFUSED, STR("http.invalid_authority"));
}

static void settle_response(struct h2_head *d, bool end)
{
    struct headers *h = d->h;
    if (h->status == 0 || h->status == 101 || (h->status < 200 && (end || d->has_length)))
        malformed(d, MESSAGING); /* RFC 9113 8.1 and 8.6 */
}

static void settle_trailers(struct h2_head *d, bool end)
{
    if (!end || d->has_length || d->h->first[HDR_HOST])
        malformed(d, MESSAGING);
    HEADERS_FOREACH(f, d->h) {
        if (!headers_may_trail(f))
            headers_remove_at(d->h, f);
    }
}

enum h2_head_verdict h2_head_end(struct h2_head *d, const struct h2_head_rules *rules, bool end)
{
    d->h->minor = HEADERS_HTTP2;
    if (d->verdict != H2_HEAD_OK)
        return d->verdict;
    switch (d->kind) {
    case H2_HEAD_REQUEST:
        if (!target_valid(d))
            malformed(d, MESSAGING);
        settle_authority(d);
        join_crumbs(d);
        break;
    case H2_HEAD_RESPONSE:
        settle_response(d, end);
        break;
    case H2_HEAD_TRAILERS:
        settle_trailers(d, end);
        break;
    }
    return d->verdict;
}
