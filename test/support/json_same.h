/* Comparing trees of base/json.h. Any thread. */
#pragma once

#include "base/json.h"

/* json_same says whether two trees have the same values in the same order; lines do not count, and
 * numbers are compared as written. */
bool json_same(const struct json *a, const struct json *b);
