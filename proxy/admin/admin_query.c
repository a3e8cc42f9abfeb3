#include "proxy/admin/admin_query.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static struct str decode(struct str s, bool form, struct arena *a)
{
    char *out = arena_bytes(a, s.len);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        int high = -1, low = -1;
        if (s.p[i] == '%' && s.len - i > 2) {
            high = hex_digit(s.p[i + 1]);
            low = hex_digit(s.p[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            out[n++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[n++] = form && s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return str_n(out, n);
}

bool admin_query_parse(struct admin_query *q, struct str text, bool form, struct arena *a)
{
    struct str rest = text, token;
    size_t max = 1;
    for (size_t i = 0; i < text.len; i++)
        max += text.p[i] == '&';
    if (max > ADMIN_PARAMS_MAX)
        return false;
    *q = (struct admin_query){arena_alloc(a, max * sizeof(struct admin_param)), 0};
    while (str_next(&rest, '&', &token)) {
        if (token.len == 0)
            continue;
        ptrdiff_t eq = str_chr(token, '=');
        size_t len = eq < 0 ? token.len : (size_t)eq;
        struct str value = eq < 0 ? STR_NULL : str_n(token.p + len + 1, token.len - len - 1);
        q->params[q->num++] = (struct admin_param){decode(str_n(token.p, len), form, a),
                                                   decode(value, form, a)};
    }
    return true;
}

bool admin_query_get(const struct admin_query *q, const char *name, struct str *out)
{
    for (size_t i = 0; i < q->num; i++) {
        if (!str_eq(q->params[i].name, str_of(name)))
            continue;
        if (out)
            *out = q->params[i].value;
        return true;
    }
    return false;
}
