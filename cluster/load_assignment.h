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
    struct addr addr;    /* ADDR_NONE: a name that is still to be resolved, */
    struct str dns_name; /* this one; else empty */
    uint16_t dns_port;
    const struct addr *more; /* additional_addresses */
    uint32_t num_more;
    struct str hostname;
    uint32_t weight;             /* at least 1 */
    uint32_t health;             /* envoy.config.core.v3.HealthStatus */
    const struct labels *labels; /* of transport_socket_match; NULL: none */
    const struct labels *lb;     /* metadata "envoy.lb"; NULL: none */
    struct addr hc_addr;         /* health_check_config; as in struct host_info */
    uint16_t hc_port;            /* of a name that is checked at what it resolves to; 0: its own */
    struct str hc_hostname;
    bool hc_disabled;
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
    struct load_assignment *over; /* referenced: what the rest is a view of; NULL: of its own */
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

/* load_assignment_from_names the same where an address may be a name (DNS clusters). An address
 * that is none goes to hostname where the endpoint names none. */
struct load_assignment *load_assignment_from_names(const void *message,
                                                   struct errors *e) WARN_UNUSED;

/* load_assignment_over makes a copy that refers to the text and labels of `base`, which it
 * references, without endpoint_stale_after: other localities can be put into it before it is
 * shared. */
struct load_assignment *load_assignment_over(struct load_assignment *base) WARN_UNUSED;

/* load_assignment_ref and load_assignment_unref count; NULL is fine. */
struct load_assignment *load_assignment_ref(struct load_assignment *la);
void load_assignment_unref(struct load_assignment *la);

/* labels_of copies a Struct's fields into the arena; NULL when it is NULL or empty. */
struct labels *labels_of(const struct Google__Protobuf__Struct *s, struct arena *a);

/* labels_copy makes one allocation of a set, to be freed with mem_free; NULL gives NULL. */
struct labels *labels_copy(const struct labels *l) WARN_UNUSED;

/* labels_equal compares two sets, either of which may be NULL. */
bool labels_equal(const struct labels *a, const struct labels *b);

/* labels_sort puts them in order, as every set is that others are compared with. */
void labels_sort(struct labels *l);

/* labels_get finds a value, serialised; empty if there is none. labels_text the same of a string,
 * and empty if it is no string. */
struct str labels_get(const struct labels *l, struct str key);
struct str labels_text(const struct labels *l, struct str key);

/* labels_match says whether `have` has all of `want` (NULL or empty: everything matches). */
bool labels_match(const struct labels *want, const struct labels *have);
