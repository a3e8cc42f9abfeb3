/* Lists of header changes (HeaderValueOption messages and names to remove) of a route's levels, of
 * local replies and of what is changed before routing. Compiled on main, immutable; applied by any
 * worker. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "proxy/http/headers.h"
#include "proxy/observe/format.h"

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

/* headers_mutation_compile compiles the add and remove lists of one level (HeaderValueOption
 * messages). `adds` and `removes` name the fields for errors. NULL when both are empty. */
struct headers_mutation *headers_mutation_compile(struct arena *a, void *const *add, size_t num_add,
                                                  char *const *remove, size_t num_remove,
                                                  const char *adds, const char *removes,
                                                  struct errors *e);

/* headers_mutation_add and headers_mutation_remove make one of a single change: a
 * HeaderValueOption, a name to remove. `field` names it for errors. */
struct headers_mutation *headers_mutation_add(struct arena *a, const void *option,
                                              const char *field, struct errors *e);
struct headers_mutation *headers_mutation_remove(struct arena *a, const char *name,
                                                 const char *field, struct errors *e);

/* headers_mutation_apply changes a head; NULL changes nothing. New values go to its arena. */
void headers_mutation_apply(const struct headers_mutation *m, struct headers *h,
                            const struct stream_info *si);

/* REQUEST_MUTATION and RESPONSE_MUTATION compile the lists of a message that has them. */
#define REQUEST_MUTATION(a, m, e)                                                                  \
    headers_mutation_compile((a), (void *const *)(m)->request_headers_to_add,                      \
                             (m)->n_request_headers_to_add, (m)->request_headers_to_remove,        \
                             (m)->n_request_headers_to_remove, "request_headers_to_add",           \
                             "request_headers_to_remove", (e))
#define RESPONSE_MUTATION(a, m, e)                                                                 \
    headers_mutation_compile((a), (void *const *)(m)->response_headers_to_add,                     \
                             (m)->n_response_headers_to_add, (m)->response_headers_to_remove,      \
                             (m)->n_response_headers_to_remove, "response_headers_to_add",         \
                             "response_headers_to_remove", (e))
