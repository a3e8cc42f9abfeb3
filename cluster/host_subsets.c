#include "api-protos/wire.h"
#include "base/log.h"
#include "cluster/lb_subset.h"
#include "cluster/load_assignment.h"

/* --- keys of the map: lengths, names and values one after the other --- */

struct packed {
    char room[512], *p;
    size_t len, cap;
};

static void pack_init(struct packed *k)
{
    k->p = k->room;
    k->len = 0;
    k->cap = sizeof(k->room);
}

static void pack_cleanup(struct packed *k)
{
    if (k->p != k->room)
        mem_free(k->p);
}

static void pack_text(struct packed *k, struct str s)
{
    uint32_t len = (uint32_t)s.len;
    size_t need = k->len + sizeof(len) + s.len;
    if (need > k->cap) {
        char *more = mem_alloc(2 * need);
        memcpy(more, k->p, k->len);
        pack_cleanup(k);
        k->p = more;
        k->cap = 2 * need;
    }
    memcpy(k->p + k->len, &len, sizeof(len));
    if (s.len)
        memcpy(k->p + k->len + sizeof(len), s.p, s.len);
    k->len = need;
}

const struct host_subset *host_subsets_find(const struct host_subsets *s, const struct labels *l)
{
    const struct host_subset *found;
    struct packed k;
    if (!l || l->num == 0)
        return NULL;
    pack_init(&k);
    for (uint32_t i = 0; i < l->num; i++) {
        pack_text(&k, l->v[i].key);
        pack_text(&k, l->v[i].value);
    }
    found = map_get(&s->map, str_n(k.p, k.len));
    pack_cleanup(&k);
    return found;
}

/* --- lists as values --- */

/* next_element walks the elements of a serialised Value that is a list; `w` is prepared by
 * list_begin, which says whether it is one. */
static bool list_begin(struct wire *w, struct str value)
{
    enum { VALUE_LIST = 6 };
    struct wire_field f;
    struct wire outer;
    const char *why;
    wire_init(&outer, value);
    if (wire_next(&outer, &f, &why) != WIRE_FIELD || f.number != VALUE_LIST || f.type != WIRE_LEN)
        return false;
    wire_init(w, f.bytes);
    return true;
}

static bool next_element(struct wire *w, struct str *out)
{
    struct wire_field f;
    const char *why;
    if (wire_next(w, &f, &why) != WIRE_FIELD)
        return false;
    *out = f.type == WIRE_LEN ? f.bytes : STR_NULL;
    return true;
}

/* Whether a host has a label, as one of several where lists are so meant. */
static bool has_label(const struct host *h, const struct label *want, bool list_as_any)
{
    struct str have = labels_get(h->labels, want->key), element;
    struct wire w;
    if (have.p && str_eq(have, want->value))
        return true;
    if (!list_as_any || !have.p || !list_begin(&w, have))
        return false;
    while (next_element(&w, &element)) {
        if (str_eq(element, want->value))
            return true;
    }
    return false;
}

/* --- dividing --- */

struct members { /* what a subset will hold, while it is found out */
    const struct host_group **groups;
    struct host **hosts;
    size_t num, cap_groups, cap_hosts;
    bool single;
};

struct dividing {
    struct host_subsets *out;
    const struct subset_config *config;
    struct map members; /* by the packed key */
    const struct host_group *group;
    struct host *host;
    const struct subset_selector *selector;
    uint32_t combinations; /* of the present host and selector; lists may multiply without end */
    uint32_t all;          /* combinations of all of them: what is walked and kept in the end */
    bool full;             /* something was left out */
};

/* exhausted says that the present host and selector, or the cluster, have had their share. */
static bool exhausted(const struct dividing *d)
{
    return d->combinations >= SUBSETS_MAX || d->all >= SUBSET_MEMBERS_MAX;
}

static void add_member(struct members *m, const struct host_group *g, struct host *h)
{
    m->groups = mem_grow_array(m->groups, &m->cap_groups, m->num + 1, sizeof(*m->groups));
    m->hosts = mem_grow_array(m->hosts, &m->cap_hosts, m->num + 1, sizeof(struct host *));
    m->groups[m->num] = g;
    m->hosts[m->num++] = h;
}

static void put(struct dividing *d, struct packed *k)
{
    struct members *m = map_get(&d->members, str_n(k->p, k->len));
    d->combinations++;
    d->all++;
    if (!m && d->members.num >= SUBSETS_MAX) {
        d->full = true; /* what is there still takes members */
        return;
    }
    if (!m) {
        m = NEW(struct members);
        m->single = d->selector->single;
        (void)map_put(&d->members, str_n(k->p, k->len), m);
    }
    if (m->num && (m->single || m->hosts[m->num - 1] == d->host))
        return; /* one is enough; or two selectors of the same keys */
    add_member(m, d->group, d->host);
}

/* The host is in one subset for each combination of its values. */
static void divide(struct dividing *d, uint32_t at, struct packed *k)
{
    struct str value, element;
    size_t len = k->len;
    struct wire w;
    if (exhausted(d)) {
        d->full = true;
        return;
    }
    if (at == d->selector->keys.num) {
        put(d, k);
        return;
    }
    value = labels_get(d->host->labels, d->selector->keys.v[at]);
    if (!value.p)
        return;
    pack_text(k, d->selector->keys.v[at]);
    if (d->config->list_as_any && list_begin(&w, value)) {
        size_t with_key = k->len;
        while (next_element(&w, &element)) {
            k->len = with_key;
            pack_text(k, element);
            divide(d, at + 1, k);
        }
    } else {
        pack_text(k, value);
        divide(d, at + 1, k);
    }
    k->len = len;
}

/* A locality of which a subset has some of the hosts has as much of its weight, rounded. */
static uint32_t scaled(const struct host_group *g, uint32_t num, bool scale)
{
    uint64_t w = g->locality_weight;
    if (!scale || w == 0)
        return g->locality_weight;
    return (uint32_t)((2 * w * num + g->num_hosts) / (2 * (uint64_t)g->num_hosts));
}

static struct host_subset *make_subset(struct host_subsets *s, const struct reclaim_home *home,
                                       const struct host_set_spec *spec, const struct members *m)
{
    struct host_group *groups = mem_alloc(m->num * sizeof(*groups));
    struct host_subset *out = NEW(struct host_subset);
    struct host_set_spec own = *spec;
    uint32_t n = 0;
    for (size_t i = 0, next; i < m->num; i = next) {
        for (next = i + 1; next < m->num && m->groups[next] == m->groups[i];)
            next++;
        groups[n] = *m->groups[i];
        groups[n].hosts = m->hosts + i;
        groups[n].num_hosts = (uint32_t)(next - i);
        groups[n].locality_weight = scaled(m->groups[i], groups[n].num_hosts, s->config->scale);
        n++;
    }
    own.groups = groups;
    own.num_groups = n;
    own.subsets = NULL;
    own.locality_weighted = spec->locality_weighted && s->config->locality_weighted;
    out->set = host_set_new(home, &own);
    out->id = s->num++;
    out->single = m->single;
    mem_free(groups);
    return out;
}

static void free_members(void *arg)
{
    struct members *m = arg;
    mem_free(m->groups);
    mem_free(m->hosts);
    mem_free(m);
}

static bool is_default(const struct subset_config *c, const struct host *h)
{
    for (uint32_t i = 0; c->defaults && i < c->defaults->num; i++) {
        if (!has_label(h, &c->defaults->v[i], c->list_as_any))
            return false;
    }
    return true;
}

/* The subset of those whom the fallback policy means. */
static struct host_subset *make_fallback(struct host_subsets *s, const struct reclaim_home *home,
                                         const struct host_set_spec *spec, bool defaults)
{
    struct members *m = NEW(struct members);
    struct host_subset *out;
    for (uint32_t g = 0; g < spec->num_groups; g++) {
        for (uint32_t i = 0; i < spec->groups[g].num_hosts; i++) {
            if (!defaults || is_default(s->config, spec->groups[g].hosts[i]))
                add_member(m, &spec->groups[g], spec->groups[g].hosts[i]);
        }
    }
    out = make_subset(s, home, spec, m);
    free_members(m);
    return out;
}

static bool falls_back_to(const struct subset_config *c, enum subset_fallback f)
{
    bool found = c->fallback == f || (f == SUBSET_ANY_ENDPOINT && c->panic_any);
    for (uint32_t i = 0; i < c->num_selectors && !found; i++)
        found = c->selectors[i].fallback == f;
    return found;
}

static void divide_all(struct dividing *d, const struct host_set_spec *spec)
{
    struct packed k;
    pack_init(&k);
    for (uint32_t g = 0; g < spec->num_groups; g++) {
        d->group = &spec->groups[g];
        for (uint32_t i = 0; i < d->group->num_hosts; i++) {
            d->host = d->group->hosts[i];
            for (uint32_t j = 0; j < d->config->num_selectors; j++) {
                d->selector = &d->config->selectors[j];
                d->combinations = 0;
                divide(d, 0, &k);
            }
        }
    }
    pack_cleanup(&k);
}

struct host_subsets *host_subsets_new(const struct reclaim_home *home,
                                      const struct host_set_spec *spec)
{
    struct host_subsets *s = NEW(struct host_subsets);
    struct dividing d = {.out = s, .config = spec->subsets};
    s->config = spec->subsets;
    map_init(&s->map, true);
    map_init(&d.members, true);
    divide_all(&d, spec);
    if (d.full)
        LOG_WARN(upstream,
                 "more than %d subsets, or %d members of them, of one cluster; the rest is in none",
                 SUBSETS_MAX, SUBSET_MEMBERS_MAX);
    for (size_t i = 0; i < d.members.num_entries; i++) {
        const struct map_entry *e = &d.members.entries[i];
        (void)map_put(&s->map, e->key, make_subset(s, home, spec, e->value));
    }
    map_cleanup(&d.members, free_members);
    if (falls_back_to(s->config, SUBSET_ANY_ENDPOINT))
        s->any = make_fallback(s, home, spec, false);
    if (falls_back_to(s->config, SUBSET_DEFAULT))
        s->defaults = make_fallback(s, home, spec, true);
    return s;
}

static void free_subset(void *arg)
{
    struct host_subset *s = arg;
    if (!s)
        return;
    host_set_unref(s->set);
    mem_free(s);
}

void host_subsets_free(struct host_subsets **sp)
{
    struct host_subsets *s = *sp;
    if (!s)
        return;
    *sp = NULL;
    map_cleanup(&s->map, free_subset);
    free_subset(s->any);
    free_subset(s->defaults);
    mem_free(s);
}

bool host_subsets_step(struct host_subsets *s, uint64_t *budget)
{
    for (size_t i = 0; i < s->map.num_entries; i++) {
        const struct host_subset *one = s->map.entries[i].value;
        if (!host_set_step(one->set, budget))
            return false;
    }
    return (!s->any || host_set_step(s->any->set, budget)) &&
           (!s->defaults || host_set_step(s->defaults->set, budget));
}
