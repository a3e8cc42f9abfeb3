/* The inside of a route table, shared by the files of router/route_*.c. Immutable once compiled. */
#pragma once

#include "base/map.h"
#include "proxy/http/http_filter.h"
#include "proxy/router/matchers.h"
#include "proxy/router/route.h"

enum add_action { ADD_APPEND, ADD_IF_ABSENT, ADD_OVERWRITE, ADD_OVERWRITE_IF_EXISTS };

struct header_add {
    struct str name; /* lower case */
    struct format *value;
    enum add_action action;
    bool keep_empty;
};

struct headers_mutation {
    struct header_add *add;
    size_t num_add;
    struct str *remove; /* lower case */
    size_t num_remove;
};

enum path_match { PATH_PREFIX, PATH_EXACT, PATH_REGEX, PATH_SEPARATED_PREFIX };

struct query_match {
    struct str name;
    bool has_string;
    struct string_match string;
    bool present;
};

struct rewrite {       /* of a path */
    struct str prefix; /* replaces what matched; p NULL: none */
    const struct regex *regex;
    struct str substitution;
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

/* A route with its conditions; `route` first, so that one is the other. */
struct route_entry {
    struct route route;
    enum path_match kind;
    struct str path; /* lower case if not case_sensitive */
    bool ignore_case;
    const struct regex *regex;
    struct header_match *headers;
    size_t num_headers;
    struct query_match *query;
    size_t num_query;
    uint32_t fraction_ppm; /* runtime_fraction's default value; 1,000,000: all */
    bool grpc_only;
    struct rewrite rewrite;
    struct str host_rewrite; /* empty: none */
    bool auto_host_rewrite;
};

struct vhost {
    struct str name;
    struct route_entry *routes;
    size_t num_routes;
    bool require_tls; /* all; EXTERNAL_ONLY is refused */
    struct headers_mutation *request, *response;
    struct http_filter_overrides *filters;
    const struct http_filter_env *env; /* while it is compiled */
    struct route tls_redirect;         /* what require_tls answers with */
    struct redirect to_https;
};

struct vhost_index {
    struct vhost **vhosts; /* all, as configured */
    size_t num_vhosts;
    struct map exact;                  /* domain -> struct vhost */
    struct map suffixes;               /* "*.a.com" as ".a.com" */
    struct map prefixes;               /* "a.*" as "a." */
    size_t *suffix_lens, *prefix_lens; /* distinct, longest first */
    size_t num_suffix_lens, num_prefix_lens;
    struct vhost *any; /* "*" */
    struct regex_list regexes;
};

/* headers_mutation_compile compiles the add and remove lists of one level (HeaderValueOption
 * messages). `adds` and `removes` name the fields for errors. NULL when both are empty. */
struct headers_mutation *headers_mutation_compile(struct arena *a, void *const *add, size_t num_add,
                                                  char *const *remove, size_t num_remove,
                                                  const char *adds, const char *removes,
                                                  struct errors *e);

/* route_entry_compile compiles one Route message into `r`. */
void route_entry_compile(struct route_entry *r, struct regex_list *l, struct arena *a,
                         const void *route_msg, struct vhost *vhost, size_t max_body,
                         struct errors *e);

/* route_overrides_compile compiles a typed_per_filter_config map. */
struct http_filter_overrides *route_overrides_compile(const struct http_filter_env *env,
                                                      void *const *entries, size_t num,
                                                      struct errors *e);
