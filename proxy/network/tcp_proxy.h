/* tcp_proxy: the network filter that joins a downstream connection to one of a cluster, byte for
 * byte, with half-close and back-pressure both ways. */
#pragma once

#include "proxy/network/network_filter.h"

extern const struct network_filter_ops tcp_proxy_filter;
