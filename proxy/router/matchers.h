/* String and header matchers (envoy.type.matcher.v3.StringMatcher,
 * envoy.config.route.v3.HeaderMatcher) compiled. Immutable; any thread. Regular expressions live
 * until matchers_cleanup of the list they were registered in. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "base/regex.h"
#include "proxy/http/headers.h"

struct regex_list { /* owner of compiled expressions */
    struct regex_item {
        struct regex_item *next;
        struct regex *regex;
    } * first;
};

/* regex_list_add compiles a RegexMatcher message; NULL after an error in e at the current path;
 * regex_list_add_text the text of one. */
const struct regex *regex_list_add(struct regex_list *l, struct arena *a, const void *regex_matcher,
                                   struct errors *e);
const struct regex *regex_list_add_text(struct regex_list *l, struct arena *a, struct str pattern,
                                        uint32_t max_program_size, struct errors *e);
void regex_list_free(struct regex_list *l);

/* without_plus takes a plus sign off a number, which Envoy reads too. */
struct str without_plus(struct str number);

/* lower_str copies s in lower case (ASCII), NUL-terminated. */
struct str lower_str(struct arena *a, struct str s);

enum string_match_kind { MATCH_EXACT, MATCH_PREFIX, MATCH_SUFFIX, MATCH_CONTAINS, MATCH_REGEX };

struct string_match {
    enum string_match_kind kind;
    bool ignore_case;
    struct str text; /* lower case with ignore_case */
    const struct regex *regex;
};

/* string_match_compile compiles a StringMatcher message. False after an error in e. */
bool string_match_compile(struct string_match *m, struct regex_list *l, struct arena *a,
                          const void *msg, struct errors *e);

/* string_match_set makes a matcher of a text (not MATCH_REGEX), string_match_set_regex one of an
 * expression (an error in e if it is none); the text is copied. */
void string_match_set(struct string_match *m, struct arena *a, enum string_match_kind kind,
                      struct str text, bool ignore_case);
void string_match_set_regex(struct string_match *m, struct regex_list *l, struct arena *a,
                            struct str pattern, struct errors *e);

/* string_match says whether s fits. */
bool string_match(const struct string_match *m, struct str s);

enum header_match_kind { HEADER_PRESENT, HEADER_STRING, HEADER_RANGE };

struct header_match {
    struct str name; /* lower case */
    enum header_match_kind kind;
    struct string_match string;
    int64_t from, to; /* range, end exclusive */
    bool any_value;   /* a string, whichever */
    bool present, invert, missing_as_empty;
};

/* header_matches_compile compiles n HeaderMatcher messages below `field`; the array is in the
 * arena. */
struct header_match *header_matches_compile(struct regex_list *l, struct arena *a,
                                            void *const *msgs, size_t n, const char *field,
                                            struct errors *e);

/* header_match says whether a head fits; of several fields of a name one that fits is
 * enough, as in Envoy 1.40. `scratch` is for the text of pseudo-headers. */
bool header_match(const struct header_match *m, const struct headers *h, struct arena *scratch);
