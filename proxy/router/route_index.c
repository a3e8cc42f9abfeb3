/* The routes of a virtual host in order, and an index that says which of them a path can reach. A
 * route by prefix or path is filed in a radix tree; what the tree gives and what is not filed there
 * are ascending lists of places, examined as one list: the first that fits is then the first of
 * all.
 */
#include "proxy/router/route_private.h"

enum {
    LISTS_MAX = 16, /* merged; where more prefixes nest than that, all routes are examined */
};

/* The routes that end at a node of the tree. */
struct route_bucket {
    uint32_t *prefix, *exact; /* ascending */
    uint32_t num_prefix, num_exact, cap_prefix, cap_exact;
};

static void push(uint32_t **v, uint32_t *n, uint32_t *cap, uint32_t value, struct arena *a)
{
    if (*n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 1;
        uint32_t *grown = arena_alloc(a, more * sizeof(*grown));
        if (*n)
            memcpy(grown, *v, *n * sizeof(*grown));
        *v = grown;
        *cap = more;
    }
    (*v)[(*n)++] = value;
}

static void file(struct route_list *l, uint32_t at, struct arena *a)
{
    const struct route_entry *r = &l->v[at];
    void **place = trie_put(r->ignore_case ? &l->folded : &l->paths, a, r->path);
    struct route_bucket *b = *place ? *place : ARENA_NEW(a, struct route_bucket);
    *place = b;
    if (r->ignore_case)
        l->has_folded = true;
    if (r->kind == PATH_EXACT)
        push(&b->exact, &b->num_exact, &b->cap_exact, at, a);
    else
        push(&b->prefix, &b->num_prefix, &b->cap_prefix, at, a);
}

void route_list_index(struct route_list *l, struct arena *a)
{
    l->folded.fold = true;
    l->rest = arena_alloc(a, (l->n + 1) * sizeof(*l->rest));
    for (size_t i = 0; i < l->n; i++) {
        switch (l->v[i].kind) {
        case PATH_PREFIX:
        case PATH_EXACT:
        case PATH_SEPARATED_PREFIX:
            file(l, (uint32_t)i, a);
            break;
        case PATH_REGEX:
        case PATH_TEMPLATE:
        case PATH_CONNECT:
            l->rest[l->num_rest++] = (uint32_t)i;
            break;
        }
    }
}

void route_list_compile(struct route_compiler *c, struct route_list *l, void *const *routes,
                        size_t n, struct vhost *v)
{
    l->n = n;
    l->v = arena_zalloc(c->a, (n + 1) * sizeof(*l->v));
    for (size_t i = 0; i < n; i++) {
        size_t mark = errors_push_index(c->e, "routes", i);
        route_entry_compile(c, &l->v[i], routes[i], v);
        errors_pop(c->e, mark);
    }
    route_list_index(l, c->a);
}

/* --- finding --- */

struct lists {
    struct {
        const uint32_t *at, *end;
    } v[LISTS_MAX];
    size_t n;
    bool overflow;
};

static void add_list(struct lists *s, const uint32_t *v, size_t n)
{
    if (!n)
        return;
    if (s->n == LISTS_MAX) {
        s->overflow = true;
        return;
    }
    s->v[s->n].at = v;
    s->v[s->n++].end = v + n;
}

static void collect(struct lists *s, const struct trie *t, struct str path)
{
    struct trie_walk w;
    const struct route_bucket *b;
    trie_walk_start(&w, t, path);
    while (!s->overflow && (b = trie_walk_next(&w))) {
        add_list(s, b->prefix, b->num_prefix);
        if (w.at == path.len)
            add_list(s, b->exact, b->num_exact);
    }
}

/* The smallest of the lists' heads is taken off; false: all are empty. */
static bool next_candidate(struct lists *s, uint32_t *out)
{
    size_t best = 0;
    if (!s->n)
        return false;
    for (size_t i = 1; i < s->n; i++) {
        if (*s->v[i].at < *s->v[best].at)
            best = i;
    }
    *out = *s->v[best].at++;
    if (s->v[best].at == s->v[best].end)
        s->v[best] = s->v[--s->n];
    return true;
}

static const struct route *examine(const struct route_list *l, struct route_matching *m, size_t at)
{
    m->examined++;
    return route_conditions_fit(&l->v[at], m) ? &l->v[at].route : NULL;
}

const struct route *route_list_find(const struct route_list *l, struct route_matching *m)
{
    struct lists s = {.n = 0};
    uint32_t at;
    const struct route *r = NULL;
    if (l->n == 1)
        return examine(l, m, 0);
    add_list(&s, l->rest, l->num_rest);
    collect(&s, &l->paths, m->path);
    if (l->has_folded)
        collect(&s, &l->folded, m->path);
    if (s.overflow) {
        for (size_t i = 0; i < l->n && !r; i++)
            r = examine(l, m, i);
        return r;
    }
    while (!r && next_candidate(&s, &at))
        r = examine(l, m, at);
    return r;
}
