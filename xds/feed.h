/* Feed: what is wanted and what is had of one resource type from one source: the names, the cached
 * resources, the protocol's state for the type. The aggregated stream carries a feed for each type;
 * a subscription with a stream or a file of its own has a feed for itself; what the bootstrap
 * lists is a feed without a source. Main thread, internal to xds. */
#pragma once

#include "api-protos/message.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"

#include "xds/counts.h"
#include "xds/xds.h"

struct xds_stream;
struct xds_file;

struct xds_type {
    struct list link;  /* xds.types */
    struct list feeds; /* xds_feed.link */
    struct xds *x;
    const struct resource_ops *ops;
    const ProtobufCMessageDescriptor *descriptor;
    void *owner;
    struct xds_feed *fixed; /* resources of the bootstrap */
    unsigned paused;
    int order; /* of sending: CDS, EDS, LDS, RDS, SDS, others */
};

struct xds_resource {
    struct xds_feed *feed;
    struct list watchers; /* subscription.link */
    struct str name;      /* owned, like all the text here */
    struct str bytes;     /* canonical, accepted last */
    struct str version;
    uint64_t hash; /* of bytes; valid when has_bytes */
    bool has_bytes;
    bool is_static;
    void *compiled; /* named types only */
    uint64_t updated_us;
    enum xds_status status;
    struct str error, error_version, error_bytes;
    uint64_t error_us;
    uint64_t seen;     /* the ingest that named it last */
    uint64_t named;    /* the same, known before any is applied (remove_first) */
    bool on_wire;      /* incremental: subscribed to by name on this stream */
    struct timer *ttl; /* NULL: lives for ever; else it is removed unless it comes again before */
};

struct xds_feed {
    struct list link;        /* xds_type.feeds */
    struct list stream_link; /* xds_stream.feeds */
    struct xds_type *type;
    struct xds_stream *stream; /* one of these two, or neither: static */
    struct xds_file *file;
    uint64_t fetch_timeout_ms;

    struct map resources; /* name -> struct xds_resource */
    size_t num_watched;   /* of them, by at least one subscription */
    uint64_t num_ingests;
    uint64_t begun_us; /* when the last of them began */
    struct str taking; /* the version of the response that is being taken in; in the message */
    bool is_taking;

    /* A collection (wildcard). */
    bool collects;
    bool is_settled;
    void (*settled)(void *arg);
    void *settled_arg;
    struct task settled_task;
    struct timer fetch_timer;
    struct xds_counts *counts;

    /* The protocol's state of this type on its stream. */
    struct str version; /* of the last response accepted; outlives the stream */
    struct str nonce;   /* of the last response on this stream */
    struct str nack;    /* errors of the last response, until sent */
    bool nack_due;
    bool dirty;      /* a request is to be sent */
    bool answer_due; /* ... because a response waits for its ACK or NACK */
    bool asked;      /* a request was sent on this stream */
};

/* xds_feed_new makes an empty feed of a type. xds_feed_free drops its resources; watchers must be
 * gone. */
struct xds_feed *xds_feed_new(struct xds_type *type);
void xds_feed_free(struct xds_feed *f);

/* xds_feed_find returns the resource of that name, or NULL; xds_feed_add makes it (REQUESTED). */
struct xds_resource *xds_feed_find(const struct xds_feed *f, struct str name);
struct xds_resource *xds_feed_add(struct xds_feed *f, struct str name);

/* xds_feed_drop forgets a resource that nobody watches. */
void xds_feed_drop(struct xds_feed *f, struct xds_resource *r);

/* xds_feed_reap drops every resource that nobody watches (named types). */
void xds_feed_reap(struct xds_feed *f);

/* xds_feed_sorted returns the resources in order of name, an array in the arena; *num
 * is how many. */
struct xds_resource **xds_feed_sorted(const struct xds_feed *f, struct arena *a, size_t *num);

/* xds_feed_wanted says whether the feed asks for anything: a collection or a watched name. */
bool xds_feed_wanted(const struct xds_feed *f);

/* xds_feed_start_timers starts the initial fetch timers, at the first attempt to connect. */
void xds_feed_start_timers(struct xds_feed *f);

/* xds_feed_settle tells a collection's owner, once, that start-up need not wait for it. */
void xds_feed_settle(struct xds_feed *f);

/* xds_feed_failed counts a failure to reach the source, for the collection and every watcher. */
void xds_feed_failed(struct xds_feed *f);

/* xds_feed_updated: a response was taken in, `accepted` whole or not, and something `changed` or
 * not. Counts and settles a collection; named resources told their watchers one by one. */
void xds_feed_updated(struct xds_feed *f, struct str version, bool accepted, bool changed);

/* --- one resource ------------------------------------------------------------------------------
 */

/* xds_resource_same says whether canonical bytes (pb_canonical) are the ones accepted last. */
bool xds_resource_same(const struct xds_resource *r, struct str canonical, uint64_t hash);

/* xds_resource_accept stores an accepted version; for a named type takes the reference of
 * `compiled` and tells the watchers, else compiled is NULL. */
void xds_resource_accept(struct xds_resource *r, struct str canonical, uint64_t hash,
                         struct str version, void *compiled);

/* xds_resource_unchanged notes that the bytes came again: the version moves, an error is over. */
void xds_resource_unchanged(struct xds_resource *r, struct str version);

/* xds_resource_reject stores why a version was refused and tells the watchers. */
void xds_resource_reject(struct xds_resource *r, struct str bytes, struct str version,
                         struct str text);

/* xds_resource_remove: there is none of that name, says the server. A collection's owner removes
 * it; those who watch a named one are told, and keep what they have. */
void xds_resource_remove(struct xds_resource *r);

/* xds_resource_expire removes the resource after `ms`, unless called again; 0: never. */
void xds_resource_expire(struct xds_resource *r, uint64_t ms);

/* xds_text_set replaces an owned text by a copy. */
void xds_text_set(struct str *t, struct str value);
