/* Looks at the header of each frame of an HTTP/2 connection before anyone acts on it, and bounds
 * what a peer may make us do with frames that cost it nothing. Knows no stream and no socket. One
 * user at a time.
 *
 * CVE-2019-9512 to 9518 (floods), CVE-2023-44487 and CVE-2025-8671 (streams that end before their
 * response), CVE-2024-27316, 27919 and 30255 (CONTINUATION). */
#pragma once

#include "base/rate.h"
#include "cluster/http2_options.h"
#include "proxy/http/h2_stats.h"

enum { H2_FRAME_HEADER = 9 };

/* Types and flags of frames (RFC 9113 6). */
enum h2_frame_type {
    H2_DATA = 0,
    H2_HEADERS = 1,
    H2_PRIORITY = 2,
    H2_RST_STREAM = 3,
    H2_SETTINGS = 4,
    H2_PUSH_PROMISE = 5,
    H2_PING = 6,
    H2_GOAWAY = 7,
    H2_WINDOW_UPDATE = 8,
    H2_CONTINUATION = 9
};
enum { H2_FLAG_END_STREAM = 1, H2_FLAG_ACK = 1, H2_FLAG_END_HEADERS = 4, H2_FLAG_PADDED = 8 };

enum h2_error { /* RFC 9113 7 */
                H2_NO_ERROR = 0,
                H2_PROTOCOL_ERROR = 1,
                H2_INTERNAL_ERROR = 2,
                H2_FLOW_CONTROL_ERROR = 3,
                H2_STREAM_CLOSED = 5,
                H2_REFUSED_STREAM = 7,
                H2_CANCEL = 8,
                H2_ENHANCE_YOUR_CALM = 11
};

struct h2_frame {
    uint32_t length;
    uint8_t type, flags;
    uint8_t padding; /* of a padded DATA frame, if it is known */
    uint32_t stream;
    uint32_t depends; /* of a PRIORITY frame: the stream it names */
};

struct h2_guard {
    const struct http2_options *opts;
    uint32_t max_block_bytes; /* of one header block on the wire */
    uint32_t block_frames, block_bytes;
    uint32_t empty_run;
    uint64_t priority_frames, window_updates, streams, data_sent;
    struct rate resets;
};

/* h2_guard_init: a header block of more than max_block_bytes on the wire is refused. opts is
 * borrowed for the guard's life. */
void h2_guard_init(struct h2_guard *g, const struct http2_options *opts, uint32_t max_block_bytes,
                   uint64_t now_ms);

/* h2_frame_parse reads the header of a frame from H2_FRAME_HEADER bytes. */
struct h2_frame h2_frame_parse(const uint8_t *p);

/* h2_guard_frame judges a frame that begins. False: the connection must end with
 * ENHANCE_YOUR_CALM, and *stat (H2_NUM_STATS: none) is to be counted. */
bool h2_guard_frame(struct h2_guard *g, const struct h2_frame *f, uint32_t *stat);

/* h2_guard_reset accounts for a stream that ended before its response was complete, whoever ended
 * it. False: there were too many, the connection must end. */
bool h2_guard_reset(struct h2_guard *g, uint64_t now_ms);
