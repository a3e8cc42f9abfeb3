#include "proxy/http/early_mutation.h"

#include "api-protos/message.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.pb-c.h"
#include "proxy/router/headers_mutation.h"
#include "proxy/router/matchers.h"

typedef Envoy__Config__Core__V3__TypedExtensionConfig Extension;
typedef Envoy__Config__Common__MutationRules__V3__HeaderMutation Mutation;
typedef Envoy__Extensions__Http__EarlyHeaderMutation__HeaderMutation__V3__HeaderMutation List;
#define ACTION(x) ENVOY__CONFIG__COMMON__MUTATION_RULES__V3__HEADER_MUTATION__ACTION_##x

struct step {
    struct step *next;
    struct headers_mutation *change; /* NULL: names that match are removed */
    struct string_match match;
};

struct early_mutation {
    struct step *first, **tail;
    struct regex_list regexes;
};

static void compile_step(struct early_mutation *all, struct step *s, struct arena *a,
                         const Mutation *m, struct errors *e)
{
    size_t mark;
    switch ((int)m->action_case) {
    case ACTION(REMOVE):
        s->change = headers_mutation_compile(a, NULL, 0, &m->remove, 1, NULL, "remove", e);
        return;
    case ACTION(APPEND):
        s->change = headers_mutation_compile(a, (void *const *)&m->append, 1, NULL, 0, "append",
                                             NULL, e);
        return;
    case ACTION(REMOVE_ON_MATCH):
        mark = errors_push(e, "remove_on_match.key_matcher");
        if (!m->remove_on_match->key_matcher)
            errors_add(e, NULL, "is required");
        else
            (void)string_match_compile(&s->match, &all->regexes, a, m->remove_on_match->key_matcher,
                                       e);
        errors_pop(e, mark);
        return;
    }
    errors_add(e, "action", "is required");
}

static void compile_list(struct early_mutation *all, struct arena *a, const List *m,
                         struct errors *e)
{
    for (size_t i = 0; i < m->n_mutations; i++) {
        struct step *s = ARENA_NEW(a, struct step);
        size_t mark = errors_push_index(e, "mutations", i);
        compile_step(all, s, a, m->mutations[i], e);
        errors_pop(e, mark);
        *all->tail = s;
        all->tail = &s->next;
    }
}

static void compile_extension(struct early_mutation *all, struct arena *a, const Extension *m,
                              const struct pb_opts *pb, struct errors *e)
{
    struct pb_any any;
    enum pb_any_status status = pb_any_unpack(m->typed_config, a, e, pb, &any);
    bool known =
        any.type ==
        &envoy__extensions__http__early_header_mutation__header_mutation__v3__header_mutation__descriptor;
    if (status == PB_ANY_OK && known)
        compile_list(all, a, (const List *)any.message, e);
    else if (status != PB_ANY_INVALID)
        errors_add(e, NULL, "the early header mutation %.*s is not supported",
                   STR_ARG(any.type_name));
}

struct early_mutation *early_mutation_compile(struct arena *a, void *const *msgs, size_t n,
                                              const struct pb_opts *pb, struct errors *e)
{
    size_t before = e->num_errors;
    struct early_mutation *all = ARENA_NEW(a, struct early_mutation);
    all->tail = &all->first;
    for (size_t i = 0; i < n; i++) {
        size_t outer = errors_push_index(e, "early_header_mutation_extensions", i);
        size_t mark = errors_push(e, "typed_config");
        compile_extension(all, a, msgs[i], pb, e);
        errors_pop(e, mark);
        errors_pop(e, outer);
    }
    if (e->num_errors == before)
        return all;
    early_mutation_cleanup(all);
    return NULL;
}

void early_mutation_cleanup(struct early_mutation *m)
{
    if (m)
        regex_list_free(&m->regexes);
}

/* Host is :authority in another form: it goes with no pattern. */
static void remove_matching(const struct string_match *match, struct headers *h)
{
    HEADERS_FOREACH(f, h) {
        if (f->id != HDR_HOST && string_match(match, f->name))
            headers_remove_at(h, f);
    }
}

void early_mutation_apply(const struct early_mutation *m, struct headers *h,
                          const struct stream_info *si)
{
    for (const struct step *s = m->first; s; s = s->next) {
        if (s->change)
            headers_mutation_apply(s->change, h, si);
        else
            remove_matching(&s->match, h);
    }
}
