#include "tls/client_hello.h"

#include "base/cursor.h"

enum {
    CONTENT_HANDSHAKE = 22,
    HANDSHAKE_CLIENT_HELLO = 1,
    RECORD_HEADER = 5,
    HANDSHAKE_HEADER = 4,
    RECORD_MAX = 16384,
    EXT_SERVER_NAME = 0,
    EXT_ALPN = 16,
    EXT_SUPPORTED_VERSIONS = 43,
    NAME_TYPE_HOST = 0,
    SESSION_ID_MAX = 32,
    TLS_1_3 = 0x0304,
};

/* --- records --------------------------------------------------------------------------------- */

/* The first bytes tell TLS from everything else: content type, version 3.x, a length that a record
 * may have, and a ClientHello at its start. */
static enum client_hello_status check_start(struct str s)
{
    const uint8_t *p = (const uint8_t *)s.p;
    if (s.len > 0 && p[0] != CONTENT_HANDSHAKE)
        return CLIENT_HELLO_NOT_TLS;
    if (s.len > 1 && p[1] != 3)
        return CLIENT_HELLO_NOT_TLS;
    if (s.len > 2 && p[2] > 4)
        return CLIENT_HELLO_NOT_TLS;
    if (s.len > 3 && p[3] > RECORD_MAX >> 8)
        return CLIENT_HELLO_NOT_TLS;
    if (s.len > 4 && (p[3] == RECORD_MAX >> 8 ? p[4] != 0 : p[3] == 0 && p[4] == 0))
        return CLIENT_HELLO_NOT_TLS;
    if (s.len > RECORD_HEADER && p[RECORD_HEADER] != HANDSHAKE_CLIENT_HELLO)
        return CLIENT_HELLO_NOT_TLS;
    return s.len > RECORD_HEADER ? CLIENT_HELLO_OK : CLIENT_HELLO_NEED_MORE;
}

/* The handshake message put together from records. */
struct message {
    struct str bytes; /* what is there of it: in the input, or in the workspace */
    size_t want;      /* header and body, 0 while the header is not complete */
    char *workspace;
};

static void append_fragment(struct message *m, struct str fragment)
{
    if (m->bytes.len == 0) {
        m->bytes = fragment;
        return;
    }
    if (m->bytes.p != m->workspace)
        memcpy(m->workspace, m->bytes.p, m->bytes.len);
    memcpy(m->workspace + m->bytes.len, fragment.p, fragment.len);
    m->bytes.p = m->workspace;
    m->bytes.len += fragment.len;
}

static bool message_size(struct message *m, size_t max)
{
    struct cursor c = cursor_of(m->bytes);
    uint8_t type;
    uint32_t len;
    if (m->want || !cursor_u8(&c, &type) || !cursor_u24(&c, &len))
        return true;
    m->want = HANDSHAKE_HEADER + len;
    return m->want <= max;
}

/* Reads one record. OK: taken; NEED_MORE: it is not all there, but what is there of it was taken.
 */
static enum client_hello_status take_record(struct cursor *in, struct message *m, size_t *missing)
{
    uint8_t type, major, minor;
    uint16_t len;
    struct str fragment;
    struct cursor at = *in;
    if (!cursor_u8(&at, &type) || !cursor_u8(&at, &major) || !cursor_u8(&at, &minor) ||
        !cursor_u16(&at, &len)) {
        *missing = RECORD_HEADER - in->len;
        return CLIENT_HELLO_NEED_MORE;
    }
    if (type != CONTENT_HANDSHAKE || major != 3 || len == 0 || len > RECORD_MAX)
        return CLIENT_HELLO_ERROR;
    bool whole = cursor_bytes(&at, len, &fragment);
    if (!whole)
        fragment = cursor_rest(&at);
    append_fragment(m, fragment);
    *missing = whole ? 0 : len - fragment.len;
    *in = at;
    return whole ? CLIENT_HELLO_OK : CLIENT_HELLO_NEED_MORE;
}

static enum client_hello_status gather(struct str bytes, size_t max, struct message *m,
                                       size_t *need)
{
    struct cursor in = cursor_of(bytes);
    for (;;) {
        size_t missing = 0;
        enum client_hello_status st = take_record(&in, m, &missing);
        if (st == CLIENT_HELLO_ERROR)
            return CLIENT_HELLO_ERROR;
        if (!message_size(m, max))
            return CLIENT_HELLO_TOO_LARGE;
        if (m->want && m->bytes.len >= m->want) {
            m->bytes.len = m->want;
            return CLIENT_HELLO_OK;
        }
        if (st == CLIENT_HELLO_NEED_MORE) {
            *need = bytes.len + missing;
            return CLIENT_HELLO_NEED_MORE;
        }
    }
}

/* --- the message ---------------------------------------------------------------------------------
 */

static bool read_name(struct cursor ext, struct client_hello *out)
{
    struct cursor list, name;
    uint8_t type;
    /* RFC 6066, section 3: at most one name of a type; only host names are defined. */
    if (!cursor_vec16(&ext, &list) || ext.len || !cursor_u8(&list, &type) ||
        type != NAME_TYPE_HOST || !cursor_vec16(&list, &name) || list.len || name.len == 0 ||
        name.len > CLIENT_HELLO_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.p[i];
        if (c <= ' ' || c > '~')
            return false;
        out->sni_text[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    out->sni_text[name.len] = 0;
    out->sni = str_n(out->sni_text, name.len);
    return true;
}

static bool read_alpn(struct cursor ext, struct client_hello *out)
{
    struct cursor list, name;
    if (!cursor_vec16(&ext, &list) || ext.len || list.len == 0)
        return false;
    while (list.len) {
        if (!cursor_vec8(&list, &name) || name.len == 0 || out->num_alpn == CLIENT_HELLO_ALPN_MAX)
            return false;
        out->alpn[out->num_alpn++] = cursor_rest(&name);
    }
    return true;
}

static bool read_versions(struct cursor ext, struct client_hello *out)
{
    struct cursor list;
    uint16_t version;
    if (!cursor_vec8(&ext, &list) || ext.len || list.len == 0)
        return false;
    out->max_version = 0;
    while (list.len) {
        if (!cursor_u16(&list, &version))
            return false;
        /* What is higher is reserved values sent on purpose (RFC 8701) or drafts. */
        if (version <= TLS_1_3 && version > out->max_version)
            out->max_version = version;
    }
    return true;
}

static bool read_extensions(struct cursor exts, struct client_hello *out)
{
    bool name = false, alpn = false, versions = false;
    while (exts.len) {
        uint16_t type;
        struct cursor body;
        bool *seen = NULL, ok = true;
        if (!cursor_u16(&exts, &type) || !cursor_vec16(&exts, &body))
            return false;
        if (type == EXT_SERVER_NAME) {
            seen = &name;
            ok = !name && read_name(body, out);
        } else if (type == EXT_ALPN) {
            seen = &alpn;
            ok = !alpn && read_alpn(body, out);
        } else if (type == EXT_SUPPORTED_VERSIONS) {
            seen = &versions;
            ok = !versions && read_versions(body, out);
        }
        if (!ok)
            return false;
        if (seen)
            *seen = true;
    }
    return true;
}

static bool read_hello(struct str bytes, struct client_hello *out)
{
    struct cursor c = cursor_of(bytes), part;
    if (!cursor_skip(&c, HANDSHAKE_HEADER) || !cursor_u16(&c, &out->max_version) ||
        !cursor_skip(&c, 32))
        return false;
    if (!cursor_vec8(&c, &part) || part.len > SESSION_ID_MAX)
        return false;
    if (!cursor_vec16(&c, &part) || part.len == 0 || part.len % 2)
        return false;
    if (!cursor_vec8(&c, &part) || part.len == 0)
        return false;
    if (c.len == 0)
        return true;
    return cursor_vec16(&c, &part) && c.len == 0 && read_extensions(part, out);
}

enum client_hello_status client_hello_parse(struct str bytes, size_t max, void *workspace,
                                            struct client_hello *out)
{
    struct message m = {.workspace = workspace};
    out->sni = STR_NULL;
    out->num_alpn = 0;
    out->max_version = 0;
    out->need = bytes.len + 1;
    enum client_hello_status st = check_start(bytes);
    if (st != CLIENT_HELLO_OK) {
        if (st == CLIENT_HELLO_NEED_MORE)
            out->need = RECORD_HEADER + HANDSHAKE_HEADER;
        return st;
    }
    st = gather(bytes, max ? max : CLIENT_HELLO_MAX, &m, &out->need);
    if (st != CLIENT_HELLO_OK)
        return st;
    return read_hello(m.bytes, out) ? CLIENT_HELLO_OK : CLIENT_HELLO_ERROR;
}
