/* xDS client: streams, subscriptions, ACK and NACK, the cache of last good resources. It knows the
 * protocol, not the resources: their owners register a vtable for each type (struct resource_ops).
 *
 * The way of a resource: bytes arrive (a stream, a watched file, the bootstrap) -> unchanged ones
 * are dropped after a hash compare -> ops->compile makes the owner's immutable object, collecting
 * every error -> a wildcard type (Listener, Cluster) is applied to its owner, a named one is handed
 * to those who watch it -> ACK, or NACK with all errors of the response. Valid resources of a
 * response are used, the others keep what they had: one bad resource never disturbs a good one.
 *
 * Everything here runs on the main thread. Callbacks come from the loop, never inside the call
 * that asked for them, except where said. */
#pragma once

#include "base/errors.h"
#include "base/loop.h"
#include "base/stats.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

struct xds;
struct pb_opts;           /* api-protos/message.h */
struct xds_transport_ops; /* xds/transport.h; a fake in unit tests */

/* What stands before update_attempt, update_success ... of a subscription: the parts "cluster" and
 * "foo", or "http", "web", "rds" and "main". Copied. Subscriptions with the same prefix count in
 * the same place. */
struct xds_stats_prefix {
    const struct stats_part *parts;
    size_t num_parts;
};

/* --- resource types, registered by their owners ----------------------------------------------- */

struct resource_ops {
    const char *type_url; /* "type.googleapis.com/envoy.config.cluster.v3.Cluster" */
    const char *label;    /* "cds", "lds", "eds", "rds", "sds": stats and log */
    /* All resources of the source are wanted and a state-of-the-world response lists them all
     * (Listener, Cluster): apply and remove are used, watchers are not. */
    bool wildcard;
    /* What a response no longer names is removed before the rest is applied: one resource may take
     * over what another one had (a listener's address). */
    bool remove_first;
    bool reload_stats; /* counts config_reload (cds, rds) */
    /* Sensitive bytes (Secret): zeroed before they are freed; config_dump must redact them. */
    bool sensitive;

    /* name_of finds the resource's name in its serialized bytes (borrowed view into them) without
     * unpacking; false if there is none or the bytes are malformed. */
    bool (*name_of)(struct str bytes, struct str *out_name);
    /* compile walks, unpacks and compiles one serialized resource into the owner's immutable
     * object and returns it with one reference, the caller's; NULL after at least one error in e,
     * whose root path is the resource. `name` is what it was named or subscribed as. No side
     * effects that unref does not undo: the object may never be applied (`--mode validate`). */
    void *(*compile)(void *owner, struct str name, struct str bytes, struct errors *e);
    void (*ref)(void *compiled);
    void (*unref)(void *compiled);

    /* The rest is for wildcard types only and is called from the loop, or inside xds_static. */

    /* begin and end enclose what one response (or file, or bootstrap list) changes, also when it
     * changes nothing. May be NULL. */
    void (*begin)(void *owner);
    void (*end)(void *owner);
    /* apply puts `compiled` (borrowed: ref to keep) in the place of what the name had; false after
     * an error in e (an address in use), and then the former one stays. Never called with bytes
     * equal to those applied last. */
    bool (*apply)(void *owner, struct str name, void *compiled, struct str version,
                  struct errors *e);
    /* remove: the name is no longer in the list. Static resources are never removed, nor replaced
     * by a dynamic one of the same name, which is left aside with a warning, as in Envoy. */
    void (*remove)(void *owner, struct str name);
};

/* xds_register makes a type known; once a type, at start. Both pointers are borrowed for the life
 * of x. */
void xds_register(struct xds *x, const struct resource_ops *ops, void *owner);

/* --- where resources come from ---------------------------------------------------------------- */

enum xds_source_kind {
    XDS_SOURCE_ADS,  /* the one aggregated stream (xds_set_ads) */
    XDS_SOURCE_GRPC, /* api_config_source: a stream of its own for each subscription */
    XDS_SOURCE_PATH, /* path_config_source, or the deprecated path */
};

struct xds_header { /* initial_metadata of the GrpcService */
    struct str name, value;
};

/* A control-plane server and how to talk to it (ApiConfigSource). */
struct xds_server {
    struct str cluster;   /* envoy_grpc.cluster_name */
    struct str authority; /* envoy_grpc.authority; empty: the cluster name */
    const struct xds_header *headers;
    size_t num_headers;
    bool delta;                               /* DELTA_GRPC */
    bool node_on_first_only;                  /* set_node_on_first_message_only */
    bool rate_limited;                        /* rate_limit_settings is present */
    uint32_t rate_tokens;                     /* max_tokens; 0: 100 */
    double rate_fill;                         /* fill_rate, tokens a second; 0: 10 */
    uint32_t backoff_base_ms, backoff_max_ms; /* retry_policy; 0: 500 and 30000 */
};

struct xds_source {
    enum xds_source_kind kind;
    uint64_t initial_fetch_timeout_ms; /* 0: wait for ever; XDS_FETCH_TIMEOUT_MS when unset */
    struct xds_server server;          /* GRPC */
    struct str path;                   /* PATH: a DiscoveryResponse as .json, .yaml or .pb */
    struct str watched_directory; /* PATH: watch moves in this directory instead; may be empty */
};

enum { XDS_FETCH_TIMEOUT_MS = 15000 };

/* --- the client ------------------------------------------------------------------------------- */

/* xds_dial_fn asks for a byte stream to a control-plane cluster: a connected, non-blocking socket
 * that the caller owns from then on (a connected UDS or TCP socket, or one end of a socketpair
 * whose other end is pumped through the cluster's own connection, which may still be under way).
 * -1: cannot be had now (no such cluster, no healthy host); `why` says why in a few words. It
 * must not call back into xds. */
typedef int (*xds_dial_fn)(void *arg, struct str cluster, char *why, size_t why_len);

struct xds_options {
    struct str node;          /* serialized envoy.config.core.v3.Node; copied */
    const struct pb_opts *pb; /* how unknown fields of files are treated; NULL: as zeroed */
    size_t max_message;       /* bytes of one response; 0: 256 MiB */
    const struct xds_transport_ops *transport; /* NULL: gRPC */
};

/* xds_new makes a client on the main loop. xds_free closes every stream and file watch (every
 * subscription must have been ended before), drops what was cached and sets *x to NULL; no
 * callback runs. */
struct xds *xds_new(struct loop *main, const struct xds_options *opts);
void xds_free(struct xds **x);

/* xds_set_dial installs the byte-stream function, before the first stream is opened. */
void xds_set_dial(struct xds *x, xds_dial_fn fn, void *arg);

/* xds_set_ads names the ADS server (dynamic_resources.ads_config; copied). The stream opens with
 * the first subscription that uses it. Once, at start. */
void xds_set_ads(struct xds *x, const struct xds_server *server);

/* xds_has_ads says whether xds_set_ads was called: a ConfigSource `ads` needs it. */
bool xds_has_ads(const struct xds *x);

/* --- wildcard types: all listeners, all clusters ---------------------------------------------- */

/* xds_collect subscribes to every resource of a wildcard type. `settled(arg)`, may be NULL, runs
 * once: after the first response was applied or refused, or when the initial fetch timeout passed
 * (counted from the first attempt to connect). Updates go on for ever either way.
 * `prefix` is "cluster_manager.cds" or "listener_manager.lds". */
void xds_collect(struct xds *x, const struct xds_source *src, const struct resource_ops *ops,
                 const struct xds_stats_prefix *prefix, void (*settled)(void *arg), void *arg);

/* --- named resources: endpoints, route tables, secrets ---------------------------------------- */

enum xds_absent {
    XDS_ABSENT_TIMEOUT, /* initial_fetch_timeout passed; it may still come */
    XDS_ABSENT_REMOVED, /* the server said that there is none, or its time is over (ttl) */
};

struct watcher_ops {
    /* on_update: the resource, or its new version (borrowed: ref to keep). The first one comes
     * from the cache if it is there. Never with an equal object twice in a row. */
    void (*on_update)(void *arg, void *compiled);
    /* on_absent: nothing to hand over; what was delivered before stays in use (last good for ever),
     * whatever `why` says, and is what a later watcher gets. Warming must not wait any longer. */
    void (*on_absent)(void *arg, enum xds_absent why);
    /* on_error: a version was refused (`text`: its errors with field paths). What was delivered
     * before stays. Warming must not wait any longer if nothing was delivered. May be NULL. */
    void (*on_error)(void *arg, struct str text);
};

struct subscription; /* one watcher's interest in one resource */

/* xds_subscribe watches resource `name` of a named type. Watchers of the same resource from the
 * same source share one cache entry and one name on the wire. `prefix` may be NULL: not counted. */
struct subscription *xds_subscribe(struct xds *x, const struct xds_source *src,
                                   const struct resource_ops *ops, struct str name,
                                   const struct xds_stats_prefix *prefix,
                                   const struct watcher_ops *w, void *arg);

/* xds_unsubscribe ends the watch; no callback of it runs any more, not even one that was under
 * way in the queue. May be called inside a callback. Sets *s to NULL; NULL is fine. */
void xds_unsubscribe(struct subscription **s);

/* xds_subscription_current is the object delivered last (borrowed), or NULL. */
void *xds_subscription_current(const struct subscription *s);

/* --- order ------------------------------------------------------------------------------------ */

/* xds_pause holds back requests (ACKs and changed subscriptions; on an incremental stream, where
 * every response has an answer of its own, only the latter) of a type on every stream; xds_resume
 * sends what has gathered. Counted. Within one turn of the loop requests are gathered
 * anyway and leave in the order CDS, EDS, LDS, RDS, SDS, others. A cluster manager pauses CDS while
 * updated clusters warm. */
void xds_pause(struct xds *x, const struct resource_ops *ops);
void xds_resume(struct xds *x, const struct resource_ops *ops);

/* --- static resources ------------------------------------------------------------------------- */

/* xds_static compiles and (wildcard types) applies one serialized resource of the bootstrap, inside
 * the call, the same way as one that a control plane sends, and keeps it for config_dump. A second
 * resource of the same name is an error. false: at least one error in e. */
bool xds_static(struct xds *x, const struct resource_ops *ops, struct str bytes,
                struct errors *e) WARN_UNUSED;

/* --- the state, for config_dump and CSDS ------------------------------------------------------ */

/* As in envoy.admin.v3.ClientResourceStatus, same numbers. */
enum xds_status {
    XDS_STATUS_UNKNOWN = 0,
    XDS_STATUS_REQUESTED = 1,
    XDS_STATUS_DOES_NOT_EXIST = 2,
    XDS_STATUS_ACKED = 3,
    XDS_STATUS_NACKED = 4,
    XDS_STATUS_RECEIVED_ERROR = 5,
    XDS_STATUS_TIMEOUT = 6,
};

struct xds_resource_info {
    const struct resource_ops *ops;
    struct str name;
    struct str version;  /* of the bytes; empty: static */
    struct str bytes;    /* serialized, last accepted; empty if none ever was */
    uint64_t updated_us; /* wall clock, of the bytes */
    enum xds_status status;
    bool is_static;
    struct str error; /* errors of the version refused last; empty if none since */
    struct str error_version;
    struct str error_bytes; /* the refused bytes */
    uint64_t error_us;
};

/* xds_foreach calls fn for every resource of a type (ops NULL: of all types), in order of name,
 * inside the call. The views are valid during fn, which must not change subscriptions. */
void xds_foreach(struct xds *x, const struct resource_ops *ops,
                 void (*fn)(void *arg, const struct xds_resource_info *r), void *arg);

/* xds_version is the version of the last response of a wildcard type that was accepted, empty if
 * none: version_info of config_dump's ClustersConfigDump and ListenersConfigDump. Borrowed until
 * the next update. */
struct str xds_version(struct xds *x, const struct resource_ops *ops);

/* xds_connected says whether the ADS stream is up. */
bool xds_connected(const struct xds *x);

/* xds_control_plane is what the ADS server calls itself (control_plane.identifier), or empty. */
struct str xds_control_plane(const struct xds *x);
