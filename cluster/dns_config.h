/* What a Cluster says about DNS: STRICT_DNS, LOGICAL_DNS and the extension envoy.cluster.dns
 * (envoy.extensions.clusters.dns.v3.DnsCluster), and which servers are asked. Main thread. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "cluster/resolver.h"

struct Envoy__Config__Cluster__V3__Cluster;
struct Envoy__Config__Core__V3__DnsResolutionConfig;
struct Envoy__Config__Core__V3__TypedExtensionConfig;
struct pb_opts;

struct dns_config {
    struct resolver_options resolver;
    enum dns_family family;
    bool logical;             /* one host, with the first address of the answer */
    bool respect_ttl;         /* the TTL, where there is one, in place of refresh_ms */
    bool wait_for_warm;       /* wait_for_warm_on_init */
    uint64_t refresh_ms;      /* default 5 s */
    uint64_t jitter_ms;       /* added to every wait: below that */
    uint64_t failure_base_ms; /* back-off after a failure; 0: refresh_ms each time */
    uint64_t failure_max_ms;
};

enum { DNS_REFRESH_MS = 5000 };

/* dns_config_compile compiles the DNS part of a cluster that is one, for `a`; NULL after an error.
 * `def`, how to ask where the cluster does not say; NULL: as the system does. */
struct dns_config *dns_config_compile(const struct Envoy__Config__Cluster__V3__Cluster *msg,
                                      const struct resolver_options *def, struct arena *a,
                                      struct errors *e, const struct pb_opts *pb) WARN_UNUSED;

/* dns_config_unused warns about what has no effect because the cluster is no DNS cluster. */
void dns_config_unused(const struct Envoy__Config__Cluster__V3__Cluster *msg, struct errors *e);

/* dns_config_resolver_old reads the forms before that: a dns_resolution_config, or (NULL) just
 * use_tcp_for_dns_lookups. */
void dns_config_resolver_old(const struct Envoy__Config__Core__V3__DnsResolutionConfig *msg,
                             bool use_tcp, struct resolver_options *out, struct arena *a,
                             struct errors *e);

/* dns_config_resolver reads a typed_dns_resolver_config, whose path has been pushed; its text goes
 * to `a`. False after an error. */
bool dns_config_resolver(const struct Envoy__Config__Core__V3__TypedExtensionConfig *msg,
                         struct resolver_options *out, struct arena *a, struct errors *e,
                         const struct pb_opts *pb) WARN_UNUSED;
