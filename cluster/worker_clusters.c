#include "cluster/worker_clusters.h"

#include "base/hash.h"
#include "base/obj.h"
#include "cluster/lb.h"
#include "cluster/original_dst.h"
#include "cluster/pools.h"

enum { CLUSTER_MAGIC = 0x434c5553, WORKER_CLUSTERS_MAGIC = 0x574b434c };

/* --- one cluster ----------------------------------------------------------------------------- */

static void cluster_free(void *arg)
{
    struct cluster *c = OBJ_CAST(arg, struct cluster, CLUSTER_MAGIC);
    list_remove(&c->link);
    task_cancel(&c->free_task);
    pools_free(&c->pools);
    lb_free(&c->lb);
    original_dst_free(&c->original_dst);
    cluster_node_unref(c->node);
    c->magic = 0;
    mem_free(c);
}

static void take_node(struct cluster *c, struct cluster_node *n)
{
    c->node = cluster_node_ref(n);
    c->config = n->config;
    c->hosts = n->hosts;
    c->circuit = &n->state->circuit;
    c->stats = n->state->stats;
}

static struct cluster *cluster_new(struct worker_clusters *w, struct cluster_node *n)
{
    struct cluster *c = NEW(struct cluster);
    c->magic = CLUSTER_MAGIC;
    c->owner = w;
    c->loop = w->loop;
    c->thread = w->thread;
    task_init(&c->free_task, cluster_free, c);
    take_node(c, n);
    c->lb = lb_new(c->config, c->circuit);
    lb_update(c->lb, c->hosts);
    c->pools = pools_new(c);
    if (c->config->type == CLUSTER_ORIGINAL_DST)
        c->original_dst = original_dst_new(c);
    return c;
}

/* The new node is in force for what begins from now on; what is under way keeps its connection. */
static void change_node(struct cluster *c, struct cluster_node *n)
{
    struct cluster_node *old = c->node;
    const struct cluster_config *before = c->config;
    uint32_t membership = c->hosts->membership;

    CHECK(old->state == n->state); /* connections count in its breakers */
    take_node(c, n);
    if (before != c->config && !lb_same(before, c->config)) {
        lb_free(&c->lb);
        c->lb = lb_new(c->config, c->circuit);
    }
    c->lb->slow = c->config->slow_start;
    lb_update(c->lb, c->hosts);
    if (before->type != c->config->type) {
        original_dst_free(&c->original_dst);
        if (c->config->type == CLUSTER_ORIGINAL_DST)
            c->original_dst = original_dst_new(c);
    }
    if (before->connection_hash != c->config->connection_hash)
        pools_drain(c->pools);
    else
        pools_hosts_changed(c->pools, membership != c->hosts->membership);
    cluster_node_unref(old);
}

static void maybe_free(struct cluster *c)
{
    if (c->removed && c->holds == 0 && !c->ending)
        loop_defer_free(c->loop, &c->free_task);
}

static void remove_cluster(struct cluster *c)
{
    c->removed = true;
    list_push_tail(&c->owner->removed, &c->link);
    pools_drain(c->pools);
    maybe_free(c);
}

/* The worker ends: the connections go now, the object when the last one who holds it lets go. */
static void end_cluster(struct cluster *c)
{
    list_remove(&c->link);
    task_cancel(&c->free_task);
    c->ending = true;
    pools_free(&c->pools);
    original_dst_free(&c->original_dst);
    c->ending = false;
    c->removed = true;
    c->owner = NULL;
    if (c->holds == 0)
        cluster_free(c);
}

void cluster_hold(struct cluster *c)
{
    c->holds++;
}

void cluster_release(struct cluster *c)
{
    CHECK(c->magic == CLUSTER_MAGIC && c->holds > 0);
    c->holds--;
    maybe_free(c);
}

/* --- all of a worker ---------------------------------------------------------------------------
 */

struct worker_clusters *worker_clusters_new(struct loop *l, struct mailbox *box)
{
    struct worker_clusters *w = NEW(struct worker_clusters);
    w->magic = WORKER_CLUSTERS_MAGIC;
    w->loop = l;
    w->box = box;
    w->thread = loop_thread_index(l);
    list_init(&w->removed);
    return w;
}

void worker_clusters_free(struct worker_clusters **wp)
{
    struct worker_clusters *w = *wp;
    if (!w)
        return;
    *wp = NULL;
    for (unsigned i = 0; i < CLUSTER_BUCKETS; i++) {
        while (w->chains[i]) {
            struct cluster *c = w->chains[i];
            w->chains[i] = c->next;
            end_cluster(c);
        }
    }
    while (!list_empty(&w->removed))
        end_cluster(CONTAINER_OF(w->removed.next, struct cluster, link));
    cluster_table_unref(w->table);
    w->table = NULL;
    w->closed = true;
    if (atomic_load_explicit(&w->in_flight, memory_order_acquire) == 0)
        mem_free(w);
}

struct cluster *worker_clusters_find(struct worker_clusters *w, struct str name)
{
    uint64_t hash = hash_str(name);
    unsigned bucket = cluster_table_bucket(hash);
    struct cluster_node *n;
    struct cluster *c;

    for (c = w->chains[bucket]; c; c = c->next) {
        if (c->node->hash == hash && str_eq(c->config->name, name))
            return c;
    }
    if (!w->table)
        return NULL;
    n = cluster_bucket_find(w->table->buckets[bucket], hash, name);
    if (!n)
        return NULL;
    c = cluster_new(w, n);
    c->next = w->chains[bucket];
    w->chains[bucket] = c;
    return c;
}

static void swap_bucket(struct worker_clusters *w, unsigned i, const struct cluster_bucket *b)
{
    struct cluster **at = &w->chains[i];
    while (*at) {
        struct cluster *c = *at;
        struct cluster_node *n = cluster_bucket_find(b, c->node->hash, c->config->name);
        if (!n) {
            *at = c->next;
            c->next = NULL;
            remove_cluster(c);
            continue;
        }
        if (n != c->node)
            change_node(c, n);
        at = &c->next;
    }
}

void worker_clusters_swap(struct worker_clusters *w, struct cluster_table *t)
{
    struct cluster_table *old = w->table;
    w->table = cluster_table_ref(t);
    for (unsigned i = 0; i < CLUSTER_BUCKETS; i++) {
        if (w->chains[i] && (!old || old->buckets[i] != t->buckets[i]))
            swap_bucket(w, i, t->buckets[i]);
    }
    cluster_table_unref(old);
}

struct publication {
    struct worker_clusters *worker;
    struct cluster_table *table;
};

static void on_publication(void *arg)
{
    struct publication *p = arg;
    struct worker_clusters *w = OBJ_CAST(p->worker, struct worker_clusters, WORKER_CLUSTERS_MAGIC);
    uint32_t left = atomic_fetch_sub_explicit(&w->in_flight, 1, memory_order_acq_rel) - 1;

    if (!w->closed)
        worker_clusters_swap(w, p->table);
    else if (left == 0)
        mem_free(w);
    cluster_table_unref(p->table);
    mem_free(p);
}

void worker_clusters_send(struct worker_clusters *w, struct cluster_table *t)
{
    struct publication *p = NEW(struct publication);
    p->worker = w;
    p->table = cluster_table_ref(t);
    atomic_fetch_add_explicit(&w->in_flight, 1, memory_order_acq_rel);
    mailbox_call(w->box, on_publication, p);
}
