/* Matchers of the xDS matching API (xds.type.matcher.v3.Matcher) over a request: lists of
 * predicates, and maps by the whole of a value or by its longest prefix. Compiled on main,
 * immutable. */
#pragma once

#include "proxy/router/matchers.h"

struct match_tree;

/* What an action means is its user's affair. Compiles the unpacked message `action`; NULL after
 * errors at the current path. */
typedef void *(*match_action_compile)(void *arg, struct str type_name, const void *action);

/* match_tree_compile compiles a Matcher message at the current path; NULL after errors. The
 * input is a request header, as in Envoy; others are refused by their path. */
struct match_tree *match_tree_compile(struct regex_list *l, struct arena *a, const void *msg,
                                      match_action_compile compile, void *arg, struct errors *e);

/* match_tree_find returns the action of a request, or NULL. A matcher inside another one that finds
 * none counts as no match. `scratch` is for the texts looked at. */
const void *match_tree_find(const struct match_tree *t, const struct headers *h,
                            struct arena *scratch);
