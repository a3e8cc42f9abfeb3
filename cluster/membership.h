/* The members of one cluster: hosts matched by address across assignments, so that an endpoint that
 * stays keeps its state. Main thread. */
#pragma once

#include "cluster/load_assignment.h"
#include "cluster/table.h"

struct membership {
    const struct reclaim_home *home;
    struct cluster_state *state;
    struct host **order; /* group by group; one reference each */
    struct host_group *groups;
    uint32_t num_hosts, num_groups;
    uint32_t overprovisioning, drop_ppm;
    bool weighted_health;
    uint32_t generation; /* changes with the members */
    uint32_t mark;
    uint32_t num_kept; /* no longer listed, but they pass their health checks */
};

enum membership_change {
    MEMBERS_SAME,    /* nothing that a balancer sees */
    MEMBERS_CHANGED, /* weights, health, priorities or policy */
    MEMBERS_OTHER,   /* hosts came or went */
};

/* membership_init starts without members; membership_cleanup lets go of all, marking them removed.
 */
void membership_init(struct membership *m, const struct reclaim_home *home,
                     struct cluster_state *state);
void membership_cleanup(struct membership *m);

/* membership_update takes an assignment (NULL: no endpoints) as config's transport_socket_matches
 * sort it. Hosts that are no longer listed are marked removed and forgotten by outlier detection;
 * those whose transport, locality or hostname is another one now are replaced. With health checks
 * and EDS a host that passes them stays until it fails, unless ignore_health_on_host_removal. */
enum membership_change membership_update(struct membership *m, const struct load_assignment *la,
                                         const struct cluster_config *config);

/* membership_kept_failed says whether a host that was kept only because it passed its health checks
 * no longer does: the next membership_update lets it go. */
bool membership_kept_failed(const struct membership *m);

/* membership_build makes the host set of the members with their present health, for the caller. */
struct host_set *membership_build(struct membership *m,
                                  const struct cluster_config *config) WARN_UNUSED;

/* transport_index_of says which transport an endpoint's connections use: 1 + the first match, or 0.
 */
uint32_t transport_index_of(const struct cluster_config *config, const struct labels *endpoint,
                            const struct labels *locality);
