#include "base/stats_tags.h"
#include "base/regex.h"

struct tag_rule {
    char *name;
    struct regex *regex; /* NULL: fixed */
    char *value;
};

static struct {
    struct tag_rule *list;
    size_t num, cap;
    size_t num_patterns;
    bool no_defaults;
} rules;

enum { MAX_CUTS = 32 };

/* The bytes [start, end) of a full name that are left out of the metric's name. */
struct cuts {
    struct {
        size_t start, end;
    } at[MAX_CUTS];
    size_t num;
};

void stats_tags_reset(void)
{
    for (size_t i = 0; i < rules.num; i++) {
        mem_free(rules.list[i].name);
        mem_free(rules.list[i].value);
        regex_free(&rules.list[i].regex);
    }
    mem_free(rules.list);
    memset(&rules, 0, sizeof(rules));
}

void stats_tags_use_defaults(bool on)
{
    rules.no_defaults = !on;
}

bool stats_tags_by_name(void)
{
    return rules.num_patterns > 0;
}

/* A label's name: letters, digits and '_' only. */
static char *label_name(struct str s)
{
    char *name = mem_strndup(s.p, s.len);
    for (char *p = name; *p; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_';
        if (!letter && (p == name || *p < '0' || *p > '9'))
            *p = '_';
    }
    return name;
}

static void add_rule(struct str name, struct regex *regex, struct str value)
{
    rules.list = mem_grow_array(rules.list, &rules.cap, rules.num + 1, sizeof(*rules.list));
    rules.list[rules.num++] = (struct tag_rule){label_name(name), regex,
                                                mem_strndup(value.p, value.len)};
    rules.num_patterns += regex != NULL;
}

void stats_tags_add_fixed(struct str name, struct str value)
{
    add_rule(name, NULL, value);
}

bool stats_tags_add_pattern(struct str name, struct str pattern, struct arena *a, struct str *err)
{
    static const struct str look_ahead = STR("(?=\\.)");
    ptrdiff_t at = str_find(pattern, look_ahead);
    /* RE2 has no look-ahead. This one only says that a dot follows what is matched lazily after it;
     * without it the pattern accepts the same names of stats. */
    if (at >= 0) {
        size_t tail = (size_t)at + look_ahead.len;
        pattern = arena_printf(a, "%.*s%.*s", (int)at, pattern.p, (int)(pattern.len - tail),
                               pattern.p + tail);
    }
    struct regex *r = regex_new(pattern, 0, 0, a, err);
    if (!r)
        return false;
    if (regex_num_groups(r) == 0) {
        regex_free(&r);
        *err = STR("the pattern of a tag needs a group");
        return false;
    }
    add_rule(name, r, STR_NULL);
    return true;
}

/* --- labels ------------------------------------------------------------------------------- */

struct str stats_tags_escape(struct str s, struct arena *a)
{
    char *out = arena_bytes(a, s.len * 2 + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '\\' || s.p[i] == '"' || s.p[i] == '\n')
            out[n++] = '\\';
        out[n++] = s.p[i] == '\n' ? 'n' : s.p[i];
    }
    return str_n(out, n);
}

static struct str add_label(struct str labels, const char *name, struct str value, struct arena *a)
{
    struct str text = stats_tags_escape(value, a);
    return arena_printf(a, "%.*s%s%s=\"%.*s\"", STR_ARG(labels), labels.len ? "," : "", name,
                        STR_ARG(text));
}

static struct str add_fixed(struct str labels, struct arena *a)
{
    for (size_t i = 0; i < rules.num; i++) {
        if (!rules.list[i].regex)
            labels = add_label(labels, rules.list[i].name, str_of(rules.list[i].value), a);
    }
    return labels;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The response code's place in a suffix: "_rq_200" or the digit of "_rq_2xx". */
static const char *suffix_tag(struct str s, size_t *start, size_t *end, struct str *value)
{
    if (s.len >= 7 && str_eq(str_n(s.p + s.len - 7, 4), STR("_rq_"))) {
        const char *code = s.p + s.len - 3;
        *end = s.len;
        if (is_digit(code[0]) && is_digit(code[1]) && is_digit(code[2])) {
            *start = s.len - 4;
            *value = str_n(code, 3);
            return "envoy_response_code";
        }
        if (is_digit(code[0]) && code[1] == 'x' && code[2] == 'x') {
            *start = s.len - 3;
            *end = s.len - 2;
            *value = str_n(code, 1);
            return "envoy_response_code_class";
        }
    }
    return NULL;
}

struct stats_labels stats_tags_cut_suffix(struct str suffix, struct arena *a)
{
    size_t start, end;
    struct str value;
    struct stats_labels l = {suffix, STR_NULL};
    const char *tag = rules.no_defaults ? NULL : suffix_tag(suffix, &start, &end, &value);
    if (!tag)
        return l;
    l.metric = arena_printf(a, "%.*s%.*s", (int)start, suffix.p, (int)(suffix.len - end),
                            suffix.p + end);
    l.labels = add_label(STR_NULL, tag, value, a);
    return l;
}

struct str stats_tags_of_scope(const struct stats_scope *s, struct arena *a)
{
    struct str labels = STR_NULL;
    for (uint32_t i = s->num_tags; i-- > 0 && !rules.no_defaults;)
        labels = add_label(labels, s->tags[i].tag, s->tags[i].text, a);
    return add_fixed(labels, a);
}

/* --- by patterns -------------------------------------------------------------------------- */

static void cut(struct cuts *c, size_t start, size_t end)
{
    if (c->num < MAX_CUTS && start < end) {
        c->at[c->num].start = start;
        c->at[c->num++].end = end;
    }
}

static struct str without_cuts(struct str name, const struct cuts *c, struct arena *a)
{
    char *out = arena_bytes(a, name.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < name.len; i++) {
        bool gone = false;
        for (size_t k = 0; k < c->num; k++)
            gone |= i >= c->at[k].start && i < c->at[k].end;
        if (!gone)
            out[n++] = name.p[i];
    }
    return str_n(out, n);
}

static struct str cut_patterns(struct str name, struct cuts *c, struct arena *a)
{
    struct str groups[3], labels = STR_NULL;
    for (size_t i = 0; i < rules.num; i++) {
        const struct tag_rule *r = &rules.list[i];
        if (!r->regex || !regex_search(r->regex, name, groups, 3) || !groups[1].p)
            continue;
        struct str value = groups[2].p ? groups[2] : groups[1];
        /* An alternation has its value in a later pair of groups, which is not taken. */
        size_t start = (size_t)(groups[1].p - name.p);
        cut(c, start, start + groups[1].len);
        labels = add_label(labels, r->name, value, a);
    }
    return labels;
}

/* The declared parts are found again in the prefix, in their order. */
static struct str cut_declared(const struct stats_scope *s, struct str name, struct cuts *c,
                               struct str labels, struct arena *a)
{
    size_t from = 0, start, end;
    struct str value;
    for (uint32_t i = 0; i < s->num_tags; i++) {
        struct str rest = str_n(name.p + from, s->prefix.len - from);
        ptrdiff_t at = str_find(rest, arena_printf(a, "%.*s.", STR_ARG(s->tags[i].text)));
        if (at < 0)
            continue;
        start = from + (size_t)at;
        end = start + s->tags[i].text.len;
        /* The part goes with its dot, or with the '_' that joins it to its stem. */
        bool stem = start > 0 && name.p[start - 1] == '_';
        cut(c, start - stem, end + !stem);
        from = end;
        labels = add_label(labels, s->tags[i].tag, s->tags[i].text, a);
    }
    struct str suffix = str_n(name.p + s->prefix.len, name.len - s->prefix.len);
    const char *tag = suffix_tag(suffix, &start, &end, &value);
    if (tag) {
        cut(c, s->prefix.len + start, s->prefix.len + end);
        labels = add_label(labels, tag, value, a);
    }
    return labels;
}

struct stats_labels stats_tags_cut(const struct stats_scope *s, struct str suffix, struct arena *a)
{
    struct cuts c = {.num = 0};
    struct str name = arena_printf(a, "%.*s%.*s", STR_ARG(s->prefix), STR_ARG(suffix));
    struct str labels = cut_patterns(name, &c, a);
    if (!rules.no_defaults)
        labels = cut_declared(s, name, &c, labels, a);
    return (struct stats_labels){without_cuts(name, &c, a), add_fixed(labels, a)};
}
