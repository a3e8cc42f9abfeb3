/* Dynamic metadata and filter state: what filters of a connection or stream leave for those behind
 * them, for routes, matchers and the access log. Metadata is, by namespace (usually a filter's
 * name), an object of JSON's types; filter state is, by key, a text. Everything lives in the arena
 * that is passed, which must live as long as the metadata. Worker; a compiled constant any thread.
 */
#pragma once

#include "base/json.h"

struct metadata_namespace {
    struct metadata_namespace *next;
    struct str name;
    struct json *object; /* JSON_OBJECT */
};

struct metadata {
    struct metadata_namespace *first;
};

/* metadata_object returns a namespace's object, NULL if there is none. */
const struct json *metadata_object(const struct metadata *m, struct str ns);

/* metadata_path follows keys from a namespace's object; NULL where one is missing. With no keys it
 * is the object. */
const struct json *metadata_path(const struct metadata *m, struct str ns, const struct str *keys,
                                 size_t num_keys);

/* metadata_set puts a value under a key of a namespace, replacing one that is there. The value and
 * the texts are taken as they are. */
void metadata_set(struct metadata *m, struct arena *a, struct str ns, struct str key,
                  struct json *value);

/* metadata_merge merges an object into a namespace: members that are objects on both sides are
 * merged, lists are appended to, anything else is replaced (what Envoy's set_metadata documents).
 * The object is copied where needed. */
void metadata_merge(struct metadata *m, struct arena *a, struct str ns, const struct json *object);

/* Values. Texts are borrowed. METADATA_VALUE_MAX: the longest text that a filter takes over from a
 * message. */
enum { METADATA_VALUE_MAX = 8191 };
struct json *metadata_string(struct arena *a, struct str s);
struct json *metadata_number(struct arena *a, double d);
struct json *metadata_bool(struct arena *a, bool b);

/* metadata_copy copies a value with its texts into an arena. */
struct json *metadata_copy(struct arena *a, const struct json *j);

struct Google__Protobuf__Struct;
struct Google__Protobuf__Value;
struct Envoy__Config__Core__V3__Metadata;

/* metadata_from_struct, metadata_from_value and metadata_from_message make them of the protobuf
 * messages (NULL: empty). Texts are copied. */
struct json *metadata_from_struct(struct arena *a, const struct Google__Protobuf__Struct *s);
struct json *metadata_from_value(struct arena *a, const struct Google__Protobuf__Value *v);
void metadata_from_message(struct metadata *m, struct arena *a,
                           const struct Envoy__Config__Core__V3__Metadata *msg);

/* --- filter state ----------------------------------------------------------------------------- */

struct filter_state_entry {
    struct filter_state_entry *next;
    struct str key, value;
};

struct filter_state {
    struct filter_state_entry *first;
};

/* filter_state_set sets a key (texts borrowed); filter_state_get finds it, p NULL if there is none.
 */
void filter_state_set(struct filter_state *f, struct arena *a, struct str key, struct str value);
struct str filter_state_get(const struct filter_state *f, struct str key);
