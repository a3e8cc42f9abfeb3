/* Messages written as YAML, for tests: the same way as a bootstrap's text. */
#pragma once

#include "api-protos/message.h"

/* yaml_message makes a message of `type` in the arena; aborts when the text does not hold one.
 * `type` is the full name: "envoy.config.route.v3.RouteConfiguration". */
const void *yaml_message(const char *type, const char *yaml, struct arena *a);

/* expect_error fails the test unless e has an error at `path` whose text contains `part`. */
void expect_error(const struct errors *e, const char *path, const char *part);
