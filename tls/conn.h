/* Connection: a socket, its transport, an input and an output buffer with watermarks, and the one
 * mechanism of back-pressure: a counted pause of reading. Listener side and cluster side use the
 * same object. Belongs to one loop; never moves.
 *
 * Life: opened with conn_init_accepted or conn_init_connecting; on_connected once the transport's
 * handshake is done; on_read whenever bytes were appended to `in` or the peer ended; exactly one
 * on_closed, after which the owner frees it with conn_cleanup (from there or later). No callback
 * runs inside a conn_ function the owner calls, except where said; they come from the loop. */
#pragma once

#include "base/addr.h"
#include "base/buffer.h"
#include "base/loop.h"
#include "tls/socket_options.h"
#include "tls/transport.h"

enum conn_close_reason {
    CONN_CLOSED_LOCAL,   /* the owner asked */
    CONN_CLOSED_REMOTE,  /* clean end from the peer, and we closed in answer */
    CONN_CLOSED_RESET,   /* reset or another socket error */
    CONN_CLOSED_TLS,     /* handshake or record failure; conn_failure says which */
    CONN_CLOSED_CONNECT, /* could not be connected; errno in conn->err */
    CONN_CLOSED_CONNECT_TIMEOUT,
    CONN_CLOSED_HANDSHAKE_TIMEOUT,
};

struct conn;

struct conn_ops {
    /* The transport is ready to carry payload. */
    void (*on_connected)(void *owner, struct conn *c);
    /* c->in has new bytes, or (c->eof) the peer ended its direction; both may be. The owner takes
     * what it can from c->in; what it leaves stays. It is not called again for bytes it left until
     * more arrive, or conn_read_again. */
    void (*on_read)(void *owner, struct conn *c);
    /* out fell to the low watermark after having been above the high one. */
    void (*on_below)(void *owner, struct conn *c);
    /* out went above the high watermark. Only set flags, pause the source. */
    void (*on_above)(void *owner, struct conn *c);
    /* It is over. The fd is closed already. May call conn_cleanup. */
    void (*on_closed)(void *owner, struct conn *c, enum conn_close_reason why);
};

struct conn {
    uint32_t magic;
    int fd;
    struct loop *loop;
    struct io_watch watch;
    struct transport *transport;
    const struct conn_ops *ops;
    void *owner;
    struct buffer in, out;
    struct addr local, peer;
    uint64_t bytes_read, bytes_written; /* payload */
    uint64_t connected_us;              /* when the transport became ready, 0 before */
    struct timer timer;                 /* connect, handshake, lingering close */
    struct task flush_task, read_task, closed_task;
    size_t read_budget; /* bytes taken in one turn */
    uint32_t linger_ms; /* of the lingering read alone; 0: what is left of the whole time */
    int err;            /* errno of the failure */
    uint16_t read_pauses;
    uint8_t state;
    uint8_t why;  /* enum conn_close_reason, once closing */
    bool eof : 1; /* the peer ended its direction */
    bool readable : 1, writable : 1, shut_wanted : 1, shut_done : 1, close_wanted : 1;
    bool linger : 1, half_close : 1;
    bool bound : 1;        /* connecting side */
    bool bind_failed : 1;  /* the source address, or a socket option, could not be set */
    bool closed_seen : 1;  /* the loop said IO_CLOSED */
    bool write_failed : 1; /* nothing can be sent any more; what the peer sent is still read */
    bool failed_read : 1, again : 1, no_secret : 1;
};

/* conn_init_accepted takes the fd of an accepted socket (non-blocking) and the transport (NULL:
 * raw), and starts the handshake in the loop. `handshake_ms`: limit, 0 none. peer and local are
 * copied. */
void conn_init_accepted(struct conn *c, struct loop *l, int fd, struct transport *t,
                        const struct addr *local, const struct addr *peer, uint64_t handshake_ms,
                        const struct conn_ops *ops, void *owner);

struct conn_connect {
    const struct addr *peer;
    const struct addr *bind;           /* source address, or NULL; IP_BIND_ADDRESS_NO_PORT is set */
    struct transport_factory *factory; /* NULL: raw */
    const struct transport_options *transport_opts;
    uint64_t timeout_ms; /* connect and handshake together; 0 none */
    uint32_t mark;       /* SO_MARK, 0 none */
    bool transparent;    /* IP_TRANSPARENT */
    uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes; /* 0: system's; time 0 and
                                                                           keepalive false: off */
    bool keepalive;
    const struct socket_options *options; /* set on the socket as they are; NULL: none */
    bool has_freebind, freebind;          /* IP_FREEBIND is set, to that */
    int connected_fd; /* 0: none; a socket that is connected to peer already, taken */
};

/* conn_socket makes a socket that connects to how->peer, with all that `how` says of it; the
 * caller's. -1: *err is the errno. *err 0 with a descriptor. */
int conn_socket(const struct conn_connect *how, int *err);

/* conn_init_connecting starts to connect. Failure, immediate failure included, is reported by
 * on_closed from the loop. */
void conn_init_connecting(struct conn *c, struct loop *l, const struct conn_connect *how,
                          const struct conn_ops *ops, void *owner);

/* conn_set_owner hands the callbacks to someone else (a pool gives its connection to a user). */
void conn_set_owner(struct conn *c, const struct conn_ops *ops, void *owner);

/* conn_set_limits sets both buffers' high watermark (per_connection_buffer_limit_bytes). Reading
 * stops by itself while `in` holds more than that. */
void conn_set_limits(struct conn *c, size_t high);

/* conn_set_half_close: with true the peer's FIN is only reported (c->eof in on_read) and our
 * direction stays open until conn_shut_write; with false (default) an owner that returns from
 * on_read with eof and has not closed is still free to write and must close itself. */
void conn_set_half_close(struct conn *c, bool on);

/* conn_write takes all of `from` into out and sends it later in this iteration; conn_flush_soon the
 * same for bytes put into c->out directly. */
void conn_write(struct conn *c, struct buffer *from);
void conn_flush_soon(struct conn *c);

/* conn_pause_read and conn_resume_read count; reading goes on when the count is back to zero (in
 * this iteration's run queue, on_read being called if bytes or the end arrived meanwhile). */
void conn_pause_read(struct conn *c);
void conn_resume_read(struct conn *c);

/* conn_read_again calls on_read later in this iteration although nothing new arrived (the owner
 * left bytes in `in` and is ready for them now). */
void conn_read_again(struct conn *c);

/* conn_shut_write sends what is in out, then ends our direction. */
void conn_shut_write(struct conn *c);

enum conn_close_how {
    CONN_CLOSE_NOW,    /* drop what is in out */
    CONN_CLOSE_RESET,  /* drop it and send RST (SO_LINGER 0) */
    CONN_CLOSE_FLUSH,  /* send out first, close_notify, FIN, close */
    CONN_CLOSE_LINGER, /* send out, FIN, then read and drop until the peer's end or linger_ms: a
                          last response is not lost to a reset */
};

/* conn_close starts closing; on_closed comes from the loop, never inside. No on_read comes any
 * more. `linger_ms` bounds the flush and the lingering read (Envoy's delayed_close_timeout; 0:
 * none). */
void conn_close(struct conn *c, enum conn_close_how how, uint64_t linger_ms);

/* conn_close_slowly is conn_close with CONN_CLOSE_LINGER and a time for each half: flush_ms (0: no
 * limit) to send out, linger_ms from then on. conn_hasten: a close that is under way has at most
 * `ms` more to send out, and does not linger; without effect on others. */
void conn_close_slowly(struct conn *c, uint64_t flush_ms, uint32_t linger_ms);
void conn_hasten(struct conn *c, uint64_t ms);

/* conn_closing says whether conn_close was called or the connection is over. */
bool conn_closing(const struct conn *c);

/* conn_peer says who is there, NULL without TLS; conn_failure is the transport's failure text. */
const struct tls_peer *conn_peer(const struct conn *c);
struct str conn_failure(const struct conn *c);

/* conn_peer_ended peeks at the socket of an idle connection: true if the peer has closed or sent
 * something unexpected. One system call; for reuse checks. */
bool conn_peer_ended(struct conn *c);

/* conn_cleanup unregisters and frees what it holds; closes at once if still open. No callback. */
void conn_cleanup(struct conn *c);
