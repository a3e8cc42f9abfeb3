#include "proxy/router/match_tree.h"

#include "api-protos/message.h"
#include "envoy/type/matcher/v3/http_inputs.pb-c.h"
#include "proxy/router/route_private.h"
#include "xds/core/v3/extension.pb-c.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"
#include "xds/type/matcher/v3/regex.pb-c.h"
#include "xds/type/matcher/v3/string.pb-c.h"

typedef Xds__Type__Matcher__V3__Matcher Matcher;
typedef Xds__Type__Matcher__V3__Matcher__OnMatch OnMatch;
typedef Xds__Type__Matcher__V3__Matcher__MatcherList__Predicate Predicate;
typedef Xds__Type__Matcher__V3__Matcher__MatcherTree__MatchMap MatchMap;
#define MATCHER(x) XDS__TYPE__MATCHER__V3__MATCHER__##x
#define PREDICATE(x) MATCHER(MATCHER_LIST__PREDICATE__MATCH_TYPE_##x)

struct input {
    struct str header; /* lower case */
};

struct on_match { /* one of the two */
    struct match_tree *nested;
    void *action;
};

enum predicate_kind { PREDICATE_SINGLE, PREDICATE_OR, PREDICATE_AND, PREDICATE_NOT };

struct predicate {
    enum predicate_kind kind;
    struct input input; /* PREDICATE_SINGLE */
    struct string_match value;
    struct predicate *inner;
    size_t num;
};

struct match_tree {
    enum { TREE_LIST, TREE_EXACT, TREE_PREFIX } kind;
    struct {
        struct predicate predicate;
        struct on_match on;
    } * fields; /* TREE_LIST */
    size_t num;
    struct input input; /* the others */
    struct trie map;    /* -> struct on_match */
    struct on_match none;
};

struct compiler {
    struct regex_list *l;
    struct arena *a;
    struct errors *e;
    match_action_compile compile;
    void *arg;
};

/* --- compiling --- */

static struct match_tree *compile_tree(struct compiler *c, const Matcher *m);

static void compile_input(struct compiler *c, struct input *in,
                          const Xds__Core__V3__TypedExtensionConfig *m)
{
    size_t mark = errors_push(c->e, "input");
    struct pb_any any;
    enum pb_any_status got = pb_any_unpack(m ? m->typed_config : NULL, c->a, c->e, NULL, &any);
    if (got == PB_ANY_OK &&
        any.type == &envoy__type__matcher__v3__http_request_header_match_input__descriptor) {
        const Envoy__Type__Matcher__V3__HttpRequestHeaderMatchInput *h = (const void *)any.message;
        in->header = lower_str(c->a, str_of(h->header_name));
    } else if (got == PB_ANY_EMPTY) {
        errors_add(c->e, NULL, "is required");
    } else if (got != PB_ANY_INVALID) {
        errors_add(c->e, "typed_config", "the input '%.*s' is not supported",
                   STR_ARG(any.type_name));
    }
    errors_pop(c->e, mark);
}

static void compile_on_match(struct compiler *c, struct on_match *on, const OnMatch *m)
{
    size_t inner;
    struct pb_any any;
    if (m && m->keep_matching)
        errors_add(c->e, "keep_matching", "is not supported");
    if (m && m->on_match_case == MATCHER(ON_MATCH__ON_MATCH_MATCHER)) {
        inner = errors_push(c->e, "matcher");
        on->nested = compile_tree(c, m->matcher);
        errors_pop(c->e, inner);
    } else if (m && m->on_match_case == MATCHER(ON_MATCH__ON_MATCH_ACTION)) {
        inner = errors_push(c->e, "action.typed_config");
        enum pb_any_status got = pb_any_unpack(m->action->typed_config, c->a, c->e, NULL, &any);
        if (got == PB_ANY_OK)
            on->action = c->compile(c->arg, any.type_name, any.message);
        else if (got != PB_ANY_INVALID)
            errors_add(c->e, NULL, "the action '%.*s' is not supported", STR_ARG(any.type_name));
        errors_pop(c->e, inner);
    } else {
        errors_add(c->e, NULL, "a matcher or an action is required");
    }
}

/* The same fields as envoy.type.matcher.v3.StringMatcher. */
static void compile_string(struct compiler *c, struct string_match *out,
                           const Xds__Type__Matcher__V3__StringMatcher *m)
{
    static const enum string_match_kind kinds[] = {
        [XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT] = MATCH_EXACT,
        [XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX] = MATCH_PREFIX,
        [XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SUFFIX] = MATCH_SUFFIX,
        [XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_CONTAINS] = MATCH_CONTAINS,
    };
    size_t mark = errors_push(c->e, "value_match");
    const char *text = NULL;
    switch (m->match_pattern_case) {
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT:
        text = m->exact;
        break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX:
        text = m->prefix;
        break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SUFFIX:
        text = m->suffix;
        break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_CONTAINS:
        text = m->contains;
        break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX:
        string_match_set_regex(out, c->l, c->a, str_of(m->safe_regex->regex), c->e);
        break;
    default:
        errors_add(c->e, NULL, "a match pattern is required");
    }
    if (text)
        string_match_set(out, c->a, kinds[m->match_pattern_case], str_of(text), m->ignore_case);
    else if (m->ignore_case)
        errors_add(c->e, "ignore_case", "has no effect with safe_regex");
    errors_pop(c->e, mark);
}

static void compile_predicate(struct compiler *c, struct predicate *out, const Predicate *m);

static void
compile_predicates(struct compiler *c, struct predicate *out,
                   const Xds__Type__Matcher__V3__Matcher__MatcherList__Predicate__PredicateList *m)
{
    out->num = m->n_predicate;
    out->inner = arena_zalloc(c->a, (out->num + 1) * sizeof(*out->inner));
    for (size_t i = 0; i < out->num; i++) {
        size_t mark = errors_push_index(c->e, "predicate", i);
        compile_predicate(c, &out->inner[i], m->predicate[i]);
        errors_pop(c->e, mark);
    }
}

static void compile_predicate(struct compiler *c, struct predicate *out, const Predicate *m)
{
    static const char *const names[] = {"predicate", "single_predicate", "or_matcher",
                                        "and_matcher", "not_matcher"};
    size_t mark = errors_push(c->e, names[m ? m->match_type_case : 0]);
    switch (m ? (int)m->match_type_case : 0) {
    case PREDICATE(SINGLE_PREDICATE):
        out->kind = PREDICATE_SINGLE;
        compile_input(c, &out->input, m->single_predicate->input);
        if (m->single_predicate->value_match)
            compile_string(c, &out->value, m->single_predicate->value_match);
        else
            errors_add(c->e, "value_match", "is required");
        break;
    case PREDICATE(OR_MATCHER):
        out->kind = PREDICATE_OR;
        compile_predicates(c, out, m->or_matcher);
        break;
    case PREDICATE(AND_MATCHER):
        out->kind = PREDICATE_AND;
        compile_predicates(c, out, m->and_matcher);
        break;
    case PREDICATE(NOT_MATCHER):
        out->kind = PREDICATE_NOT;
        out->num = 1;
        out->inner = ARENA_NEW(c->a, struct predicate);
        compile_predicate(c, out->inner, m->not_matcher);
        break;
    default:
        errors_add(c->e, NULL, "is required");
    }
    errors_pop(c->e, mark);
}

static void compile_list(struct compiler *c, struct match_tree *t,
                         const Xds__Type__Matcher__V3__Matcher__MatcherList *m)
{
    size_t outer = errors_push(c->e, "matcher_list");
    t->kind = TREE_LIST;
    t->num = m->n_matchers;
    t->fields = arena_zalloc(c->a, (t->num + 1) * sizeof(*t->fields));
    for (size_t i = 0; i < t->num; i++) {
        size_t mark = errors_push_index(c->e, "matchers", i);
        size_t inner = errors_push(c->e, "predicate");
        compile_predicate(c, &t->fields[i].predicate, m->matchers[i]->predicate);
        errors_pop(c->e, inner);
        inner = errors_push(c->e, "on_match");
        compile_on_match(c, &t->fields[i].on, m->matchers[i]->on_match);
        errors_pop(c->e, inner);
        errors_pop(c->e, mark);
    }
    errors_pop(c->e, outer);
}

static void compile_map(struct compiler *c, struct match_tree *t, const MatchMap *m,
                        const char *field)
{
    size_t outer = errors_push(c->e, field);
    for (size_t i = 0; i < m->n_map; i++) {
        struct on_match *on = ARENA_NEW(c->a, struct on_match);
        size_t mark = errors_push_key(c->e, "map", str_of(m->map[i]->key));
        compile_on_match(c, on, m->map[i]->value);
        *trie_put(&t->map, c->a, arena_str(c->a, str_of(m->map[i]->key))) = on;
        errors_pop(c->e, mark);
    }
    errors_pop(c->e, outer);
}

static struct match_tree *compile_tree(struct compiler *c, const Matcher *m)
{
    struct match_tree *t = ARENA_NEW(c->a, struct match_tree);
    size_t mark;
    switch (m->matcher_type_case) {
    case MATCHER(MATCHER_TYPE_MATCHER_LIST):
        compile_list(c, t, m->matcher_list);
        break;
    case MATCHER(MATCHER_TYPE_MATCHER_TREE):
        mark = errors_push(c->e, "matcher_tree");
        compile_input(c, &t->input, m->matcher_tree->input);
        t->kind = TREE_EXACT;
        if (m->matcher_tree->tree_type_case == MATCHER(MATCHER_TREE__TREE_TYPE_EXACT_MATCH_MAP)) {
            compile_map(c, t, m->matcher_tree->exact_match_map, "exact_match_map");
        } else if (m->matcher_tree->tree_type_case ==
                   MATCHER(MATCHER_TREE__TREE_TYPE_PREFIX_MATCH_MAP)) {
            t->kind = TREE_PREFIX;
            compile_map(c, t, m->matcher_tree->prefix_match_map, "prefix_match_map");
        } else {
            errors_add(c->e, NULL, "exact_match_map or prefix_match_map is required");
        }
        errors_pop(c->e, mark);
        break;
    default: /* on_no_match alone */
        t->kind = TREE_LIST;
    }
    if (m->on_no_match) {
        mark = errors_push(c->e, "on_no_match");
        compile_on_match(c, &t->none, m->on_no_match);
        errors_pop(c->e, mark);
    }
    return t;
}

struct match_tree *match_tree_compile(struct regex_list *l, struct arena *a, const void *msg,
                                      match_action_compile compile, void *arg, struct errors *e)
{
    struct compiler c = {.l = l, .a = a, .e = e, .compile = compile, .arg = arg};
    size_t before = e->num_errors;
    struct match_tree *t = compile_tree(&c, msg);
    return e->num_errors == before ? t : NULL;
}

/* --- matching --- */

struct matching {
    const struct headers *h;
    struct arena *scratch;
};

static bool read_input(const struct input *in, const struct matching *m, struct str *out)
{
    return headers_value(m->h, in->header, m->scratch, out);
}

static bool predicate_fits(const struct predicate *p, const struct matching *m)
{
    struct str value;
    switch (p->kind) {
    case PREDICATE_SINGLE:
        return read_input(&p->input, m, &value) && string_match(&p->value, value);
    case PREDICATE_OR:
        for (size_t i = 0; i < p->num; i++) {
            if (predicate_fits(&p->inner[i], m))
                return true;
        }
        return false;
    case PREDICATE_AND:
        for (size_t i = 0; i < p->num; i++) {
            if (!predicate_fits(&p->inner[i], m))
                return false;
        }
        return true;
    case PREDICATE_NOT:
        return !predicate_fits(p->inner, m);
    }
    return false;
}

static const void *find(const struct match_tree *t, const struct matching *m);

static const void *follow(const struct on_match *on, const struct matching *m)
{
    return on->nested ? find(on->nested, m) : on->action;
}

static const void *find_exact(const struct match_tree *t, const struct matching *m,
                              struct str value)
{
    struct trie_walk w;
    const struct on_match *on;
    trie_walk_start(&w, &t->map, value);
    while ((on = trie_walk_next(&w))) {
        if (w.at == value.len)
            return follow(on, m);
    }
    return NULL;
}

/* The longest prefix first; a shorter one where what is inside of it finds nothing. */
static const void *find_prefix(const struct match_tree *t, const struct matching *m,
                               struct str value)
{
    size_t limit = SIZE_MAX;
    for (;;) {
        struct trie_walk w;
        const struct on_match *on, *best = NULL;
        size_t len = 0;
        trie_walk_start(&w, &t->map, value);
        while ((on = trie_walk_next(&w)) && w.at < limit) {
            best = on;
            len = w.at;
        }
        const void *action = best ? follow(best, m) : NULL;
        if (action || !best)
            return action;
        limit = len;
    }
}

static const void *find(const struct match_tree *t, const struct matching *m)
{
    const void *action = NULL;
    struct str value;
    switch (t->kind) {
    case TREE_LIST:
        for (size_t i = 0; i < t->num && !action; i++) {
            if (predicate_fits(&t->fields[i].predicate, m))
                action = follow(&t->fields[i].on, m);
        }
        break;
    case TREE_EXACT:
        if (read_input(&t->input, m, &value))
            action = find_exact(t, m, value);
        break;
    case TREE_PREFIX:
        if (read_input(&t->input, m, &value))
            action = find_prefix(t, m, value);
        break;
    }
    return action ? action : follow(&t->none, m);
}

const void *match_tree_find(const struct match_tree *t, const struct headers *h,
                            struct arena *scratch)
{
    struct matching m = {.h = h, .scratch = scratch};
    return find(t, &m);
}
