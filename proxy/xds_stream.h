/* Byte streams to control-plane clusters: gRPC core gets one end of a socketpair, and what goes
 * through the other end is carried over the cluster's own connection (UDS, TCP or mTLS). Main
 * thread. */
#pragma once

#include "base/str.h"

struct server;

/* xds_stream_dial is the xds_dial_fn; arg is the server. */
int xds_stream_dial(void *arg, struct str cluster, char *why, size_t why_len);

/* xds_stream_close_all ends all streams (shutdown). */
void xds_stream_close_all(void);
