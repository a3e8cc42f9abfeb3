/* DiscoveryRequest and DiscoveryResponse (envoy.service.discovery.v3) on the wire, and the
 * incremental ones. A response is cut into views of its parts, never unpacked whole: tens of
 * megabytes of resources cost a few bytes each until their turn comes. Nothing here allocates but
 * what the caller gives. */
#pragma once

#include "api-protos/wire.h"
#include "base/arena.h"
#include "base/str.h"
#include <stdbool.h>

/* One resource of a response: the Any's parts, or those of the Any inside a discovery Resource
 * wrapper, in which every incremental one comes. */
struct discovery_resource {
    struct str type_url;
    struct str bytes;
    struct str name;    /* of the wrapper; empty without one */
    struct str version; /* of the wrapper; empty without one */
    bool wrapped;
    uint64_t ttl_ms;     /* of the wrapper; 0 without one */
    bool has_body;       /* wrapper without a resource: false */
    const char *ignored; /* a field of the wrapper that is there and not honoured; NULL: none */
};

struct discovery_response {
    bool delta;              /* incremental: lists what changed */
    struct str version_info; /* or system_version_info */
    struct str type_url;
    struct str nonce;
    struct str control_plane; /* control_plane.identifier */
    const char *ignored;      /* a field that is there and not honoured; NULL: none */
    struct wire rest;         /* what discovery_next has not seen yet */
    struct wire removed;      /* what discovery_next_removed has not seen yet */
    size_t index;             /* of the next resource */
};

/* discovery_response_parse checks that all of `bytes` are well-formed fields and finds the scalar
 * ones; *out then iterates with discovery_next. Views into bytes. false: `why` is a literal that
 * says what is wrong. */
bool discovery_response_parse(struct str bytes, struct discovery_response *out, const char **why);

/* discovery_delta_parse is the same for a DeltaDiscoveryResponse. */
bool discovery_delta_parse(struct str bytes, struct discovery_response *out, const char **why);

/* discovery_next cuts the next resource off r; false when there is none. A resource that is itself
 * malformed comes with *why set (else NULL) and whatever could be read. */
bool discovery_next(struct discovery_response *r, struct discovery_resource *out, const char **why);

/* discovery_next_removed cuts off the next name of removed_resources; false when there is none. */
bool discovery_next_removed(struct discovery_response *r, struct str *name);

/* What goes into a state-of-the-world request. */
struct discovery_request {
    struct str version_info;
    struct str node; /* serialized Node; empty: left out */
    const struct str *names;
    size_t num_names;
    struct str type_url;
    struct str response_nonce;
    bool nack; /* error_detail is present: INTERNAL and `error` */
    struct str error;
};

/* discovery_request_encode serializes r into the arena. */
struct str discovery_request_encode(const struct discovery_request *r, struct arena *a);

struct discovery_version {
    struct str name, version;
};

/* What goes into an incremental request. */
struct discovery_delta_request {
    struct str node; /* serialized Node; empty: left out */
    struct str type_url;
    const struct str *subscribe, *unsubscribe;
    size_t num_subscribe, num_unsubscribe;
    const struct discovery_version *initial; /* initial_resource_versions */
    size_t num_initial;
    struct str response_nonce;
    bool nack; /* error_detail is present: INTERNAL and `error` */
    struct str error;
};

/* discovery_delta_request_encode serializes r into the arena. */
struct str discovery_delta_request_encode(const struct discovery_delta_request *r, struct arena *a);

/* discovery_name_of finds string field `field` (the name: 1 for Listener, Cluster and
 * RouteConfiguration ...) at the top level of a serialized message; the last one counts, as in any
 * protobuf parser. false: malformed or absent. For resource_ops.name_of. */
bool discovery_name_of(struct str bytes, unsigned field, struct str *out_name);
