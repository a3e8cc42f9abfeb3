/* What the compressor filter decides by: content types, and accept-encoding with its weights (RFC
 * 9110 section 12.5.3, as Envoy reads it). Any thread. */
#pragma once

#include "base/arena.h"
#include "base/str.h"

enum { COMPRESSOR_OFFERS = 16 }; /* compressors of one chain; further ones are not offered */

/* The types that are compressed. */
struct compressor_types {
    struct str *v; /* lower case */
    size_t n;
};

/* compressor_types_compile makes them of what is configured, or Envoy's defaults where that is
 * nothing. Main. */
void compressor_types_compile(struct compressor_types *t, char *const *configured, size_t num,
                              struct arena *a);

/* compressor_type_allowed looks a content-type up, parameters left aside. */
bool compressor_type_allowed(const struct compressor_types *t, struct str content_type);

struct compressor_offer {
    struct str encoding;
    bool choose_first; /* wins among equal weights */
};

enum compressor_verdict {
    COMPRESSOR_CHOSEN,
    COMPRESSOR_OVERSHADOWED, /* never returned: chosen, said of another compressor */
    COMPRESSOR_IDENTITY,     /* the client would rather have it as it is */
    COMPRESSOR_WILDCARD,     /* the first offer, by "*" */
    COMPRESSOR_NOT_VALID,    /* nothing that is offered is accepted */
};

struct compressor_decision {
    enum compressor_verdict verdict;
    struct str encoding; /* of an offer, or "identity" */
};

/* compressor_choose chooses among offers in the chain's order; the first of an encoding counts. */
struct compressor_decision compressor_choose(struct str accept,
                                             const struct compressor_offer *offers, size_t num);
