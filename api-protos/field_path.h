/* Paths of a FieldMask against the official API. Any thread. */
#pragma once

#include "base/str.h"

enum field_path {
    FIELD_PATH_UNKNOWN,  /* not a path of that message */
    FIELD_PATH_SINGULAR, /* its last field is not repeated */
    FIELD_PATH_REPEATED, /* its last field is a list or a map */
};

/* field_path_look looks a path with dots up, in snake_case, from the message of that full name
 * down. Every field but the last must be a singular message, as a FieldMask demands. */
enum field_path field_path_look(struct str message, struct str path);
