/* Which subset a request chooses from; the choice in it is the policy's. */
#include "cluster/lb_subset.h"
#include "cluster/lb.h"
#include "cluster/load_assignment.h"

enum {
    CRITERIA_MAX = 64, /* keys of a request that count */
    FALLBACK_DEPTH = 8,
};

static const struct str fallback_list = STR("fallback_list");

/* Criteria of a request, some taken out or replaced: on the stack, for one choice. */
struct criteria {
    union {
        struct labels labels;
        char room[sizeof(struct labels) + CRITERIA_MAX * sizeof(struct label)];
    };
};

static void add(struct criteria *c, const struct label *l)
{
    if (c->labels.num < CRITERIA_MAX)
        c->labels.v[c->labels.num++] = *l;
}

static bool is_key(const struct subset_keys *keys, struct str name)
{
    for (uint32_t i = 0; i < keys->num; i++) {
        if (str_eq(keys->v[i], name))
            return true;
    }
    return false;
}

static void keep_keys(struct criteria *out, const struct labels *l, const struct subset_keys *keys)
{
    out->labels.num = 0;
    for (uint32_t i = 0; l && i < l->num; i++) {
        if (is_key(keys, l->v[i].key))
            add(out, &l->v[i]);
    }
}

/* The balancer of one subset, made with its first use. */
static struct lb_choice pick_in(struct lb *lb, const struct host_subset *s,
                                const struct lb_request *rq)
{
    struct lb **slot = &lb->inner[s->id];
    if (s->single)
        return (struct lb_choice){.host = s->set->hosts[0]};
    if (!*slot)
        *slot = lb_like(lb, s->set);
    (*slot)->now_ms = lb->now_ms;
    return lb_pick(*slot, rq);
}

/* The selector of exactly the keys that the request names. */
static const struct subset_selector *selector_of(const struct subset_config *c,
                                                 const struct labels *l)
{
    for (uint32_t i = 0; l && i < c->num_selectors; i++) {
        const struct subset_keys *k = &c->selectors[i].keys;
        bool same = l->num && k->num == l->num;
        for (uint32_t j = 0; same && j < l->num; j++)
            same = str_eq(k->v[j], l->v[j].key);
        if (same)
            return &c->selectors[i];
    }
    return NULL;
}

/* allow_redundant_keys: the keys of the first selector whose keys the request all names. */
static const struct labels *without_redundant(const struct subset_config *c, const struct labels *l,
                                              struct criteria *room)
{
    for (uint32_t i = 0; l && c->redundant_keys && i < c->num_selectors; i++) {
        keep_keys(room, l, &c->selectors[i].keys);
        if (room->labels.num == c->selectors[i].keys.num)
            return &room->labels;
    }
    return l;
}

static struct lb_choice pick_fallback(struct lb *lb, const struct lb_request *rq)
{
    const struct host_subsets *s = lb->set->subsets;
    const struct host_subset *chosen = s->config->fallback == SUBSET_ANY_ENDPOINT ? s->any
                                       : s->config->fallback == SUBSET_DEFAULT    ? s->defaults
                                                                                  : NULL;
    struct lb_choice c = {0};
    if (!chosen)
        return c;
    c = pick_in(lb, chosen, rq);
    c.subset = LB_SUBSET_FALLBACK;
    if (!c.host && s->config->panic_any) {
        c = pick_in(lb, s->any, rq);
        c.subset = LB_SUBSET_PANIC;
    }
    return c;
}

static struct lb_choice pick_by(struct lb *lb, const struct lb_request *rq, const struct labels *l,
                                unsigned depth)
{
    const struct host_subsets *s = lb->set->subsets;
    const struct subset_selector *selector;
    const struct host_subset *found;
    struct criteria room, fewer;
    struct lb_choice c = {0};

    l = without_redundant(s->config, l, &room);
    found = host_subsets_find(s, l);
    if (found) {
        c = pick_in(lb, found, rq);
        c.subset = LB_SUBSET_SELECTED;
        return c;
    }
    selector = selector_of(s->config, l);
    switch (selector ? selector->fallback : SUBSET_NOT_DEFINED) {
    case SUBSET_NOT_DEFINED:
        break;
    case SUBSET_NO_FALLBACK:
        return c;
    case SUBSET_ANY_ENDPOINT:
        return pick_in(lb, s->any, rq);
    case SUBSET_DEFAULT:
        return pick_in(lb, s->defaults, rq);
    case SUBSET_KEYS:
        if (depth == 0)
            return c;
        keep_keys(&fewer, l, &selector->fallback_keys);
        return pick_by(lb, rq, &fewer.labels, depth - 1);
    }
    return pick_fallback(lb, rq);
}

/* `over` takes the place of what `l` says of the same keys; both sorted. */
static void merge(struct criteria *out, const struct labels *l, const struct labels *over)
{
    uint32_t i = 0, j = 0;
    out->labels.num = 0;
    while (i < l->num || (over && j < over->num)) {
        int order = i == l->num               ? 1
                    : !over || j == over->num ? -1
                                              : str_cmp(l->v[i].key, over->v[j].key);
        if (order < 0 && !str_eq(l->v[i].key, fallback_list))
            add(out, &l->v[i]);
        if (order >= 0)
            add(out, &over->v[j++]);
        i += order <= 0;
    }
}

struct lb_choice lb_subset_pick(struct lb *lb, const struct lb_request *rq)
{
    const struct labels *l = rq->match;
    struct lb_choice c = {0};
    struct criteria room;
    if (!lb->set->subsets->config->fallback_list || !l || !labels_get(l, fallback_list).p)
        return pick_by(lb, rq, l, FALLBACK_DEPTH);
    if (rq->num_fallbacks == 0) {
        merge(&room, l, NULL);
        return pick_by(lb, rq, &room.labels, FALLBACK_DEPTH);
    }
    for (uint32_t i = 0; i < rq->num_fallbacks && !c.host; i++) {
        merge(&room, l, rq->fallbacks[i]);
        c = pick_by(lb, rq, &room.labels, FALLBACK_DEPTH);
    }
    return c;
}
