/* Upstream request: one try: a slot on a connection to one host, the exchange on it, and its
 * timeouts. Worker. */
#pragma once

#include "cluster/pool.h"
#include "proxy/http/codec.h"
#include "proxy/observe/stream_info.h"

struct router;

struct upstream_request {
    uint32_t magic;
    struct router *router;
    struct upstream_request *next; /* older ones of the same request */
    struct host *host;             /* referenced */
    struct pool_request slot;
    struct pool_conn *pc;
    const struct headers *response; /* the head; NULL: none came */
    uint64_t flags;                 /* FLAG(...) of its failure */
    struct codec_stream *wire;      /* of the codec, below the filters; set and cleared with cs */
    struct codec_stream *cs;        /* NULL before the slot and after the end */
    struct timer per_try, per_try_idle, max_duration; /* zeroed where there is no such limit */
    struct buffer body;                               /* not yet given to the exchange */
    uint64_t begun_us, started_us;                    /* began to wait for a slot; had one */
    uint64_t bytes_read, bytes_written; /* of the connection, when the exchange began */
    uint64_t body_sent, body_received;  /* bytes */
    uint32_t attempt;                   /* the how manieth of its request */
    struct cluster_config *pinned; /* whose filters this try passes; NULL: none of the cluster's */
    uint32_t pauses;               /* asked for before there was an exchange */
    bool http2;                    /* what the connection speaks */
    bool above;                    /* the connection takes no more for now */
    bool sent_end, got_headers, over;
    bool raced;   /* it failed, and sending it once more does no harm (router_tries.c) */
    bool late;    /* its per-try timeout has passed, and was accounted for */
    bool retried; /* another try was begun beside it */
};

/* upstream_request_new starts a try on host h (takes the reference). `fresh`: not on a connection
 * that was used before. */
struct upstream_request *upstream_request_new(struct router *r, struct host *h, bool fresh);

/* upstream_request_describe says in the stream's info that this try is the one that counts. */
void upstream_request_describe(struct upstream_request *u);

/* upstream_request_written says whether a byte of the request has gone out. */
bool upstream_request_written(const struct upstream_request *u);

/* upstream_request_body sends more of the request; `end` with the last of it. */
void upstream_request_body(struct upstream_request *u, struct buffer *b, bool end);
void upstream_request_trailers(struct upstream_request *u, const struct headers *h);

/* upstream_request_takes_trailers says whether trailers pass on its connection: in HTTP/1 only
 * where the cluster's enable_trailers says so. */
bool upstream_request_takes_trailers(const struct upstream_request *u);

/* upstream_request_ready says whether body can be given now. */
bool upstream_request_ready(const struct upstream_request *u);

/* upstream_request_pause stops reading the response, counted; upstream_request_resume takes one
 * back. */
void upstream_request_pause(struct upstream_request *u);
void upstream_request_resume(struct upstream_request *u);

/* upstream_request_drop gives the try up (resets what is under way) and frees it; no call to the
 * router follows. */
void upstream_request_drop(struct upstream_request **u);

/* upstream_protocol is what is spoken with the hosts of a cluster when the client speaks `down`;
 * upstream_open opens an exchange on a slot that was given for it. */
const struct pool_protocol *upstream_protocol(const struct cluster *c, enum http_protocol down);
struct codec_stream *upstream_open(struct pool_conn *pc, const struct cluster *c, struct arena *a,
                                   const struct codec_events *events, void *user);
