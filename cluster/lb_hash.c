/* RING_HASH and MAGLEV: the tables are the host set's; here is what a request does with them, and
 * consistent hashing with bounded loads (Mirrokni et al.; the jumps by arXiv:1908.08762). */
#include "base/random.h"
#include "cluster/lb.h"
#include <math.h>

enum { PER_CENT = 100 };

/* --- bounded loads --- */

/* A 32-bit Mersenne twister (Matsumoto and Nishimura 1998): the order in which the hosts are tried
 * when the one that the hash belongs to is full must be the same everywhere. */
enum { MT_WORDS = 624, MT_HALF = 397 };

struct mt {
    uint32_t word[MT_WORDS];
    uint32_t at;
};

static void mt_init(struct mt *m, uint32_t seed)
{
    m->word[0] = seed;
    for (uint32_t i = 1; i < MT_WORDS; i++)
        m->word[i] = 1812433253u * (m->word[i - 1] ^ m->word[i - 1] >> 30) + i;
    m->at = MT_WORDS;
}

static uint32_t mt_next(struct mt *m)
{
    uint32_t y;
    if (m->at == MT_WORDS) {
        for (uint32_t i = 0; i < MT_WORDS; i++) {
            y = (m->word[i] & 0x80000000u) | (m->word[(i + 1) % MT_WORDS] & 0x7fffffffu);
            m->word[i] = m->word[(i + MT_HALF) % MT_WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        m->at = 0;
    }
    y = m->word[m->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static uint32_t mt_below(struct mt *m, uint32_t n)
{
    uint32_t per = (uint32_t)(((uint64_t)UINT32_MAX + 1) / n > UINT32_MAX
                                  ? UINT32_MAX
                                  : ((uint64_t)UINT32_MAX + 1) / n);
    uint32_t x = n;
    if (n == 1) {
        (void)mt_next(m);
        return 0;
    }
    while (x >= n)
        x = mt_next(m) / per;
    return x;
}

static uint64_t active_of(const struct lb *lb)
{
    if (!lb->circuit)
        return 0;
    return circuit_active(lb->circuit, PRIORITY_DEFAULT, CIRCUIT_RQ) +
           circuit_active(lb->circuit, PRIORITY_HIGH, CIRCUIT_RQ);
}

/* How full a host is: above 1 it has more than its bound. */
static double fullness(const struct lb *lb, const struct host_table *t, uint32_t i, uint64_t all)
{
    uint64_t total = ((all + 1) * lb->balance_factor + PER_CENT - 1) / PER_CENT;
    double slots = ceil((double)total * t->weights[i]);
    uint32_t n = atomic_load_explicit(&t->hosts[i]->rq_active, memory_order_relaxed);
    return n / (slots < 1 ? 1 : slots);
}

static void make_room(struct lb *lb, uint32_t num)
{
    if (lb->shuffle_cap >= num)
        return;
    lb->shuffle_cap = num;
    lb->shuffle = mem_realloc(lb->shuffle, 2 * (size_t)num * sizeof(*lb->shuffle));
    for (uint32_t i = 0; i < num; i++)
        lb->shuffle[i] = i;
}

static void swap(uint32_t *v, uint32_t a, uint32_t b)
{
    uint32_t was = v[a];
    v[a] = v[b];
    v[b] = was;
}

/* The first host that is not full, in the hash's own order, or the least full. */
static uint32_t another(struct lb *lb, const struct host_table *t, uint32_t full, uint64_t hash,
                        uint64_t all)
{
    uint32_t best = full, *order, *undo, i;
    double least = fullness(lb, t, full, all);
    struct mt mt;

    make_room(lb, t->num);
    order = lb->shuffle;
    undo = lb->shuffle + lb->shuffle_cap;
    mt_init(&mt, (uint32_t)hash);
    for (i = 0; i < t->num && least > 1; i++) {
        double f;
        undo[i] = i + mt_below(&mt, t->num - i);
        swap(order, i, undo[i]);
        if (order[i] == full)
            continue;
        f = fullness(lb, t, order[i], all);
        if (f < least) {
            best = order[i];
            least = f;
        }
    }
    while (i-- > 0)
        swap(order, i, undo[i]);
    return best;
}

/* --- choosing --- */

static struct lb_choice hash_choose(struct lb *lb, const struct lb_request *rq)
{
    uint64_t hash = rq->has_hash ? rq->hash : random_u64();
    unsigned tries = rq->max_tries ? rq->max_tries : 1;
    enum host_list_kind kind;
    const struct host_priority *p = lb_priority(lb->set, (uint32_t)(hash % PER_CENT), &kind);
    struct lb_choice c = {.panic = p->panic};

    if (!p->hash.table || lb_table_size_of(p->hash.table).size == 0)
        return c;
    for (unsigned i = 0; i < tries; i++) {
        uint32_t at = lb_table_find(p->hash.table, hash, i);
        if (lb->balance_factor) {
            uint64_t all = active_of(lb);
            if (fullness(lb, &p->hash, at, all) > 1)
                at = another(lb, &p->hash, at, hash, all);
        }
        c.host = p->hash.hosts[at];
        if (!lb_was_tried(rq, c.host))
            break;
    }
    return c;
}

const struct lb_ops lb_hash = {.name = "hash", .choose = hash_choose};
