/* Filter chain match: Envoy's order of criteria, the most specific at every level, no way back
 * (FilterChainMatch in listener_components.proto). A tree with a level a criterion: the cost of a
 * search does not depend on the number of chains. Compiled on main, immutable; searched by workers.
 */
#pragma once

#include "base/addr.h"
#include "base/arena.h"
#include "base/errors.h"

struct chain_match;

struct chain_match_input {
    const struct addr *local;         /* destination */
    const struct addr *remote;        /* source, as a PROXY header may have said */
    const struct addr *direct_remote; /* source of the socket */
    struct str sni;                   /* lower case */
    struct str transport_protocol;    /* "tls" or "raw_buffer" */
    const struct str *alpn;
    size_t num_alpn;
};

/* chain_match_compile compiles the filter_chain_match messages (NULL: matches all) of n chains; two
 * chains that some connection would fit equally well are an error, a value that a chain names twice
 * too. In the arena, with parts on the heap. */
struct chain_match *chain_match_compile(struct arena *a, const void *const *msgs, size_t n,
                                        struct errors *e);

/* chain_match_release gives back what is not in the arena. NULL is fine. */
void chain_match_release(struct chain_match *m);

/* chain_match_find returns the index of the chain for a connection, or -1: none. Any thread. */
int chain_match_find(const struct chain_match *m, const struct chain_match_input *in);
