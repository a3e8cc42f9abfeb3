#include "tls/transport.h"

#include <errno.h>
#include <sys/socket.h>

enum { WRITE_IOV = 64, READ_MIN = 2048 };

static enum io_status raw_handshake(struct transport *t)
{
    return IO_OK;
}

static enum io_status raw_read(struct transport *t, struct buffer *in, size_t max)
{
    size_t got = 0;
    while (got < max) {
        size_t room;
        char *to = buffer_reserve(in, READ_MIN, &room);
        ssize_t n = recv(t->fd, to, room, 0);
        if (n > 0) {
            buffer_commit(in, (size_t)n);
            t->bytes_in += (uint64_t)n;
            got += (size_t)n;
            if ((size_t)n < room)
                return IO_AGAIN;
            continue;
        }
        int err = errno;
        buffer_commit(in, 0);
        if (n == 0)
            return IO_EOF;
        if (err == EINTR)
            continue;
        errno = err;
        return err == EAGAIN || err == EWOULDBLOCK ? IO_AGAIN : IO_ERROR;
    }
    return IO_OK;
}

static enum io_status raw_write(struct transport *t, struct buffer *out)
{
    while (out->len) {
        struct iovec iov[WRITE_IOV];
        struct msghdr msg = {.msg_iov = iov};
        msg.msg_iovlen = (size_t)buffer_iov(out, iov, WRITE_IOV);
        size_t want = 0;
        for (size_t i = 0; i < msg.msg_iovlen; i++)
            want += iov[i].iov_len;
        ssize_t n = sendmsg(t->fd, &msg, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_ERROR;
        }
        t->bytes_out += (uint64_t)n;
        buffer_drain(out, (size_t)n);
        if ((size_t)n < want)
            return IO_AGAIN; /* the socket buffer is full; an edge follows */
    }
    return IO_OK;
}

static enum io_status raw_shut(struct transport *t)
{
    return shutdown(t->fd, SHUT_WR) == 0 ? IO_OK : IO_ERROR;
}

static const struct tls_peer *raw_peer(struct transport *t)
{
    return NULL;
}

static struct str raw_failure(struct transport *t)
{
    return STR_NULL;
}

static void raw_free(struct transport *t)
{
    mem_free(t);
}

static const struct transport_ops raw_ops = {
    .name = "raw_buffer",
    .handshake = raw_handshake,
    .read = raw_read,
    .write = raw_write,
    .shut = raw_shut,
    .peer = raw_peer,
    .failure = raw_failure,
    .free = raw_free,
};

struct transport *transport_raw_open(int fd)
{
    struct transport *t = NEW(struct transport);
    t->ops = &raw_ops;
    t->fd = fd;
    return t;
}
