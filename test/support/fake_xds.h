/* A control plane in the place of gRPC, for tests of who owns resources: what is asked of it is
 * kept as lines of text ("Cluster v=1 n=a names=x,y err=..."), what it answers is given as JSON.
 * One at a time. */
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/loop.h"
#include "xds/transport.h"

struct fake_xds {
    struct loop *loop;
    struct xds *x;
    struct arena arena;
    struct xds_call *call; /* the newest */
    unsigned num_calls;
    char *lines[256];
    size_t num_lines, next_line;
};

/* fake_xds_start makes an xds client on the loop that talks to the fake, with an ADS server
 * configured (cluster "xds"). fake_xds_stop frees the client. */
void fake_xds_start(struct fake_xds *f, struct loop *loop);
void fake_xds_stop(struct fake_xds *f);

/* fake_xds_expect runs the loop a little and compares the next request that was sent, without its
 * node; line NULL: none. */
void fake_xds_expect(struct fake_xds *f, const char *line);

/* fake_xds_say sends a DiscoveryResponse with resources of one type ("cluster.v3.Cluster",
 * "endpoint.v3.ClusterLoadAssignment") in JSON, NULL at the end, and runs the loop a little. */
void fake_xds_say(struct fake_xds *f, const char *type, const char *version, ...);

/* json_to_pb serialises JSON as a message of the full name; aborts the test on errors. */
struct str json_to_pb(const char *type, const char *json, struct arena *a);
