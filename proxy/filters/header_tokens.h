/* Comma-separated lists in header values, as Envoy reads them (without quoting). Any thread. */
#pragma once

#include "base/str.h"

/* header_has_token says whether one of the comma-separated words of `list` is `token`; `fold`:
 * without regard to case. */
bool header_has_token(struct str list, struct str token, bool fold);

/* header_cut returns what stands before the first `sep`, trimmed, and in *rest (may be NULL) what
 * follows it; without a separator all of s, and *rest has no p. */
struct str header_cut(struct str s, char sep, struct str *rest);
