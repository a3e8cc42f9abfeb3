/* The seam between a protocol on a connection (HTTP/1, HTTP/2; server and client side) and one
 * exchange on it. A codec_stream is the codec's end of one request-response exchange; its user
 * (http/stream.c downstream, router/upstream_request.c upstream) sends through `ops` and is told
 * through `events`.
 *
 * Worker's thread. Events come from the connection's read or from the loop. A user may call any op
 * from within an event, reset included; after reset, or after both directions have ended, no event
 * comes and the codec_stream is gone once the event returns. The codec never frees the user. */
#pragma once

#include "base/buffer.h"
#include "cluster/http1_options.h"
#include "proxy/http/headers.h"

enum reset_reason {
    RESET_LOCAL,            /* the user asked */
    RESET_REMOTE,           /* the peer reset the stream (RST_STREAM) */
    RESET_CONN_TERMINATED,  /* the connection closed or was reset under it */
    RESET_PROTOCOL_ERROR,   /* the peer sent something malformed; a server codec has answered 400 if
                               there was no response yet */
    RESET_OVERFLOW,         /* a limit of ours */
    RESET_REFUSED,          /* REFUSED_STREAM, GOAWAY beyond it: certainly not processed */
    RESET_HEADERS_TOO_LARGE /* of the response */
};

struct codec_stream;

struct codec_events {
    /* 1xx other than 101. Response side only. */
    void (*on_informational)(void *user, struct headers *h);
    /* The head. `h` stays valid until the exchange is over. `end`: no body, no trailers. */
    void (*on_headers)(void *user, struct headers *h, bool end);
    /* Body bytes; the user drains what it takes, what it leaves is dropped. */
    void (*on_data)(void *user, struct buffer *data, bool end);
    void (*on_trailers)(void *user, struct headers *h);
    /* The exchange is over before its end; the codec_stream is gone. `detail` is Envoy's response
     * code detail or empty. */
    void (*on_reset)(void *user, enum reset_reason why, struct str detail);
    /* What was sent but is not yet on the wire went above, or fell below, the watermark. */
    void (*on_above)(void *user);
    void (*on_below)(void *user);
};

struct codec_stream_ops {
    /* headers sends the head; names in lower case. The codec adds framing (content-length or
     * chunked) and drops connection-specific fields itself. */
    void (*headers)(struct codec_stream *s, const struct headers *h, bool end);
    void (*informational)(struct codec_stream *s, const struct headers *h);
    /* data takes all of `b`. */
    void (*data)(struct codec_stream *s, struct buffer *b, bool end);
    void (*trailers)(struct codec_stream *s, const struct headers *h);
    /* reset ends the exchange now, in both directions; no event follows. */
    void (*reset)(struct codec_stream *s, enum reset_reason why);
    /* pause stops on_data, counted, and with it reading from the peer; resume undoes one. */
    void (*pause)(struct codec_stream *s);
    void (*resume)(struct codec_stream *s);
    /* close_after: after this exchange the connection is not used again (Connection: close,
     * GOAWAY). */
    void (*close_after)(struct codec_stream *s);
};

/* When it is over: on the server side the exchange ends when the user has sent its end (what is
 * left of the request is dropped, the connection then closes) or reset it. On the client side it
 * ends with the response's end (if the request was not sent to its end when that event came, the
 * user must reset, whatever it sends yet) or a reset. */
struct codec_stream {
    const struct codec_stream_ops *ops;
    const struct codec_events *events;
    void *user;
    struct arena *arena; /* of the exchange, given by the user */
};

/* --- server side --- */

struct conn;
struct http_server; /* a codec serving one downstream connection */

struct http_limits {
    uint32_t max_headers_bytes;  /* 60 KiB */
    uint32_t max_headers_count;  /* 100 */
    uint64_t headers_timeout_ms; /* from a request's first byte to the end of its head; 10 s */
    uint64_t request_ms, stream_idle_ms; /* the same, when they are shorter; 0: none */
    uint64_t idle_timeout_ms;            /* no request on the connection; 1 h; 0 none */
    uint64_t delayed_close_ms;           /* 1 s */
    uint32_t max_requests;               /* on one connection; 0: no limit */
    bool accept_http_10;
    struct str default_host; /* of an HTTP/1.0 request without any; empty: 400 */
    bool proxy_100_continue;
    struct http1_options http1;
    const struct string_match *ignore_upgrade; /* ignore_http_11_upgrade */
    size_t num_ignore_upgrade;
    bool close_on_malformed; /* override_stream_error_on_invalid_http_message */
    uint64_t drain_ms; /* HTTP/1: from the idle timeout to the end; HTTP/2: between the two GOAWAYs
                          at most; 5 s */
    /* HTTP/2 only */
    const struct http2_options *h2;
    struct stats_scope *h2_stats; /* "http2."; NULL: not counted */
    uint64_t flush_ms;            /* how long a whole response may wait for window; 0: for ever */
};

/* What the user of a server codec provides. */
struct http_server_events {
    /* A request's head is complete; the user makes its own object, sets cs->events and cs->user and
     * is then told by on_headers. Called with the codec_stream in which arena was set by
     * `arena_for`. */
    void (*new_stream)(void *user, struct codec_stream *cs);
    /* An arena for the next exchange, owned by the user from then on: new_stream or arena_unused
     * follows at once. */
    struct arena *(*arena_for)(void *user);
    /* The arena is not needed after all: the head was malformed (on_malformed came before). */
    void (*arena_unused)(void *user, struct arena *a);
    /* The codec is about to answer by itself: the bytes were not a request, or (an exchange is
     * under way) its body is wrong. Returns the response's head, in arena a, and its body. NULL:
     * there is no such callback, and the answer is a plain one. */
    struct headers *(*error_reply)(void *user, struct arena *a, unsigned status, struct str detail,
                                   struct str *out_body);
    /* The bytes were not a request: the codec has answered `status` by itself and is closing. Or
     * (0) the client left in the middle of a head. The user counts and logs. `head`, borrowed, is
     * the request's where all of it could be read; NULL: it could not. */
    void (*on_malformed)(void *user, unsigned status, struct str detail,
                         const struct headers *head);
    /* Too many streams ended before their response; the connection ends. NULL: not told. */
    void (*on_too_many_resets)(void *user);
    /* No request came within the idle timeout: the connection ends after drain_ms, in which one may
     * still come. May be NULL. */
    void (*on_idle)(void *user);
    /* The connection is over; the user frees everything, the codec with http_server_free included.
     */
    void (*on_closed)(void *user);
};

struct http_server_ops {
    /* drain: exchanges under way may finish, then the connection closes; at once if none is.
     * HTTP/2 says so by GOAWAY twice, the second after a round trip or drain_ms. */
    void (*drain)(struct http_server *s);
    /* free drops it; the conn stays the user's. No event. */
    void (*free)(struct http_server *s);
};

struct http_server {
    const struct http_server_ops *ops;
};

/* h1_server_new speaks HTTP/1 on an accepted connection whose callbacks it takes over. limits and
 * events are borrowed for its life. (proxy/http/h1_server.c) */
struct http_server *h1_server_new(struct conn *c, const struct http_limits *limits,
                                  const struct http_server_events *events, void *user);

/* h2_server_new the same for HTTP/2, from the client's preface on. (proxy/http/h2_server.c) */
struct http_server *h2_server_new(struct conn *c, const struct http_limits *limits,
                                  const struct http_server_events *events, void *user);

/* --- client side --- */

struct pool_conn;
struct pool_protocol;

/* h1_client: HTTP/1 on pooled connections (proxy/http/h1_client.c). The slot is released by the
 * codec when the exchange is over, as reusable if both directions ended well and neither side asked
 * to close. */
extern const struct pool_protocol h1_client_protocol;

struct http_client_limits {
    uint32_t max_headers_bytes,
        max_headers_count;             /* of a response: 60 KiB (Envoy: 80 in HTTP/1), 100 */
    const struct http1_options *http1; /* lives as long as the cluster's configuration */
};

/* h1_client_stream opens the exchange on a slot just given; the user's events follow. Worker. */
struct codec_stream *h1_client_stream(struct pool_conn *pc, struct arena *a,
                                      const struct http_client_limits *limits,
                                      const struct codec_events *events, void *user);

/* h2_client: HTTP/2 on pooled connections (proxy/http/h2_client.c). The slot is released by the
 * codec when the exchange is over. */
extern const struct pool_protocol h2_client_protocol;
struct codec_stream *h2_client_stream(struct pool_conn *pc, struct arena *a,
                                      const struct http_client_limits *limits,
                                      const struct codec_events *events, void *user);

/* http_auto_protocol: the one that ALPN has chosen, HTTP/1 if none was (proxy/http/http_client.c).
 */
extern const struct pool_protocol http_auto_protocol;

/* http_client_stream opens the exchange with the protocol that the connection speaks. */
struct codec_stream *http_client_stream(struct pool_conn *pc, struct arena *a,
                                        const struct http_client_limits *limits,
                                        const struct codec_events *events, void *user);

/* http_client_wire says how many bytes of the connection were the exchange's, both ways so far;
 * false if all of them. HTTP/2 only. */
bool http_client_wire(const struct pool_conn *pc, struct codec_stream *cs, uint64_t *in,
                      uint64_t *out);

/* tcp_client_stream opens an exchange of which only the payload is sent, on a slot of
 * pool_protocol_tcp: a CONNECT that is terminated here. Its response is 200 with `upgrade`, as soon
 * as the request's head was given. Half-closed directions are passed on. Worker.
 * (proxy/http/tcp_client.c) */
struct codec_stream *tcp_client_stream(struct pool_conn *pc, struct arena *a,
                                       const struct codec_events *events, void *user);
