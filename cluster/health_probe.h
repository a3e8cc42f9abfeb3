/* The seam between the checker, which knows when and what follows, and a probe, which knows how a
 * host is asked. TCP's is in cluster/health_tcp.c; those that speak HTTP are passed in from above
 * (struct clusters_options). One probe a host, with one connection at most at a time. Main
 * thread. */
#pragma once

#include "cluster/health_config.h"
#include "tls/conn.h"

struct health_session;

enum health_failure { HEALTH_ACTIVE, HEALTH_PASSIVE, HEALTH_NETWORK, HEALTH_NETWORK_TIMEOUT };

struct health_result {
    bool ok, degraded;
    enum health_failure failure; /* where not ok */
    bool retriable;  /* counts towards unhealthy_threshold instead of deciding at once */
    unsigned status; /* of the HTTP answer; 0: none */
};

struct health_probe {
    const struct health_probe_ops *ops;
    struct health_session *session;
};

struct health_probe_ops {
    const char *name; /* in event logs */
    /* make makes the probe of a session; nothing is sent yet. */
    struct health_probe *(*make)(struct health_session *s);
    /* check asks once: health_session_done follows from the loop, never inside, unless abandon or
     * free come before. */
    void (*check)(struct health_probe *p);
    /* abandon ends the check under way, whose time is over, and its connection. */
    void (*abandon)(struct health_probe *p);
    void (*free)(struct health_probe *p);
};

/* What compiles and makes the probes of HTTP and gRPC. */
struct health_probe_kinds {
    const struct health_probe_ops *http, *grpc;
    /* compile reads the part of a HealthCheck message that is the probe's own; NULL after errors.
     * Its memory is the arena's, but for what release gives back. */
    void *(*compile)(const void *health_check, struct cluster_config *out, struct arena *scratch,
                     struct errors *e);
    void (*release)(void *special);
};

/* --- what a probe may ask its session --- */

/* health_session_config is how it is checked now: may be another one, equal in all that it says,
 * at the next check. health_session_host is who is checked. */
const struct health_config *health_session_config(const struct health_session *s);
struct host *health_session_host(const struct health_session *s);

/* health_session_cluster is the view that codecs take for their cluster: configuration, statistics
 * and thread. Valid for the session's life; the configuration may change between checks. */
struct cluster *health_session_cluster(const struct health_session *s);

/* health_session_connect fills in how a connection to the host is made; `alpn` is offered where
 * nothing else says. The views hold until the next iteration of the loop; `opts` is the caller's.
 */
void health_session_connect(const struct health_session *s, const struct str *alpn, size_t num_alpn,
                            struct transport_options *opts, struct conn_connect *out);

/* health_session_hostname is the :authority of a check: of the endpoint, the health check or the
 * cluster. */
struct str health_session_hostname(const struct health_session *s, struct str configured);

/* health_session_done tells the outcome of the check under way. */
void health_session_done(struct health_session *s, const struct health_result *r);

/* health_session_verified counts a look at the service's name. */
void health_session_verified(struct health_session *s);

extern const struct health_probe_ops health_tcp_probe;
