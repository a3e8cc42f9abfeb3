/* Router: carries a stream's request to a cluster: chooses the host, tries, retries, times out, and
 * gives the response to the stream. Embedded in struct stream; worker's thread. */
#pragma once

#include "base/buffer.h"
#include "base/loop.h"
#include "cluster/cluster.h"
#include "proxy/router/route.h"

struct stream;
struct upstream_request;

enum { ROUTER_MAX_TRIED = 16 };

struct router {
    struct stream *stream;
    struct cluster *cluster;   /* held */
    struct retry_policy retry; /* in force: route, virtual host and request headers together */
    uint32_t retries_left;
    uint32_t tries;
    struct upstream_request *up;          /* the try under way, NULL between tries */
    struct host *tried[ROUTER_MAX_TRIED]; /* referenced */
    size_t num_tried;
    struct timer timeout, backoff;
    uint64_t timeout_ms, per_try_ms;
    struct buffer body;   /* not yet given to the try under way */
    struct buffer replay; /* what was given, kept for a retry */
    bool keep;            /* replay is still complete: a retry is possible */
    bool retry_held;      /* a retry counts against the breaker */
    bool responded;       /* a response head was passed on */
    bool body_paused;     /* the downstream is paused because of `body` */
};

/* router_start routes the stream's request: its head is complete, route and table are set. Answers
 * by itself where it must. */
void router_start(struct router *r, struct stream *s);

/* router_data takes request body bytes; router_end says that the request is complete (trailers in
 * stream->request_trailers). */
void router_data(struct router *r, struct buffer *b);
void router_end(struct router *r);

/* router_pause_response and router_resume_response: back-pressure from the downstream. */
void router_pause_response(struct router *r);
void router_resume_response(struct router *r);

/* router_cleanup gives up everything; safe on a zeroed one. */
void router_cleanup(struct router *r);

/* --- from upstream_request.c -------------------------------------------------------------------
 */

enum try_failure {
    TRY_OVERFLOW,       /* a circuit breaker */
    TRY_CONNECT_FAILED, /* refused, or the handshake failed */
    TRY_CONNECT_TIMEOUT,
    TRY_CONN_TERMINATED, /* the connection closed under it */
    TRY_REMOTE_RESET,
    TRY_REFUSED, /* certainly not processed */
    TRY_PROTOCOL_ERROR,
    TRY_TIMEOUT,      /* per-try timeout */
    TRY_IDLE_TIMEOUT, /* per-try idle timeout */
};

/* router_on_failed: the try ended without a complete response. `transport` is the transport failure
 * reason, or empty; `started`: bytes of the request were given to the connection. */
void router_on_failed(struct router *r, enum try_failure f, struct str transport, bool started);
void router_on_headers(struct router *r, struct headers *h, bool end);
void router_on_data(struct router *r, struct buffer *b, bool end);
void router_on_trailers(struct router *r, struct headers *h);
/* router_on_writable: the try takes (more) body. */
void router_on_writable(struct router *r);
