/* Stream: one gRPC stream to a control plane, for ever: connect, back off, connect again. It knows
 * nothing of versions and nonces: that is the variant's (state of the world, incremental).
 * Main thread, internal to xds.
 *
 *   IDLE --wanted--> OPEN --closed--> BACKOFF --timer--> OPEN ...
 *   any state --nobody wants it--> IDLE
 *
 * One message is under way at a time: the next is asked for when the former was applied and its
 * answer is sent, so a server that pushes faster than we apply waits in its own flow control. */
#pragma once

#include "base/arena.h"
#include "base/backoff.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/rate.h"
#include "xds/feed.h"
#include "xds/ingest.h"
#include "xds/transport.h"
#include "xds/xds.h"

struct xds_stream;

/* A protocol variant: what is said on the stream. */
struct xds_variant {
    const char *name;
    /* opened: a new stream; what was bound to the old one (nonces) is forgotten. */
    void (*opened)(struct xds_stream *st);
    /* next writes the next request into the arena; false if there is nothing to say now. With a
     * NULL only says whether there is. */
    bool (*next)(struct xds_stream *st, struct arena *a, struct str *out);
    /* answer_due says whether a response waits for its answer, that can be sent. */
    bool (*answer_due)(const struct xds_stream *st);
    /* message takes a response, valid until xds_stream_applied is called (perhaps inside). false:
     * it is malformed as a whole, the stream is of no use. */
    bool (*message)(struct xds_stream *st, struct str bytes, const char **why);
};

extern const struct xds_variant xds_sotw;
extern const struct xds_variant xds_delta;

enum xds_stream_state { XDS_STREAM_IDLE, XDS_STREAM_BACKOFF, XDS_STREAM_OPEN };

struct xds_stream {
    struct list link; /* xds.streams */
    struct xds *x;
    const struct xds_variant *variant;
    enum xds_stream_state state;
    struct arena arena; /* what `server` points to */
    struct xds_server server;
    const char *method;
    struct list feeds; /* xds_feed.stream_link, in order of sending */
    bool tried;        /* a first attempt was made */

    struct xds_call *call; /* OPEN */
    bool sending;          /* a request is with the transport */
    bool receiving;        /* a message was asked for */
    bool applying;         /* a message is being applied */
    bool node_sent;        /* on this stream */
    bool responded;        /* on this stream */
    struct xds_ingest ingest;
    struct xds_feed *applying_feed; /* whose response it is */
    struct str version;             /* of it, in the message */

    struct backoff backoff;
    struct timer retry;
    struct task pump;
    struct rate rate; /* of requests */
    struct timer tokens_timer;

    struct str identifier; /* of the control plane; owned */
    struct xds_stream_counts *counts;
};

/* xds_stream_new makes an idle stream to a server (copied), which says which variant is spoken.
 * `method` is a literal; `prefix` stands before "control_plane" (NULL: nothing does). */
struct xds_stream *xds_stream_new(struct xds *x, const struct xds_server *server,
                                  const char *method, const struct xds_stats_prefix *prefix);

/* xds_stream_free closes the stream; its feeds are no longer on it. */
void xds_stream_free(struct xds_stream *st);

/* xds_stream_add puts a feed on the stream, in the order of its type. */
void xds_stream_add(struct xds_stream *st, struct xds_feed *f);

/* xds_stream_kick looks, later in this turn of the loop, for something to send, and connects if
 * need be. */
void xds_stream_kick(struct xds_stream *st);

/* xds_stream_identified: what the server calls itself; empty: it did not say. */
void xds_stream_identified(struct xds_stream *st, struct str identifier);

/* xds_stream_applied: the message given to the variant is done with. */
void xds_stream_applied(struct xds_stream *st);
