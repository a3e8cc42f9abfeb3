#include "proxy/router/headers_mutation.h"

#include "api-protos/wkt.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "proxy/router/matchers.h"

typedef Envoy__Config__Core__V3__HeaderValueOption HeaderOption;

static bool may_change(struct str name, const char *field, struct errors *e)
{
    if (!name.len)
        errors_add(e, field, "must not be empty");
    else if (name.p[0] == ':' || str_eq(name, STR("host")))
        errors_add(e, field, ":-prefixed or host headers may not be modified");
    else
        return true;
    return false;
}

static void compile_add(struct header_add *out, struct arena *a, const HeaderOption *m,
                        struct errors *e)
{
    if (!m->header) {
        errors_add(e, "header", "is required");
        return;
    }
    out->name = lower_str(a, str_of(m->header->key));
    (void)may_change(out->name, "header.key", e);
    size_t mark = errors_push(e, "header.value");
    out->value = format_compile(a, str_of(m->header->value), true, e);
    errors_pop(e, mark);
    out->action = (enum add_action)m->append_action;
    if (m->append && m->append_action)
        errors_add(e, "append_action", "and append cannot both be set");
    else if (m->append)
        out->action = m->append->value ? ADD_APPEND : ADD_OVERWRITE;
    out->keep_empty = m->keep_empty_value;
}

struct headers_mutation *headers_mutation_compile(struct arena *a, void *const *add, size_t num_add,
                                                  char *const *remove, size_t num_remove,
                                                  const char *adds, const char *removes,
                                                  struct errors *e)
{
    if (!num_add && !num_remove)
        return NULL;
    struct headers_mutation *m = ARENA_NEW(a, struct headers_mutation);
    m->add = arena_zalloc(a, (num_add + 1) * sizeof(*m->add));
    m->num_add = num_add;
    for (size_t i = 0; i < num_add; i++) {
        size_t mark = errors_push_index(e, adds, i);
        compile_add(&m->add[i], a, add[i], e);
        errors_pop(e, mark);
    }
    m->remove = arena_zalloc(a, (num_remove + 1) * sizeof(*m->remove));
    m->num_remove = num_remove;
    for (size_t i = 0; i < num_remove; i++) {
        size_t mark = errors_push_index(e, removes, i);
        m->remove[i] = lower_str(a, str_of(remove[i]));
        (void)may_change(m->remove[i], NULL, e);
        errors_pop(e, mark);
    }
    return m;
}

struct headers_mutation *headers_mutation_add(struct arena *a, const void *option,
                                              const char *field, struct errors *e)
{
    struct headers_mutation *m = ARENA_NEW(a, struct headers_mutation);
    m->add = ARENA_NEW(a, struct header_add);
    m->num_add = 1;
    size_t mark = errors_push(e, field);
    compile_add(m->add, a, option, e);
    errors_pop(e, mark);
    return m;
}

struct headers_mutation *headers_mutation_remove(struct arena *a, const char *name,
                                                 const char *field, struct errors *e)
{
    struct headers_mutation *m = ARENA_NEW(a, struct headers_mutation);
    m->remove = ARENA_NEW(a, struct str);
    m->remove[0] = lower_str(a, str_of(name));
    m->num_remove = 1;
    (void)may_change(m->remove[0], field, e);
    return m;
}

/* What replaces goes before what adds. */
void headers_mutation_apply(const struct headers_mutation *m, struct headers *h,
                            const struct stream_info *si)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->num_remove; i++)
        headers_remove(h, m->remove[i]);
    struct str *values = arena_alloc(h->arena, (m->num_add + 1) * sizeof(*values));
    for (size_t i = 0; i < m->num_add; i++) {
        const struct header_add *a = &m->add[i];
        bool there = (a->action == ADD_IF_ABSENT || a->action == ADD_OVERWRITE_IF_EXISTS) &&
                     headers_find(h, a->name);
        values[i] = format_str(a->value, si, h->arena);
        bool wanted = values[i].len || a->keep_empty;
        if (!wanted || (a->action == ADD_IF_ABSENT && there) ||
            (a->action == ADD_OVERWRITE_IF_EXISTS && !there))
            values[i] = STR_NULL;
        else if (!values[i].p)
            values[i] = STR("");
    }
    for (size_t i = 0; i < m->num_add; i++) {
        const struct header_add *a = &m->add[i];
        if (values[i].p && (a->action == ADD_OVERWRITE || a->action == ADD_OVERWRITE_IF_EXISTS))
            headers_set(h, a->name, values[i]);
    }
    for (size_t i = 0; i < m->num_add; i++) {
        const struct header_add *a = &m->add[i];
        if (values[i].p && (a->action == ADD_APPEND || a->action == ADD_IF_ABSENT))
            headers_add(h, a->name, values[i]);
    }
}
