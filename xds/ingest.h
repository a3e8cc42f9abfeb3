/* Ingest: takes one DiscoveryResponse into a feed, whatever brought it: resource by resource, each
 * compared, compiled, applied and dropped, in slices between which the loop turns. Main thread,
 * internal to xds. */
#pragma once

#include "base/arena.h"
#include "base/loop.h"
#include "xds/discovery.h"
#include "xds/feed.h"

struct xds_ingest {
    struct task task;
    struct xds_feed *feed; /* NULL: idle */
    struct discovery_response r;
    struct str version; /* of the resource that is taken in */
    struct arena arena; /* the text of the errors */
    struct str text;    /* all errors, a line each */
    size_t num_errors;  /* refused resources, also those whose text did not fit */
    size_t num_lines;   /* those whose text is there */
    bool changed;       /* something was applied or removed */
    bool blind;         /* a resource had no usable name: nothing may be taken for removed */
    void (*done)(void *arg);
    void *arg;
};

/* xds_ingest_init prepares an idle ingest. */
void xds_ingest_init(struct xds_ingest *in);

/* xds_ingest_start begins with a parsed response, whose bytes stay valid until `done` or
 * xds_ingest_cancel. A small response is finished, and done called, before this returns. */
void xds_ingest_start(struct xds_ingest *in, struct xds_feed *f, const struct discovery_response *r,
                      void (*done)(void *arg), void *arg);

/* xds_ingest_cancel stops half way: what was applied stays, nothing is removed. */
void xds_ingest_cancel(struct xds_ingest *in);

/* xds_ingest_cleanup cancels and frees. */
void xds_ingest_cleanup(struct xds_ingest *in);

/* xds_ingest_fixed takes one resource of the bootstrap, inside the call; errors go to e. */
bool xds_ingest_fixed(struct xds_feed *f, struct str bytes, struct errors *e);
