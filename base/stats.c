#include "base/stats.h"
#include "base/map.h"

#include <stdio.h>

static struct {
    unsigned num_threads;
    struct list scopes;
    struct map by_prefix; /* table and prefix -> scope */
    stats_accept_cb accept;
    void *accept_arg;
} registry;

static const uint32_t BY_NAME = UINT32_MAX;

struct stats_string {
    size_t len;
    char text[];
};

void stats_init(unsigned num_threads)
{
    CHECK(registry.num_threads == 0 && num_threads > 0);
    registry.num_threads = num_threads;
    list_init(&registry.scopes);
    map_init(&registry.by_prefix, true);
}

void stats_cleanup(void)
{
    CHECK(list_empty(&registry.scopes));
    map_cleanup(&registry.by_prefix, NULL);
    memset(&registry, 0, sizeof(registry));
}

unsigned stats_num_threads(void)
{
    return registry.num_threads;
}

struct list *stats_scopes(void)
{
    return &registry.scopes;
}

struct str stats_clean_name(struct str s, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == ':') {
            /* "://" and ":/" leave one '_' like ':' alone. */
            for (int k = 0; k < 2 && i + 1 < s.len && s.p[i + 1] == '/'; k++)
                i++;
            out[n++] = '_';
        } else {
            out[n++] = s.p[i] ? s.p[i] : '_';
        }
    }
    return str_n(out, n);
}

/* --- scopes ------------------------------------------------------------------------------- */

static char *put(char *at, struct str s)
{
    return at + stats_clean_name(s, at).len;
}

static char *put_part(char *at, const struct stats_part *part)
{
    if (part->stem) {
        at = put(at, str_of(part->stem));
        at = put(at, STR("_"));
    }
    at = put(at, part->text);
    return put(at, STR("."));
}

/* The registry's key: a table's address and the prefix. */
static struct str make_key(char **buf, struct stats_table *table, struct str prefix)
{
    *buf = mem_alloc(sizeof(table) + prefix.len);
    memcpy(*buf, &table, sizeof(table));
    if (prefix.len)
        memcpy(*buf + sizeof(table), prefix.p, prefix.len);
    return str_n(*buf, sizeof(table) + prefix.len);
}

static struct stats_scope *scope_make(struct stats_table *table, struct str prefix,
                                      const struct stats_part *parts, size_t num_parts)
{
    struct stats_scope *s = mem_zalloc(sizeof(*s) + registry.num_threads * sizeof(s->blocks[0]));
    char *base = mem_alloc(prefix.len + 1), *at = base;
    s->refs = 1;
    s->table = table;
    s->prefix = prefix;
    for (size_t i = 0; i < num_parts; i++)
        s->num_tags += parts[i].tag != NULL;
    s->tags = mem_zalloc(s->num_tags * sizeof(*s->tags));
    struct stats_part *tag = s->tags;
    for (size_t i = 0; i < num_parts; i++) {
        if (!parts[i].tag) {
            at = put_part(at, &parts[i]);
            continue;
        }
        if (parts[i].stem)
            at = put(put(at, str_of(parts[i].stem)), STR("."));
        char *text = mem_alloc(parts[i].text.len + 1);
        *tag++ = (struct stats_part){stats_clean_name(parts[i].text, text), parts[i].tag};
    }
    s->base = str_n(base, (size_t)(at - base));
    list_push_tail(&registry.scopes, &s->link);
    return s;
}

struct stats_scope *stats_scope_new(struct stats_table *table, const struct stats_part *parts,
                                    size_t num_parts)
{
    CHECK(registry.num_threads > 0);
    size_t len = 0;
    char *key_text;
    for (size_t i = 0; i < num_parts; i++)
        len += parts[i].text.len + 1 + (parts[i].stem ? strlen(parts[i].stem) + 1 : 0);
    char *text = mem_alloc(len + 1), *at = text;
    for (size_t i = 0; i < num_parts; i++)
        at = put_part(at, &parts[i]);
    struct str prefix = str_n(text, (size_t)(at - text));
    struct str key = make_key(&key_text, table, prefix);
    struct stats_scope *s = map_get(&registry.by_prefix, key);
    if (s) {
        s->refs++;
        mem_free(text);
    } else {
        s = scope_make(table, prefix, parts, num_parts);
        (void)map_put(&registry.by_prefix, key, s);
    }
    mem_free(key_text);
    return s;
}

struct stats_scope *stats_scope_named(struct stats_table *table, struct str prefix)
{
    struct stats_part part = {prefix, NULL};
    return stats_scope_new(table, &part, 1);
}

static void block_free(const struct stats_table *t, struct stats_block *b)
{
    while (b && b->dynamic) {
        struct stats_dynamic *d = b->dynamic;
        b->dynamic = d->next;
        mem_free((void *)(uintptr_t)d->name.p);
        mem_free(d);
    }
    for (uint32_t i = 0; b && i < t->num; i++) {
        void *p = (void *)(uintptr_t)b->values[i];
        struct histogram *h = p;
        if (t->defs[i].kind == STATS_HISTOGRAM)
            histogram_free(&h);
        else if (t->defs[i].kind == STATS_TEXT)
            mem_free(p);
    }
    mem_free(b);
}

void stats_scope_free(struct stats_scope **scope)
{
    struct stats_scope *s = *scope;
    char *key_text;
    *scope = NULL;
    if (s && s->refs - 1 == s->holds)
        s->read = NULL; /* its last owner goes */
    if (!s || --s->refs > 0)
        return;
    (void)map_remove(&registry.by_prefix, make_key(&key_text, s->table, s->prefix));
    mem_free(key_text);
    list_remove(&s->link);
    for (unsigned t = 0; t < registry.num_threads; t++)
        block_free(s->table, atomic_load_explicit(&s->blocks[t], memory_order_acquire));
    for (uint32_t i = 0; s->merged && i < s->table->num; i++) {
        histogram_counts_cleanup(&s->merged[i].cumulative);
        histogram_counts_cleanup(&s->merged[i].interval);
    }
    for (uint32_t i = 0; i < s->num_tags; i++)
        mem_free((void *)(uintptr_t)s->tags[i].text.p);
    mem_free(s->tags);
    mem_free(s->merged);
    mem_free(s->before_reset);
    mem_free(s->rejected);
    mem_free((void *)(uintptr_t)s->prefix.p);
    mem_free((void *)(uintptr_t)s->base.p);
    mem_free(s);
}

void stats_scope_hold(struct stats_scope *s)
{
    s->refs++;
    s->holds++;
}

void stats_scope_release(struct stats_scope *s)
{
    CHECK(s->holds > 0);
    s->holds--;
    stats_scope_free(&s);
}

void stats_scope_set_lazy(struct stats_scope *s)
{
    s->lazy = true;
}

void stats_scope_set_reader(struct stats_scope *s, stats_read_cb read, void *arg)
{
    s->read = read;
    s->read_arg = arg;
}

/* --- writing, on any thread ----------------------------------------------------------------- */

struct stats_block *stats_block_new(struct stats_scope *s, unsigned thread)
{
    CHECK(thread < registry.num_threads);
    size_t num = s->table->num, words = (num + 63) / 64;
    struct stats_block *b = mem_zalloc(sizeof(*b) + (num + words) * sizeof(b->values[0]));
    b->set = b->values + num;
    atomic_store_explicit(&s->blocks[thread], b, memory_order_release);
    return b;
}

void stats_record(struct stats_scope *s, unsigned thread, uint32_t idx, uint64_t value)
{
    _Atomic(uint64_t) *slot = &stats_block_of(s, thread)->values[idx];
    struct histogram *h = (struct histogram *)(uintptr_t)atomic_load_explicit(slot,
                                                                              memory_order_relaxed);
    if (UNLIKELY(!h)) {
        h = histogram_new();
        atomic_store_explicit(slot, (uintptr_t)h, memory_order_release);
    }
    histogram_record(h, value);
}

static void dynamic_bump(struct stats_dynamic *d, uint64_t n)
{
    atomic_store_explicit(&d->value, atomic_load_explicit(&d->value, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void dynamic_add(struct stats_block *b, const char *family, struct str name, uint32_t code,
                        uint64_t n)
{
    struct stats_dynamic *d = NEW(struct stats_dynamic);
    d->next = atomic_load_explicit(&b->dynamic, memory_order_relaxed);
    d->family = family;
    d->name = str_n(mem_strndup(name.p, name.len), name.len);
    d->code = code;
    atomic_init(&d->value, n);
    b->num_dynamic++;
    atomic_store_explicit(&b->dynamic, d, memory_order_release);
}

/* A code that is none, so that groups are found by number too. */
static uint32_t group_code(unsigned group)
{
    return UINT32_MAX - 1 - group;
}

void stats_count_group(struct stats_scope *s, unsigned thread, const char *family, unsigned group)
{
    struct stats_block *b = stats_block_of(s, thread);
    char text[16] = "completed";
    struct stats_dynamic *d = atomic_load_explicit(&b->dynamic, memory_order_relaxed);
    for (; d; d = d->next) {
        if (d->code != group_code(group) || d->family != family)
            continue;
        dynamic_bump(d, 1);
        return;
    }
    if (b->num_dynamic >= STATS_MAX_DYNAMIC) {
        stats_count_name(s, thread, family, STR("_other"));
        return;
    }
    if (group)
        snprintf(text, sizeof(text), "%uxx", group);
    dynamic_add(b, family, str_of(text), group_code(group), 1);
}

void stats_count_code(struct stats_scope *s, unsigned thread, const char *family, uint32_t code)
{
    struct stats_block *b = stats_block_of(s, thread);
    char text[16];
    struct stats_dynamic *d = atomic_load_explicit(&b->dynamic, memory_order_relaxed);
    for (; d; d = d->next) {
        if (d->code != code || d->family != family)
            continue;
        dynamic_bump(d, 1);
        return;
    }
    if (b->num_dynamic >= STATS_MAX_DYNAMIC) {
        stats_count_name(s, thread, family, STR("_other"));
        return;
    }
    int n = snprintf(text, sizeof(text), "%u", code);
    dynamic_add(b, family, str_n(text, (size_t)n), code, 1);
}

void stats_add_name(struct stats_scope *s, unsigned thread, const char *family, struct str name,
                    uint64_t n)
{
    struct stats_block *b = stats_block_of(s, thread);
    struct stats_dynamic *d = atomic_load_explicit(&b->dynamic, memory_order_relaxed);
    for (; d; d = d->next) {
        if (d->code != BY_NAME || d->family != family || !str_eq(d->name, name))
            continue;
        dynamic_bump(d, n);
        return;
    }
    if (b->num_dynamic >= STATS_MAX_DYNAMIC && !str_eq(name, STR("_other"))) {
        stats_add_name(s, thread, family, STR("_other"), n);
        return;
    }
    dynamic_add(b, family, name, BY_NAME, n);
}

void stats_count_name(struct stats_scope *s, unsigned thread, const char *family, struct str name)
{
    stats_add_name(s, thread, family, name, 1);
}

void stats_text_set(struct stats_scope *s, uint32_t idx, struct str text)
{
    _Atomic(uint64_t) *slot = &stats_block_of(s, 0)->values[idx];
    struct stats_string *old = (struct stats_string *)(uintptr_t)*slot;
    struct stats_string *copy = mem_alloc(sizeof(*copy) + text.len + 1);
    copy->len = text.len;
    if (text.len)
        memcpy(copy->text, text.p, text.len);
    copy->text[text.len] = '\0';
    *slot = (uintptr_t)copy;
    mem_free(old);
}

/* --- reading, on the main thread ------------------------------------------------------------ */

static struct stats_block *block_read(const struct stats_scope *s, unsigned thread)
{
    return atomic_load_explicit(&s->blocks[thread], memory_order_acquire);
}

static uint64_t value_read(const struct stats_block *b, uint32_t idx)
{
    return atomic_load_explicit(&b->values[idx], memory_order_acquire);
}

static uint64_t sum_of_threads(struct stats_scope *s, uint32_t idx)
{
    uint64_t sum = 0;
    if (s->read && s->read(s->read_arg, idx, &sum))
        return sum;
    sum = 0;
    for (unsigned t = 0; t < registry.num_threads; t++) {
        const struct stats_block *b = block_read(s, t);
        sum += b ? value_read(b, idx) : 0;
    }
    return sum;
}

uint64_t stats_sum(struct stats_scope *s, uint32_t idx)
{
    enum stats_kind kind = s->table->defs[idx].kind;
    CHECK(kind == STATS_COUNTER || kind == STATS_GAUGE);
    return sum_of_threads(s, idx) - (s->before_reset ? s->before_reset[idx] : 0);
}

uint64_t stats_gauge_now(struct stats_scope *s, uint32_t idx)
{
    uint64_t sum = 0;
    for (unsigned t = 0; t < registry.num_threads; t++) {
        const struct stats_block *b = block_read(s, t);
        sum += b ? value_read(b, idx) : 0;
    }
    return sum;
}

static void reset_dynamic(struct stats_scope *s)
{
    for (unsigned t = 0; t < registry.num_threads; t++) {
        const struct stats_block *b = block_read(s, t);
        struct stats_dynamic *d = b ? atomic_load_explicit(&b->dynamic, memory_order_acquire)
                                    : NULL;
        for (; d; d = d->next)
            d->before_reset = atomic_load_explicit(&d->value, memory_order_relaxed);
    }
}

void stats_reset_counters(void)
{
    LIST_FOREACH(it, &registry.scopes) {
        struct stats_scope *s = CONTAINER_OF(it, struct stats_scope, link);
        if (!s->before_reset)
            s->before_reset = mem_zalloc(s->table->num * sizeof(*s->before_reset));
        for (uint32_t i = 0; i < s->table->num; i++) {
            if (s->table->defs[i].kind == STATS_COUNTER)
                s->before_reset[i] = sum_of_threads(s, i);
        }
        reset_dynamic(s);
    }
}

static bool block_used(const struct stats_block *b, enum stats_kind kind, uint32_t idx)
{
    if (kind != STATS_GAUGE)
        return value_read(b, idx) != 0;
    return atomic_load_explicit(&b->set[idx / 64], memory_order_relaxed) >> (idx % 64) & 1;
}

bool stats_used(struct stats_scope *s, uint32_t idx)
{
    enum stats_kind kind = s->table->defs[idx].kind;
    uint64_t v;
    if (kind == STATS_HISTOGRAM)
        return stats_histogram(s, idx) != NULL;
    if (s->read && s->read(s->read_arg, idx, &v))
        return kind == STATS_GAUGE || v != 0;
    for (unsigned t = 0; t < registry.num_threads; t++) {
        const struct stats_block *b = block_read(s, t);
        if (b && block_used(b, kind, idx))
            return true;
    }
    return false;
}

struct str stats_text_get(struct stats_scope *s, uint32_t idx)
{
    const struct stats_block *b = block_read(s, 0);
    const struct stats_string *t = b ? (const struct stats_string *)(uintptr_t)value_read(b, idx)
                                     : NULL;
    return t ? str_n(t->text, t->len) : str_n("", 0);
}

bool stats_shown(struct stats_scope *s)
{
    if (!s->lazy)
        return true;
    for (unsigned t = 0; t < registry.num_threads; t++) {
        if (block_read(s, t))
            return true;
    }
    return false;
}

const struct stats_merged *stats_histogram(struct stats_scope *s, uint32_t idx)
{
    CHECK(s->table->defs[idx].kind == STATS_HISTOGRAM);
    return s->merged && s->merged[idx].cumulative.count ? &s->merged[idx] : NULL;
}

static const struct histogram *histogram_read(const struct stats_scope *s, unsigned thread,
                                              uint32_t idx)
{
    const struct stats_block *b = block_read(s, thread);
    return b ? (const struct histogram *)(uintptr_t)value_read(b, idx) : NULL;
}

static void flush_histogram(struct stats_scope *s, uint32_t idx)
{
    struct histogram_counts now = {0};
    uint64_t count = 0;
    for (unsigned t = 0; t < registry.num_threads; t++) {
        const struct histogram *h = histogram_read(s, t, idx);
        count += h ? atomic_load_explicit(&h->count, memory_order_relaxed) : 0;
    }
    if (!s->merged) {
        if (!count)
            return;
        s->merged = mem_zalloc(s->table->num * sizeof(*s->merged));
    }
    struct stats_merged *m = &s->merged[idx];
    histogram_counts_cleanup(&m->interval);
    if (count == m->cumulative.count)
        return; /* the usual case of an idle one: no copy */
    for (unsigned t = 0; t < registry.num_threads; t++) {
        const struct histogram *h = histogram_read(s, t, idx);
        if (h)
            histogram_counts_add(&now, h);
    }
    histogram_counts_copy(&m->interval, &now);
    histogram_counts_sub(&m->interval, &m->cumulative);
    histogram_counts_cleanup(&m->cumulative);
    m->cumulative = now;
}

void stats_flush(void)
{
    LIST_FOREACH(it, &registry.scopes) {
        struct stats_scope *s = CONTAINER_OF(it, struct stats_scope, link);
        for (uint32_t i = 0; i < s->table->num; i++) {
            if (s->table->defs[i].kind == STATS_HISTOGRAM)
                flush_histogram(s, i);
        }
    }
}

/* --- stats matcher -------------------------------------------------------------------------- */

void stats_set_matcher(stats_accept_cb accept, void *arg)
{
    registry.accept = accept;
    registry.accept_arg = arg;
    LIST_FOREACH(it, &registry.scopes) {
        struct stats_scope *s = CONTAINER_OF(it, struct stats_scope, link);
        mem_free(s->rejected);
        s->rejected = NULL;
        s->judged = false;
    }
}

bool stats_matches(struct str name)
{
    return !registry.accept || registry.accept(registry.accept_arg, name);
}

static void judge(struct stats_scope *s)
{
    size_t cap = 0;
    char *name = NULL;
    for (uint32_t i = 0; registry.accept && i < s->table->num; i++) {
        struct str suffix = str_of(s->table->defs[i].name);
        name = mem_grow_array(name, &cap, s->prefix.len + suffix.len, 1);
        memcpy(name, s->prefix.p, s->prefix.len);
        memcpy(name + s->prefix.len, suffix.p, suffix.len);
        if (stats_matches(str_n(name, s->prefix.len + suffix.len)))
            continue;
        if (!s->rejected)
            s->rejected = mem_zalloc((s->table->num + 63) / 64 * sizeof(uint64_t));
        s->rejected[i / 64] |= 1ull << (i % 64);
    }
    mem_free(name);
    s->judged = true;
}

bool stats_accepted(struct stats_scope *s, uint32_t idx)
{
    if (!s->judged)
        judge(s);
    return !s->rejected || !(s->rejected[idx / 64] >> (idx % 64) & 1);
}
