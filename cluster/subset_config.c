#include "cluster/subset_config.h"

#include "cluster/load_assignment.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/load_balancing_policies/subset/v3/subset.pb-c.h"
#include <stdlib.h>

/* The two messages have the same fields; what they have in common goes by this. */
struct selector_in {
    char **keys, **fallback_keys;
    size_t num_keys, num_fallback_keys;
    unsigned fallback;
    bool single;
};

static int by_name(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static struct subset_keys keys_of(char **names, size_t num, struct arena *a)
{
    struct subset_keys k = {.v = arena_alloc(a, num * sizeof(*k.v))};
    uint32_t n = 0;
    for (size_t i = 0; i < num; i++)
        k.v[i] = arena_str(a, str_of(names[i]));
    if (num > 1)
        qsort(k.v, num, sizeof(*k.v), by_name);
    for (size_t i = 0; i < num; i++) {
        if (n == 0 || !str_eq(k.v[n - 1], k.v[i]))
            k.v[n++] = k.v[i];
    }
    k.num = n;
    return k;
}

static bool has_key(const struct subset_keys *keys, struct str name)
{
    for (uint32_t i = 0; i < keys->num; i++) {
        if (str_eq(keys->v[i], name))
            return true;
    }
    return false;
}

static void check_fallback_keys(const struct subset_selector *s, struct errors *e)
{
    if (s->fallback != SUBSET_KEYS) {
        if (s->fallback_keys.num)
            errors_add(e, "fallback_keys_subset", "needs fallback_policy KEYS_SUBSET");
        return;
    }
    if (s->fallback_keys.num == 0)
        errors_add(e, "fallback_keys_subset", "must not be empty");
    for (uint32_t i = 0; i < s->fallback_keys.num; i++) {
        if (!has_key(&s->keys, s->fallback_keys.v[i]))
            errors_add(e, "fallback_keys_subset", "%.*s is not one of the keys",
                       STR_ARG(s->fallback_keys.v[i]));
    }
    if (s->fallback_keys.num == s->keys.num)
        errors_add(e, "fallback_keys_subset", "must not be all of the keys");
}

static void compile_selector(struct subset_selector *out, const struct selector_in *in,
                             struct arena *a, struct errors *e)
{
    if (in->num_keys == 0)
        errors_add(e, "keys", "must not be empty");
    if (in->single && in->num_keys != 1)
        errors_add(e, "single_host_per_subset", "needs exactly one key");
    if (in->fallback > SUBSET_KEYS) {
        errors_add(e, "fallback_policy", "%u is not a policy", in->fallback);
        return;
    }
    out->keys = keys_of(in->keys, in->num_keys, a);
    out->fallback_keys = keys_of(in->fallback_keys, in->num_fallback_keys, a);
    out->fallback = (enum subset_fallback)in->fallback;
    out->single = in->single;
    check_fallback_keys(out, e);
}

/* Of the whole: NO_FALLBACK 0, ANY_ENDPOINT 1, DEFAULT_SUBSET 2. */
static enum subset_fallback fallback_of(unsigned value, struct errors *e)
{
    if (value <= SUBSET_DEFAULT - SUBSET_NO_FALLBACK)
        return (enum subset_fallback)(value + SUBSET_NO_FALLBACK);
    errors_add(e, "fallback_policy", "%u is not a policy", value);
    return SUBSET_NO_FALLBACK;
}

#define COMPILE(m, c, a, e)                                                                        \
    do {                                                                                           \
        struct subset_selector *v = arena_zalloc(a, (m)->n_subset_selectors * sizeof(*v));         \
        for (size_t i = 0; i < (m)->n_subset_selectors; i++) {                                     \
            const struct selector_in in = {                                                        \
                .keys = (m)->subset_selectors[i]->keys,                                            \
                .num_keys = (m)->subset_selectors[i]->n_keys,                                      \
                .fallback_keys = (m)->subset_selectors[i]->fallback_keys_subset,                   \
                .num_fallback_keys = (m)->subset_selectors[i]->n_fallback_keys_subset,             \
                .fallback = (unsigned)(m)->subset_selectors[i]->fallback_policy,                   \
                .single = (m)->subset_selectors[i]->single_host_per_subset,                        \
            };                                                                                     \
            size_t mark = errors_push_index(e, "subset_selectors", i);                             \
            compile_selector(&v[i], &in, a, e);                                                    \
            errors_pop(e, mark);                                                                   \
        }                                                                                          \
        (c)->selectors = v;                                                                        \
        (c)->num_selectors = (uint32_t)(m)->n_subset_selectors;                                    \
        (c)->fallback = fallback_of((unsigned)(m)->fallback_policy, e);                            \
        (c)->defaults = labels_of((m)->default_subset, a);                                         \
        (c)->locality_weighted = (m)->locality_weight_aware;                                       \
        (c)->scale = (m)->scale_locality_weight;                                                   \
        (c)->panic_any = (m)->panic_mode_any;                                                      \
        (c)->list_as_any = (m)->list_as_any;                                                       \
        (c)->fallback_list = (m)->metadata_fallback_policy != 0;                                   \
    } while (0)

static const struct subset_config *finished(const struct subset_config *c, bool good)
{
    return good && c->num_selectors ? c : NULL;
}

const struct subset_config *subset_config_of(const void *message, struct arena *a, struct errors *e)
{
    const Envoy__Extensions__LoadBalancingPolicies__Subset__V3__Subset *m = message;
    struct subset_config *c = ARENA_NEW(a, struct subset_config);
    size_t errors_before = e->num_errors;
    COMPILE(m, c, a, e);
    c->redundant_keys = m->allow_redundant_keys;
    return finished(c, e->num_errors == errors_before);
}

const struct subset_config *subset_config_of_cluster(const void *message, struct arena *a,
                                                     struct errors *e)
{
    const Envoy__Config__Cluster__V3__Cluster__LbSubsetConfig *m = message;
    struct subset_config *c = ARENA_NEW(a, struct subset_config);
    size_t errors_before = e->num_errors;
    COMPILE(m, c, a, e);
    return finished(c, e->num_errors == errors_before);
}
