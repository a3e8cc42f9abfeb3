/* Regular expressions of RE2's syntax (linear time, no back-references), behind C. An expression is
 * immutable once made and may be used by any thread. The only user of RE2. */
#pragma once

#include "base/arena.h"

struct regex;

enum {
    REGEX_BYTES = 1, /* match raw bytes; without it UTF-8, as Envoy does: '.' is then a whole
                      * character and never an invalid byte */
    REGEX_IGNORE_CASE = 2,
    REGEX_MAX_GROUPS = 10, /* the whole match and \1 to \9 */
};

/* regex_new compiles `pattern`. max_program_size bounds RE2's program (0: no bound but RE2's own
 * memory limit). On failure returns NULL and *err says why, in the arena. Owned by the caller. */
struct regex *regex_new(struct str pattern, unsigned flags, uint32_t max_program_size,
                        struct arena *a, struct str *err);

/* regex_free frees it; *r becomes NULL. */
void regex_free(struct regex **r);

/* regex_pattern views the pattern it was made from. */
struct str regex_pattern(const struct regex *r);

/* regex_program_size is what max_program_size bounds. */
uint32_t regex_program_size(const struct regex *r);

/* regex_num_groups is the number of capturing groups, the whole match not counted. */
unsigned regex_num_groups(const struct regex *r);

/* regex_full says whether all of s matches. */
bool regex_full(const struct regex *r, struct str s);

/* regex_search finds the leftmost match in s. groups[0] is the match and groups[i] group i, views
 * into s; a group that took no part has p NULL. num <= REGEX_MAX_GROUPS, may be 0. */
bool regex_search(const struct regex *r, struct str s, struct str *groups, size_t num);

/* regex_check_rewrite says whether `rewrite` (\0 to \9, \\) asks only for groups there are; else
 * *err says why, in the arena. */
bool regex_check_rewrite(const struct regex *r, struct str rewrite, struct arena *a,
                         struct str *err);

/* regex_replace_all replaces every match that does not overlap the one before; the result is in the
 * arena, or is s itself when nothing matched. `rewrite` must have passed regex_check_rewrite. */
struct str regex_replace_all(const struct regex *r, struct str s, struct str rewrite,
                             struct arena *a);
