/* A stream's HTTP filters: which of the connection manager's stand in its chain, and what its route
 * says of them. */
#pragma once

#include "proxy/http/http_chain.h"

struct stream;

/* stream_filters_init makes the chain of a stream whose route is chosen: the filters that are
 * enabled for it. Worker. */
void stream_filters_init(struct stream *s, const struct http_chain_ends *ends);
