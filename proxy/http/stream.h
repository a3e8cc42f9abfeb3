/* Stream: one request and its response on a downstream connection, from the head of the request to
 * the access log. Up to the upstream head it is a table of steps with one driver; then two pumps,
 * request body and response body, with the counted pause as back-pressure. Belongs to its worker.
 */
#pragma once

#include "base/loop.h"
#include "proxy/http/codec.h"
#include "proxy/http/http_chain.h"
#include "proxy/network/hcm.h"
#include "proxy/router/router.h"

enum stream_state {
    STREAM_HEADERS,  /* the head is checked and completed */
    STREAM_ROUTE,    /* a route is chosen from the pinned table */
    STREAM_FILTERS,  /* the head passes the HTTP filters; may wait */
    STREAM_UPSTREAM, /* the route answers, or the router starts its first try */
    STREAM_RELAY,    /* bodies flow; waits */
    STREAM_DONE,     /* logged, counted, freed at the end of the iteration */
};

struct stream {
    uint32_t magic;
    enum stream_state state;
    struct hcm_conn *hc;
    struct worker *worker;
    struct list link;          /* hc->streams */
    struct codec_stream *down; /* NULL: over on the wire */
    struct arena *arena;
    struct stream_info info;
    struct headers *request;
    struct headers *request_trailers;
    struct headers *response; /* what is or was sent */
    struct route_table *table;
    const struct route *route;
    const struct weighted_cluster *weighted;
    struct str cluster_name;    /* the route's choice; empty: none */
    struct addr *override_host; /* where a filter wants it to go; NULL: nowhere special */
    bool override_strict;       /* there or nowhere */
    struct route_match_input match;
    struct http_chain chain;
    struct router router;
    struct timer idle, deadline, max_duration;
    struct timer log_interval; /* only where the configuration has one */
    struct task free_task;
    bool tunnel;           /* the request asks for an upgrade or is CONNECT */
    bool tunnel_open;      /* granted */
    bool received;         /* all of the request was received */
    bool request_end;      /* all of it has passed the filters */
    bool response_begun;   /* a response's head has entered the filters */
    bool response_started; /* the head went out */
    bool response_end;
    bool is_head;      /* HEAD: the response has no body */
    bool grpc_bridged; /* a filter made it a request of gRPC: its client does not speak that */
    bool down_above;
    bool force_trace; /* x-envoy-force-trace, from inside */
};

/* stream_new_from is the codec's new_stream event (struct http_server_events). */
void stream_new_from(struct hcm_conn *hc, struct codec_stream *cs, struct arena *a);

/* stream_local_reply answers by itself, or resets the exchange when a response has already begun.
 * `details` is a static text or in the arena; flags are added. The router's tries are given up. */
void stream_local_reply(struct stream *s, unsigned status, uint64_t flags, struct str details,
                        struct str body);

/* stream_recreate lets the stream begin again with its request, which was changed to what
 * `response` points at (an internal redirect): the exchange so far is logged as one of its own, and
 * the filters see the request again, with `body`. The router has let go of its tries. */
void stream_recreate(struct stream *s, struct headers *response, struct buffer *body);

/* stream_redirect answers with a Location. */
void stream_redirect(struct stream *s, unsigned status, struct str location, struct str details);

/* stream_reply_with the same, and `add` (may be NULL) completes the head before it passes the
 * filters. */
void stream_reply_with(struct stream *s, unsigned status, uint64_t flags, struct str details,
                       struct str body, void (*add)(void *arg, struct headers *h), void *arg);

/* What the router sends down, through the filters. stream_response_headers takes `h` (valid as long
 * as the stream). */
void stream_response_informational(struct stream *s, struct headers *h);
void stream_response_headers(struct stream *s, struct headers *h, bool end);
void stream_response_data(struct stream *s, struct buffer *b, bool end);
void stream_response_trailers(struct stream *s, struct headers *h);

/* stream_response_end ends a response after its last data. */
void stream_response_end(struct stream *s);

/* stream_response_reset: the response cannot be finished; the client sees it cut off. */
void stream_response_reset(struct stream *s, uint64_t flags, struct str details);

/* stream_pause_request stops reading the request from the client, counted; stream_resume_request
 * takes one back. Both do nothing once the exchange is over on the wire. */
void stream_pause_request(struct stream *s);
void stream_resume_request(struct stream *s);

/* stream_conn_closed ends a stream whose downstream connection is gone (flag DC). */
void stream_conn_closed(struct stream *s, struct str details);
