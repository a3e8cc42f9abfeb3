#include "base/arena.h"
#include "base/stats_visit.h"

#include <stdlib.h>

static int cmp_index(const void *a, const void *b, void *arg)
{
    const struct stats_def *defs = arg;
    return strcmp(defs[*(const uint32_t *)a].name, defs[*(const uint32_t *)b].name);
}

const uint32_t *stats_table_sorted(struct stats_table *t)
{
    if (t->sorted)
        return t->sorted;
    t->sorted = mem_alloc(t->num * sizeof(*t->sorted));
    for (uint32_t i = 0; i < t->num; i++)
        t->sorted[i] = i;
    qsort_r(t->sorted, t->num, sizeof(*t->sorted), cmp_index, (void *)(uintptr_t)t->defs);
    return t->sorted;
}

static int cmp_dynamic(const void *a, const void *b)
{
    return str_cmp(((const struct stats_dynamic_sum *)a)->suffix,
                   ((const struct stats_dynamic_sum *)b)->suffix);
}

struct stats_dynamic_sum *stats_dynamic_sums(struct stats_scope *s, struct arena *a, size_t *num)
{
    size_t n = 0, unique = 0;
    *num = 0;
    for (unsigned t = 0; t < stats_num_threads(); t++) {
        struct stats_block *b = atomic_load_explicit(&s->blocks[t], memory_order_acquire);
        struct stats_dynamic *d = b ? atomic_load_explicit(&b->dynamic, memory_order_acquire)
                                    : NULL;
        for (; d; d = d->next)
            n++;
    }
    if (!n)
        return NULL;
    /* A list may have grown since: what is new at its head waits for the next time. */
    struct stats_dynamic_sum *sums = arena_alloc(a, n * sizeof(*sums));
    size_t at = 0;
    for (unsigned t = 0; t < stats_num_threads(); t++) {
        struct stats_block *b = atomic_load_explicit(&s->blocks[t], memory_order_acquire);
        struct stats_dynamic *d = b ? atomic_load_explicit(&b->dynamic, memory_order_acquire)
                                    : NULL;
        for (; d && at < n; d = d->next) {
            sums[at++] = (struct stats_dynamic_sum){
                .family = d->family,
                .suffix = arena_printf(a, "%s%.*s", d->family, STR_ARG(d->name)),
                .code = d->code,
                .value = atomic_load_explicit(&d->value, memory_order_relaxed) - d->before_reset};
        }
    }
    qsort(sums, at, sizeof(*sums), cmp_dynamic);
    for (size_t i = 0; i < at; i++) {
        if (unique && str_eq(sums[unique - 1].suffix, sums[i].suffix))
            sums[unique - 1].value += sums[i].value;
        else
            sums[unique++] = sums[i];
    }
    *num = unique;
    return sums;
}

/* One scope on its way through its names: the table's and the dynamic ones, merged. */
struct walk {
    struct stats_scope *scope;
    const uint32_t *sorted;
    struct stats_dynamic_sum *dynamic;
    size_t num_dynamic, at, at_dynamic;
    bool in_dynamic; /* the current one is dynamic[at_dynamic] */
    char *name;      /* the current full name */
    size_t len, cap;
};

static bool shows(unsigned show, enum stats_kind kind)
{
    switch (kind) {
    case STATS_COUNTER:
    case STATS_GAUGE:
        return show & STATS_SHOW_NUMBERS;
    case STATS_HISTOGRAM:
        return show & STATS_SHOW_HISTOGRAMS;
    case STATS_TEXT:
        return show & STATS_SHOW_TEXTS;
    }
    return false;
}

static void walk_name(struct walk *w, struct str suffix)
{
    struct str prefix = w->scope->prefix;
    w->len = prefix.len + suffix.len;
    w->name = mem_grow_array(w->name, &w->cap, w->len, 1);
    memcpy(w->name, prefix.p, prefix.len);
    memcpy(w->name + prefix.len, suffix.p, suffix.len);
}

/* Finds the next name from the two positions on; false at the end. */
static bool walk_settle(struct walk *w, unsigned show)
{
    const struct stats_table *t = w->scope->table;
    while (w->at < t->num && (!shows(show, t->defs[w->sorted[w->at]].kind) ||
                              !stats_accepted(w->scope, w->sorted[w->at])))
        w->at++;
    bool have_dynamic = w->at_dynamic < w->num_dynamic, have = w->at < t->num;
    if (!have && !have_dynamic)
        return false;
    struct str fixed = have ? str_of(t->defs[w->sorted[w->at]].name) : STR_NULL;
    w->in_dynamic = have_dynamic && (!have || str_cmp(w->dynamic[w->at_dynamic].suffix, fixed) < 0);
    walk_name(w, w->in_dynamic ? w->dynamic[w->at_dynamic].suffix : fixed);
    return true;
}

static bool walk_start(struct walk *w, struct stats_scope *s, struct arena *a, unsigned show)
{
    *w = (struct walk){.scope = s, .sorted = stats_table_sorted(s->table)};
    if (show & STATS_SHOW_NUMBERS) {
        size_t all, n = 0;
        w->dynamic = stats_dynamic_sums(s, a, &all);
        for (size_t i = 0; i < all; i++) {
            walk_name(w, w->dynamic[i].suffix);
            if (stats_matches(str_n(w->name, w->len)))
                w->dynamic[n++] = w->dynamic[i];
        }
        w->num_dynamic = n;
    }
    if (walk_settle(w, show))
        return true;
    mem_free(w->name);
    return false;
}

/* Goes one name on; false when that was the last, and then w is freed. */
static bool walk_next(struct walk *w, unsigned show)
{
    *(w->in_dynamic ? &w->at_dynamic : &w->at) += 1;
    if (walk_settle(w, show))
        return true;
    mem_free(w->name);
    return false;
}

/* walk_start, and goes on to the first name after `after`. */
static bool walk_start_after(struct walk *w, struct stats_scope *s, struct arena *a, unsigned show,
                             struct str after)
{
    bool there = walk_start(w, s, a, show);
    while (there && after.len && str_cmp(str_n(w->name, w->len), after) <= 0)
        there = walk_next(w, show);
    return there;
}

/* Whether every name of the scope comes before `after`, or is it. */
static bool is_past(const struct stats_scope *s, struct str after)
{
    return after.len && str_cmp(s->prefix, after) < 0 && !str_starts(after, s->prefix);
}

static bool walk_show(struct walk *w, stats_visit_cb cb, void *arg)
{
    struct stats_view v = {.name = str_n(w->name, w->len), .kind = STATS_COUNTER, .used = true};
    if (w->in_dynamic) {
        v.value = w->dynamic[w->at_dynamic].value;
        return cb(arg, &v);
    }
    uint32_t idx = w->sorted[w->at];
    v.kind = w->scope->table->defs[idx].kind;
    v.used = stats_used(w->scope, idx);
    switch (v.kind) {
    case STATS_COUNTER:
    case STATS_GAUGE:
        v.value = stats_sum(w->scope, idx);
        break;
    case STATS_HISTOGRAM:
        v.histogram = stats_histogram(w->scope, idx);
        break;
    case STATS_TEXT:
        v.text = stats_text_get(w->scope, idx);
        break;
    }
    return cb(arg, &v);
}

static int cmp_scope(const void *a, const void *b)
{
    const struct stats_scope *x = *(struct stats_scope *const *)a,
                             *y = *(struct stats_scope *const *)b;
    return str_cmp(x->prefix, y->prefix);
}

static struct stats_scope **sorted_scopes(size_t *num, struct str after)
{
    struct stats_scope **all = NULL;
    size_t cap = 0;
    *num = 0;
    LIST_FOREACH(it, stats_scopes()) {
        struct stats_scope *s = CONTAINER_OF(it, struct stats_scope, link);
        if (!stats_shown(s) || is_past(s, after))
            continue;
        all = mem_grow_array(all, &cap, *num + 1, sizeof(*all));
        all[(*num)++] = s;
    }
    if (*num)
        qsort(all, *num, sizeof(*all), cmp_scope);
    return all;
}

/* The scopes in the order of their prefixes, of which no name can come before. So only those whose
 * prefix is not after the smallest name at hand are being walked, a handful. */
bool stats_visit_after(struct str after, unsigned show, stats_visit_cb cb, void *arg)
{
    struct walk *active = NULL;
    size_t num, num_active = 0, cap = 0, next = 0;
    struct stats_scope **scopes = sorted_scopes(&num, after);
    struct arena arena;
    bool go_on = true;
    arena_init(&arena, 0);
    while (go_on && (num_active || next < num)) {
        size_t min = 0;
        for (size_t i = 1; i < num_active; i++) {
            if (str_cmp(str_n(active[i].name, active[i].len),
                        str_n(active[min].name, active[min].len)) < 0)
                min = i;
        }
        if (next < num && (!num_active || str_cmp(scopes[next]->prefix,
                                                  str_n(active[min].name, active[min].len)) <= 0)) {
            if (!num_active)
                arena_reset(&arena);
            active = mem_grow_array(active, &cap, num_active + 1, sizeof(*active));
            num_active += walk_start_after(&active[num_active], scopes[next++], &arena, show,
                                           after);
            continue;
        }
        struct walk *w = &active[min];
        go_on = walk_show(w, cb, arg);
        if (!walk_next(w, show))
            *w = active[--num_active];
    }
    for (size_t i = 0; i < num_active; i++)
        mem_free(active[i].name);
    mem_free(active);
    mem_free(scopes);
    arena_cleanup(&arena);
    return go_on;
}

bool stats_visit(unsigned show, stats_visit_cb cb, void *arg)
{
    return stats_visit_after(STR_NULL, show, cb, arg);
}

struct wanted {
    struct str name;
    uint64_t *out;
    bool found;
};

static bool on_candidate(void *arg, const struct stats_view *v)
{
    struct wanted *w = arg;
    if (!str_eq(v->name, w->name))
        return str_cmp(v->name, w->name) < 0;
    *w->out = v->value;
    w->found = true;
    return false;
}

bool stats_find(struct str name, uint64_t *out)
{
    struct wanted w = {name, out, false};
    (void)stats_visit(STATS_SHOW_NUMBERS, on_candidate, &w);
    return w.found;
}
