/* Subset load balancing (lb_subset_config): the hosts of a cluster divided by their metadata
 * "envoy.lb", and a request that names keys and values chooses among the hosts that have exactly
 * these. Which keys count is said by selectors. Each subset is a host set of its own, with the
 * priorities, health and tables of what it holds; all are built on main along with the cluster's
 * and shared by the workers. */
#pragma once

#include "base/map.h"
#include "cluster/host.h"

enum subset_fallback { /* where no subset fits; in the order of LbSubsetSelectorFallbackPolicy */
                       SUBSET_NOT_DEFINED,
                       SUBSET_NO_FALLBACK,
                       SUBSET_ANY_ENDPOINT,
                       SUBSET_DEFAULT,
                       SUBSET_KEYS, /* of a selector only: with its fallback_keys alone */
};

struct subset_keys {
    uint32_t num;
    struct str *v; /* sorted, each once */
};

struct subset_selector {
    struct subset_keys keys, fallback_keys;
    enum subset_fallback fallback;
    bool single; /* single_host_per_subset */
};

struct subset_config {
    const struct subset_selector *selectors; /* at least one */
    uint32_t num_selectors;
    enum subset_fallback fallback;
    const struct labels *defaults; /* default_subset; NULL: every host */
    bool locality_weighted, scale; /* locality_weight_aware, scale_locality_weight */
    bool panic_any, list_as_any, redundant_keys;
    bool fallback_list; /* metadata_fallback_policy */
};

struct host_subset {
    struct host_set *set;
    uint32_t id; /* below the number of subsets: balancers keep one for each */
    bool single; /* of one host, which is chosen whatever its health and priority */
};

enum { /* of one cluster; what is beyond is in no subset (docs/differences.md) */
       SUBSETS_MAX = 65536,         /* and combinations of one host and selector */
       SUBSET_MEMBERS_MAX = 1 << 22 /* of all subsets together */
};

struct host_subsets {
    const struct subset_config *config; /* lives as long as the cluster's configuration */
    struct map map;                     /* packed keys and values: struct host_subset */
    struct host_subset *any, *defaults; /* NULL: not asked for */
    uint32_t num;                       /* with these two */
};

/* host_subsets_new divides the hosts of spec, which has a subset configuration. Main. */
struct host_subsets *host_subsets_new(const struct reclaim_home *home,
                                      const struct host_set_spec *spec) WARN_UNUSED;
void host_subsets_free(struct host_subsets **s);

/* host_subsets_step is host_set_step of all of them. */
bool host_subsets_step(struct host_subsets *s, uint64_t *budget) WARN_UNUSED;

/* host_subsets_find returns the subset of exactly these labels, NULL: there is none. Any thread. */
const struct host_subset *host_subsets_find(const struct host_subsets *s, const struct labels *l);
