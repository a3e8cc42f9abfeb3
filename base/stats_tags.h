/* Tags: how a full name is cut into a metric's name and labels for Prometheus. By default the parts
 * that a scope's owner declared, and the response code at the end of a name. The bootstrap's
 * stats_config can add fixed tags, and patterns that are tried on the full name. Main thread; set
 * at start. */
#pragma once

#include "base/arena.h"
#include "base/stats.h"

struct stats_labels {
    struct str metric; /* the name without its tags: "cluster.upstream_rq" */
    struct str labels; /* a="x",b="y"; may be empty */
};

/* stats_tags_reset forgets all rules: defaults only. */
void stats_tags_reset(void);

/* stats_tags_use_defaults switches the default tags (use_all_default_tags). */
void stats_tags_use_defaults(bool on);

/* stats_tags_add_fixed adds a label to every metric. */
void stats_tags_add_fixed(struct str name, struct str value);

/* stats_tags_add_pattern adds a rule: the first group of the pattern is taken out of the name, the
 * second (else the first) is the label's value. RE2's syntax; the look-ahead (?=\.) that Istio's
 * bootstrap uses is understood as well. False, and *err in the arena, when it cannot be compiled or
 * has no group. */
bool stats_tags_add_pattern(struct str name, struct str pattern, struct arena *a,
                            struct str *err) WARN_UNUSED;

/* stats_tags_by_name says whether there are patterns: then each full name is cut by stats_tags_cut;
 * else a scope's declared parts serve all its stats. */
bool stats_tags_by_name(void);

/* stats_tags_cut applies the patterns, the defaults if they are on, and the fixed tags to the stat
 * `suffix` of s. In the arena. */
struct stats_labels stats_tags_cut(const struct stats_scope *s, struct str suffix, struct arena *a);

/* stats_tags_cut_suffix cuts the default tags of a suffix alone: "upstream_rq_200" into
 * "upstream_rq" and envoy_response_code="200". */
struct stats_labels stats_tags_cut_suffix(struct str suffix, struct arena *a);

/* stats_tags_of_scope gives the labels of the declared parts, deepest first, and the fixed ones. */
struct str stats_tags_of_scope(const struct stats_scope *s, struct arena *a);

/* stats_tags_escape escapes a label's value: backslash, quote, newline. In the arena. */
struct str stats_tags_escape(struct str s, struct arena *a);
