#include "base/stats_prometheus.h"
#include "base/map.h"
#include "base/stats_tags.h"
#include "base/stats_visit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHUNK = 16384 };

static struct {
    char **namespaces;
    size_t num, cap;
    stats_bounds_cb bounds;
    void *bounds_arg;
} settings;

/* Scopes whose stats have the same metric names: one table and one untagged prefix. With tag
 * patterns every scope is alone, because its names are cut one by one. */
struct group {
    struct stats_scope **scopes;
    struct str *labels; /* of each scope */
    struct stats_dynamic_sum **dynamic;
    size_t *num_dynamic;
    size_t num, cap;
};

struct item {
    struct str metric; /* final name */
    struct str labels; /* before the scope's */
    struct str suffix; /* of the full name */
    const struct group *group;
    enum stats_kind kind;
    uint32_t idx; /* UINT32_MAX: dynamic */
};

struct stats_prometheus_run {
    struct stats_prometheus p;
    struct arena arena;
    struct group **groups;
    size_t num_groups, cap_groups;
    struct item *items;
    size_t num_items, cap_items;
    char *out;
    size_t len, cap;
    struct str type_done; /* the metric that has its TYPE line */
    enum stats_kind type_kind;
    size_t at_item, at_scope; /* what is printed next: of an item, one of its group's scopes */
    size_t left;              /* lines and looks of this slice */
};

static const uint32_t DYNAMIC = UINT32_MAX;

void stats_prometheus_add_namespace(struct str ns)
{
    settings.namespaces = mem_grow_array(settings.namespaces, &settings.cap, settings.num + 1,
                                         sizeof(*settings.namespaces));
    settings.namespaces[settings.num++] = mem_strndup(ns.p, ns.len);
}

void stats_prometheus_reset(void)
{
    for (size_t i = 0; i < settings.num; i++)
        mem_free(settings.namespaces[i]);
    mem_free(settings.namespaces);
    memset(&settings, 0, sizeof(settings));
}

void stats_set_bounds(stats_bounds_cb cb, void *arg)
{
    settings.bounds = cb;
    settings.bounds_arg = arg;
}

const double *stats_bounds(struct str name, size_t *num)
{
    const double *b = settings.bounds ? settings.bounds(settings.bounds_arg, name, num) : NULL;
    if (b)
        return b;
    *num = HISTOGRAM_BUCKETS;
    return histogram_default_bounds;
}

/* --- collecting --------------------------------------------------------------------------- */

static struct str final_name(struct str name, struct arena *a)
{
    bool own = false;
    for (size_t i = 0; i < settings.num && !own; i++) {
        struct str ns = str_of(settings.namespaces[i]);
        own = str_starts(name, ns) && name.len > ns.len && name.p[ns.len] == '.';
        if (own)
            name = str_n(name.p + ns.len + 1, name.len - ns.len - 1);
    }
    bool digit = own && name.len && name.p[0] >= '0' && name.p[0] <= '9';
    struct str out = arena_printf(a, "%s%.*s", own ? (digit ? "_" : "") : "envoy_", STR_ARG(name));
    for (char *p = (char *)(uintptr_t)out.p; p < out.p + out.len; p++) {
        bool good = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= '0' && *p <= '9') || *p == '_';
        if (!good)
            *p = '_';
    }
    return out;
}

static void group_add(struct stats_prometheus_run *pr, struct group *g, struct stats_scope *s)
{
    if (g->num == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 1;
        g->scopes = mem_realloc(g->scopes, g->cap * sizeof(*g->scopes));
        g->labels = mem_realloc(g->labels, g->cap * sizeof(*g->labels));
        g->dynamic = mem_realloc(g->dynamic, g->cap * sizeof(*g->dynamic));
        g->num_dynamic = mem_realloc(g->num_dynamic, g->cap * sizeof(*g->num_dynamic));
    }
    g->scopes[g->num] = s;
    stats_scope_hold(s);
    g->labels[g->num] = stats_tags_by_name() ? STR_NULL : stats_tags_of_scope(s, &pr->arena);
    g->dynamic[g->num] = stats_dynamic_sums(s, &pr->arena, &g->num_dynamic[g->num]);
    g->num++;
}

static void collect_groups(struct stats_prometheus_run *pr)
{
    struct map by_key;
    map_init(&by_key, false);
    LIST_FOREACH(it, stats_scopes()) {
        struct stats_scope *s = CONTAINER_OF(it, struct stats_scope, link);
        if (!stats_shown(s))
            continue;
        bool whole = stats_tags_by_name() || s->num_tags == 0;
        struct str key = arena_printf(&pr->arena, "%p %.*s", (void *)s->table,
                                      STR_ARG(whole ? s->prefix : s->base));
        struct group *g = map_get(&by_key, key);
        if (!g) {
            g = NEW(struct group);
            (void)map_put(&by_key, key, g);
            pr->groups = mem_grow_array(pr->groups, &pr->cap_groups, pr->num_groups + 1,
                                        sizeof(*pr->groups));
            pr->groups[pr->num_groups++] = g;
        }
        group_add(pr, g, s);
    }
    map_cleanup(&by_key, NULL);
}

static void add_item(struct stats_prometheus_run *pr, const struct group *g, enum stats_kind kind,
                     uint32_t idx, struct str suffix)
{
    const struct stats_scope *s = g->scopes[0];
    struct stats_labels l;
    if (stats_tags_by_name()) {
        l = stats_tags_cut(s, suffix, &pr->arena);
    } else {
        l = stats_tags_cut_suffix(suffix, &pr->arena);
        l.metric = arena_printf(&pr->arena, "%.*s%.*s", STR_ARG(s->base), STR_ARG(l.metric));
    }
    pr->items = mem_grow_array(pr->items, &pr->cap_items, pr->num_items + 1, sizeof(*pr->items));
    pr->items[pr->num_items++] = (struct item){.metric = final_name(l.metric, &pr->arena),
                                               .labels = l.labels,
                                               .suffix = suffix,
                                               .group = g,
                                               .kind = kind,
                                               .idx = idx};
}

static void collect_dynamic(struct stats_prometheus_run *pr, const struct group *g)
{
    struct map seen;
    map_init(&seen, false);
    for (size_t i = 0; i < g->num; i++) {
        for (size_t k = 0; k < g->num_dynamic[i]; k++) {
            struct str suffix = g->dynamic[i][k].suffix;
            if (!map_put(&seen, suffix, pr))
                add_item(pr, g, STATS_COUNTER, DYNAMIC, suffix);
        }
    }
    map_cleanup(&seen, NULL);
}

static void collect_items(struct stats_prometheus_run *pr)
{
    for (size_t i = 0; i < pr->num_groups; i++) {
        const struct group *g = pr->groups[i];
        const struct stats_table *t = g->scopes[0]->table;
        for (uint32_t idx = 0; idx < t->num; idx++) {
            if (t->defs[idx].kind != STATS_TEXT || pr->p.texts)
                add_item(pr, g, t->defs[idx].kind, idx, str_of(t->defs[idx].name));
        }
        collect_dynamic(pr, g);
    }
}

static int kind_order(enum stats_kind k)
{
    switch (k) {
    case STATS_COUNTER:
        return 0;
    case STATS_GAUGE:
        return 1;
    case STATS_TEXT:
        return 2;
    case STATS_HISTOGRAM:
        break;
    }
    return 3;
}

static int cmp_item(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int r = kind_order(x->kind) - kind_order(y->kind);
    if (!r)
        r = str_cmp(x->metric, y->metric);
    return r ? r : str_cmp(x->labels, y->labels);
}

/* --- printing ----------------------------------------------------------------------------- */

static void flush(struct stats_prometheus_run *pr)
{
    if (pr->len)
        pr->p.emit(pr->p.arg, str_n(pr->out, pr->len));
    pr->len = 0;
}

static void PRINTF_LIKE(2, 3) line(struct stats_prometheus_run *pr, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    size_t room = pr->cap - pr->len;
    int n = vsnprintf(pr->out + pr->len, room, fmt, ap);
    CHECK(n >= 0);
    if ((size_t)n >= room) {
        pr->out = mem_grow_array(pr->out, &pr->cap, pr->len + (size_t)n + 1, 1);
        (void)vsnprintf(pr->out + pr->len, pr->cap - pr->len, fmt, again);
    }
    pr->len += (size_t)n;
    pr->left -= pr->left > 0;
    va_end(again);
    va_end(ap);
    if (pr->len >= CHUNK)
        flush(pr);
}

static void type_line(struct stats_prometheus_run *pr, const struct item *it)
{
    static const char *const types[] = {[STATS_COUNTER] = "counter",
                                        [STATS_GAUGE] = "gauge",
                                        [STATS_HISTOGRAM] = "histogram",
                                        [STATS_TEXT] = "gauge"};
    if (pr->type_done.p && pr->type_kind == it->kind && str_eq(pr->type_done, it->metric))
        return;
    pr->type_done = it->metric;
    pr->type_kind = it->kind;
    line(pr, "# TYPE %.*s %s\n", STR_ARG(it->metric), types[it->kind]);
}

static void print_histogram(struct stats_prometheus_run *pr, const struct item *it,
                            struct str labels, struct str name, const struct stats_merged *m)
{
    static const struct histogram_counts none;
    const struct histogram_counts *c = m ? &m->cumulative : &none;
    const char *comma = labels.len ? "," : "";
    char num[32];
    size_t n;
    const double *bounds = stats_bounds(name, &n);
    for (size_t i = 0; i < n; i++)
        line(pr, "%.*s_bucket{%.*s%sle=\"%s\"} %" PRIu64 "\n", STR_ARG(it->metric), STR_ARG(labels),
             comma, histogram_number(bounds[i], num), histogram_below(c, bounds[i]));
    line(pr, "%.*s_bucket{%.*s%sle=\"+Inf\"} %" PRIu64 "\n", STR_ARG(it->metric), STR_ARG(labels),
         comma, c->count);
    line(pr, "%.*s_sum{%.*s} %" PRIu64 "\n", STR_ARG(it->metric), STR_ARG(labels), c->sum);
    line(pr, "%.*s_count{%.*s} %" PRIu64 "\n", STR_ARG(it->metric), STR_ARG(labels), c->count);
}

static void print_fixed(struct stats_prometheus_run *pr, const struct item *it,
                        struct stats_scope *s, struct str labels, struct str name)
{
    struct str text;
    switch (it->kind) {
    case STATS_COUNTER:
    case STATS_GAUGE:
        line(pr, "%.*s{%.*s} %" PRIu64 "\n", STR_ARG(it->metric), STR_ARG(labels),
             stats_sum(s, it->idx));
        return;
    case STATS_TEXT:
        text = stats_tags_escape(stats_text_get(s, it->idx), &pr->arena);
        line(pr, "%.*s{%.*s%stext_value=\"%.*s\"} 0\n", STR_ARG(it->metric), STR_ARG(labels),
             labels.len ? "," : "", STR_ARG(text));
        return;
    case STATS_HISTOGRAM:
        print_histogram(pr, it, labels, name, stats_histogram(s, it->idx));
        return;
    }
}

static const struct stats_dynamic_sum *find_dynamic(const struct group *g, size_t i,
                                                    struct str suffix)
{
    for (size_t k = 0; k < g->num_dynamic[i]; k++) {
        if (str_eq(g->dynamic[i][k].suffix, suffix))
            return &g->dynamic[i][k];
    }
    return NULL;
}

/* Prints one scope's share of an item. */
static void print_share(struct stats_prometheus_run *pr, const struct item *it, size_t i,
                        struct arena *scratch)
{
    struct stats_scope *s = it->group->scopes[i];
    const struct stats_dynamic_sum *d = it->idx == DYNAMIC ? find_dynamic(it->group, i, it->suffix)
                                                           : NULL;
    if (it->idx == DYNAMIC ? !d : !stats_accepted(s, it->idx))
        return;
    if (pr->p.used_only && !d && !stats_used(s, it->idx))
        return;
    struct str name = arena_printf(scratch, "%.*s%.*s", STR_ARG(s->prefix), STR_ARG(it->suffix));
    if ((d && !stats_matches(name)) || (pr->p.keep && !pr->p.keep(pr->p.arg, name)))
        return;
    struct str more = it->group->labels[i];
    struct str labels = arena_printf(scratch, "%.*s%s%.*s", STR_ARG(it->labels),
                                     it->labels.len && more.len ? "," : "", STR_ARG(more));
    type_line(pr, it);
    if (d)
        line(pr, "%.*s{%.*s} %" PRIu64 "\n", STR_ARG(it->metric), STR_ARG(labels), d->value);
    else
        print_fixed(pr, it, s, labels, name);
}

bool stats_prometheus_more(struct stats_prometheus_run *pr, size_t lines)
{
    struct arena scratch;
    arena_init(&scratch, 1024);
    pr->left = lines;
    while (pr->at_item < pr->num_items && pr->left > 0) {
        const struct item *it = &pr->items[pr->at_item];
        print_share(pr, it, pr->at_scope, &scratch);
        pr->left -= pr->left > 0; /* looking counts as well as printing */
        arena_reset(&scratch);
        if (++pr->at_scope < it->group->num)
            continue;
        pr->at_scope = 0;
        pr->at_item++;
    }
    flush(pr);
    arena_cleanup(&scratch);
    return pr->at_item < pr->num_items;
}

struct stats_prometheus_run *stats_prometheus_begin(const struct stats_prometheus *p)
{
    struct stats_prometheus_run *pr = NEW(struct stats_prometheus_run);
    pr->p = *p;
    arena_init(&pr->arena, 4096);
    collect_groups(pr);
    collect_items(pr);
    if (pr->num_items)
        qsort(pr->items, pr->num_items, sizeof(*pr->items), cmp_item);
    pr->out = mem_grow_array(NULL, &pr->cap, 2 * CHUNK, 1);
    return pr;
}

void stats_prometheus_end(struct stats_prometheus_run **r)
{
    struct stats_prometheus_run *pr = *r;
    *r = NULL;
    if (!pr)
        return;
    for (size_t i = 0; i < pr->num_groups; i++) {
        struct group *g = pr->groups[i];
        for (size_t k = 0; k < g->num; k++)
            stats_scope_release(g->scopes[k]);
        mem_free(g->scopes);
        mem_free(g->labels);
        mem_free(g->dynamic);
        mem_free(g->num_dynamic);
        mem_free(g);
    }
    mem_free(pr->groups);
    mem_free(pr->items);
    mem_free(pr->out);
    arena_cleanup(&pr->arena);
    mem_free(pr);
}

void stats_prometheus_write(const struct stats_prometheus *p)
{
    struct stats_prometheus_run *pr = stats_prometheus_begin(p);
    (void)stats_prometheus_more(pr, SIZE_MAX);
    stats_prometheus_end(&pr);
}
