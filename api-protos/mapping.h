/* The proto3 JSON mapping by descriptor, both ways, over the whole official API: text from files
 * becomes the bytes that pb_unpack takes, and bytes become the JSON of config_dump, including
 * fields that are not honoured. Field names are taken in snake_case and camelCase; enums by name or
 * number; bytes as base64; Duration "0.250s"; Timestamp RFC 3339; wrappers, Struct, Value,
 * ListValue, FieldMask; Any with "@type"; maps as objects; null is unset.
 * Beyond the mapping, what Envoy's parser takes too: numbers and booleans in quotes ("5", "yes"),
 * enum names in any case, {"value": 5} for a wrapper, one element of a list without brackets.
 * Refused, though Envoy takes it: members set twice, null in lists and maps, keys without quotes.
 * Any thread. */
#pragma once

#include "api-protos/message.h"
#include "base/json.h"

/* pb_json_to_wire turns a JSON (or YAML) tree into a serialised message of `type` in the arena.
 * Errors carry the field path and, in the text, the line. A field that the official API does not
 * know is an error with opts->reject_unknown, else counted and left out. Returns false if any error
 * was added. */
bool pb_json_to_wire(const ProtobufCMessageDescriptor *type, const struct json *tree,
                     struct arena *a, struct errors *e, const struct pb_opts *opts,
                     struct str *out) WARN_UNUSED;

/* pb_from_json is pb_json_to_wire and pb_unpack in one. */
ProtobufCMessage *pb_from_json(const ProtobufCMessageDescriptor *type, const struct json *tree,
                               struct arena *a, struct errors *e,
                               const struct pb_opts *opts) WARN_UNUSED;

enum {
    PB_JSON_PRETTY = 1,  /* one space of indent, as Envoy's admin prints */
    PB_JSON_REDACT = 2,  /* "[redacted]" for what the official API marks sensitive */
    PB_JSON_DEFAULTS = 4 /* print proto3 scalars without presence even if they are zero */
};

/* pb_to_json writes a serialised message as JSON: snake_case names in the order of the field
 * numbers, Any expanded, an Any of unknown type as "@type" and base64 "value". False if the bytes
 * are malformed. */
bool pb_to_json(const ProtobufCMessageDescriptor *type, struct str bytes, unsigned flags,
                struct json_writer *out) WARN_UNUSED;

/* pb_message_to_json is pb_to_json of a generated message; the text is in the arena. p is NULL if
 * it nests too deeply. */
struct str pb_message_to_json(const ProtobufCMessage *message, unsigned flags, struct arena *a);
