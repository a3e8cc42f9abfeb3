/* The inside of a route table, shared by the files of router/route_*.c. Immutable once compiled. */
#pragma once

#include "proxy/router/headers_mutation.h"
#include "proxy/router/matchers.h"
#include "proxy/router/route.h"
#include "proxy/router/trie.h"
#include "proxy/router/uri_template.h"
#include "proxy/router/value_match.h"
#include "proxy/router/vhost_index.h"

struct match_tree;

enum path_match {
    PATH_PREFIX,
    PATH_EXACT,
    PATH_REGEX,
    PATH_SEPARATED_PREFIX,
    PATH_TEMPLATE,
    PATH_CONNECT, /* CONNECT requests, whatever their path */
};

struct query_match {
    struct str name;
    bool has_string;
    struct string_match string;
    bool present;
};

struct cookie_match { /* the first cookie of the name, and its value */
    struct str name;
    struct string_match string;
    bool invert; /* also if there is none */
};

struct rewrite {       /* of a path */
    struct str prefix; /* replaces what matched; p NULL: none */
    const struct regex *regex;
    struct str substitution;
    struct uri_rewrite *template;
    struct format *format; /* path_rewrite: the whole path */
};

struct redirect {
    bool https;
    struct str scheme, host; /* empty: as it was */
    uint32_t port;           /* 0: as it was */
    struct str path;         /* replaces path and query; empty: none */
    struct rewrite rewrite;
    bool strip_query;
    unsigned status;
};

enum tls_condition { TLS_ANY, TLS_NO, TLS_YES };

enum host_rewrite { HOST_KEEP, HOST_LITERAL, HOST_HEADER, HOST_PATH_REGEX, HOST_AUTO, HOST_FORMAT };

/* A route with its conditions; `route` first, so that one is the other. */
struct route_entry {
    struct route route;
    enum path_match kind;
    struct str path; /* lower case if not case_sensitive */
    bool ignore_case;
    bool conditional; /* more than the path decides */
    const struct regex *regex;
    struct uri_template *template;
    struct header_match *headers;
    size_t num_headers;
    struct query_match *query;
    size_t num_query;
    struct cookie_match *cookies;
    size_t num_cookies;
    uint32_t fraction_ppm; /* runtime_fraction's default value; 1,000,000: all */
    bool grpc_only;
    enum tls_condition presented, validated; /* tls_context */
    struct metadata_match *metadata;
    size_t num_metadata;
    struct filter_state_match *filter_state;
    size_t num_filter_state;
    struct rewrite rewrite;
    enum host_rewrite host_kind;
    struct str host_rewrite; /* the literal, the header's name, or the substitution */
    const struct regex *host_regex;
    struct format *host_format;
    bool append_x_forwarded_host;
};

/* Routes in order, the first that fits wins, with an index that leaves out what the path rules out.
 */
struct route_list {
    struct route_entry *v;
    size_t n;
    struct trie paths, folded; /* -> struct route_bucket; folded: of routes that ignore case */
    bool has_folded;
    uint32_t *rest; /* routes whose paths are no prefix, ascending */
    size_t num_rest;
};

struct lists_item { /* the lists that a matcher leads to */
    struct lists_item *next;
    struct route_list *list;
};

struct vhost {
    struct str name;
    struct route_list routes;
    struct match_tree *matcher; /* -> struct route_list, instead of routes; NULL: none */
    struct lists_item *lists;
    enum { TLS_NOT_REQUIRED, TLS_EXTERNAL, TLS_ALL } require_tls;
    bool attempt_count, attempt_count_response; /* for its routes */
    struct route_policies policies;             /* for those that have none of their own */
    const struct metadata *metadata;            /* NULL: none */
    struct headers_mutation *request, *response;
    struct http_filter_overrides *filters; /* typed_per_filter_config; NULL: none */
    struct route tls_redirect;             /* what require_tls answers with */
    struct redirect to_https;
};

/* What a table must give back beside its arena. */
struct overrides_item {
    struct overrides_item *next;
    struct http_filter_overrides *overrides;
};

struct route_inside { /* struct route_table's private part */
    struct vhost_index vhosts;
    struct regex_list regexes;
    struct overrides_item *overrides;
};

/* What compiling one table needs everywhere. */
struct route_compiler {
    struct route_table *table;
    struct arena *a;
    struct regex_list *regexes;
    struct errors *e;
    size_t max_body;                          /* max_direct_response_body_size_bytes */
    const struct route_compile_options *opts; /* never NULL */
    const void *const *plugins;               /* cluster_specifier_plugins of the table */
    size_t num_plugins;
};

/* route_overrides_compile compiles a level's typed_per_filter_config; the table frees it. NULL for
 * an empty map. */
struct http_filter_overrides *route_overrides_compile(struct route_compiler *c,
                                                      void *const *entries, size_t num);

/* route_entry_compile compiles one Route message into `r`. */
void route_entry_compile(struct route_compiler *c, struct route_entry *r, const void *route_msg,
                         struct vhost *vhost);

/* route_metadata_compile compiles a core.v3.Metadata; NULL: there is none. */
const struct metadata *route_metadata_compile(struct arena *a, const void *metadata);

/* route_conditions_compile compiles a RouteMatch (NULL: an error). */
void route_conditions_compile(struct route_compiler *c, struct route_entry *r, const void *match);

/* route_action_compile compiles a RouteAction, without what retry_config.c reads of it. */
void route_action_compile(struct route_compiler *c, struct route_entry *r, const void *action);

/* route_redirect_compile compiles a RedirectAction; route_direct_compile a DirectResponseAction. */
void route_redirect_compile(struct route_compiler *c, struct route_entry *r, const void *redirect);
void route_direct_compile(struct route_compiler *c, struct route *r, const void *direct);

/* route_regex_rewrite_compile compiles a RegexMatchAndSubstitute below `field`. */
void route_regex_rewrite_compile(struct route_compiler *c, const void *msg, const char *field,
                                 const struct regex **out_regex, struct str *out_substitution);

/* route_path_len is the length of a target without query and fragment. */
size_t route_path_len(struct str target);

/* route_rewrite_path makes the new target; p NULL: it stays. */
struct str route_rewrite_path(const struct route_entry *en, const struct rewrite *w,
                              struct str target, const struct stream_info *si, struct arena *a);

/* route_list_compile compiles Route messages (below the field "routes") and indexes them. */
void route_list_compile(struct route_compiler *c, struct route_list *l, void *const *routes,
                        size_t n, struct vhost *v);

/* route_list_index fills in the index of compiled routes. */
void route_list_index(struct route_list *l, struct arena *a);

/* A request being matched. */
struct route_matching {
    const struct route_match_input *in;
    struct str path; /* without query, fragment, and path parameters if the table says so */
    struct arena *scratch;
    size_t examined; /* routes whose conditions were looked at */
};

/* route_list_find returns the first route that fits, or NULL. */
const struct route *route_list_find(const struct route_list *l, struct route_matching *m);

/* route_conditions_fit says whether a request fits all of a route's conditions. */
bool route_conditions_fit(const struct route_entry *r, const struct route_matching *m);

/* route_cookie_value finds the value of the first cookie of that name. */
bool route_cookie_value(const struct headers *h, struct str name, struct str *out);

/* route_query_value finds the first parameter of that name in a target. */
bool route_query_value(struct str target, struct str name, struct str *out);
