/* The far end of a connection under test: a socketpair whose other end is given to a conn, and a
 * loop with a clock that only the test moves. For unit tests, one at a time. */
#pragma once

#include "base/buffer.h"
#include "base/loop.h"

struct far_end {
    struct loop *loop;
    int fd;      /* ours */
    int near_fd; /* for the connection under test, which closes it */
    struct buffer got;
    bool ended; /* the connection under test ended its direction */
    bool reset; /* it was cut */
};

/* far_end_open makes the pair; `loop` NULL: a new one. */
void far_end_open(struct far_end *f, struct loop *loop);

/* far_end_send sends bytes, all of which must fit the socket's buffer. */
void far_end_send(struct far_end *f, const void *p, size_t len);

/* far_end_shut ends our direction, far_end_hang_up closes. */
void far_end_shut(struct far_end *f);
void far_end_hang_up(struct far_end *f);

/* far_end_spin runs the loop until nothing happens and collects what came; without `read` the bytes
 * stay in the socket. */
void far_end_spin(struct far_end *f, bool read);

/* far_end_text copies what came so far as text and forgets it. The caller frees it with mem_free.
 */
char *far_end_text(struct far_end *f);

/* far_end_close frees it; the loop stays. */
void far_end_close(struct far_end *f);
