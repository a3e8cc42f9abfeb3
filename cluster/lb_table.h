/* The tables of the consistent-hashing balancers: which host a hash belongs to. One a priority, a
 * part of its host set: built on main, in slices where it is large, immutable then and shared by
 * all workers. The same hosts with the same weights give the same table in every process, and the
 * one that Envoy builds (ring: ketama over XXH64 or MurmurHash2 of "KEY_0", "KEY_1", ...; Maglev:
 * the paper's permutation with weights, hosts in the order of their keys).
 *
 * A host's key is the hash_key of its metadata "envoy.lb", else its hostname where so configured,
 * else its address as text. */
#pragma once

#include "base/str.h"

enum lb_table_kind { LB_TABLE_RING, LB_TABLE_MAGLEV };

struct lb_table_config {
    enum lb_table_kind kind;
    uint64_t min_size, max_size; /* of a ring */
    uint64_t size;               /* Maglev: a prime number */
    bool murmur;                 /* ring: MURMUR_HASH_2 in the place of XXH64 */
    bool use_hostname;
};

struct lb_table_entry {
    struct str key; /* borrowed while the table is built */
    double weight;  /* of all entries together: 1 */
};

struct lb_table;

/* lb_table_new begins a table over num entries (copied); what it answers are their indices. */
struct lb_table *lb_table_new(const struct lb_table_config *config,
                              const struct lb_table_entry *entries, uint32_t num);
void lb_table_free(struct lb_table **t);

/* lb_table_step does some of what is left to do, about `budget` points of the table; true when
 * nothing is left. Takes what it did from the budget. */
bool lb_table_step(struct lb_table *t, uint64_t *budget);

/* lb_table_find returns the index of the entry that the hash belongs to, of a table that is built
 * and not empty. `attempt` counts from 0: the tries to find another host than before. Any thread.
 */
uint32_t lb_table_find(const struct lb_table *t, uint64_t hash, uint32_t attempt);

struct lb_table_size {
    uint64_t size, least, most; /* points, and how many of them the hosts have */
};

/* lb_table_size_of tells the size of a table that is built. */
struct lb_table_size lb_table_size_of(const struct lb_table *t);

/* murmur_hash2 is MurmurHash64A with the seed that libstdc++ gives its std::hash. */
uint64_t murmur_hash2(const void *p, size_t len);

/* --- for lb_table.c, lb_ring.c and lb_maglev.c --- */

struct lb_table_ops { /* what the functions above do with a table of one kind */
    struct lb_table *(*make)(const struct lb_table_config *config,
                             const struct lb_table_entry *entries, uint32_t num);
    void (*free)(struct lb_table *t);
    bool (*step)(struct lb_table *t, uint64_t *budget);
    uint32_t (*find)(const struct lb_table *t, uint64_t hash, uint32_t attempt);
};

struct lb_table { /* the first member of what make returns; make sets no ops */
    const struct lb_table_ops *ops;
    struct lb_table_size size;
};

extern const struct lb_table_ops lb_ring;
extern const struct lb_table_ops lb_maglev;
