#include "test/support/far_end.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

void far_end_open(struct far_end *f, struct loop *loop)
{
    int fds[2];
    *f = (struct far_end){.loop = loop ? loop : loop_new(true)};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    f->fd = fds[0];
    f->near_fd = fds[1];
    buffer_init(&f->got);
}

void far_end_send(struct far_end *f, const void *p, size_t len)
{
    ssize_t n = send(f->fd, p, len, MSG_NOSIGNAL);
    CHECK(n == (ssize_t)len || (n < 0 && errno == EPIPE));
}

void far_end_shut(struct far_end *f)
{
    shutdown(f->fd, SHUT_WR);
}

void far_end_hang_up(struct far_end *f)
{
    close(f->fd);
    f->fd = -1;
}

static bool collect(struct far_end *f)
{
    bool any = false;
    while (f->fd >= 0 && !f->ended && !f->reset) {
        size_t room;
        char *p = buffer_reserve(&f->got, 4096, &room);
        ssize_t n = recv(f->fd, p, room, 0);
        int err = errno;
        buffer_commit(&f->got, n > 0 ? (size_t)n : 0);
        if (n < 0 && (err == EAGAIN || err == EINTR))
            break;
        f->ended = n == 0;
        f->reset = n < 0;
        any = true;
    }
    return any;
}

void far_end_spin(struct far_end *f, bool read)
{
    for (int idle = 0; idle < 3; idle++) {
        if (loop_run_once(f->loop, false))
            idle = 0;
        if (read && collect(f))
            idle = 0;
    }
}

char *far_end_text(struct far_end *f)
{
    char *text = mem_alloc(f->got.len + 1);
    size_t n = buffer_copy_out(&f->got, 0, text, f->got.len);
    text[n] = '\0';
    buffer_drain(&f->got, n);
    return text;
}

void far_end_close(struct far_end *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
    buffer_cleanup(&f->got);
}
