/* One request and its answer at a time on a connection of its own: what the health probes of HTTP
 * and gRPC stand on. Embedded in the probe. Main thread. */
#pragma once

#include "cluster/health_probe.h"
#include "cluster/solo_conn.h"
#include "proxy/http/codec.h"

struct exchange {
    struct health_probe base;
    struct solo solo;
    struct arena arena; /* of the exchange; emptied when the next one begins */
    struct codec_stream *cs;
    struct headers *request; /* in the arena */
    struct str body;         /* of the request; kept by the configuration or in the arena */
    struct headers *response, *trailers;
    struct buffer answer; /* the body's beginning, */
    size_t answer_max;    /* at most so much; the rest is dropped */
    bool answer_cut;      /* something was dropped */
    bool under_way;
    /* The answer is whole, or (reset) there will be none. Ends in health_session_done. */
    void (*done)(struct exchange *x, bool reset);
};

/* exchange_init prepares an embedded exchange whose `done` is set. */
void exchange_init(struct exchange *x, const struct health_probe_ops *ops,
                   const struct pool_protocol *proto, struct health_session *s);

/* exchange_request begins a request head with the fields that every check has; method, path and the
 * rest are the caller's, in the exchange's arena. */
struct headers *exchange_request(struct exchange *x, struct str authority);

/* exchange_send sends it with x->body. */
void exchange_send(struct exchange *x);

/* exchange_finish: the outcome; closes the connection where it is not to be used again. */
void exchange_finish(struct exchange *x, const struct health_result *r);

/* exchange_abandon and exchange_cleanup: as the probe's abandon and free. */
void exchange_abandon(struct exchange *x);
void exchange_cleanup(struct exchange *x);

/* exchange_mutate applies header changes as to a request without a client. */
struct headers_mutation;
void exchange_mutate(struct exchange *x, const struct headers_mutation *m);

/* health_probes are those of HTTP and gRPC, for struct clusters_options. */
extern const struct health_probe_kinds health_probes;
