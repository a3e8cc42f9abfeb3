/* HTTP/2 framing and HPACK, in our own terms: the only place that knows nghttp2. A
 * session turns bytes of one connection into events and back; it knows no conn, no codec_stream, no
 * limits.
 *
 * Worker's thread. Events come inside h2_session_feed and h2_session_pull; from within one, every
 * function may be called but those two and h2_session_free. */
#pragma once

#include "base/buffer.h"
#include "cluster/http2_options.h"
#include "proxy/http/headers.h"

struct h2_session;

enum h2_write {
    H2_WRITTEN,
    H2_BLOCKED, /* the output is full: asked again with the next h2_session_pull */
    H2_DROPPED  /* the bytes are gone: the stream is reset */
};

struct h2_session_events {
    /* A header block begins: of a new request (server), a response or trailers. `stream` is what
     * h2_session_set_stream or h2_session_request gave for that id, or NULL. */
    void (*on_head_begin)(void *user, int32_t id, void *stream);
    /* One field of it, borrowed. False: decoding is given up, the session is broken. */
    bool (*on_field)(void *user, struct str name, struct str value);
    void (*on_head_end)(void *user, int32_t id, void *stream, bool end);
    /* Payload of a DATA frame, as it comes; it counts against the windows until
     * h2_session_consume. */
    void (*on_data)(void *user, int32_t id, void *stream, const void *p, size_t len);
    /* The DATA frame is whole. */
    void (*on_data_end)(void *user, int32_t id, void *stream, bool end);
    void (*on_reset)(void *user, int32_t id, void *stream, uint32_t code);
    /* Neither side will say anything more on the stream; its id is unknown from now on. */
    void (*on_close)(void *user, int32_t id, void *stream, uint32_t code);
    void (*on_goaway)(void *user, int32_t last_id, uint32_t code);
    void (*on_settings)(void *user);
    void (*on_ping_ack)(void *user, uint64_t opaque);
    /* A request could not be sent: the peer takes no more. */
    void (*on_not_sent)(void *user, int32_t id);
    /* How many of at most `max` bytes of body there are now, and *end: nothing comes after them
     * (*trailers: but trailers, which the callee then submits). 0 without *end: none yet,
     * h2_session_resume follows. */
    size_t (*on_want_data)(void *user, int32_t id, void *stream, size_t max, bool *end,
                           bool *trailers);
    /* Write `head` (a frame's header) and then `len` bytes of the stream's body to the output. */
    enum h2_write (*on_write_data)(void *user, void *stream, struct str head, size_t len);
    /* A frame was put out: its type and flags, enum h2_frame_type. */
    void (*on_sent)(void *user, int32_t id, void *stream, uint8_t type, uint8_t flags);
};

/* h2_session_new opens a session and queues its SETTINGS. events and options are borrowed for its
 * life. `server`: which side we are. */
struct h2_session *h2_session_new(bool server, const struct http2_options *options,
                                  const struct h2_session_events *events, void *user);
void h2_session_free(struct h2_session **s);

/* h2_session_feed takes bytes from the peer. False: the session is broken; what is to be said of it
 * is queued if it can be. */
bool h2_session_feed(struct h2_session *s, const char *p, size_t len);

/* h2_session_pull gives the next bytes to be sent, borrowed until the next call; bodies go by
 * on_write_data instead. False: nothing more, or (h2_session_broken) an error. */
bool h2_session_pull(struct h2_session *s, struct str *out);
bool h2_session_broken(const struct h2_session *s);

/* h2_session_over: nothing more is to be read nor written. */
bool h2_session_over(const struct h2_session *s);

/* h2_session_trim gives memory back that holds nothing while no stream is open; for connections
 * that have been quiet: using it again costs a few page faults. */
void h2_session_trim(struct h2_session *s);

/* h2_session_queued: frames that wait to be pulled, bodies not counted. */
size_t h2_session_queued(const struct h2_session *s);

/* h2_session_knows says whether a stream of that id is open or half-closed. */
bool h2_session_knows(const struct h2_session *s, int32_t id);

/* h2_session_set_stream binds the user's stream to an id of a request just begun. */
void h2_session_set_stream(struct h2_session *s, int32_t id, void *stream);

/* h2_session_request sends a request; its id, or 0 when the connection takes none any more. A body
 * is asked for with on_want_data unless `end`. Connection-specific fields are left out; h->upgrade
 * makes it an extended CONNECT (RFC 8441). */
int32_t h2_session_request(struct h2_session *s, const struct headers *h, bool end, void *stream);

/* h2_session_response and h2_session_informational send a response's head, h2_session_trailers a
 * trailer section that ends the stream. status 0: that of h. */
void h2_session_response(struct h2_session *s, int32_t id, const struct headers *h, unsigned status,
                         bool end, void *stream);
void h2_session_informational(struct h2_session *s, int32_t id, const struct headers *h);
void h2_session_trailers(struct h2_session *s, int32_t id, const struct headers *h);

/* h2_session_resume: there is body now for a stream that had none. */
void h2_session_resume(struct h2_session *s, int32_t id);

/* h2_session_consume gives window back for received body: of the stream, if it is still known, and
 * of the connection. */
void h2_session_consume(struct h2_session *s, int32_t id, size_t len);

/* h2_session_window is how many bytes of body the peer takes now on a stream. */
size_t h2_session_window(const struct h2_session *s, int32_t id);

/* h2_session_reset sends RST_STREAM, h2_session_ping a PING whose answer on_ping_ack tells. */
void h2_session_reset(struct h2_session *s, int32_t id, uint32_t code);
void h2_session_ping(struct h2_session *s, uint64_t opaque);

/* h2_session_notice tells the peer that the connection is going to end (GOAWAY with the highest
 * id); h2_session_goaway that nothing beyond the last request that was seen will be served. */
void h2_session_notice(struct h2_session *s);
void h2_session_goaway(struct h2_session *s);

/* h2_session_terminate ends it with an error: GOAWAY is all that is sent. */
void h2_session_terminate(struct h2_session *s, uint32_t code);

/* h2_session_peer_streams is how many streams the peer allows; h2_session_peer_connect whether it
 * takes extended CONNECT. */
uint32_t h2_session_peer_streams(const struct h2_session *s);
bool h2_session_peer_connect(const struct h2_session *s);
