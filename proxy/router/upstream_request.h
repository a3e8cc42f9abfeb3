/* Upstream request: one try: a slot on a connection to one host, the exchange on it, and its
 * timeouts. Worker. */
#pragma once

#include "cluster/pool.h"
#include "proxy/http/codec.h"

struct router;

struct upstream_request {
    uint32_t magic;
    struct router *router;
    struct host *host; /* referenced */
    struct pool_request slot;
    struct pool_conn *pc;
    struct codec_stream *cs; /* NULL before the slot and after the end */
    struct timer per_try, per_try_idle;
    uint64_t started_us;
    uint64_t bytes_read, bytes_written; /* of the connection, when the exchange began */
    uint32_t pauses;                    /* asked for before there was an exchange */
    bool http2;                         /* what the connection speaks */
    bool above;                         /* the connection takes no more for now */
    bool sent_end, got_headers, over;
};

/* upstream_request_new starts a try on host h (takes the reference). */
struct upstream_request *upstream_request_new(struct router *r, struct host *h);

/* upstream_request_send sends what there is of the request; `end` with the last of it. */
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
