#include "proxy/router/header_steps.h"

#include "envoy/config/common/mutation_rules/v3/mutation_rules.pb-c.h"
#include "proxy/router/headers_mutation.h"
#include "proxy/router/matchers.h"

typedef Envoy__Config__Common__MutationRules__V3__HeaderMutation Mutation;
#define ACTION(x) ENVOY__CONFIG__COMMON__MUTATION_RULES__V3__HEADER_MUTATION__ACTION_##x

struct header_step {
    struct header_step *next;
    struct headers_mutation *change; /* NULL: names that match are removed */
    struct string_match match;
};

static void compile_step(struct header_step *s, struct regex_list *l, struct arena *a,
                         const Mutation *m, struct errors *e)
{
    size_t mark;
    switch ((int)m->action_case) {
    case ACTION(REMOVE):
        s->change = headers_mutation_remove(a, m->remove, "remove", e);
        return;
    case ACTION(APPEND):
        s->change = headers_mutation_add(a, m->append, "append", e);
        return;
    case ACTION(REMOVE_ON_MATCH):
        mark = errors_push(e, "remove_on_match.key_matcher");
        if (!m->remove_on_match->key_matcher)
            errors_add(e, NULL, "is required");
        else
            (void)string_match_compile(&s->match, l, a, m->remove_on_match->key_matcher, e);
        errors_pop(e, mark);
        return;
    }
    errors_add(e, "action", "is required");
}

void header_steps_add(struct header_steps *all, struct regex_list *l, struct arena *a,
                      void *const *msgs, size_t n, const char *field, struct errors *e)
{
    for (size_t i = 0; i < n; i++) {
        struct header_step *s = ARENA_NEW(a, struct header_step);
        size_t mark = errors_push_index(e, field, i);
        compile_step(s, l, a, msgs[i], e);
        errors_pop(e, mark);
        if (all->last)
            all->last->next = s;
        else
            all->first = s;
        all->last = s;
    }
}

/* Host is :authority in another form: it goes with no pattern. */
static void remove_matching(const struct string_match *match, struct headers *h)
{
    HEADERS_FOREACH(f, h) {
        if (f->id != HDR_HOST && string_match(match, f->name))
            headers_remove_at(h, f);
    }
}

void header_steps_apply(const struct header_steps *all, struct headers *h,
                        const struct stream_info *si)
{
    for (const struct header_step *s = all->first; s; s = s->next) {
        if (s->change)
            headers_mutation_apply(s->change, h, si);
        else
            remove_matching(&s->match, h);
    }
}
