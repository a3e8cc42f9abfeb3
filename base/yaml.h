/* YAML to the tree of json.h, by libyaml. One document. Plain scalars follow the core schema as
 * yaml-cpp reads them: null, booleans, numbers; quoted scalars stay strings. Anchors and aliases
 * are copied, within limits; a merge key (<<) and tags other than the core ones are refused. Any
 * thread. */
#pragma once

#include "base/json.h"

enum { YAML_NODES_MAX = 1000000 }; /* nodes of the tree, aliases counted each time */

/* yaml_parse parses all of `text`; NULL and *err on any error. An empty document is JSON_NULL.
 * Strings are in the arena. */
struct json *yaml_parse(struct str text, struct arena *a, struct json_error *err) WARN_UNUSED;
