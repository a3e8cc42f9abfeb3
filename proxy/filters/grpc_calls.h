/* Counting of gRPC calls for the filters grpc_stats and grpc_web: stats of the cluster that a
 * request is routed to, under "grpc." or "grpc-web." and, where asked for, the method. Names come
 * from clients: of a cluster no more than GRPC_CALLS_NAMES are made, further ones count without
 * method. Worker. */
#pragma once

#include "proxy/http/http_filter.h"

struct stats_scope;

enum { GRPC_CALLS_NAMES = 768 };

struct grpc_call {
    struct stats_scope *stats; /* the cluster's; NULL: nothing is counted */
    const char *family;        /* static: "grpc." */
    struct str method;         /* "package.Service.Method", or empty */
    unsigned thread;
};

/* grpc_call_init finds the cluster of the filter's request. False: none. */
bool grpc_call_init(struct grpc_call *c, const struct http_filter *f, const char *family);

/* grpc_call_add counts under the call's prefix. */
void grpc_call_add(const struct grpc_call *c, struct str name, uint64_t n);

/* grpc_call_status counts the call by the grpc-status of its head or trailers, if that is there. */
void grpc_call_status(const struct grpc_call *c, const struct headers *h);

/* grpc_is_response says whether a head is one of gRPC: 200 and its content-type, or, where it is
 * the end, a grpc-status. */
bool grpc_is_response(const struct headers *h, bool end);
