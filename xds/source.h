/* ConfigSource and ApiConfigSource (envoy.config.core.v3) as xds takes them. Any thread. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include "xds/xds.h"

struct Envoy__Config__Core__V3__ConfigSource;
struct Envoy__Config__Core__V3__ApiConfigSource;

/* xds_source_decode reads a ConfigSource; text is copied into the arena. `parent` is the source of
 * the resource that holds it (`self` means that one), NULL for the bootstrap's own. `has_ads`: the
 * bootstrap has an ads_config. false: at least one error in e, with field paths below the current
 * one. msg NULL is an error. */
bool xds_source_decode(const struct Envoy__Config__Core__V3__ConfigSource *msg,
                       const struct xds_source *parent, bool has_ads, struct arena *a,
                       struct errors *e, struct xds_source *out) WARN_UNUSED;

/* xds_server_decode reads an ApiConfigSource (ads_config, api_config_source) the same way. */
bool xds_server_decode(const struct Envoy__Config__Core__V3__ApiConfigSource *msg, struct arena *a,
                       struct errors *e, struct xds_server *out) WARN_UNUSED;

/* xds_source_cluster names the control-plane cluster that the source needs; empty for ADS and
 * files. For checks of the bootstrap. */
static inline struct str xds_source_cluster(const struct xds_source *src)
{
    return src->kind == XDS_SOURCE_GRPC ? src->server.cluster : STR_NULL;
}
