#include "proxy/listener/filter_predicate.h"

#include "envoy/config/listener/v3/listener_components.pb-c.h"
#include "envoy/type/v3/range.pb-c.h"

typedef Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate Predicate;
typedef Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate__MatchSet MatchSet;
#define RULE(x) ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_##x

enum kind { KIND_OR, KIND_AND, KIND_NOT, KIND_ANY, KIND_PORT };

struct filter_predicate {
    enum kind kind;
    int32_t start, end; /* KIND_PORT: end is not in it */
    struct filter_predicate **rules;
    size_t num;
};

static struct filter_predicate *compile_set(struct arena *a, enum kind kind, const MatchSet *set,
                                            const char *field, struct errors *e)
{
    struct filter_predicate *p = ARENA_NEW(a, struct filter_predicate);
    size_t mark = errors_push(e, field);
    p->kind = kind;
    p->rules = arena_zalloc(a, (set->n_rules + 1) * sizeof(*p->rules));
    p->num = set->n_rules;
    for (size_t i = 0; i < set->n_rules; i++) {
        size_t inner = errors_push_index(e, "rules", i);
        p->rules[i] = filter_predicate_compile(a, set->rules[i], e);
        errors_pop(e, inner);
    }
    errors_pop(e, mark);
    return p;
}

static struct filter_predicate *compile_not(struct arena *a, const Predicate *m, struct errors *e)
{
    struct filter_predicate *p = ARENA_NEW(a, struct filter_predicate);
    size_t mark = errors_push(e, "not_match");
    p->kind = KIND_NOT;
    p->rules = ARENA_NEW(a, struct filter_predicate *);
    p->rules[0] = filter_predicate_compile(a, m, e);
    p->num = 1;
    errors_pop(e, mark);
    return p;
}

struct filter_predicate *filter_predicate_compile(struct arena *a, const Predicate *m,
                                                  struct errors *e)
{
    struct filter_predicate *p = NULL;
    switch (m->rule_case) {
    case RULE(OR_MATCH):
        return compile_set(a, KIND_OR, m->or_match, "or_match", e);
    case RULE(AND_MATCH):
        return compile_set(a, KIND_AND, m->and_match, "and_match", e);
    case RULE(NOT_MATCH):
        return compile_not(a, m->not_match, e);
    case RULE(ANY_MATCH):
        p = ARENA_NEW(a, struct filter_predicate);
        p->kind = m->any_match ? KIND_ANY : KIND_OR; /* one of none: never */
        break;
    case RULE(DESTINATION_PORT_RANGE):
        p = ARENA_NEW(a, struct filter_predicate);
        p->kind = KIND_PORT;
        p->start = m->destination_port_range->start;
        p->end = m->destination_port_range->end;
        break;
    case RULE(_NOT_SET):
    case _ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE__CASE_IS_INT_SIZE:
        errors_add(e, NULL, "a rule is required");
        break;
    }
    return p;
}

bool filter_predicate_matches(const struct filter_predicate *p, const struct addr *local)
{
    switch (p->kind) {
    case KIND_OR:
        for (size_t i = 0; i < p->num; i++) {
            if (filter_predicate_matches(p->rules[i], local))
                return true;
        }
        return false;
    case KIND_AND:
        for (size_t i = 0; i < p->num; i++) {
            if (!filter_predicate_matches(p->rules[i], local))
                return false;
        }
        return true;
    case KIND_NOT:
        return !filter_predicate_matches(p->rules[0], local);
    case KIND_ANY:
        return true;
    case KIND_PORT:
        return addr_is_ip(local) && addr_port(local) >= p->start && addr_port(local) < p->end;
    }
    return false;
}
