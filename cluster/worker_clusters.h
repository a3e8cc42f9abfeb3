/* The inside of a worker's clusters: the published table it works with and the clusters it has
 * used. Private to cluster/. */
#pragma once

#include "cluster/table.h"

struct worker_clusters {
    uint32_t magic;
    struct loop *loop;
    struct mailbox *box;
    unsigned thread;
    struct cluster_table *table;             /* referenced */
    struct cluster *chains[CLUSTER_BUCKETS]; /* used ones, not removed */
    struct list removed;                     /* still held */
    _Atomic uint32_t in_flight;              /* publications in the box */
    bool closed;                             /* freed but for this shell, which they hold */
};

/* worker_clusters_send publishes a table to w: a message that swaps w's pointer between two events.
 * From main; takes a reference of its own. */
void worker_clusters_send(struct worker_clusters *w, struct cluster_table *t);

/* worker_clusters_swap is what the message does, on w's thread: every cluster in use whose node
 * changed takes it over, one that is gone is removed. */
void worker_clusters_swap(struct worker_clusters *w, struct cluster_table *t);
