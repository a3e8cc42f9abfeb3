/* One canonical form of a request's path, seen alike by routing, policies and the upstream. In an
 * arena; the query is left alone. Any thread. */
#pragma once

#include "base/arena.h"

enum path_result { PATH_OK, PATH_CHANGED, PATH_REJECTED };

/* path_normalize resolves dot segments, escaped ones included (what would leave the root stays
 * there), decodes escapes of unreserved characters, turns '\' into '/' and escapes what must be
 * (RFC 3986 section 6.2.2, and the WHATWG's URL as Envoy has it). PATH_REJECTED: an escaped NUL. */
enum path_result path_normalize(struct arena *a, struct str *path) WARN_UNUSED;

/* path_merge_slashes makes one of adjacent slashes. */
enum path_result path_merge_slashes(struct arena *a, struct str *path);

/* path_escaped_slashes unescapes %2F and %5C. */
enum path_result path_escaped_slashes(struct arena *a, struct str *path) WARN_UNUSED;
