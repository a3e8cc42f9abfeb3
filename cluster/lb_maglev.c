/* Maglev (Eisenbud et al., NSDI 2016, section 3.4): each host walks the table in an order of its
 * own and takes the next place that is free, in turns; one with less weight sits out some turns. */
#include "base/alloc.h"
#include "base/hash.h"
#include "cluster/lb_table.h"
#include <stdlib.h>

struct maglev_host {
    struct str key;
    uint32_t index; /* among the entries of lb_table_new */
    uint32_t at, skip;
    uint32_t count;
    double weight, target;
};

struct maglev {
    struct lb_table table;
    uint32_t *places; /* NULL: no hosts */
    uint32_t size;
    /* while it is built */
    struct maglev_host *hosts;
    uint32_t num_hosts;
    double most; /* the greatest weight */
    uint32_t turn, next;
    uint32_t filled;
};

enum { FREE = UINT32_MAX };

static int by_key(const void *pa, const void *pb)
{
    const struct maglev_host *a = pa, *b = pb;
    int order = str_cmp(a->key, b->key);
    return order ? order : a->index < b->index ? -1 : 1;
}

static struct lb_table *maglev_new(const struct lb_table_config *config,
                                   const struct lb_table_entry *entries, uint32_t num)
{
    struct maglev *m = NEW(struct maglev);
    if (num == 0)
        return &m->table;
    m->size = (uint32_t)config->size;
    m->num_hosts = num;
    m->turn = 1;
    m->hosts = mem_zalloc(num * sizeof(*m->hosts));
    m->places = mem_alloc(m->size * sizeof(*m->places));
    memset(m->places, 0xff, m->size * sizeof(*m->places));
    for (uint32_t i = 0; i < num; i++) {
        struct str key = entries[i].key;
        m->hosts[i] = (struct maglev_host){
            .key = key,
            .index = i,
            .at = (uint32_t)(hash_xxh64(key.p, key.len, 0) % m->size),
            .skip = (uint32_t)(hash_xxh64(key.p, key.len, 1) % (m->size - 1)) + 1,
            .weight = entries[i].weight,
        };
        m->most = entries[i].weight > m->most ? entries[i].weight : m->most;
    }
    qsort(m->hosts, num, sizeof(*m->hosts), by_key); /* whoever lists them, in whatever order */
    return &m->table;
}

static void maglev_free(struct lb_table *t)
{
    struct maglev *m = (struct maglev *)t;
    mem_free(m->hosts);
    mem_free(m->places);
    mem_free(m);
}

static void walk_on(const struct maglev *m, struct maglev_host *h)
{
    uint64_t at = (uint64_t)h->at + h->skip;
    h->at = (uint32_t)(at < m->size ? at : at - m->size);
}

static void take_place(struct maglev *m, struct maglev_host *h, uint64_t *budget)
{
    while (m->places[h->at] != FREE) {
        walk_on(m, h);
        *budget -= *budget > 0;
    }
    m->places[h->at] = h->index;
    walk_on(m, h);
    h->count++;
    m->filled++;
}

static void finish(struct maglev *m)
{
    m->table.size.size = m->table.size.least = m->size;
    for (uint32_t i = 0; i < m->num_hosts; i++) {
        uint32_t n = m->hosts[i].count;
        m->table.size.least = n < m->table.size.least ? n : m->table.size.least;
        m->table.size.most = n > m->table.size.most ? n : m->table.size.most;
    }
    mem_free(m->hosts);
    m->hosts = NULL;
}

static bool maglev_step(struct lb_table *t, uint64_t *budget)
{
    struct maglev *m = (struct maglev *)t;
    if (!m->hosts)
        return true;
    while (m->filled < m->size) {
        struct maglev_host *h = &m->hosts[m->next];
        if (*budget == 0)
            return false;
        --*budget;
        if (m->turn * h->weight >= h->target) {
            h->target += m->most;
            take_place(m, h, budget);
        }
        if (++m->next == m->num_hosts) {
            m->next = 0;
            m->turn++;
        }
    }
    finish(m);
    return true;
}

static uint32_t maglev_find(const struct lb_table *t, uint64_t hash, uint32_t attempt)
{
    const struct maglev *m = (const struct maglev *)t;
    if (attempt)
        hash ^= ~(uint64_t)0 - attempt + 1;
    return m->places[hash % m->size];
}

const struct lb_table_ops lb_maglev = {
    .make = maglev_new, .free = maglev_free, .step = maglev_step, .find = maglev_find};
