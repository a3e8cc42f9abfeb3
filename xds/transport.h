/* The seam between the protocol and the wire: one bidirectional stream of messages over a given
 * socket. grpc_transport.c is the one for real; unit tests script their own. Main thread; events
 * come from the loop, never inside a call. */
#pragma once

#include "base/loop.h"
#include "base/str.h"
#include "xds/xds.h"

struct xds_call; /* one stream; each transport has its own layout */

struct xds_call_options {
    const char *method; /* "/envoy.service.discovery.v3.AggregatedDiscoveryService/Stream..." */
    struct str authority;
    const struct xds_header *headers;
    size_t num_headers;
};

struct xds_call_events {
    /* on_message: one message, asked for by receive. The bytes stay valid until the next receive or
     * close. */
    void (*on_message)(void *arg, struct str bytes);
    /* on_sent: the message given to send was taken; the next one may be sent. */
    void (*on_sent)(void *arg);
    /* on_close: the stream ended, with the gRPC status of the server (0: OK) or of the failure. The
     * last event; the owner still calls close. */
    void (*on_close)(void *arg, int status, struct str text);
};

struct xds_transport_ops {
    /* start and stop: the transport as a whole. Every call is closed before stop. */
    void *(*start)(struct loop *main, size_t max_message);
    void (*stop)(void *transport);
    /* open starts a stream over `fd` (taken). Failures come as on_close. */
    struct xds_call *(*open)(void *transport, int fd, const struct xds_call_options *opts,
                             const struct xds_call_events *ev, void *arg);
    /* send sends one message, copied; the next only after on_sent. */
    void (*send)(struct xds_call *call, struct str bytes);
    /* receive asks for one message; not again before it came. */
    void (*receive)(struct xds_call *call);
    /* close cancels the stream if it is still up and frees it; no event any more. */
    void (*close)(struct xds_call *call);
};

/* grpc_transport is gRPC core over the socket, its completion queue on a thread of its own. */
extern const struct xds_transport_ops grpc_transport;
