/* Matchers of subject alternative names (match_typed_subject_alt_names and the deprecated
 * match_subject_alt_names), compiled. Immutable; matching from any thread. */
#pragma once

#include "base/errors.h"
#include "tls/san.h"
#include "tls/tls_proto.h"

struct regex;

enum san_match_kind { SAN_EXACT, SAN_PREFIX, SAN_SUFFIX, SAN_CONTAINS, SAN_REGEX };

struct san_matcher {
    unsigned types; /* bit set of 1 << enum san_type */
    enum san_match_kind kind;
    bool ignore_case;
    struct str text;     /* in the arena given to compile */
    struct regex *regex; /* SAN_REGEX; owned */
};

/* san_matcher_compile and san_matcher_compile_any compile a typed and an untyped matcher (which
 * looks at names of every type). False with errors below the current path; then there is nothing to
 * clean up. */
bool san_matcher_compile(struct san_matcher *m, const TLS_V3(SubjectAltNameMatcher) * from,
                         struct arena *a, struct errors *e) WARN_UNUSED;
bool san_matcher_compile_any(struct san_matcher *m,
                             const Envoy__Type__Matcher__V3__StringMatcher *from, struct arena *a,
                             struct errors *e) WARN_UNUSED;

/* san_matcher_cleanup frees what it owns. */
void san_matcher_cleanup(struct san_matcher *m);

/* san_matcher_match says whether the name is of its type and matches: bytes with their length,
 * whole for exact and regex; an exact matcher of DNS names lets a wildcard of the certificate stand
 * for one label and ignores case. */
bool san_matcher_match(const struct san_matcher *m, const struct san *san);
