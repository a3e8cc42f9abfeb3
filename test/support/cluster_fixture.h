/* A worker with clusters made by hand, for tests of what runs on workers: no xds, no messages. */
#pragma once

#include "cluster/cluster_config.h"
#include "cluster/pool.h"
#include "cluster/worker_clusters.h"

struct cluster_fixture {
    struct loop *loop;
    struct mailbox box;
    struct reclaim_home home;
    struct worker_clusters *worker;
    struct cluster_table *table;
    struct cluster_state *state; /* of the cluster published last */
};

/* fixture_start makes a loop (fake clock), a worker with thread index 0 and an empty table. */
void fixture_start(struct cluster_fixture *f);
void fixture_stop(struct cluster_fixture *f);

/* fixture_host makes a host "ip:port" with one reference, the caller's. */
struct host *fixture_host(struct cluster_fixture *f, const char *address);

/* fixture_publish makes a node of config and hosts (takes the caller's references of both) and
 * hands the new table to the worker. The state of a name is kept. */
void fixture_publish(struct cluster_fixture *f, struct cluster_config *config, struct host **hosts,
                     uint32_t num_hosts);

/* fixture_remove publishes a table without the name. */
void fixture_remove(struct cluster_fixture *f, const char *name);

/* fixture_spin runs the loop until *flag is not 0, at most about 5 s; fixture_turn runs `n` turns.
 */
void fixture_spin(struct cluster_fixture *f, const int *flag);
void fixture_turn(struct cluster_fixture *f, int n);

/* fixture_stat reads a statistic of the cluster published last. */
uint64_t fixture_stat(struct cluster_fixture *f, uint32_t stat);
