/* URI templates of paths: "/videos/{id}/{rest=**}.m3u8" matches a path and says what its variables
 * stood for; a rewrite makes a new path of them (envoy.path.match.uri_template and
 * envoy.path.rewrite.uri_template). "*" is one segment, not empty; "**" any number of characters,
 * slashes included, last. Both take a literal "*" in a path (CVE-2025-46821: a template that does
 * not lets such a request by). Immutable; any thread. */
#pragma once

#include "base/errors.h"
#include "proxy/router/matchers.h"

enum {
    URI_TEMPLATE_VARIABLES = 5, /* at most */
    URI_TEMPLATE_NAME = 16,     /* longest name of one */
};

struct uri_template {
    const struct regex *regex; /* a group for each variable, in order */
    struct str names[URI_TEMPLATE_VARIABLES];
    size_t num;
};

/* uri_template_compile reads a template; NULL after an error at the current path. */
struct uri_template *uri_template_compile(struct regex_list *l, struct arena *a, struct str text,
                                          struct errors *e);

/* uri_template_match says whether a path (without query) fits. */
bool uri_template_match(const struct uri_template *t, struct str path);

struct uri_rewrite;

/* uri_rewrite_compile reads a rewrite for what template `t` matches (NULL: there is none, which is
 * an error); NULL after an error at the current path. */
struct uri_rewrite *uri_rewrite_compile(struct arena *a, struct str text,
                                        const struct uri_template *t, struct errors *e);

/* uri_rewrite_apply makes the new path; p NULL if the path does not fit the template. */
struct str uri_rewrite_apply(const struct uri_rewrite *w, struct str path, struct arena *a);
