/* HeaderMutation messages (envoy.config.common.mutation_rules.v3) compiled: header changes made one
 * after another, each seeing what the ones before it did. Compiled on main, immutable; applied by
 * any worker. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "proxy/http/headers.h"
#include "proxy/observe/stream_info.h"

struct regex_list;
struct header_step;

struct header_steps {
    struct header_step *first, *last; /* NULL: no change */
};

/* header_steps_add compiles n messages below `field` and puts them behind those that are there. */
void header_steps_add(struct header_steps *all, struct regex_list *l, struct arena *a,
                      void *const *msgs, size_t n, const char *field, struct errors *e);

/* header_steps_apply changes a head; new values go to its arena. */
void header_steps_apply(const struct header_steps *all, struct headers *h,
                        const struct stream_info *si);
