#include "proxy/admin/admin_dump.h"

struct admin_mask admin_mask_parse(struct str text, struct arena *a)
{
    struct str rest = text, path;
    size_t max = 1;
    for (size_t i = 0; i < text.len; i++)
        max += text.p[i] == ',';
    struct admin_mask m = {arena_alloc(a, max * sizeof(struct str)), 0};
    while (str_next(&rest, ',', &path)) {
        if (str_trim(path).len)
            m.paths[m.num++] = str_trim(path);
    }
    return m;
}

/* The paths below a member: false if it is not named at all. An empty result names all of it. */
static bool below(const struct admin_mask *mask, struct str key, struct admin_mask *out,
                  struct arena *a)
{
    bool named = false, whole = false;
    *out = (struct admin_mask){arena_alloc(a, (mask->num + 1) * sizeof(struct str)), 0};
    for (size_t i = 0; i < mask->num; i++) {
        struct str rest = mask->paths[i], first;
        if (!str_next(&rest, '.', &first) || !str_eq(first, key))
            continue;
        named = true;
        if (first.len == mask->paths[i].len)
            whole = true;
        else
            out->paths[out->num++] = rest;
    }
    if (whole)
        out->num = 0;
    return named;
}

void admin_mask_put(struct json_writer *w, const struct json *object, const struct admin_mask *mask,
                    struct arena *a)
{
    json_open(w, '{');
    for (const struct json *c = object->first; c; c = c->next) {
        struct admin_mask inner;
        bool type = str_eq(c->key, STR("@type"));
        if (!type && !below(mask, c->key, &inner, a))
            continue;
        json_key(w, c->key);
        if (type || inner.num == 0 || c->type != JSON_OBJECT)
            json_put_tree(w, c);
        else
            admin_mask_put(w, c, &inner, a); /* as deep as a path is long */
    }
    json_close(w, '}');
}
