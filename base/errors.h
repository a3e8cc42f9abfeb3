/* Errors with field paths, all collected: the text of a NACK, a refused bootstrap and
 * `--mode validate`. A scope stack holds the path of the field being looked at. One user at a
 * time. */
#pragma once

#include "base/arena.h"
#include <stdbool.h>

struct error_item {
    struct error_item *next;
    struct str path; /* "filter_chains[0].filters[1].typed_config.stat_prefix" */
    struct str text;
};

struct errors {
    struct arena arena;
    struct error_item *first, **tail;
    struct error_item *warn_first, **warn_tail; /* accepted, not honoured: said once, counted */
    size_t num_errors, num_warnings;
    char *path; /* current scope, grows */
    size_t path_len, path_cap;
};

enum { ERRORS_MAX = 100 }; /* items kept; more are counted in num_errors only */

/* errors_init and errors_cleanup: an empty collector at the root path. */
void errors_init(struct errors *e);
void errors_cleanup(struct errors *e);

/* errors_push enters a field, "name" or (errors_push_index) "[3]" or (errors_push_key) "[key]" of
 * the current one and returns a mark for errors_pop, which leaves it again. */
size_t errors_push(struct errors *e, const char *field);
size_t errors_push_index(struct errors *e, const char *field, size_t index);
size_t errors_push_key(struct errors *e, const char *field, struct str key);
void errors_pop(struct errors *e, size_t mark);

/* errors_add records an error at the current path, or at `field` below it (NULL: the path). */
void errors_add(struct errors *e, const char *field, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* errors_warn records that a field was accepted and is not honoured. */
void errors_warn(struct errors *e, const char *field, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* errors_ok says whether no error was recorded. */
static inline bool errors_ok(const struct errors *e)
{
    return e->num_errors == 0;
}

/* errors_text joins all errors as "path: text; path: text" in an arena. */
struct str errors_text(const struct errors *e, struct arena *a);
