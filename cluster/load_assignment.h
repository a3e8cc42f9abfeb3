/* ClusterLoadAssignment compiled: the endpoints of a cluster as its control plane (or its own
 * load_assignment) lists them. Immutable; reference counted; main thread. What the hosts become is
 * membership.h. */
#pragma once

#include "base/addr.h"
#include "base/arena.h"
#include "base/errors.h"
#include "base/refcount.h"

struct Google__Protobuf__Struct;
struct pb_opts;

/* A set of labels: metadata "envoy.transport_socket_match" of an endpoint, or what a
 * transport_socket_match asks for. Values are serialised google.protobuf.Value, canonical. */
struct label {
    struct str key, value;
};

struct labels {
    uint32_t num;
    struct label v[];
};

struct assigned_endpoint {
    struct addr addr;
    const struct addr *more; /* additional_addresses */
    uint32_t num_more;
    struct str hostname;
    uint32_t weight;             /* at least 1 */
    uint32_t health;             /* envoy.config.core.v3.HealthStatus */
    const struct labels *labels; /* NULL: none */
};

struct assigned_locality {
    struct str region, zone, sub_zone;
    uint32_t priority;
    uint32_t weight; /* 0: none given */
    uint32_t order;  /* in the message */
    const struct labels *labels;
    const struct assigned_endpoint *endpoints;
    uint32_t num_endpoints;
};

struct load_assignment {
    struct refcount ref;
    struct arena arena;
    struct str name;                            /* cluster_name */
    const struct assigned_locality *localities; /* in order of priority */
    uint32_t num_localities;
    uint32_t overprovisioning; /* per cent */
    uint32_t drop_ppm;
    uint64_t stale_after_ms; /* 0: never */
    bool weighted_health;    /* weighted_priority_health */
};

/* load_assignment_compile walks, unpacks and compiles serialised bytes; NULL after errors. One
 * reference, the caller's. */
struct load_assignment *load_assignment_compile(struct str bytes, struct errors *e,
                                                const struct pb_opts *opts) WARN_UNUSED;

/* load_assignment_from compiles an unpacked and validated message; NULL after errors. */
struct load_assignment *load_assignment_from(const void *message, struct errors *e) WARN_UNUSED;

/* load_assignment_ref and load_assignment_unref count; NULL is fine. */
struct load_assignment *load_assignment_ref(struct load_assignment *la);
void load_assignment_unref(struct load_assignment *la);

/* labels_of copies a Struct's fields into the arena; NULL when it is NULL or empty. */
struct labels *labels_of(const struct Google__Protobuf__Struct *s, struct arena *a);

/* labels_match says whether `have` has all of `want` (NULL or empty: everything matches). */
bool labels_match(const struct labels *want, const struct labels *have);
