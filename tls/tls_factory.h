/* The transport factory of a filter chain or a cluster: a compiled TLS context, its SDS
 * subscriptions, and the version of the configuration that new connections get. A rotation swaps
 * that version at once for all threads; connections go on with the one they were opened with.
 *
 * Made, started and freed on the main thread; opened from any. Life: tls_factory_downstream or
 * _upstream while the resource is compiled (no subscription, no side effect), tls_factory_start
 * when it is applied, transport_factory_unref. */
#pragma once

#include "tls/tls_settings.h"
#include "tls/transport.h"

/* tls_factory_downstream and tls_factory_upstream compile a message into a factory with one
 * reference; NULL with errors below the current path. A context without SDS is ready when it is
 * started. */
struct transport_factory *tls_factory_downstream(const TLS_V3(DownstreamTlsContext) * from,
                                                 struct tls_secrets *secrets,
                                                 const struct xds_source *parent,
                                                 struct errors *e) WARN_UNUSED;
struct transport_factory *tls_factory_upstream(const TLS_V3(UpstreamTlsContext) * from,
                                               struct tls_secrets *secrets,
                                               const struct xds_source *parent,
                                               struct errors *e) WARN_UNUSED;

struct tls_factory_start {
    struct stats_scope *stats; /* tls_stats_new; must outlive the factory and its connections */
    /* settled runs once, from the loop: every secret is there, or was given up on for now (fetch
     * timeout, refused): warming must not wait any longer. ready says which. May be NULL. */
    void (*settled)(void *arg);
    void *arg;
};

/* tls_factory_start subscribes to the secrets. Called again (the factory lives on in the next
 * version of its owner) it only replaces who is told: `settled` comes once for each call. */
void tls_factory_start(struct transport_factory *f, const struct tls_factory_start *how);

/* tls_factory_stop forgets `settled` and its argument: the owner goes away before the factory. */
void tls_factory_stop(struct transport_factory *f);

/* tls_factory_current returns the version that new connections get, with a reference for the
 * caller, or NULL. Any thread. */
struct tls_config *tls_factory_current(struct transport_factory *f);
