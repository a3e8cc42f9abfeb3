/* Ties the generated descriptors (what is honoured) to the official tables (what there is). Built
 * once, on first use, then constant: any thread. Used inside api-protos only. */
#pragma once

#include "api-protos/official.h"
#include <protobuf-c/protobuf-c.h>

/* registry_official returns the official message of a generated descriptor; never NULL. */
const struct official_message *registry_official(const ProtobufCMessageDescriptor *type);

/* registry_listed returns the generated descriptor of an official message, NULL if not listed. */
const ProtobufCMessageDescriptor *registry_listed(const struct official_message *m);

/* registry_honoured says whether the field is listed in api-protos. */
bool registry_honoured(const struct official_field *f);

/* registry_has_rules says whether the message or one it can hold (listed fields only) has rules. */
bool registry_has_rules(const struct official_message *m);

/* registry_has_maps says whether the message can hold a map or an Any, at any depth. */
bool registry_has_maps(const struct official_message *m);

/* registry_strip drops everything up to the last slash of a type URL. */
struct str registry_strip(struct str type_url);

/* registry_first_warning says true for the first caller that asks about this field, ever. */
bool registry_first_warning(const struct official_field *f);
