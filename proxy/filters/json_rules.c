#include "proxy/filters/json_rules.h"

#include "envoy/extensions/filters/http/json_to_metadata/v3/json_to_metadata.pb-c.h"

#include <math.h>

typedef Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata__Rule Rule;
typedef Envoy__Extensions__Filters__Http__JsonToMetadata__V3__JsonToMetadata__KeyValuePair KeyValue;
#define J2M(x) ENVOY__EXTENSIONS__FILTERS__HTTP__JSON_TO_METADATA__V3__JSON_TO_METADATA__##x

/* --- configuration --- */

static struct json_target *compile_target(struct arena *a, const KeyValue *m, const char *field,
                                          bool needs_value, struct errors *e)
{
    if (!m)
        return NULL;
    size_t mark = errors_push(e, field);
    struct json_target *t = ARENA_NEW(a, struct json_target);
    t->ns = m->metadata_namespace[0] ? arena_str(a, str_of(m->metadata_namespace))
                                     : STR("envoy.filters.http.json_to_metadata");
    t->key = arena_str(a, str_of(m->key));
    t->preserve = m->preserve_existing_metadata_value;
    if (!t->key.len)
        errors_add(e, "key", "must not be empty");
    if (m->value_type_case == J2M(KEY_VALUE_PAIR__VALUE_TYPE_VALUE))
        t->value = metadata_from_value(a, m->value);
    else if (needs_value)
        errors_add(e, "value", "is required");
    switch (m->type) {
    case J2M(VALUE_TYPE__STRING):
        t->type = JSON_AS_STRING;
        break;
    case J2M(VALUE_TYPE__NUMBER):
        t->type = JSON_AS_NUMBER;
        break;
    default:
        t->type = JSON_AS_IT_IS;
        break;
    }
    errors_pop(e, mark);
    return t;
}

static void compile_rule(struct json_rule *r, struct arena *a, const Rule *m, struct errors *e)
{
    r->num_path = m->n_selectors;
    r->path = arena_zalloc(a, (m->n_selectors + 1) * sizeof(*r->path));
    for (size_t i = 0; i < m->n_selectors; i++) {
        if (m->selectors[i]->key)
            r->path[i] = arena_str(a, str_of(m->selectors[i]->key));
    }
    if (!m->n_selectors)
        errors_add(e, "selectors", "at least one is required");
    if (!m->on_present && !m->on_missing)
        errors_add(e, NULL, "on_present or on_missing is required");
    r->present = compile_target(a, m->on_present, "on_present", false, e);
    r->missing = compile_target(a, m->on_missing, "on_missing", true, e);
    r->error = compile_target(a, m->on_error, "on_error", true, e);
}

void json_rules_compile(struct json_rules *out, struct arena *a, void *const *msgs, size_t n,
                        struct errors *e)
{
    out->v = arena_zalloc(a, (n + 1) * sizeof(*out->v));
    out->n = n;
    if (!n)
        errors_add(e, "rules", "at least one is required");
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(e, "rules", i);
        compile_rule(&out->v[i], a, msgs[i], e);
        errors_pop(e, mark);
    }
}

/* --- values --- */

static const struct json *find(const struct json_rule *r, const struct json *at)
{
    for (size_t i = 0; at && i < r->num_path; i++) {
        const struct json *child = at->type == JSON_OBJECT ? at->first : NULL;
        while (child && !str_eq(child->key, r->path[i]))
            child = child->next;
        at = child;
    }
    return at;
}

/* As Envoy writes numbers: whole ones as they are, others with six digits. */
static struct str number_text(struct arena *a, const struct json *j)
{
    int64_t whole;
    double d;
    if (str_to_i64(j->text, &whole))
        return arena_printf(a, "%lld", (long long)whole);
    return json_double(j, &d) ? arena_printf(a, "%f", d) : STR_NULL;
}

/* The value as the target wants it; NULL: it cannot be had. */
static struct json *converted(struct arena *a, const struct json_target *t, const struct json *j)
{
    double d = 0;
    bool string = j->type == JSON_STRING, number = j->type == JSON_NUMBER;
    if (!string && !number && j->type != JSON_BOOL)
        return NULL;
    if (j->text.len > METADATA_VALUE_MAX)
        return NULL;
    if (number && (!json_double(j, &d) || !isfinite(d)))
        return NULL;
    switch (t->type) {
    case JSON_AS_IT_IS:
        return number ? metadata_number(a, d) : metadata_copy(a, j);
    case JSON_AS_STRING:
        if (string)
            return metadata_string(a, arena_str(a, j->text));
        return metadata_string(a, number ? number_text(a, j) : j->boolean ? STR("1") : STR("0"));
    case JSON_AS_NUMBER:
        if (string && (!str_to_double(j->text, &d) || !isfinite(d)))
            return NULL;
        return metadata_number(a, j->type == JSON_BOOL ? j->boolean : d);
    }
    return NULL;
}

/* --- rules --- */

static bool set(const struct json_target *t, struct arena *a, struct json *value,
                const struct metadata *before, struct metadata *to)
{
    if (t->preserve && metadata_path(before, t->ns, &t->key, 1))
        return false;
    metadata_set(to, a, t->ns, t->key, value);
    return true;
}

/* Of one rule: `from` NULL means that there is no such value. */
static bool apply(const struct json_rule *r, struct arena *a, const struct json *from,
                  const struct metadata *before, struct metadata *to)
{
    struct json *value = NULL;
    if (from && r->present)
        value = r->present->value ? metadata_copy(a, r->present->value)
                                  : converted(a, r->present, from);
    if (value) {
        bool nothing = !r->present->value && r->present->type == JSON_AS_STRING &&
                       value->text.len == 0;
        return !nothing && set(r->present, a, value, before, to);
    }
    if (from && !r->present)
        return false;
    return r->missing && set(r->missing, a, metadata_copy(a, r->missing->value), before, to);
}

bool json_rules_apply(const struct json_rules *rules, struct arena *a, enum json_outcome outcome,
                      const struct json *root, struct metadata *m)
{
    struct metadata made = {0};
    bool any = false;
    for (size_t i = 0; i < rules->n; i++) {
        const struct json_rule *r = &rules->v[i];
        switch (outcome) {
        case JSON_SUCCESS:
            any |= apply(r, a, find(r, root), m, &made);
            break;
        case JSON_NO_BODY:
            any |= apply(r, a, NULL, m, &made);
            break;
        case JSON_WRONG_TYPE:
        case JSON_INVALID:
            any |= r->error && set(r->error, a, metadata_copy(a, r->error->value), m, &made);
            break;
        }
    }
    /* A rule does not see what another one set: "preserve" is about what was there before. */
    for (const struct metadata_namespace *n = made.first; n; n = n->next) {
        for (struct json *j = n->object->first, *next; j; j = next) {
            next = j->next;
            metadata_set(m, a, n->name, j->key, j);
        }
    }
    return any;
}
