/* The parameters of an admin request: names and values, percent-decoded. They come from whoever
 * reaches the port. */
#pragma once

#include "base/arena.h"

enum { ADMIN_PARAMS_MAX = 256 };

struct admin_param {
    struct str name, value;
};

struct admin_query {
    struct admin_param *params; /* in their order */
    size_t num;
};

/* admin_query_parse reads "a=1&b&c=%28x" into *q, whose views live in the arena. A name without "="
 * has an empty value; what is not a percent escape stays as it is, so that regular expressions may
 * come unescaped. `form`: '+' is a space (application/x-www-form-urlencoded). False: more than
 * ADMIN_PARAMS_MAX. */
bool admin_query_parse(struct admin_query *q, struct str text, bool form,
                       struct arena *a) WARN_UNUSED;

/* admin_query_get finds the first parameter of a name: true and its value. out may be NULL. */
bool admin_query_get(const struct admin_query *q, const char *name, struct str *out);
