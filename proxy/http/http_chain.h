/* HTTP chain: drives one exchange through its filters, the request in the order of the list and the
 * response in the reverse one, and holds for each filter what that filter wants to be held. The
 * same driver serves a stream's filters and the upstream filters of one try; what stands at its two
 * ends is told by struct http_chain_ends. Lives in the exchange's arena. Worker. */
#pragma once

#include "proxy/http/http_filter.h"

enum http_way { HTTP_REQUEST, HTTP_RESPONSE };

/* Where messages leave the chain, and what the filters may ask for. One table a kind of user. */
struct http_chain_ends {
    void (*headers[2])(void *user, struct headers *h, bool end);
    void (*data[2])(void *user, struct buffer *b, bool end);
    void (*trailers[2])(void *user, struct headers *h);
    /* Reading of a direction's source stops, counted, and goes on. */
    void (*pause[2])(void *user);
    void (*resume[2])(void *user);
    /* What stands behind the chain has its buffer full; http_chain_writable tells when it has room
     * again. NULL: never. */
    bool (*blocked[2])(void *user);
    /* A filter collects more than the limit. */
    void (*too_large[2])(void *user);
    void (*reply)(void *user, unsigned status, uint64_t flags, struct str details, struct str body,
                  void (*add)(void *arg, struct headers *h), void *arg);
    void (*clear_route)(void *user);
};

enum http_gate_state { GATE_OPEN, GATE_PAUSED, GATE_COLLECTING };

/* One filter in one direction. */
struct http_gate {
    struct buffer held;
    struct headers *headers, *trailers; /* held; or NULL */
    struct headers *added;              /* trailers that the filter adds while it is called */
    size_t limit;
    uint8_t state; /* enum http_gate_state */
    bool end;      /* the end is held, after `held` */
    bool source_paused;
};

struct http_chain {
    struct http_filter *filters;
    struct http_gate *gates[2];
    int num;
    bool stopped[2]; /* nothing more passes */
    const struct http_chain_ends *ends;
    void *user;
    struct headers *heads[2];
};

/* http_chain_init makes the filters of one exchange: those of `configs` for which `wanted(user, c)`
 * says so (NULL: all that are not disabled), calls their init. `limit`: bytes a filter may hold.
 * `c` must be zeroed; without filters every call below goes straight to the end. */
void http_chain_init(struct http_chain *c, const struct http_filter_config *configs, size_t num,
                     bool (*wanted)(void *user, const struct http_filter_config *config),
                     const struct http_chain_ends *ends, void *user, struct stream *s,
                     struct arena *a, size_t limit);

/* http_chain_headers, _data, _trailers give a part of a message to the first filter of its way. */
void http_chain_headers(struct http_chain *c, enum http_way way, struct headers *h, bool end);
void http_chain_data(struct http_chain *c, enum http_way way, struct buffer *b, bool end);
void http_chain_trailers(struct http_chain *c, enum http_way way, struct headers *h);

/* http_chain_writable: what stands behind the chain takes bytes of this way again. Filters only
 * post tasks. */
void http_chain_writable(struct http_chain *c, enum http_way way);

/* http_chain_stop: nothing more of this way passes; what is held is dropped. */
void http_chain_stop(struct http_chain *c, enum http_way way);

/* http_chain_complete ends it: both ways stop, and every filter's on_complete is called, once. Safe
 * on a zeroed one. */
void http_chain_complete(struct http_chain *c);
