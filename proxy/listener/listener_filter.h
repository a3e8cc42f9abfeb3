/* The seam of listener filters: what looks at an accepted connection before its filter chain is
 * chosen. A listener has a list of them, run in its order by proxy/listener/peek.c; each may be
 * disabled for some connections by a predicate. */
#pragma once

#include "api-protos/message.h"
#include "proxy/network/network_filter.h"

struct addr;
struct downstream;
struct Envoy__Config__Listener__V3__ListenerFilter;

enum listener_filter_result {
    LISTENER_FILTER_NEXT,  /* it is done: the next filter, at the end the chain match */
    LISTENER_FILTER_MORE,  /* it must see more bytes */
    LISTENER_FILTER_CLOSE, /* the connection ends */
};

struct listener_filter_look {
    struct str bytes; /* peeked so far; views for the call */
    size_t need;      /* out, MORE: how many there must be for the next look; 0: one more */
    size_t take;      /* out, NEXT: how many are the filter's and are taken off the socket */
};

struct listener_filter_ops {
    const char *name;      /* "envoy.filters.listener.tls_inspector" */
    const char *type_name; /* of the configuration message */
    /* compile makes the immutable configuration in the arena; msg NULL: named without one. NULL
     * after errors. Main. */
    void *(*compile)(const struct compile_env *env, struct arena *a, const void *msg,
                     struct errors *e);
    /* release gives back what the configuration holds besides memory. Main. May be NULL. */
    void (*release)(void *config);
    /* look is called once (first 0), or with at least one byte until it is done. Fills what it
     * learns into d. Worker. */
    enum listener_filter_result (*look)(void *config, struct downstream *d,
                                        struct listener_filter_look *l);
    /* first says how many bytes to ask the socket for at first; NULL: it looks at no bytes. */
    size_t (*first)(const void *config);
};

struct listener_filter {
    const struct listener_filter_ops *ops; /* NULL after errors */
    void *config;
    struct filter_predicate *disabled; /* NULL: never */
};

/* listener_filter_compile compiles one entry of Listener.listener_filters. Main. */
void listener_filter_compile(struct listener_filter *f, const struct compile_env *env,
                             struct arena *a,
                             const struct Envoy__Config__Listener__V3__ListenerFilter *m,
                             struct errors *e);

/* listener_filter_original_dst makes the one that use_original_dst stands for. Main. */
void listener_filter_original_dst(struct listener_filter *f, const struct compile_env *env,
                                  struct arena *a);

/* listener_filter_release gives back what its configuration holds. Main. */
void listener_filter_release(struct listener_filter *f);

/* listener_filter_disabled says whether it is to be left out for a connection to that address, as
 * known by now. Any thread. */
bool listener_filter_disabled(const struct listener_filter *f, const struct addr *local);

extern const struct listener_filter_ops original_dst_filter, original_src_filter,
    tls_inspector_filter, http_inspector_filter, proxy_protocol_filter;
