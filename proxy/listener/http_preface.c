#include "proxy/listener/http_preface.h"

#include <ctype.h>

#define PREFACE STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
#define VERSION STR("HTTP/") /* and a digit, a dot, a digit */

/* One line, byte by byte. */
struct line {
    struct str s;
    size_t at;
};

/* The next byte, or -1: none yet. The end of the line is '\n' in either form. */
static int look(const struct line *l)
{
    if (l->at == l->s.len)
        return -1;
    unsigned char c = (unsigned char)l->s.p[l->at];
    return c == '\r' ? '\n' : c;
}

static bool is_blank(int c)
{
    return c == ' ' || c == '\t';
}

/* RFC 9110 section 5.6.2: tchar. */
static bool is_token(int c)
{
    return (c < 0x80 && isalnum(c)) || (c > 0 && c < 0x80 && strchr("!#$%&'*+-.^_`|~", c));
}

static void skip_blanks(struct line *l)
{
    while (is_blank(look(l)))
        l->at++;
}

/* A step ends with one of these; the first two end the whole. */
enum step { STEP_MORE, STEP_NONE, STEP_NEXT };

static enum step method(struct line *l)
{
    while (is_token(look(l)))
        l->at++;
    if (look(l) < 0)
        return STEP_MORE;
    if (l->at == 0 || !is_blank(look(l)))
        return STEP_NONE;
    return STEP_NEXT;
}

/* Begins with a slash, is an asterisk, or has a scheme (RFC 9112 section 3.2). */
static enum step start_of_target(struct line *l)
{
    int c = look(l);
    if (c == '/' || c == '*')
        return STEP_NEXT;
    size_t from = l->at;
    while (l->at < l->s.len && (isalnum(c = look(l)) || c == '+' || c == '-' || c == '.'))
        l->at++;
    const char rest[] = "://";
    for (size_t i = 0; i < 3; i++, l->at++) {
        c = look(l);
        if (c < 0)
            return STEP_MORE;
        if (c != rest[i] || l->at == from)
            return STEP_NONE;
    }
    return STEP_NEXT;
}

static enum step target(struct line *l, bool any)
{
    skip_blanks(l);
    if (look(l) < 0)
        return STEP_MORE;
    if (look(l) == '\n')
        return STEP_NONE;
    enum step st = any ? STEP_NEXT : start_of_target(l);
    if (st != STEP_NEXT)
        return st;
    while (look(l) >= 0 && look(l) != '\n' && !is_blank(look(l)))
        l->at++;
    skip_blanks(l);
    return look(l) < 0 ? STEP_MORE : STEP_NEXT;
}

static enum http_preface version(struct line *l)
{
    size_t from = l->at;
    if (look(l) == '\n') /* HTTP/0.9's form: the codec refuses it */
        return HTTP_PREFACE_10;
    for (size_t i = 0; i < VERSION.len + 3; i++, l->at++) {
        int c = look(l);
        if (c < 0)
            return HTTP_PREFACE_MORE;
        bool fits = i < VERSION.len        ? c == VERSION.p[i]
                    : i == VERSION.len + 1 ? c == '.'
                                           : c >= '0' && c <= '9';
        if (!fits)
            return HTTP_PREFACE_NONE;
    }
    skip_blanks(l);
    if (look(l) < 0)
        return HTTP_PREFACE_MORE;
    if (look(l) != '\n')
        return HTTP_PREFACE_NONE;
    bool is_11 = str_starts(str_n(l->s.p + from, l->s.len - from), STR("HTTP/1.1"));
    return is_11 ? HTTP_PREFACE_11 : HTTP_PREFACE_10;
}

enum http_preface http_preface_look(struct str bytes)
{
    size_t n = bytes.len < PREFACE.len ? bytes.len : PREFACE.len;
    if (str_eq(str_n(bytes.p, n), str_n(PREFACE.p, n)))
        return n == PREFACE.len ? HTTP_PREFACE_2 : HTTP_PREFACE_MORE;
    struct line l = {.s = bytes};
    enum step st = method(&l);
    if (st == STEP_NEXT)
        st = target(&l, str_eq(str_n(bytes.p, l.at), STR("CONNECT")));
    if (st == STEP_NEXT)
        return version(&l);
    return st == STEP_MORE ? HTTP_PREFACE_MORE : HTTP_PREFACE_NONE;
}
