#include "base/json.h"
#include "google/protobuf/struct.pb-c.h"
#include "proxy/observe/format.h"
#include "proxy/observe/format_metadata.h"
#include "proxy/observe/format_private.h"
#include <math.h>
#include <stdlib.h>

typedef Google__Protobuf__Value Value;
typedef Google__Protobuf__Struct Struct;
typedef Google__Protobuf__ListValue List;

/* Every level holds back a bracket, a comma and a name at most (format_out.h). */
enum { DEPTH_MAX = (FORMAT_OUT_PENDING - 8) / 3 };

enum node_kind { NODE_OBJECT, NODE_LIST, NODE_TEXT, NODE_OPERATOR, NODE_FORMAT };

struct node {
    struct node *next;
    enum node_kind kind;
    struct str key;             /* "name":  escaped, with its colon; empty in a list */
    struct str text;            /* NODE_TEXT: a JSON value */
    bool null;                  /* NODE_TEXT: null, left out with omit_empty */
    const struct format_op *op; /* NODE_OPERATOR */
    struct format *format;      /* NODE_FORMAT: of several parts */
    struct node *first;
};

struct json_format {
    struct node *root;
    bool omit_empty;
};

struct compiler {
    struct arena *a;
    struct errors *e;
    bool omit_empty;
    unsigned depth;
};

static struct node *compile_value(struct compiler *c, const Value *v);

/* --- compiling ---------------------------------------------------------------------------------
 */

static struct str escaped(struct compiler *c, struct str before, struct str s, struct str after)
{
    struct buffer b;
    struct format_out o;
    buffer_init(&b);
    format_out_begin(&o, &b);
    format_out_raw(&o, before);
    o.json = true;
    format_out_put(&o, s);
    format_out_raw(&o, after);
    format_out_end(&o);
    char *p = arena_bytes(c->a, b.len);
    struct str out = str_n(p, buffer_copy_out(&b, 0, p, b.len));
    buffer_cleanup(&b);
    return out;
}

static struct node *compile_text(struct compiler *c, struct str text)
{
    struct node *n = ARENA_NEW(c->a, struct node);
    n->kind = NODE_TEXT;
    n->text = text;
    n->null = str_eq(text, STR("null"));
    return n;
}

static struct node *compile_string(struct compiler *c, struct str s)
{
    struct str text;
    struct format *f = format_compile(c->a, s, c->omit_empty, c->e);
    if (!f)
        return NULL;
    if (format_is_plain(f, &text))
        return compile_text(c, escaped(c, STR("\""), text, STR("\"")));
    struct node *n = ARENA_NEW(c->a, struct node);
    bool alone = f->num_parts == 1;
    n->kind = alone ? NODE_OPERATOR : NODE_FORMAT;
    n->op = alone ? f->parts[0].op : NULL;
    n->format = f;
    return n;
}

/* In the digits Envoy writes: whole numbers in full, up to 21 of them. */
static struct node *compile_number(struct compiler *c, double d)
{
    struct json_writer w;
    if (fabs(d) < 1e21 && d == trunc(d))
        return compile_text(c, arena_printf(c->a, "%.0f", d));
    json_writer_init(&w, false);
    json_put_double(&w, d);
    struct str text = arena_str(c->a, json_writer_text(&w));
    json_writer_cleanup(&w);
    return compile_text(c, text);
}

static int by_name(const void *a, const void *b)
{
    const Google__Protobuf__Struct__FieldsEntry *const *x = a, *const *y = b;
    return str_cmp(str_of((*x)->key), str_of((*y)->key));
}

/* In order of their names, with or without sort_properties, as Envoy writes them: a map of protobuf
 * has no order of its own. */
static struct node *compile_object(struct compiler *c, const Struct *s)
{
    struct node *n = ARENA_NEW(c->a, struct node), **tail = &n->first;
    size_t num = s->n_fields;
    n->kind = NODE_OBJECT;
    Google__Protobuf__Struct__FieldsEntry **fields = arena_alloc(c->a, num * sizeof(*fields) + 1);
    if (num) {
        memcpy(fields, s->fields, num * sizeof(*fields));
        qsort(fields, num, sizeof(*fields), by_name);
    }
    for (size_t i = 0; i < num; i++) {
        struct str name = str_of(fields[i]->key);
        size_t mark = errors_push_key(c->e, "fields", name);
        struct node *child = compile_value(c, fields[i]->value);
        errors_pop(c->e, mark);
        if (!child)
            continue; /* an error; the others are looked at all the same */
        child->key = escaped(c, STR("\""), name, STR("\":"));
        *tail = child;
        tail = &child->next;
    }
    return n;
}

static struct node *compile_list(struct compiler *c, const List *l)
{
    struct node *n = ARENA_NEW(c->a, struct node), **tail = &n->first;
    n->kind = NODE_LIST;
    for (size_t i = 0; i < l->n_values; i++) {
        size_t mark = errors_push_index(c->e, "values", i);
        struct node *child = compile_value(c, l->values[i]);
        errors_pop(c->e, mark);
        if (!child)
            continue;
        *tail = child;
        tail = &child->next;
    }
    return n;
}

static struct node *compile_deeper(struct compiler *c, const Value *v)
{
    if (c->depth >= DEPTH_MAX) {
        errors_add(c->e, NULL, "nested more than %d deep", DEPTH_MAX);
        return NULL;
    }
    c->depth++;
    bool object = v->kind_case == GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
    struct node *n = object ? compile_object(c, v->struct_value) : compile_list(c, v->list_value);
    c->depth--;
    return n;
}

static struct node *compile_value(struct compiler *c, const Value *v)
{
    if (!v)
        return compile_text(c, STR("null"));
    switch (v->kind_case) {
    case GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET:
    case GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE:
        break;
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        return compile_number(c, v->number_value);
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        return compile_string(c, str_of(v->string_value));
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        return compile_text(c, v->bool_value ? STR("true") : STR("false"));
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        return compile_deeper(c, v);
    default:
        break; /* protobuf-c adds a member that makes the enum an int */
    }
    return compile_text(c, STR("null"));
}

struct json_format *json_format_compile(struct arena *a, const void *struct_msg, bool omit_empty,
                                        bool sort_properties, struct errors *e)
{
    size_t before = e->num_errors;
    struct compiler c = {.a = a, .e = e, .omit_empty = omit_empty};
    struct json_format *f = ARENA_NEW(a, struct json_format);
    f->omit_empty = omit_empty;
    f->root = compile_object(&c, struct_msg);
    return e->num_errors > before ? NULL : f;
}

/* --- evaluating ----------------------------------------------------------------------------------
 */

static bool put_node(const struct node *n, bool omit, const struct stream_info *si,
                     struct format_out *o);

/* A value that may be more than a text is itself, but a text is cut to its length. */
static bool put_tree(const struct node *n, bool omit, const struct stream_info *si,
                     struct format_out *o)
{
    struct json scratch;
    const struct json *j;
    bool there = n->op->def->tree(n->op, si, &scratch, &j);
    if (!there && omit)
        return false;
    if (!there) {
        format_out_raw(o, STR("null"));
    } else if (j->type != JSON_STRING) {
        o->left = SIZE_MAX;
        format_put_tree(j, o);
    } else {
        format_out_raw(o, STR("\""));
        o->json = true;
        o->left = j == &scratch && scratch.boolean ? SIZE_MAX : n->op->max;
        format_out_put(o, j->text.p ? j->text : STR(""));
        o->json = false;
        format_out_raw(o, STR("\""));
    }
    o->left = SIZE_MAX;
    return true;
}

static bool put_operator(const struct node *n, bool omit, const struct stream_info *si,
                         struct format_out *o)
{
    unsigned held = o->num_pending;
    if (n->op->def->tree)
        return put_tree(n, omit, si, o);
    if (!n->op->numeric)
        format_out_hold(o, STR("\""));
    o->json = true;
    bool there = format_op_put(n->op, si, o);
    o->json = false;
    o->left = SIZE_MAX;
    if (there) {
        if (!n->op->numeric)
            format_out_raw(o, STR("\""));
        return true;
    }
    format_out_drop(o, held);
    if (!omit)
        format_out_raw(o, STR("null"));
    return !omit;
}

static bool put_format(const struct node *n, const struct stream_info *si, struct format_out *o)
{
    format_out_raw(o, STR("\""));
    o->json = true;
    format_put(n->format, si, o);
    o->json = false;
    o->left = SIZE_MAX;
    format_out_raw(o, STR("\""));
    return true;
}

/* What an element begins with is held back until the element has a value. */
static bool put_children(const struct node *n, bool omit, const struct stream_info *si,
                         struct format_out *o)
{
    bool object = n->kind == NODE_OBJECT, any = false;
    unsigned outer = o->num_pending;
    format_out_hold(o, object ? STR("{") : STR("["));
    for (const struct node *child = n->first; child; child = child->next) {
        unsigned held = o->num_pending;
        if (any)
            format_out_hold(o, STR(","));
        if (object)
            format_out_hold(o, child->key);
        if (put_node(child, omit, si, o))
            any = true;
        else
            format_out_drop(o, held);
    }
    if (!any && object && omit) {
        format_out_drop(o, outer);
        return false;
    }
    format_out_raw(o, object ? STR("}") : STR("]"));
    return true;
}

static bool put_node(const struct node *n, bool omit, const struct stream_info *si,
                     struct format_out *o)
{
    switch (n->kind) {
    case NODE_OBJECT:
    case NODE_LIST:
        return put_children(n, omit, si, o);
    case NODE_OPERATOR:
        return put_operator(n, omit, si, o);
    case NODE_FORMAT:
        return put_format(n, si, o);
    case NODE_TEXT:
        if (n->null && omit)
            return false;
        format_out_raw(o, n->text);
        return true;
    }
    return false;
}

void json_format_append(const struct json_format *f, const struct stream_info *si, struct buffer *b)
{
    struct format_out o;
    format_out_begin(&o, b);
    if (!put_node(f->root, f->omit_empty, si, &o))
        format_out_raw(&o, STR("{}"));
    format_out_end(&o);
}
