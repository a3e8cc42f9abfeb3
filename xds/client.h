/* The client's own parts, for the files of xds only. Main thread. */
#pragma once

#include "api-protos/message.h"
#include "base/arena.h"
#include "base/list.h"
#include "xds/feed.h"
#include "xds/stream.h"
#include "xds/transport.h"
#include "xds/xds.h"

struct xds_file_watch;

struct xds {
    struct loop *loop;
    struct str node; /* owned */
    size_t max_message;
    const struct xds_transport_ops *transport_ops;
    void *transport; /* started with the first stream */
    xds_dial_fn dial;
    void *dial_arg;
    struct list types;   /* xds_type.link */
    struct list streams; /* xds_stream.link, the aggregated one too */
    struct xds_stream *ads;
    struct list files; /* xds_file.link */
    struct xds_file_watch *watch;
    struct pb_opts file_opts;
    struct task reap;  /* streams and files that nobody wants any more */
    struct map counts; /* stats prefix -> struct xds_counts */
    struct map warned; /* what was said once; the value is nothing */
};

/* xds_type_of finds a registered type; a type that is not is a bug of the caller. */
struct xds_type *xds_type_of(struct xds *x, const struct resource_ops *ops);

/* xds_feed_for finds or makes the feed that serves `name` of a type from a source: the type's feed
 * on the aggregated stream, or one with a stream or file of its own for each name. */
struct xds_feed *xds_feed_for(struct xds *x, struct xds_type *type, const struct xds_source *src,
                              struct str name, const struct xds_stats_prefix *prefix);

/* xds_feed_changed sends what is wanted now, soon, or drops the source that nobody wants. */
void xds_feed_changed(struct xds_feed *f);

/* xds_feed_tried says whether the source was tried at least once: timers run from then on. */
bool xds_feed_tried(const struct xds_feed *f);

/* xds_warn_once logs what was accepted and is not honoured, once for each message and path. */
void xds_warn_once(struct xds *x, struct str message, struct str path, struct str resource,
                   struct str text);
