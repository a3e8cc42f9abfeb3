/* HTTP/2 on one connection, what server and client side have in common: the exchanges on it, their
 * bodies both ways with flow control and watermarks, output, keep-alive, protection, its end. Bytes
 * go conn->in -> h2_guard -> h2_session -> exchange, and back.
 *
 * Flow control is the one mechanism of back-pressure: window is given back for body that the user
 * took; who pauses gets at most a window. What is sent waits in the exchange while the peer gives
 * no window or does not read, up to a share of the connection's watermark (h2_unsent.c), and beyond
 * that the user is told.
 *
 * Private to h2_server.c and h2_client.c. Worker's thread. */
#pragma once

#include "proxy/http/codec.h"
#include "proxy/http/h2_codec.h"
#include "proxy/http/h2_guard.h"
#include "proxy/http/h2_head.h"
#include "tls/conn.h"

struct h2_link;

struct h2_stream {
    uint32_t magic;
    int32_t id; /* 0: was never sent */
    struct codec_stream cs;
    struct h2_link *link;
    struct list node;      /* link->streams, until it is destroyed: who walks them stays there */
    struct list gone_node; /* link->gone */
    struct list below;     /* link->below: the user is to be told */
    struct list turn;      /* link->turns */
    struct buffer out;     /* body that is not yet in a frame on the output */
    struct buffer in;      /* body the user has not been given */
    struct headers *trailers_in;  /* not yet given */
    struct headers *trailers_out; /* not yet sent, in an arena of ours */
    struct arena *out_arena;      /* of trailers_out */
    struct timer flush;           /* the user is gone, body is left */
    const struct headers *held;   /* client: the request, which waits for the peer's SETTINGS */
    struct str protocol;          /* client: of an extended CONNECT */
    uint64_t length;              /* what is left of Content-Length */
    uint64_t wire_in, wire_out;   /* bytes of its frames */
    size_t unconsumed;            /* of the window */
    uint32_t pauses;
    uint8_t informational;            /* 1xx so far */
    bool attached : 1;                /* the user is told of events */
    bool has_length : 1;              /* length is set */
    bool to_head : 1;                 /* the request was HEAD */
    bool connect : 1, extended : 1;   /* CONNECT, and that of RFC 8441 */
    bool tunnel : 1;                  /* and it was granted */
    bool got_head : 1;                /* the (final) head was given */
    bool got_end : 1;                 /* the peer's END_STREAM */
    bool gave_end : 1;                /* and the user has been told */
    bool sent_head : 1, sent_end : 1; /* by the user */
    bool head_on_wire : 1;
    bool end_on_wire : 1; /* our END_STREAM is out */
    bool closed : 1;      /* the session does not know it any more */
    bool reset : 1;       /* RST_STREAM was sent */
    bool above : 1;
    bool refused : 1; /* could not be sent */
    bool gone : 1;    /* freed at the end of the turn */
    bool resumed : 1; /* the user takes body again: in the link's next turn */
};

/* What differs between the sides. */
struct h2_link_ops {
    /* A header block begins: of a new request (stream NULL), a response or trailers: where its
     * fields go, or NULL: nowhere. */
    struct headers *(*head_begin)(struct h2_link *l, int32_t id, struct h2_stream *s,
                                  enum h2_head_kind *kind);
    /* It is whole. s as above. */
    void (*head_end)(struct h2_link *l, int32_t id, struct h2_stream *s,
                     enum h2_head_verdict verdict, bool end);
    /* The exchange is over for its user, after h2_stream_detach; s is still valid. */
    void (*detached)(struct h2_link *l, struct h2_stream *s);
    void (*goaway)(struct h2_link *l);     /* from the peer */
    void (*settings)(struct h2_link *l);   /* of the peer */
    void (*round_trip)(struct h2_link *l); /* the answer to h2_link_probe; may be NULL */
    /* Nothing more can be done on the connection; the owner closes it. `error`: ours or the
     * peer's, not an orderly end. */
    void (*over)(struct h2_link *l, bool error);
};

enum { H2_RECENT_RESETS = 64, H2_GAPS = 4 };

struct h2_link {
    uint32_t magic;
    bool server;
    struct conn *conn;
    const struct h2_link_ops *ops;
    const struct http2_options *options;
    struct h2_session *session;
    struct h2_guard guard;
    struct h2_stats stats;
    struct h2_head head;       /* of the block that is being received */
    struct h2_stream *head_of; /* whose memory head.h is in; NULL: no stream's */
    struct h2_head_rules rules;
    struct list streams; /* struct h2_stream */
    struct list below;
    struct list turns;         /* all streams; who sent body last comes last */
    size_t unsent;             /* bytes of all streams' `out` */
    uint32_t num_unsent;       /* streams that have some */
    struct list gone;          /* freed at the end of the turn */
    struct h2_stream *partial; /* has body of the DATA frame that is being received */
    struct task send_task;
    struct timer ping;
    struct timer quiet; /* no stream is open: memory may be given back */
    uint64_t last_rx_ms, ping_sent_ms;
    uint64_t flush_ms; /* how long body may wait when its user is gone; 0: for ever */
    uint64_t pings, ping_id, probe;
    uint32_t frame_left;   /* payload of the frame under way that has not come yet */
    uint32_t preface_left; /* server */
    uint32_t num_attached; /* streams with a user */
    uint32_t new_streams;  /* in this turn */
    uint32_t queued_heads; /* in the session's queue */
    int32_t last_id;       /* highest id of a request so far */
    int32_t *resets;       /* ids that we reset lately, whose frames may still come; ring */
    uint32_t num_resets;
    struct {
        int32_t from, to;
    } gaps[H2_GAPS]; /* server: ids that were left out lately */
    uint32_t num_gaps;
    int32_t begun_id; /* server: the last request whose block began */
    bool in_block : 1;
    bool waiting : 1; /* more new streams than one turn takes */
    bool awaiting_ping : 1;
    bool running : 1;   /* in the feed or pull loop */
    bool probing : 1;   /* h2_link_probe's PING is to follow */
    bool above : 1;     /* too much is unsent: no stream is to send more */
    bool resumed : 1;   /* a stream is `resumed` or `refused` */
    bool dead : 1;      /* ops->over was called */
    bool error : 1;     /* the connection ends because of an error */
    bool timed_out : 1; /* a PING was not answered */
    bool too_many : 1;  /* reset flood */
    bool goaway_in : 1; /* the peer takes no more requests */
};

/* h2_link_init starts HTTP/2 on conn, whose callbacks stay the owner's. flush_ms, rules and the
 * rest are set by the caller afterwards. Options are borrowed. */
void h2_link_init(struct h2_link *l, bool server, struct conn *conn,
                  const struct http2_options *options, const struct h2_link_ops *ops,
                  const struct h2_stats *stats, const struct h2_head_rules *rules);

/* h2_link_cleanup frees the session and all streams; their users are told nothing. */
void h2_link_cleanup(struct h2_link *l);

/* h2_link_read takes what is in conn->in. Events follow, ops->over may. */
void h2_link_read(struct h2_link *l);

/* h2_link_push puts out what can be now, without events, unless the session is at work. */
void h2_link_push(struct h2_link *l);

/* h2_link_send_soon puts frames out later in this iteration. */
void h2_link_send_soon(struct h2_link *l);

/* h2_link_malformed: the peer's message breaks the rules. Ends the stream or the connection, as
 * configured. s may be NULL (its head was wrong). */
void h2_link_malformed(struct h2_link *l, int32_t id, struct h2_stream *s);

/* h2_link_premature accounts for a stream that ended before its response. */
void h2_link_premature(struct h2_link *l);

/* h2_link_reset_all tells every user that its exchange is over. */
void h2_link_reset_all(struct h2_link *l, enum reset_reason why, struct str detail);

/* h2_link_terminate ends the connection with an error, after a GOAWAY with `code`; stat
 * H2_NUM_STATS: none. */
void h2_link_terminate(struct h2_link *l, uint32_t code, uint32_t stat);

/* h2_link_probe sends a PING after the GOAWAY that is queued; ops->round_trip follows its answer.
 */
void h2_link_probe(struct h2_link *l);

/* h2_link_keep_alive sends a PING if the connection has been quiet for long, before a request. */
void h2_link_keep_alive(struct h2_link *l);

/* h2_stream_new makes the structure of one exchange, not attached to a user. */
struct h2_stream *h2_stream_new(struct h2_link *l, int32_t id);

/* h2_stream_attach: from now on the user is told of events. */
void h2_stream_attach(struct h2_stream *s);

/* h2_stream_detach ends the exchange for the user, which is told nothing; ops->detached is called.
 * What it has sent is still delivered unless the stream is reset. */
void h2_stream_detach(struct h2_stream *s);

/* h2_stream_fail tells the user that the exchange is over; h2_stream_reset tells the peer. */
void h2_stream_fail(struct h2_stream *s, enum reset_reason why, struct str detail);
void h2_stream_reset(struct h2_stream *s, uint32_t code);

/* h2_stream_free forgets a stream that the session does not know, at the end of the turn;
 * h2_stream_destroy at once. */
void h2_stream_free(struct h2_stream *s);
void h2_stream_destroy(struct h2_stream *s);

/* h2_stream_deliver gives the user what there is, unless it has paused. */
void h2_stream_deliver(struct h2_stream *s);

/* h2_stream_body takes received body, h2_stream_drop_out forgets what is not on the wire. */
void h2_stream_body(struct h2_stream *s, const void *p, size_t len);
void h2_stream_drop_out(struct h2_stream *s);

/* Body that waits in the streams' `out`, of all of a connection together (h2_unsent.c). _more and
 * _less account for what came and went; _more, and _head when a stream begins to send, may tell
 * users on_above, who only take note. _settle tells those who may go on; they may send at once. */
void h2_unsent_head(struct h2_stream *s);
void h2_unsent_more(struct h2_stream *s, size_t n);
void h2_unsent_less(struct h2_stream *s, size_t n);
void h2_unsent_settle(struct h2_link *l);

/* h2_unsent_crowded: bytes should wait in blocks no larger than they are. */
bool h2_unsent_crowded(const struct h2_stream *s);

/* h2_unsent_overflow: users that cannot be stopped have sent too much: no new ones. */
bool h2_unsent_overflow(const struct h2_link *l);

/* The user's side, apart from heads. */
void h2_op_data(struct codec_stream *cs, struct buffer *b, bool end);
void h2_op_trailers(struct codec_stream *cs, const struct headers *h);
void h2_op_reset(struct codec_stream *cs, enum reset_reason why);
void h2_op_pause(struct codec_stream *cs);
void h2_op_resume(struct codec_stream *cs);

/* h2_stream_of returns the stream around a codec_stream. */
struct h2_stream *h2_stream_of(struct codec_stream *cs);

/* h2_stream_sent_end: the user has sent all of its side. */
void h2_stream_sent_end(struct h2_stream *s);
