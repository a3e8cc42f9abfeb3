#include "api-protos/message.h"

#include "api-protos/registry.h"
#include "api-protos/rules.h"

struct frame {
    const struct frame *up;
    const char *field; /* NULL at the root */
    size_t index;
    struct str key;
    enum { PLAIN, INDEXED, KEYED } step;
};

static void push_frames(struct errors *e, const struct frame *fr)
{
    if (!fr)
        return;
    push_frames(e, fr->up);
    if (!fr->field)
        return;
    if (fr->step == INDEXED)
        errors_push_index(e, fr->field, fr->index);
    else if (fr->step == KEYED)
        errors_push_key(e, fr->field, fr->key);
    else
        errors_push(e, fr->field);
}

static void report(struct errors *e, const struct frame *fr, const char *text)
{
    size_t mark = errors_push(e, NULL);
    if (e->num_errors < ERRORS_MAX)
        push_frames(e, fr);
    errors_add(e, NULL, "%s", text);
    errors_pop(e, mark);
}

static const void *member(const ProtobufCMessage *m, unsigned offset)
{
    return (const uint8_t *)m + offset;
}

/* The `index`th value at `at`, as the type of `f` lays it out. */
static struct rule_value load(const ProtobufCFieldDescriptor *f, const void *at, size_t index)
{
    struct rule_value v = {.kind = RULE_INT, .set = true};
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM:
        v.i = ((const int32_t *)at)[index];
        return v;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        v.i = ((const int64_t *)at)[index];
        return v;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        v.i = ((const uint32_t *)at)[index];
        return v;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        v.kind = RULE_UINT;
        v.i = (int64_t)((const uint64_t *)at)[index];
        return v;
    case PROTOBUF_C_TYPE_FLOAT:
        v.kind = RULE_FLOATING;
        v.d = (double)((const float *)at)[index];
        return v;
    case PROTOBUF_C_TYPE_DOUBLE:
        v.kind = RULE_FLOATING;
        v.d = ((const double *)at)[index];
        return v;
    case PROTOBUF_C_TYPE_BOOL:
        v.i = ((const protobuf_c_boolean *)at)[index] != 0;
        return v;
    case PROTOBUF_C_TYPE_STRING:
        v.kind = RULE_TEXT;
        v.s = str_of(((char *const *)at)[index]);
        return v;
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = &((const ProtobufCBinaryData *)at)[index];
        v.kind = RULE_TEXT;
        v.s = str_n((const char *)b->data, b->len);
        return v;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        v.kind = RULE_MESSAGE;
        v.message = ((ProtobufCMessage *const *)at)[index];
        v.set = v.message != NULL;
        return v;
    }
    return v;
}

/* A wrapper or Duration is checked as what it holds. */
static struct rule_value look_inside(struct rule_value v)
{
    if (v.kind != RULE_MESSAGE || !v.message)
        return v;
    const struct official_message *m = registry_official(v.message->descriptor);
    if (m->kind == OFFICIAL_WRAPPER) {
        const ProtobufCFieldDescriptor *f = &v.message->descriptor->fields[0];
        return load(f, member(v.message, f->offset), 0);
    }
    if (m->kind == OFFICIAL_DURATION)
        rules_duration(v.message, &v);
    return v;
}

static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)member(m, f->quantifier_offset) == f->id;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(ProtobufCMessage *const *)member(m, f->offset) != NULL;
    if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->quantifier_offset)
        return *(const protobuf_c_boolean *)member(m, f->quantifier_offset);
    return true;
}

static void check_message(struct errors *e, const ProtobufCMessage *m, const struct frame *fr);

static void check_value(struct errors *e, const struct official_field *of, uint32_t rules,
                        struct rule_value v, const struct frame *fr)
{
    char text[256];
    bool skip = false;
    if (rules && !rules_check(of, rules, look_inside(v), &skip, text, sizeof(text)))
        report(e, fr, text);
    if (v.kind == RULE_MESSAGE && v.message && !skip)
        check_message(e, v.message, fr);
}

static uint32_t sub_rules(uint32_t rules, enum official_rule_op op)
{
    const struct official_rule *r = &official_rules[rules];
    for (; r->op != RULE_END; r++) {
        if (r->op == op)
            return (uint32_t)r->value;
    }
    return 0;
}

static void check_map_entry(struct errors *e, const struct official_field *of,
                            const ProtobufCMessage *entry, struct frame *step)
{
    const ProtobufCFieldDescriptor *key = &entry->descriptor->fields[0];
    const ProtobufCFieldDescriptor *value = &entry->descriptor->fields[1];
    const struct official_message *m = official_target(of);
    const struct official_field *fields = &official_fields[m->first_field];
    struct rule_value k = load(key, member(entry, key->offset), 0);
    step->step = KEYED;
    step->key = k.s;
    check_value(e, &fields[0], sub_rules(of->rules, RULE_KEYS), k, step);
    check_value(e, &fields[1], sub_rules(of->rules, RULE_VALUES),
                load(value, member(entry, value->offset), 0), step);
}

static void check_repeated(struct errors *e, const ProtobufCMessage *m,
                           const ProtobufCFieldDescriptor *f, const struct official_field *of,
                           const struct frame *fr)
{
    size_t n = *(const size_t *)member(m, f->quantifier_offset);
    const void *array = *(void *const *)member(m, f->offset);
    struct frame step = {fr, f->name, 0, STR_NULL, PLAIN};
    bool message = f->type == PROTOBUF_C_TYPE_MESSAGE;
    char text[256];
    if (of->rules && !rules_check_count(of, n, text, sizeof(text)))
        report(e, &step, text);
    uint32_t items = sub_rules(of->rules, RULE_ITEMS);
    bool unique = of->rules && rules_has(of->rules, RULE_UNIQUE);
    if (!message && !items && !unique)
        return;
    struct rule_value *all = unique ? mem_alloc((n + 1) * sizeof(*all)) : NULL;
    for (size_t i = 0; i < n; i++) {
        struct rule_value v = load(f, array, i);
        step.step = INDEXED;
        step.index = i;
        if (of->flags & OFFICIAL_MAP)
            check_map_entry(e, of, v.message, &step);
        else
            check_value(e, of, items, v, &step);
        if (unique)
            all[i] = v;
    }
    step.step = PLAIN;
    if (unique && !rules_all_differ(all, n))
        report(e, &step, "repeated value must contain unique items");
    mem_free(all);
}

static void check_field(struct errors *e, const ProtobufCMessage *m,
                        const ProtobufCFieldDescriptor *f, const struct official_field *of,
                        const struct frame *fr)
{
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        check_repeated(e, m, f, of, fr);
        return;
    }
    bool set = is_set(m, f);
    struct frame step = {fr, f->name, 0, STR_NULL, PLAIN};
    struct rule_value v = {.kind = RULE_MESSAGE};
    if (set)
        v = load(f, member(m, f->offset), 0);
    else if (f->type != PROTOBUF_C_TYPE_MESSAGE || (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
        return; /* a choice not taken, an optional scalar */
    check_value(e, of, of->rules, v, &step);
}

static void check_oneofs(struct errors *e, const ProtobufCMessage *m,
                         const struct official_message *om, const struct frame *fr)
{
    for (uint32_t i = 0; i < om->num_oneofs; i++) {
        const struct official_oneof *oneof = &official_oneofs[om->first_oneof + i];
        bool found = !oneof->required;
        for (unsigned k = 0; k < m->descriptor->n_fields && !found; k++) {
            const ProtobufCFieldDescriptor *f = &m->descriptor->fields[k];
            const struct official_field *of = official_by_number(om, f->id);
            found = of && of->oneof == i + 1 && is_set(m, f);
        }
        if (found)
            continue;
        struct frame step = {fr, official_strings + oneof->name, 0, STR_NULL, PLAIN};
        report(e, &step, "value is required");
    }
}

static void check_message(struct errors *e, const ProtobufCMessage *m, const struct frame *fr)
{
    const struct official_message *om = registry_official(m->descriptor);
    if (!registry_has_rules(om))
        return;
    check_oneofs(e, m, om, fr);
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        const struct official_field *of = official_by_number(om, f->id);
        const struct official_message *target = official_target(of);
        if (of->rules || (target && registry_has_rules(target)))
            check_field(e, m, f, of, fr);
    }
}

bool pb_validate(const ProtobufCMessage *message, struct errors *e)
{
    size_t before = e->num_errors;
    struct frame root = {.field = NULL};
    check_message(e, message, &root);
    return e->num_errors == before;
}
