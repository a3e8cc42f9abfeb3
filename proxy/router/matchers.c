#include "proxy/router/matchers.h"

#include "api-protos/wkt.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/type/matcher/v3/regex.pb-c.h"
#include "envoy/type/matcher/v3/string.pb-c.h"

typedef Envoy__Type__Matcher__V3__StringMatcher StringMatcher;
typedef Envoy__Config__Route__V3__HeaderMatcher HeaderMatcher;
#define STRING(x) ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_##x
#define HEADER(x) ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_##x

const struct regex *regex_list_add_text(struct regex_list *l, struct arena *a, struct str pattern,
                                        uint32_t max_program_size, struct errors *e)
{
    struct str why;
    struct regex *r = regex_new(pattern, REGEX_BYTES, max_program_size, a, &why);
    if (!r) {
        errors_add(e, "regex", "%.*s", STR_ARG(why));
        return NULL;
    }
    struct regex_item *item = ARENA_NEW(a, struct regex_item);
    item->regex = r;
    item->next = l->first;
    l->first = item;
    return r;
}

const struct regex *regex_list_add(struct regex_list *l, struct arena *a, const void *regex_matcher,
                                   struct errors *e)
{
    const Envoy__Type__Matcher__V3__RegexMatcher *m = regex_matcher;
    uint32_t max = 0;
    if (m->google_re2 && m->google_re2->max_program_size)
        max = m->google_re2->max_program_size->value;
    return regex_list_add_text(l, a, str_of(m->regex), max, e);
}

void regex_list_free(struct regex_list *l)
{
    for (struct regex_item *i = l->first; i; i = i->next)
        regex_free(&i->regex);
    l->first = NULL;
}

struct str lower_str(struct arena *a, struct str s)
{
    char *p = arena_bytes(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
    p[s.len] = '\0';
    return str_n(p, s.len);
}

void string_match_set(struct string_match *m, struct arena *a, enum string_match_kind kind,
                      struct str text, bool ignore_case)
{
    *m = (struct string_match){.kind = kind, .ignore_case = ignore_case};
    m->text = ignore_case ? lower_str(a, text) : arena_str(a, text);
}

void string_match_set_regex(struct string_match *m, struct regex_list *l, struct arena *a,
                            struct str pattern, struct errors *e)
{
    size_t mark = errors_push(e, "safe_regex");
    *m = (struct string_match){.kind = MATCH_REGEX};
    m->regex = regex_list_add_text(l, a, pattern, 0, e);
    errors_pop(e, mark);
}

bool string_match_compile(struct string_match *m, struct regex_list *l, struct arena *a,
                          const void *msg, struct errors *e)
{
    const StringMatcher *sm = msg;
    const char *text = NULL;
    *m = (struct string_match){.ignore_case = sm->ignore_case};
    switch (sm->match_pattern_case) {
    case STRING(EXACT):
        m->kind = MATCH_EXACT;
        text = sm->exact;
        break;
    case STRING(PREFIX):
        m->kind = MATCH_PREFIX;
        text = sm->prefix;
        break;
    case STRING(SUFFIX):
        m->kind = MATCH_SUFFIX;
        text = sm->suffix;
        break;
    case STRING(CONTAINS):
        m->kind = MATCH_CONTAINS;
        text = sm->contains;
        break;
    case STRING(SAFE_REGEX): {
        size_t mark = errors_push(e, "safe_regex");
        m->kind = MATCH_REGEX;
        m->regex = regex_list_add(l, a, sm->safe_regex, e);
        errors_pop(e, mark);
        if (sm->ignore_case)
            errors_add(e, "ignore_case", "has no effect with safe_regex");
        return m->regex && !sm->ignore_case;
    }
    default:
        errors_add(e, NULL, "a match pattern is required");
        return false;
    }
    m->text = sm->ignore_case ? lower_str(a, str_of(text)) : arena_str(a, str_of(text));
    return true;
}

static bool ifind(struct str s, struct str needle)
{
    for (size_t i = 0; i + needle.len <= s.len; i++) {
        if (str_ieq(str_n(s.p + i, needle.len), needle))
            return true;
    }
    return needle.len == 0;
}

bool string_match(const struct string_match *m, struct str s)
{
    size_t n = m->text.len;
    switch (m->kind) {
    case MATCH_EXACT:
        return m->ignore_case ? str_ieq(s, m->text) : str_eq(s, m->text);
    case MATCH_PREFIX:
        return m->ignore_case ? str_istarts(s, m->text) : str_starts(s, m->text);
    case MATCH_SUFFIX:
        if (s.len < n)
            return false;
        s = str_n(s.p + s.len - n, n);
        return m->ignore_case ? str_ieq(s, m->text) : str_eq(s, m->text);
    case MATCH_CONTAINS:
        return m->ignore_case ? ifind(s, m->text) : str_find(s, m->text) >= 0;
    case MATCH_REGEX:
        return regex_full(m->regex, s);
    }
    return false;
}

/* The deprecated forms say what a StringMatcher would. */
static void set_text(struct header_match *m, struct arena *a, enum string_match_kind kind,
                     const char *text)
{
    m->kind = HEADER_STRING;
    m->string = (struct string_match){.kind = kind, .text = arena_str(a, str_of(text))};
}

static void compile_header(struct header_match *m, struct regex_list *l, struct arena *a,
                           const HeaderMatcher *hm, struct errors *e)
{
    m->name = lower_str(a, str_of(hm->name));
    m->invert = hm->invert_match;
    m->missing_as_empty = hm->treat_missing_header_as_empty;
    m->present = true;
    size_t mark;
    switch (hm->header_match_specifier_case) {
    case HEADER(EXACT_MATCH):
        set_text(m, a, MATCH_EXACT, hm->exact_match);
        m->any_value = !hm->exact_match[0]; /* the old form asks for presence then */
        return;
    case HEADER(PREFIX_MATCH):
        set_text(m, a, MATCH_PREFIX, hm->prefix_match);
        return;
    case HEADER(SUFFIX_MATCH):
        set_text(m, a, MATCH_SUFFIX, hm->suffix_match);
        return;
    case HEADER(CONTAINS_MATCH):
        set_text(m, a, MATCH_CONTAINS, hm->contains_match);
        return;
    case HEADER(SAFE_REGEX_MATCH):
        mark = errors_push(e, "safe_regex_match");
        m->kind = HEADER_STRING;
        m->string.kind = MATCH_REGEX;
        m->string.regex = regex_list_add(l, a, hm->safe_regex_match, e);
        errors_pop(e, mark);
        return;
    case HEADER(STRING_MATCH):
        mark = errors_push(e, "string_match");
        m->kind = HEADER_STRING;
        (void)string_match_compile(&m->string, l, a, hm->string_match, e);
        errors_pop(e, mark);
        return;
    case HEADER(RANGE_MATCH):
        m->kind = HEADER_RANGE;
        m->from = hm->range_match->start;
        m->to = hm->range_match->end;
        return;
    case HEADER(PRESENT_MATCH):
        m->kind = HEADER_PRESENT;
        m->present = hm->present_match;
        return;
    default: /* none: the header must be there */
        m->kind = HEADER_PRESENT;
        return;
    }
}

struct header_match *header_matches_compile(struct regex_list *l, struct arena *a,
                                            void *const *msgs, size_t n, const char *field,
                                            struct errors *e)
{
    struct header_match *v = arena_zalloc(a, (n + 1) * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, field, i);
        compile_header(&v[i], l, a, msgs[i], e);
        errors_pop(e, mark);
    }
    return v;
}

struct str without_plus(struct str number)
{
    bool plus = number.len > 1 && number.p[0] == '+' && number.p[1] >= '0' && number.p[1] <= '9';
    return plus ? str_n(number.p + 1, number.len - 1) : number;
}

static bool value_fits(const struct header_match *m, struct str value)
{
    int64_t number;
    if (m->kind == HEADER_STRING)
        return m->any_value || string_match(&m->string, value);
    return str_to_i64(without_plus(value), &number) && number >= m->from && number < m->to;
}

/* Several fields of the name: one that fits is enough. Envoy 1.40 joins them no more. */
static bool any_fits(const struct header_match *m, const struct headers *h)
{
    for (const struct header *f = headers_find(h, m->name); f; f = headers_next(h, f)) {
        if (value_fits(m, f->value))
            return true;
    }
    return false;
}

bool header_match(const struct header_match *m, const struct headers *h, struct arena *scratch)
{
    struct str value = STR_NULL;
    bool pseudo = m->name.len && (m->name.p[0] == ':' || str_eq(m->name, STR("host")));
    bool there = pseudo ? headers_value(h, m->name, scratch, &value)
                        : headers_find(h, m->name) != NULL;
    if (m->kind == HEADER_PRESENT)
        return ((there || m->missing_as_empty) == m->present) != m->invert;
    if (!there && !m->missing_as_empty)
        return false; /* inverted or not */
    bool fits = there && !pseudo ? any_fits(m, h) : value_fits(m, there ? value : STR(""));
    return fits != m->invert;
}
