#include "proxy/observe/format_metadata.h"

#include "base/alloc.h"
#include <stdlib.h>

/* --- JSON --------------------------------------------------------------------------------------
 */

enum { DEPTH_MAX = 100 };

static void write_tree(struct json_writer *w, const struct json *j, unsigned depth);

static int by_key(const void *a, const void *b)
{
    const struct json *const *x = a, *const *y = b;
    return str_cmp((*x)->key, (*y)->key);
}

static void write_object(struct json_writer *w, const struct json *j, unsigned depth)
{
    size_t n = 0;
    const struct json **members = mem_zalloc((j->count + 1) * sizeof(struct json *));
    for (const struct json *m = j->first; m && n < j->count; m = m->next)
        members[n++] = m;
    qsort(members, n, sizeof(struct json *), by_key);
    json_open(w, '{');
    for (size_t i = 0; i < n; i++) {
        json_key(w, members[i]->key);
        write_tree(w, members[i], depth);
    }
    json_close(w, '}');
    mem_free(members);
}

static void write_tree(struct json_writer *w, const struct json *j, unsigned depth)
{
    bool deep = depth >= DEPTH_MAX;
    switch (j->type) {
    case JSON_OBJECT:
        if (deep)
            json_put_null(w);
        else
            write_object(w, j, depth + 1);
        return;
    case JSON_ARRAY:
        json_open(w, '[');
        for (const struct json *c = j->first; c && !deep; c = c->next)
            write_tree(w, c, depth + 1);
        json_close(w, ']');
        return;
    case JSON_NULL:
    case JSON_BOOL:
    case JSON_NUMBER:
    case JSON_STRING:
        json_put_tree(w, j);
        return;
    }
}

void format_put_tree(const struct json *j, struct format_out *o)
{
    struct json_writer w;
    json_writer_init(&w, false);
    write_tree(&w, j, 0);
    format_out_put(o, json_writer_text(&w));
    json_writer_cleanup(&w);
}

/* --- dynamic metadata, and the route's ---
 */

enum { METADATA_DYNAMIC, METADATA_ROUTE };

bool format_dynamic_metadata_prepare(struct format_op *op, struct arena *a, struct str param,
                                     struct errors *e)
{
    struct str rest = param, key;
    (void)str_next(&rest, ':', &op->name);
    op->name = arena_str(a, op->name);
    op->keys = arena_zalloc(a, (param.len + 1) * sizeof(*op->keys));
    while (str_next(&rest, ':', &key))
        op->keys[op->num_keys++] = arena_str(a, key);
    return true;
}

bool format_metadata_prepare(struct format_op *op, struct arena *a, struct str param,
                             struct errors *e)
{
    struct str rest = param, type = STR_NULL;
    (void)str_next(&rest, ':', &type);
    if (str_eq(type, STR("ROUTE"))) {
        op->option = METADATA_ROUTE;
    } else if (!str_eq(type, STR("DYNAMIC"))) {
        errors_add(e, NULL, "METADATA(%.*s) is not supported: DYNAMIC and ROUTE are",
                   STR_ARG(type));
        return false;
    }
    return format_dynamic_metadata_prepare(op, a, rest, e);
}

bool format_metadata_tree(const struct format_op *op, const struct stream_info *si,
                          struct json *scratch, const struct json **out)
{
    const struct metadata *m = op->option == METADATA_ROUTE ? si->route_metadata : &si->metadata;
    const struct json *j = m ? metadata_path(m, op->name, op->keys, op->num_keys) : NULL;
    *out = j;
    return j && j->type != JSON_NULL;
}

bool format_metadata_put(const struct format_op *op, const struct stream_info *si,
                         struct format_out *o)
{
    const struct json *j;
    if (!format_metadata_tree(op, si, NULL, &j))
        return false;
    if (j->type == JSON_STRING)
        format_out_put(o, j->text.p ? j->text : STR(""));
    else
        format_put_tree(j, o);
    return true;
}

/* --- filter state --------------------------------------------------------------------------------
 */

enum { STATE_TYPED, STATE_PLAIN, STATE_FIELD };

bool format_filter_state_prepare(struct format_op *op, struct arena *a, struct str param,
                                 struct errors *e)
{
    struct str rest = param, how = STR_NULL;
    (void)str_next(&rest, ':', &op->name);
    (void)str_next(&rest, ':', &how);
    op->name = arena_str(a, op->name);
    if (!how.len || str_eq(how, STR("TYPED")))
        op->option = STATE_TYPED;
    else if (str_eq(how, STR("PLAIN")))
        op->option = STATE_PLAIN;
    else if (str_eq(how, STR("FIELD")))
        op->option = STATE_FIELD;
    else {
        errors_add(e, NULL, "FILTER_STATE: PLAIN, TYPED or FIELD, not %.*s", STR_ARG(how));
        return false;
    }
    return true;
}

bool format_filter_state_tree(const struct format_op *op, const struct stream_info *si,
                              struct json *scratch, const struct json **out)
{
    struct str value = filter_state_get(&si->filter_state, op->name);
    *scratch = (struct json){
        .type = JSON_STRING, .text = value, .boolean = op->option == STATE_TYPED};
    *out = scratch;
    return value.p && op->option != STATE_FIELD;
}

bool format_filter_state_put(const struct format_op *op, const struct stream_info *si,
                             struct format_out *o)
{
    struct json scratch;
    const struct json *j;
    if (!format_filter_state_tree(op, si, &scratch, &j))
        return false;
    if (op->option == STATE_PLAIN)
        format_out_put(o, scratch.text);
    else
        format_put_tree(j, o);
    return true;
}
