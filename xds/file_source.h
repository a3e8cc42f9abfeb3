/* File source: a DiscoveryResponse in a file, JSON, YAML or binary, read at start and again when
 * something is moved into its place (rename is atomic, a write is not). Nothing is answered; what
 * is bad is counted and logged, and what was good stays. Main thread, internal to xds. */
#pragma once

#include "xds/feed.h"
#include "xds/ingest.h"

struct xds_file {
    struct list link; /* xds.files */
    struct xds *x;
    struct xds_feed *feed;
    struct str path, directory; /* owned; directory: watched_directory, or empty */
    struct str base;            /* the file's name inside the directory watched, in `path` */
    int wd;                     /* inotify's, -1: none */
    struct task load;
    bool again;         /* it changed while it was being applied */
    struct arena arena; /* the response under way */
    struct str version; /* of it */
    struct xds_ingest ingest;
};

/* xds_file_new makes the source of a feed; it is read later in this turn of the loop. */
struct xds_file *xds_file_new(struct xds *x, struct xds_feed *f, const struct xds_source *src);

/* xds_file_free ends it; its feed has no source any more. */
void xds_file_free(struct xds_file *file);

/* xds_file_is says whether it is the file that a source names. */
bool xds_file_is(const struct xds_file *file, const struct xds_source *src);

/* xds_file_kick reads the file again, later in this turn of the loop (another name is wanted). */
void xds_file_kick(struct xds_file *file);

/* xds_file_check says whether a path can be a source: it exists and its ending is a known one.
 * Errors go to e, at the current path. */
bool xds_file_check(struct str path, struct errors *e);
