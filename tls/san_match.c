#include "tls/san_match.h"

#include "base/regex.h"

enum { REGEX_PROGRAM_MAX = 32768, ANY_TYPE = (1 << (SAN_IP + 1)) - 1 };

static bool compile_regex(struct san_matcher *m, const Envoy__Type__Matcher__V3__RegexMatcher *from,
                          struct arena *a, struct errors *e)
{
    struct str why;
    struct str pattern = str_of(from ? from->regex : "");
    size_t mark = errors_push(e, "safe_regex");
    m->kind = SAN_REGEX;
    if (pattern.len == 0) {
        errors_add(e, "regex", "must not be empty");
    } else {
        m->regex = regex_new(pattern, m->ignore_case ? REGEX_IGNORE_CASE : 0, REGEX_PROGRAM_MAX, a,
                             &why);
        if (!m->regex)
            errors_add(e, "regex", "%.*s", STR_ARG(why));
    }
    errors_pop(e, mark);
    return m->regex != NULL;
}

static bool compile_text(struct san_matcher *m, enum san_match_kind kind, const char *field,
                         const char *text, struct arena *a, struct errors *e)
{
    m->kind = kind;
    m->text = arena_str(a, str_of(text));
    /* An empty prefix would match every name; the API requires at least one byte. */
    if (m->text.len || kind == SAN_EXACT)
        return true;
    errors_add(e, field, "must not be empty");
    return false;
}

bool san_matcher_compile_any(struct san_matcher *m,
                             const Envoy__Type__Matcher__V3__StringMatcher *from, struct arena *a,
                             struct errors *e)
{
    *m = (struct san_matcher){.types = ANY_TYPE, .ignore_case = from->ignore_case};
    switch (from->match_pattern_case) {
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT:
        return compile_text(m, SAN_EXACT, "exact", from->exact, a, e);
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX:
        return compile_text(m, SAN_PREFIX, "prefix", from->prefix, a, e);
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SUFFIX:
        return compile_text(m, SAN_SUFFIX, "suffix", from->suffix, a, e);
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_CONTAINS:
        return compile_text(m, SAN_CONTAINS, "contains", from->contains, a, e);
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX:
        return compile_regex(m, from->safe_regex, a, e);
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN__NOT_SET:
    default:
        errors_add(e, "match_pattern", "is required");
        return false;
    }
}

static bool type_of(const TLS_V3(SubjectAltNameMatcher) * from, enum san_type *out,
                    struct errors *e)
{
    switch (from->san_type) {
    case TLS_V3_ENUM(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__EMAIL):
        *out = SAN_EMAIL;
        return true;
    case TLS_V3_ENUM(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS):
        *out = SAN_DNS;
        return true;
    case TLS_V3_ENUM(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__URI):
        *out = SAN_URI;
        return true;
    case TLS_V3_ENUM(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__IP_ADDRESS):
        *out = SAN_IP;
        return true;
    case TLS_V3_ENUM(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__OTHER_NAME):
        errors_add(e, "san_type", "OTHER_NAME is not supported");
        return false;
    case TLS_V3_ENUM(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__SAN_TYPE_UNSPECIFIED):
    default:
        errors_add(e, "san_type", "must be EMAIL, DNS, URI or IP_ADDRESS");
        return false;
    }
}

bool san_matcher_compile(struct san_matcher *m, const TLS_V3(SubjectAltNameMatcher) * from,
                         struct arena *a, struct errors *e)
{
    enum san_type type;
    bool type_ok = type_of(from, &type, e);
    if (!from->matcher) {
        errors_add(e, "matcher", "is required");
        return false;
    }
    size_t mark = errors_push(e, "matcher");
    bool ok = san_matcher_compile_any(m, from->matcher, a, e);
    errors_pop(e, mark);
    if (!ok)
        return false;
    if (!type_ok) {
        san_matcher_cleanup(m);
        return false;
    }
    m->types = 1u << type;
    return true;
}

void san_matcher_cleanup(struct san_matcher *m)
{
    regex_free(&m->regex);
}

static bool starts(struct str s, struct str prefix, bool ignore_case)
{
    return ignore_case ? str_istarts(s, prefix) : str_starts(s, prefix);
}

static bool contains(struct str s, struct str part, bool ignore_case)
{
    if (!ignore_case)
        return str_find(s, part) >= 0;
    for (; s.len >= part.len; s.p++, s.len--) {
        if (str_istarts(s, part))
            return true;
    }
    return false;
}

bool san_matcher_match(const struct san_matcher *m, const struct san *san)
{
    struct str s = san->text;
    if (!(m->types & 1u << san->type))
        return false;
    switch (m->kind) {
    case SAN_EXACT:
        if (san->type == SAN_DNS && san_dns_match(s, m->text))
            return true;
        return m->ignore_case ? str_ieq(s, m->text) : str_eq(s, m->text);
    case SAN_PREFIX:
        return starts(s, m->text, m->ignore_case);
    case SAN_SUFFIX:
        if (s.len < m->text.len)
            return false;
        return starts(str_n(s.p + s.len - m->text.len, m->text.len), m->text, m->ignore_case);
    case SAN_CONTAINS:
        return contains(s, m->text, m->ignore_case);
    case SAN_REGEX:
        return regex_full(m->regex, s);
    }
    return false;
}
