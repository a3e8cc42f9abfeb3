#include "proxy/observe/format_http.h"

/* --- headers -----------------------------------------------------------------------------------
 */

static struct str lower(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] | 0x20 : s.p[i]);
    return str_n(p, s.len);
}

/* A header's name as it may stand in a format: RFC 9110 tokens, and ':' of pseudo-headers. */
static bool name_ok(struct str s)
{
    static const char others[] = "!#$%&'*+-.^_`|~:";
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || !strchr(others, c)))
            return false;
    }
    return true;
}

static void prepare_header(struct format_header *h, struct arena *a, struct str name)
{
    static const struct {
        struct str name;
        enum format_header_kind kind;
    } pseudo[] = {
        {STR(":path"), FORMAT_HEADER_PATH},           {STR(":method"), FORMAT_HEADER_METHOD},
        {STR(":authority"), FORMAT_HEADER_AUTHORITY}, {STR("host"), FORMAT_HEADER_AUTHORITY},
        {STR(":scheme"), FORMAT_HEADER_SCHEME},       {STR(":status"), FORMAT_HEADER_STATUS},
    };
    h->name = lower(a, name);
    h->id = header_id_of(h->name);
    h->kind = h->id == HDR_OTHER ? FORMAT_HEADER_NAMED : FORMAT_HEADER_KNOWN;
    if (!name.len || name.p[0] == ':')
        h->kind = FORMAT_HEADER_NONE;
    for (size_t i = 0; i < ARRAY_LEN(pseudo); i++) {
        if (str_eq(h->name, pseudo[i].name))
            h->kind = pseudo[i].kind;
    }
}

bool format_header_prepare(struct format_op *op, struct arena *a, struct str param,
                           struct errors *e)
{
    struct str rest = param, name = STR_NULL, other = STR_NULL, more;
    (void)str_next(&rest, '?', &name);
    (void)str_next(&rest, '?', &other);
    if (str_next(&rest, '?', &more)) {
        errors_add(e, NULL, "%s(%.*s): more than one alternative header", op->def->name,
                   STR_ARG(param));
        return false;
    }
    if (!name_ok(name) || !name_ok(other)) {
        errors_add(e, NULL, "%s(%.*s): not a header name", op->def->name, STR_ARG(param));
        return false;
    }
    prepare_header(&op->header, a, name);
    prepare_header(&op->other, a, other);
    return true;
}

static struct str value_of(const struct header *f)
{
    if (!f)
        return STR_NULL;
    return f->value.p ? f->value : STR("");
}

/* The first value; p NULL: there is none. A status is written to digits. */
static struct str find(const struct headers *h, const struct format_header *want, char *digits)
{
    if (!h)
        return STR_NULL;
    switch (want->kind) {
    case FORMAT_HEADER_NONE:
        return STR_NULL;
    case FORMAT_HEADER_PATH:
        return h->path;
    case FORMAT_HEADER_METHOD:
        return h->method;
    case FORMAT_HEADER_AUTHORITY:
        return h->authority;
    case FORMAT_HEADER_SCHEME:
        return h->scheme;
    case FORMAT_HEADER_STATUS:
        return h->status ? format_u64(h->status, digits) : STR_NULL;
    case FORMAT_HEADER_KNOWN:
        return value_of(headers_known(h, want->id));
    case FORMAT_HEADER_NAMED:
        return value_of(headers_find(h, want->name));
    }
    return STR_NULL;
}

static struct str find_either(const struct format_op *op, const struct headers *h, char *digits)
{
    struct str s = find(h, &op->header, digits);
    return s.p ? s : find(h, &op->other, digits);
}

static bool put_header(const struct format_op *op, const struct headers *h, struct format_out *o)
{
    char digits[FORMAT_U64_MAX];
    struct str s = find_either(op, h, digits);
    if (s.p)
        format_out_put(o, s);
    return s.p != NULL;
}

bool format_req_put(const struct format_op *op, const struct stream_info *si, struct format_out *o)
{
    return put_header(op, si->request, o);
}

bool format_resp_put(const struct format_op *op, const struct stream_info *si, struct format_out *o)
{
    return put_header(op, si->response, o);
}

bool format_trailer_put(const struct format_op *op, const struct stream_info *si,
                        struct format_out *o)
{
    return put_header(op, si->response_trailers, o);
}

static struct str without_query(struct str s)
{
    ptrdiff_t at = str_chr(s, '?');
    return at < 0 ? s : str_n(s.p, (size_t)at);
}

bool format_req_without_query_put(const struct format_op *op, const struct stream_info *si,
                                  struct format_out *o)
{
    char digits[FORMAT_U64_MAX];
    struct str s = find_either(op, si->request, digits);
    if (s.p)
        format_out_put(o, without_query(s));
    return s.p != NULL;
}

static int64_t head_bytes(const struct headers *h)
{
    if (!h)
        return 0;
    size_t n = 0;
    n += h->method.p ? sizeof(":method") - 1 + h->method.len : 0;
    n += h->path.p ? sizeof(":path") - 1 + h->path.len : 0;
    n += h->authority.p ? sizeof(":authority") - 1 + h->authority.len : 0;
    n += h->scheme.p ? sizeof(":scheme") - 1 + h->scheme.len : 0;
    n += h->status ? sizeof(":status") - 1 + 3 : 0;
    HEADERS_FOREACH(f, h)
        n += f->name.len + f->value.len;
    return (int64_t)n;
}

bool format_request_bytes_get(const struct format_op *op, const struct stream_info *si,
                              int64_t *out)
{
    *out = head_bytes(si->request);
    return true;
}

bool format_response_bytes_get(const struct format_op *op, const struct stream_info *si,
                               int64_t *out)
{
    *out = head_bytes(si->response);
    return true;
}

bool format_trailers_bytes_get(const struct format_op *op, const struct stream_info *si,
                               int64_t *out)
{
    *out = head_bytes(si->response_trailers);
    return true;
}

/* --- path and query -----------------------------------------------------------------------------
 */

enum { PATH_NO_QUERY = 1, PATH_CURRENT = 2, PATH_ORIGINAL = 4 };

bool format_path_prepare(struct format_op *op, struct arena *a, struct str param, struct errors *e)
{
    struct str rest = param, query = STR_NULL, which = STR_NULL;
    (void)str_next(&rest, ':', &query);
    (void)str_next(&rest, ':', &which);
    op->option = PATH_CURRENT | PATH_ORIGINAL;
    if (str_eq(which, STR("PATH")))
        op->option = PATH_CURRENT;
    else if (str_eq(which, STR("ORIG")))
        op->option = PATH_ORIGINAL;
    else if (which.len && !str_eq(which, STR("ORIG_OR_PATH")))
        errors_add(e, NULL, "PATH: PATH, ORIG or ORIG_OR_PATH, not %.*s", STR_ARG(which));
    bool bad = which.len && op->option == (PATH_CURRENT | PATH_ORIGINAL) &&
               !str_eq(which, STR("ORIG_OR_PATH"));
    if (str_eq(query, STR("NQ")))
        op->option |= PATH_NO_QUERY;
    else if (query.len && !str_eq(query, STR("WQ"))) {
        errors_add(e, NULL, "PATH: WQ or NQ, not %.*s", STR_ARG(query));
        bad = true;
    }
    return !bad;
}

bool format_path_put(const struct format_op *op, const struct stream_info *si, struct format_out *o)
{
    struct str s = STR_NULL;
    if (!si->request)
        return false;
    if (op->option & PATH_ORIGINAL) {
        struct header *f = headers_known(si->request, HDR_X_ENVOY_ORIGINAL_PATH);
        s = f ? f->value : STR_NULL;
    }
    if (!s.p && (op->option & PATH_CURRENT))
        s = si->request->path;
    if (!s.p)
        return false;
    format_out_put(o, op->option & PATH_NO_QUERY ? without_query(s) : s);
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte at offset *i, decoded; moves *i behind it. What is no escape is itself. */
static char decoded_at(struct str s, size_t *i)
{
    char c = s.p[*i];
    if (c == '%' && s.len - *i >= 3) {
        int high = hex_digit(s.p[*i + 1]), low = hex_digit(s.p[*i + 2]);
        if (high >= 0 && low >= 0) {
            *i += 3;
            return (char)(high << 4 | low);
        }
    }
    *i += 1;
    return c;
}

static bool decoded_eq(struct str encoded, struct str text)
{
    size_t n = 0;
    for (size_t i = 0; i < encoded.len; n++) {
        char c = decoded_at(encoded, &i);
        if (n >= text.len || c != text.p[n])
            return false;
    }
    return n == text.len;
}

/* A value may be longer than any buffer here: in pieces. JSON asks for its escapes piece by piece,
 * so a piece must not end inside a UTF-8 sequence. */
static void put_decoded(struct str s, struct format_out *o)
{
    char buf[256];
    size_t n = 0;
    bool any = false;
    for (size_t i = 0; i < s.len;) {
        char c = decoded_at(s, &i);
        bool starts = ((unsigned char)c & 0xc0) != 0x80;
        if (n == sizeof(buf) || (starts && n > sizeof(buf) - 4)) {
            format_out_put(o, str_n(buf, n));
            any = true;
            n = 0;
        }
        buf[n++] = c;
    }
    if (n || !any)
        format_out_put(o, str_n(buf, n));
}

/* The query of the path as it came (or as it is, if it was not changed). */
static bool query_of(const struct stream_info *si, struct str *out)
{
    if (!si->request)
        return false;
    struct header *f = headers_known(si->request, HDR_X_ENVOY_ORIGINAL_PATH);
    struct str path = f ? f->value : si->request->path;
    ptrdiff_t at = str_chr(path, '?');
    if (at < 0)
        return false;
    *out = str_n(path.p + at + 1, path.len - (size_t)at - 1);
    return true;
}

bool format_query_param_prepare(struct format_op *op, struct arena *a, struct str param,
                                struct errors *e)
{
    op->name = arena_str(a, param);
    return true;
}

bool format_query_param_put(const struct format_op *op, const struct stream_info *si,
                            struct format_out *o)
{
    struct str rest, item;
    if (!query_of(si, &rest))
        return false;
    while (str_next(&rest, '&', &item)) {
        ptrdiff_t at = str_chr(item, '=');
        struct str key = at < 0 ? item : str_n(item.p, (size_t)at);
        if (!item.len || !decoded_eq(key, op->name))
            continue;
        put_decoded(at < 0 ? STR("") : str_n(item.p + at + 1, item.len - (size_t)at - 1), o);
        return true;
    }
    return false;
}

bool format_query_params_prepare(struct format_op *op, struct arena *a, struct str param,
                                 struct errors *e)
{
    if (!param.len || str_eq(param, STR("ORIG")))
        return true;
    errors_add(e, NULL, "QUERY_PARAMS(%.*s) is not supported: ORIG is", STR_ARG(param));
    return false;
}

bool format_query_params_put(const struct format_op *op, const struct stream_info *si,
                             struct format_out *o)
{
    struct str query;
    if (!query_of(si, &query))
        return false;
    format_out_put(o, query);
    return true;
}

/* --- server name --------------------------------------------------------------------------------
 */

enum { NAME_SNI_ONLY, NAME_SNI_FIRST, NAME_HOST_FIRST };

bool format_server_name_prepare(struct format_op *op, struct arena *a, struct str param,
                                struct errors *e)
{
    if (!param.len || str_eq(param, STR("SNI_ONLY")))
        op->option = NAME_SNI_ONLY;
    else if (str_eq(param, STR("SNI_FIRST")))
        op->option = NAME_SNI_FIRST;
    else if (str_eq(param, STR("HOST_FIRST")))
        op->option = NAME_HOST_FIRST;
    else {
        errors_add(e, NULL, "REQUESTED_SERVER_NAME: SNI_ONLY, SNI_FIRST or HOST_FIRST, not %.*s",
                   STR_ARG(param));
        return false;
    }
    return true;
}

/* Whoever connects chooses the SNI: nothing of it may look like another field of the line. */
static void put_host_name(struct str s, struct format_out *o)
{
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '-' || c == '.';
        if (ok)
            continue;
        if (i > from)
            format_out_put(o, str_n(s.p + from, i - from));
        format_out_put(o, STR("_"));
        from = i + 1;
    }
    if (from < s.len)
        format_out_put(o, str_n(s.p + from, s.len - from));
}

bool format_server_name_put(const struct format_op *op, const struct stream_info *si,
                            struct format_out *o)
{
    struct str sni = si->conn ? si->conn->sni : STR_NULL;
    struct str host = si->request ? si->request->authority : STR_NULL;
    bool by_host = host.len &&
                   (op->option == NAME_HOST_FIRST || (op->option == NAME_SNI_FIRST && !sni.len));
    if (by_host) {
        format_out_put(o, host);
        return true;
    }
    if (sni.len)
        put_host_name(sni, o);
    return sni.len > 0;
}
