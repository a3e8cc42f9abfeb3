/* A stream's HTTP filters: which of the connection manager's stand in its chain, and what its route
 * says of them. */
#pragma once

#include "proxy/http/http_chain.h"

struct stream;

/* stream_filters_init makes the chain of a stream whose route is chosen: those of the list that are
 * enabled for it. Worker. */
void stream_filters_init(struct stream *s, const struct http_filter_list *filters,
                         const struct http_chain_ends *ends);

/* stream_filters_for_upgrade says whether the request may become the tunnel that it asks for
 * (upgrade_configs of the route, else of the connection manager) and, if it has filters of its own,
 * which. Worker. */
bool stream_filters_for_upgrade(const struct stream *s, const struct http_filter_list **filters);
