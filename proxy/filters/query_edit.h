/* Query edit: changes parameters of a request's path. Names are compared percent-decoded; what is
 * kept keeps its bytes, what is added is encoded, all but letters, digits and "-._", so that
 * nothing can break out of the query. The result is ordered by name, parameters of one name as they
 * came. Everything lives in the arena. Worker. */
#pragma once

#include "base/arena.h"

struct query_param {
    struct str name;       /* decoded */
    struct str raw, value; /* as written: what stands before and after '=' */
    struct query_param *next;
};

struct query_edit {
    struct arena *arena;
    struct str path; /* without the query */
    struct query_param *first;
};

/* query_edit_begin takes a path apart. */
void query_edit_begin(struct query_edit *q, struct arena *a, struct str path);

/* query_edit_has says whether there is a parameter of that name. */
bool query_edit_has(const struct query_edit *q, struct str name);

/* query_edit_remove drops all of a name; query_edit_add adds one behind them. */
void query_edit_remove(struct query_edit *q, struct str name);
void query_edit_add(struct query_edit *q, struct str name, struct str value);

/* query_edit_end returns the path with its new query. */
struct str query_edit_end(const struct query_edit *q);
