/* Header changes made before anything else looks at a request: compiled
 * early_header_mutation_extensions. Immutable. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "proxy/http/headers.h"
#include "proxy/observe/stream_info.h"

struct early_mutation;
struct pb_opts;

/* early_mutation_compile compiles n TypedExtensionConfig messages into arena a; NULL after errors.
 * early_mutation_cleanup gives back its expressions; NULL is fine. Main. */
struct early_mutation *early_mutation_compile(struct arena *a, void *const *msgs, size_t n,
                                              const struct pb_opts *pb, struct errors *e);
void early_mutation_cleanup(struct early_mutation *m);

/* early_mutation_apply makes the changes one after another, each seeing what the ones before it
 * did. Worker. */
void early_mutation_apply(const struct early_mutation *m, struct headers *h,
                          const struct stream_info *si);
