#include "proxy/http/path.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 section 2.3. */
static bool unreserved(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static size_t query_start(struct str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.p[i] == '?' || path.p[i] == '#')
            return i;
    }
    return path.len;
}

/* Replaces the path part, keeping the query. */
static enum path_result put(struct arena *a, struct str *path, size_t end, struct str made)
{
    if (made.len == end && memcmp(made.p, path->p, end) == 0)
        return PATH_OK;
    size_t rest = path->len - end;
    char *p = arena_bytes(a, made.len + rest);
    memcpy(p, made.p, made.len);
    if (rest)
        memcpy(p + made.len, path->p + end, rest);
    *path = str_n(p, made.len + rest);
    return PATH_CHANGED;
}

/* Drops the last segment of what was written so far, "/a/b/" -> "/a/"; nothing is above the root.
 */
static void drop_segment(const char *p, size_t *n)
{
    if (*n <= 1)
        return;
    size_t i = *n - 1;
    while (i > 0 && p[i - 1] != '/')
        i--;
    *n = i;
}

/* Called at the end of a segment that began at `from`: "." and ".." go, leaving the '/' before
 * them; true if it stays. Parameters change nothing: servers that know them read "..;x" as ".."
 * (CVE-2026-73551). */
static bool end_segment(char *p, size_t *n, size_t from)
{
    const char *params = memchr(p + from, ';', *n - from);
    size_t len = params ? (size_t)(params - p) - from : *n - from;
    if (len == 1 && p[from] == '.') {
        *n = from;
        return false;
    }
    if (len == 2 && p[from] == '.' && p[from + 1] == '.') {
        *n = from;
        drop_segment(p, n);
        return false;
    }
    return true;
}

/* What a normal path holds only as an escape. Bytes outside of ASCII, spaces and controls do not
 * come here. */
static bool must_escape(char c)
{
    return c == '"' || c == '<' || c == '>' || c == '^' || c == '`' || c == '{' || c == '|' ||
           c == '}';
}

static bool is_normal(struct str path)
{
    for (size_t i = 0; i < path.len; i++) {
        char c = path.p[i];
        if (c == '%' || c == '\\' || must_escape(c) || (c == '.' && i > 0 && path.p[i - 1] == '/'))
            return false;
    }
    return true;
}

/* The byte at *i, an escape of an unreserved character decoded (and stepped over); -1: NUL. A '%'
 * that begins no escape stays. */
static int next_byte(struct str path, size_t end, size_t *i)
{
    char c = path.p[*i];
    if (c == '\\')
        return '/';
    if (c != '%')
        return (unsigned char)c;
    int hi = *i + 3 <= end ? hex(path.p[*i + 1]) : -1;
    int lo = *i + 3 <= end ? hex(path.p[*i + 2]) : -1;
    if (hi < 0 || lo < 0)
        return '%';
    int code = hi * 16 + lo;
    if (code == 0)
        return -1;
    if (!unreserved(code))
        return '%';
    *i += 2;
    return code;
}

enum path_result path_normalize(struct arena *a, struct str *path)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t end = query_start(*path);
    if (is_normal(str_n(path->p, end)))
        return PATH_OK;
    char *out = arena_bytes(a, 3 * end + 1);
    size_t n = 0, from = 0; /* `from`: where the segment being written began */
    for (size_t i = 0; i < end; i++) {
        int c = next_byte(*path, end, &i);
        if (c < 0)
            return PATH_REJECTED;
        if (c == '/') {
            if (n == 0 || end_segment(out, &n, from))
                out[n++] = '/';
            from = n;
        } else if (must_escape((char)c)) {
            out[n++] = '%';
            out[n++] = digits[c >> 4];
            out[n++] = digits[c & 15];
        } else {
            out[n++] = (char)c;
        }
    }
    (void)end_segment(out, &n, from);
    return put(a, path, end, str_n(out, n));
}

enum path_result path_merge_slashes(struct arena *a, struct str *path)
{
    size_t end = query_start(*path);
    if (str_find(str_n(path->p, end), STR("//")) < 0)
        return PATH_OK;
    char *out = arena_bytes(a, end);
    size_t n = 0;
    for (size_t i = 0; i < end; i++) {
        if (path->p[i] != '/' || n == 0 || out[n - 1] != '/')
            out[n++] = path->p[i];
    }
    return put(a, path, end, str_n(out, n));
}

enum path_result path_escaped_slashes(struct arena *a, struct str *path)
{
    size_t end = query_start(*path);
    char *out = arena_bytes(a, end);
    size_t n = 0;
    for (size_t i = 0; i < end; i++) {
        char c = path->p[i];
        int hi = c == '%' && i + 3 <= end ? hex(path->p[i + 1]) : -1;
        int lo = hi >= 0 ? hex(path->p[i + 2]) : -1;
        int code = lo >= 0 ? hi * 16 + lo : 0;
        if (code == '/' || code == '\\') {
            c = (char)code;
            i += 2;
        }
        out[n++] = c;
    }
    return put(a, path, end, str_n(out, n));
}
