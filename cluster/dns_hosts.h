/* The endpoints of a DNS cluster: asks for the names of its load assignment again and again, and
 * makes assignments of addresses from it, as if a control plane had sent them. Main thread.
 *
 * STRICT_DNS: every address of an answer is an endpoint, with the weight, health and metadata of
 * the one that named it; an answer without addresses takes them away. LOGICAL_DNS: the first
 * address is the only endpoint; one without addresses is a failure. A failure never takes an
 * address away. */
#pragma once

#include "cluster/cluster.h"
#include "cluster/dns_config.h"
#include "cluster/load_assignment.h"

struct dns_hosts;

#define DNS_HOSTS_STATS(X)                                                                         \
    X(DNS_HOSTS_ATTEMPT, "update_attempt", COUNTER)                                                \
    X(DNS_HOSTS_SUCCESS, "update_success", COUNTER)                                                \
    X(DNS_HOSTS_FAILURE, "update_failure", COUNTER)                                                \
    X(DNS_HOSTS_EMPTY, "update_empty", COUNTER)

enum { DNS_HOSTS_STATS(STATS_ENUM) DNS_HOSTS_NUM_STATS };

extern struct stats_table dns_hosts_stats_table; /* "cluster.NAME." */

struct dns_hosts_ops {
    /* on_members gives the endpoints, now other ones; the reference is the callee's to take. */
    void (*on_members)(void *arg, struct load_assignment *la);
    /* on_answer: an answer came that changed nothing, or a failure (`failed`). */
    void (*on_answer)(void *arg, bool failed);
};

/* dns_hosts_new begins to ask for the names of `names` (referenced); ops are called later, never
 * before this returns. config and stats are borrowed for its life. dns_hosts_free ends that, also
 * inside of a callback's caller's turn; sets *d to NULL. */
struct dns_hosts *dns_hosts_new(struct loop *l, struct resolver *r, const struct dns_config *config,
                                struct load_assignment *names, struct stats_scope *stats,
                                const struct dns_hosts_ops *ops, void *arg);
void dns_hosts_free(struct dns_hosts **d);
