/* Router: carries a stream's request to a cluster: chooses the host, tries, retries, hedges, times
 * out, follows redirects, and gives the response to the stream. Embedded in struct stream; worker's
 * thread. The inside is in router_private.h. */
#pragma once

#include "base/buffer.h"
#include "base/loop.h"
#include "cluster/cluster.h"
#include "proxy/router/route.h"

struct redirect_history;
struct test_fault;
struct stream;
struct upstream_request;

enum { ROUTER_MAX_TRIED = 16 };

struct router {
    struct stream *stream;
    struct cluster *cluster;       /* held */
    struct retry_policy retry;     /* in force: route, virtual host and request headers together */
    const struct str *retry_names; /* x-envoy-retriable-header-names */
    size_t num_retry_names;
    uint32_t retries_left;
    uint32_t tries;
    struct upstream_request *up;     /* the tries under way, newest first; one, unless hedged */
    struct upstream_request *answer; /* the one whose response is passed on */
    struct host *tried[ROUTER_MAX_TRIED]; /* referenced */
    size_t num_tried;
    uint64_t hash;              /* by the route's hash_policy */
    struct lb_match *match;     /* the metadata that its hosts must have; NULL: none */
    struct route_cookie cookie; /* made for it: the response sets it */
    struct timer timeout, backoff;
    uint64_t timeout_ms, per_try_ms, per_try_idle_ms;
    uint64_t max_try_ms;      /* how long a try may last in all; 0: for ever */
    unsigned timeout_status;  /* what a timeout answers: 504, or 204 where that is asked for */
    struct str alt_stat;      /* x-envoy-upstream-alt-stat-name */
    struct buffer body;       /* not yet given to a try, while there is none */
    struct buffer replay;     /* all of the body so far, for a retry, a mirror, a redirect */
    uint64_t mirrors;         /* bit by bit: which of the route's mirrors get a copy */
    struct headers *mirrored; /* what they get if not the request's head; NULL: that one */
    struct redirect_history *history; /* the redirects so far; NULL: none */
    struct test_fault *fault;         /* test builds (test_faults.h) */
    bool keep;                        /* replay is still complete */
    bool hold;                        /* replay is kept as long as not one byte was written */
    bool can_retry;                   /* there is a policy, and its replay was not given up */
    bool retry_held;                  /* a retry counts against the breaker */
    bool responded;                   /* a response head was passed on */
    bool body_paused;                 /* the downstream is paused because of the body */
    bool raced;                       /* the one retry of a lost keep-alive race is used up */
    bool timeout_retry;               /* the present try follows one that was too late */
    bool hedge;                       /* a try that is late goes on beside the next one */
    bool internal;                    /* one of ours asks: x-envoy-internal */
    bool has_hash;
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
    TRY_MAX_DURATION, /* max_stream_duration of the cluster */
};

/* router_on_failed: the try ended without a complete response. `transport` is the transport failure
 * reason, or empty. router_on_late: a per-try timeout of a hedged try; it goes on. */
void router_on_failed(struct router *r, struct upstream_request *u, enum try_failure f,
                      struct str transport);
void router_on_late(struct router *r, struct upstream_request *u);
void router_on_headers(struct router *r, struct upstream_request *u, struct headers *h, bool end);
void router_on_data(struct router *r, struct upstream_request *u, struct buffer *b, bool end);
void router_on_trailers(struct router *r, struct upstream_request *u, struct headers *h);
/* router_on_writable: the try takes (more) body. */
void router_on_writable(struct router *r, struct upstream_request *u);
