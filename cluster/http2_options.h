/* Http2ProtocolOptions compiled, for listeners and clusters alike: what an HTTP/2 connection tells
 * its peer, and how much it bears from it. Immutable once compiled; any thread. */
#pragma once

#include "base/arena.h"
#include "base/errors.h"
#include <stdbool.h>
#include <stdint.h>

struct http2_setting {
    uint16_t id;
    uint32_t value;
};

struct http2_options {
    uint32_t max_concurrent_streams;
    uint32_t stream_window, connection_window;
    uint32_t hpack_table; /* of both directions */
    bool allow_connect;
    bool reset_on_malformed; /* only the stream ends, not the connection */
    uint32_t max_outbound_frames, max_outbound_control_frames;
    uint32_t max_empty_frames; /* in a row */
    uint32_t max_priority_frames_per_stream;
    uint32_t max_window_updates_per_data_frame;
    uint64_t ping_interval_ms; /* connection_keepalive; 0: none */
    uint64_t ping_timeout_ms;
    uint64_t ping_idle_ms; /* after so long without a frame, before a new stream; 0: none */
    double ping_jitter;    /* per cent of the interval */
    const struct http2_setting *settings; /* custom_settings_parameters */
    uint32_t num_settings;
};

/* http2_options_default is what holds where nothing is said. */
void http2_options_default(struct http2_options *out);

/* http2_options_compile reads an envoy.config.core.v3.Http2ProtocolOptions (NULL: the defaults).
 * Errors are added below the current path. What it points to goes to arena a. */
void http2_options_compile(const void *msg, struct http2_options *out, struct arena *a,
                           struct errors *e);
