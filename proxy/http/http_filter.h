/* HTTP filters: the seam between the connection manager and what looks at, changes, delays or
 * answers a request on its way to the router, and its response on the way back. The same seam
 * serves upstream filters, which stand between the router and one try's connection.
 *
 * A configuration is compiled on main and immutable. Of each filter a stream gets one
 * struct http_filter, in its arena, on its worker. Requests pass the filters in the order of the
 * list, responses in the reverse one. A filter that has no callback for something never sees it,
 * and what it does not look at is not copied for it (http_chain.h is the driver).
 *
 * Callbacks may call any http_filter_ function, http_filter_reply included; after one that ended
 * the stream they return FILTER_PAUSE and touch nothing. Nothing is called after on_complete. */
#pragma once

#include "base/buffer.h"
#include "base/errors.h"
#include "proxy/http/headers.h"

struct arena;
struct compile_env;
struct http_chain;
struct http_filter;
struct json;
struct stream;

enum filter_status {
    FILTER_CONTINUE, /* give it to the next one */
    FILTER_PAUSE, /* keep it here, and what follows it, until http_filter_continue_*; the source is
                     paused when more than the buffer limit is kept */
    FILTER_COLLECT,  /* keep it here, but go on calling this filter with the body that follows, so
                        that it sees all before the head goes on. More than the limit is answered
                        with 413 (a request's) or 500 (a response's) */
    FILTER_CONSUMED, /* on_*_data and on_*_trailers only: they end here; the filter has given bytes
                        and end on itself, or will (http_filter_inject_*) */
};

/* What a filter may refer to while it is compiled. */
struct http_filter_env {
    const struct compile_env *compile; /* proxy/network/network_filter.h; never NULL */
    struct arena *arena;               /* lives as long as the configuration */
    struct str stat_prefix; /* "http.<stat_prefix>." without the final dot; empty per route
                               and upstream */
    bool upstream;
};

struct http_filter_ops {
    const char *name; /* "envoy.filters.http.cors": found by it where no config says the type */
    const char *type_name; /* full name of its configuration message */
    /* Of the message in typed_per_filter_config; NULL: the filter has none (then it is refused). */
    const char *route_type_name;
    bool terminal; /* the router: compiled by the connection manager itself */
    bool upstream; /* may stand in a cluster's or router's upstream list */
    /* compile makes the immutable configuration from the unpacked message, in env->arena or of its
     * own; after errors NULL, or what `free` gives back. `msg` is dropped afterwards: what is kept
     * of it is copied. It is NULL where the configuration names the filter only. Main. */
    void *(*compile)(const struct http_filter_env *env, const void *msg, struct errors *e);
    /* compile_route the same for a per-route message. Main. */
    void *(*compile_route)(const struct http_filter_env *env, const void *msg, struct errors *e);
    /* free and free_route give back what is not in the arena. May be NULL. Main; free_route any
     * thread (the last user of a route table may be a worker). */
    void (*free)(void *config);
    void (*free_route)(void *config);
    /* init: a stream begins; sets f->state if it needs one. May be NULL. */
    void (*init)(struct http_filter *f);
    /* The request's way. `end`: nothing follows. Body callbacks may change `b` in place. */
    enum filter_status (*on_request_headers)(struct http_filter *f, struct headers *h, bool end);
    enum filter_status (*on_request_data)(struct http_filter *f, struct buffer *b, bool end);
    enum filter_status (*on_request_trailers)(struct http_filter *f, struct headers *h);
    /* The response's way, also of responses that we make ourselves. */
    enum filter_status (*on_response_headers)(struct http_filter *f, struct headers *h, bool end);
    enum filter_status (*on_response_data)(struct http_filter *f, struct buffer *b, bool end);
    enum filter_status (*on_response_trailers)(struct http_filter *f, struct headers *h);
    /* What stands behind the filter takes bytes again, after http_filter_*_blocked said that it did
     * not. May run inside of anything: it may only post a task. May be NULL. */
    void (*on_request_writable)(struct http_filter *f);
    void (*on_response_writable)(struct http_filter *f);
    /* on_complete: the stream is over, once, before its access log is written; timers and what is
     * not in the arena are given back. May be NULL; must not call the chain. */
    void (*on_complete)(struct http_filter *f);
};

/* One entry of a configured list, compiled. */
struct http_filter_config {
    const struct http_filter_ops *ops;
    struct str name; /* as configured: typed_per_filter_config refers to it */
    void *config;
    bool disabled; /* unless a route enables it */
};

/* http_filter_config_now is the configuration that a stream which begins now gets, and keeps: the
 * one place where discovered configuration would be swapped in (config_discovery is refused so
 * far). */
static inline const void *http_filter_config_now(const struct http_filter_config *c)
{
    return c->config;
}

/* A filter in one stream. */
struct http_filter {
    const struct http_filter_ops *ops;
    const void *config; /* its own, from compile */
    struct str name;
    struct http_chain *chain;
    struct stream *stream;
    void *state; /* the filter's own */
    uint32_t index;
};

/* --- what a filter asks -----------------------------------------------------------------------
 * Worker. */

/* http_filter_continue_request and _response let go what the filter has paused or collected. Not
 * from within a callback of the same direction of this filter: return FILTER_CONTINUE there. */
void http_filter_continue_request(struct http_filter *f);
void http_filter_continue_response(struct http_filter *f);

/* http_filter_reply answers the request from here; the response passes all filters. When a response
 * has begun already the exchange is reset instead. `details` and `body` live as long as the stream.
 * `add` (may be NULL) completes the head. */
void http_filter_reply(struct http_filter *f, unsigned status, uint64_t flags, struct str details,
                       struct str body, void (*add)(void *arg, struct headers *h), void *arg);

/* http_filter_inject_request and _response give bytes (all of b is taken) to the next filter as if
 * they had come through this one; `end` ends the message, after the trailers that were added before
 * (http_filter_add_*_trailers), if any. The head must have passed. */
void http_filter_inject_request(struct http_filter *f, struct buffer *b, bool end);
void http_filter_inject_response(struct http_filter *f, struct buffer *b, bool end);

/* http_filter_request_blocked and _response_blocked: what stands behind has its buffer full. Who
 * makes bytes (decompressing, say) waits for on_*_writable, and pauses the source meanwhile. */
bool http_filter_request_blocked(const struct http_filter *f);
bool http_filter_response_blocked(const struct http_filter *f);

/* http_filter_add_request_trailers and _response_trailers return trailers that follow the body that
 * is being passed; to be called from on_*_data with `end`, which is then not the end any more, or
 * before the http_filter_inject_* that ends. */
struct headers *http_filter_add_request_trailers(struct http_filter *f);
struct headers *http_filter_add_response_trailers(struct http_filter *f);

/* http_filter_request and _response: the heads; response NULL before there is one. */
struct headers *http_filter_request(const struct http_filter *f);
struct headers *http_filter_response(const struct http_filter *f);

/* http_filter_request_limit and _response_limit set how much FILTER_COLLECT keeps; by default the
 * connection's buffer limit. */
void http_filter_set_request_limit(struct http_filter *f, size_t bytes);
void http_filter_set_response_limit(struct http_filter *f, size_t bytes);

/* http_filter_pause_request_source stops reading the request from the client, counted;
 * http_filter_resume_request_source takes one back. The _response_ ones do so for the upstream. */
void http_filter_pause_request_source(struct http_filter *f);
void http_filter_resume_request_source(struct http_filter *f);
void http_filter_pause_response_source(struct http_filter *f);
void http_filter_resume_response_source(struct http_filter *f);

/* http_filter_clear_route chooses the route once more, by the head as it is now. Only on the
 * request's way and before the router; upstream filters cannot. */
void http_filter_clear_route(struct http_filter *f);

/* http_filter_route_config is the most specific typed_per_filter_config of this filter (weighted
 * cluster, route, virtual host, route table), as compile_route made it; NULL: none.
 * http_filter_route_configs gives all of them, the least specific first; returns how many. */
enum { HTTP_FILTER_LEVELS = 4 };
const void *http_filter_route_config(const struct http_filter *f);
size_t http_filter_route_configs(const struct http_filter *f, const void *out[HTTP_FILTER_LEVELS]);

/* --- finding ---------------------------------------------------------------------------------- */

/* http_filter_find looks a filter up by the full name of its configuration message, or, where the
 * type is empty, by its own name; http_filter_find_route by that of its per-route message. NULL:
 * unknown. (proxy/extensions.c) */
const struct http_filter_ops *http_filter_find(struct str type_name, struct str name);
const struct http_filter_ops *http_filter_find_route(struct str type_name);

/* --- lists ------------------------------------------------------------------------------------ */

struct http_filter_list {
    struct http_filter_config *v;
    size_t n;
    bool terminated; /* a terminal filter was the last entry; it is not in v */
    void *terminal;  /* what its compile returned */
    const struct http_filter_ops *terminal_ops;
};

/* http_filter_list_compile compiles a list of HttpFilter messages into env->arena; the path of the
 * list's owner has been pushed, `field` is the list's name. What is unknown is refused by name, or
 * left out with a warning if it is optional. Main. */
void http_filter_list_compile(const struct http_filter_env *env, void *const *filters, size_t num,
                              const char *field, struct http_filter_list *out, struct errors *e);

/* http_filter_list_free gives back what the filters hold beside the arena. Main. */
void http_filter_list_free(struct http_filter_list *l);

/* --- typed_per_filter_config ------------------------------------------------------------------ */

struct http_filter_override {
    struct str name; /* of the filter as configured in the chain */
    const struct http_filter_ops *ops;
    void *config; /* NULL: only `disabled` is said */
    bool has_disabled, disabled;
};

/* The overrides of one level: table, virtual host, route, weighted cluster. */
struct http_filter_overrides {
    struct http_filter_override *v;
    size_t n;
};

/* http_filter_overrides_compile compiles the entries of a typed_per_filter_config map (pointers to
 * its protobuf entries, each with `key` and `value`), envoy.config.route.v3.FilterConfig resolved.
 * The path of the map's field has been pushed. NULL for an empty map. Main. */
struct http_filter_overrides *http_filter_overrides_compile(const struct http_filter_env *env,
                                                            void *const *entries, size_t num,
                                                            struct errors *e);

/* http_filter_overrides_free gives back what the filters hold; NULL is fine. Any thread. */
void http_filter_overrides_free(struct http_filter_overrides *o);

/* http_filter_overrides_find returns the entry of a name, or NULL (o may be NULL). */
const struct http_filter_override *http_filter_overrides_find(const struct http_filter_overrides *o,
                                                              struct str name);
