/* One canonical form of a request's path, seen alike by routing, policies and the upstream. In an
 * arena; the query is left alone. Any thread. */
#pragma once

#include "base/arena.h"

enum path_result { PATH_OK, PATH_CHANGED, PATH_REJECTED };

/* path_normalize resolves dot segments, escaped ones included, decodes escapes of unreserved
 * characters and turns '\' into '/' (RFC 3986 section 6.2.2). PATH_REJECTED: a malformed escape or
 * one of NUL, or a path that leaves the root. */
enum path_result path_normalize(struct arena *a, struct str *path) WARN_UNUSED;

/* path_merge_slashes makes one of adjacent slashes. */
enum path_result path_merge_slashes(struct arena *a, struct str *path);

/* path_escaped_slashes unescapes %2F and %5C, or rejects a path that has one. */
enum path_result path_escaped_slashes(struct arena *a, struct str *path, bool reject) WARN_UNUSED;
