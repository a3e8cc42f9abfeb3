/* Upstream HTTP filters: those that stand between the router and one try's exchange. They are one
 * more codec_stream around the codec's own, so that neither side knows of them. Worker. */
#pragma once

#include "proxy/http/codec.h"
#include "proxy/http/http_filter.h"

struct cluster_filter_ops;
struct stream;

/* upstream_filters_wrap returns the exchange that the try uses: `inner` itself where the list has
 * no filter that is enabled, else one around it, in the stream's arena, which takes inner's events
 * over. `events` and `user` are the try's. */
struct codec_stream *upstream_filters_wrap(struct codec_stream *inner, struct stream *s,
                                           const struct http_filter_list *filters,
                                           const struct codec_events *events, void *user);

/* upstream_filters_of_clusters compiles the lists of clusters; its argument is a struct
 * compile_env. (struct clusters_options) */
extern const struct cluster_filter_ops upstream_filters_of_clusters;

/* envoy.filters.http.upstream_codec, which ends an upstream list. */
extern const struct http_filter_ops upstream_codec_filter;
