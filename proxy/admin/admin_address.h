/* Addresses in the JSON of admin pages. */
#pragma once

#include "base/json.h"

struct addr;

/* admin_put_address writes an envoy.config.core.v3.Address. */
void admin_put_address(struct json_writer *w, const struct addr *a);
