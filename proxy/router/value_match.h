/* Matchers of what filters left: dynamic metadata (envoy.type.matcher.v3.MetadataMatcher with its
 * ValueMatcher) and filter state (FilterStateMatcher), compiled. Immutable; any thread. */
#pragma once

#include "base/addr.h"
#include "proxy/observe/metadata.h"
#include "proxy/router/matchers.h"

enum value_match_kind {
    VALUE_NULL,
    VALUE_DOUBLE,
    VALUE_STRING,
    VALUE_BOOL,
    VALUE_PRESENT,
    VALUE_LIST, /* one element of the list fits */
    VALUE_OR,
};

struct value_match {
    enum value_match_kind kind;
    double from, to; /* [from, to), or from == to: exactly that */
    bool exact;
    bool flag; /* of VALUE_BOOL and VALUE_PRESENT */
    struct string_match string;
    struct value_match *inner; /* of VALUE_LIST (one) and VALUE_OR */
    size_t num_inner;
};

struct metadata_match {
    struct str filter;
    struct str *path;
    size_t num_path;
    struct value_match value;
    bool invert;
};

/* metadata_matches_compile compiles n MetadataMatcher messages below `field`. */
struct metadata_match *metadata_matches_compile(struct regex_list *l, struct arena *a,
                                                void *const *msgs, size_t n, const char *field,
                                                struct errors *e);

/* metadata_match says whether metadata (NULL: there is none) fits. */
bool metadata_match(const struct metadata_match *m, const struct metadata *md);

struct filter_state_match {
    struct str key;
    bool is_address;
    struct string_match string;
    struct cidr *ranges;
    size_t num_ranges;
};

/* filter_state_matches_compile compiles n FilterStateMatcher messages below `field`. */
struct filter_state_match *filter_state_matches_compile(struct regex_list *l, struct arena *a,
                                                        void *const *msgs, size_t n,
                                                        const char *field, struct errors *e);

/* filter_state_match says whether the state (NULL: there is none) has the key and its text fits. */
bool filter_state_match(const struct filter_state_match *m, const struct filter_state *fs);
