/* YAML to the tree of json.h, by libyaml. One document. Plain scalars are read as Envoy reads them:
 * null (~, null, empty), booleans (true, yes, on, y and their opposites), integers (decimal, 0x,
 * leading 0 for octal) up to 2^53; everything else, quoted scalars always, is a string, so a plain
 * 0.5 is the string "0.5" (the proto3 mapping takes it for a number field). Aliases are shared,
 * within limits. Members whose key is tagged !ignore are left out. Duplicate keys, merge keys (<<),
 * other tags and keys that are no scalars are refused. Any thread. */
#pragma once

#include "base/json.h"

enum { YAML_NODES_MAX = 1000000 }; /* nodes of the tree, aliases counted each time */

/* yaml_parse parses all of `text`; NULL and *err on any error. An empty document is JSON_NULL.
 * Strings are in the arena. */
struct json *yaml_parse(struct str text, struct arena *a, struct json_error *err) WARN_UNUSED;
