/* The TLS transport socket of clusters: UpstreamTlsContext by way of tls/tls_factory.h. */
#pragma once

#include "cluster/cluster_config.h"

struct tls_secrets;

/* cluster_tls_transport is what clusters_options.transport is given, with a struct tls_secrets as
 * its argument. */
extern const struct cluster_transport_ops cluster_tls_transport;
