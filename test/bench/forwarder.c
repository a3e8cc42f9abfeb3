/* The floor: what forwarding HTTP/1.1 costs with nothing but the kernel's own work. One thread, one
 * epoll, one registration a socket for its life, one read and one write each way. It reads a
 * request to the end of its headers (and body, by Content-Length), passes it on unchanged over a
 * kept-alive connection that belongs to that client, and relays the answer by its Content-Length.
 * It routes nothing, checks nothing and changes nothing.
 *
 *   forwarder UPSTREAM_PORT [PORT]
 *
 * It prints "port N" once it listens. It ends with SIGTERM. */
#include "test/bench/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FORWARDER_EVENTS 256
#define FORWARDER_DEAD 1024 /* pairs that one round of events can end */

struct pair;

/* One direction's input: bytes read from `fd` that are not yet written to the other side. */
struct side {
    struct pair *pair;
    struct side *other;
    int fd;
    size_t body_left; /* of the message being relayed */
    size_t at;
    size_t ready; /* bytes from `at` that may be written now: whole heads, and bodies */
    size_t len;
    char buf[WIRE_BUF_SIZE];
};

struct pair {
    bool dead;
    struct side down;
    struct side up;
};

struct forwarder {
    int epoll_fd;
    int listen_fd;
    uint16_t upstream_port;
    size_t num_dead;
    struct pair *dead[FORWARDER_DEAD];
};

static void side_watch(struct forwarder *f, struct side *s)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    if (epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, s->fd, &ev) < 0)
        wire_die("forwarder: epoll_ctl");
}

static void side_init(struct side *s, struct pair *p, struct side *other, int fd)
{
    s->pair = p;
    s->other = other;
    s->fd = fd;
    s->body_left = s->at = s->ready = s->len = 0;
}

static void accept_all(struct forwarder *f)
{
    int fd;
    while ((fd = wire_accept(f->listen_fd)) >= 0) {
        int up = wire_connect(f->upstream_port);
        if (up < 0) {
            close(fd);
            continue;
        }
        struct pair *p = malloc(sizeof(*p));
        if (p == NULL)
            wire_die("forwarder: out of memory");
        p->dead = false;
        side_init(&p->down, p, &p->up, fd);
        side_init(&p->up, p, &p->down, up);
        side_watch(f, &p->down);
        side_watch(f, &p->up);
    }
}

/* Frees later, when no event of this round can name the pair any more. */
static void pair_end(struct forwarder *f, struct pair *p)
{
    if (p->dead)
        return;
    p->dead = true;
    close(p->down.fd);
    close(p->up.fd);
    f->dead[f->num_dead++] = p;
}

/* Moves `ready` over every whole head and over the body bytes that have arrived. */
static void scan(struct side *s)
{
    while (s->at + s->ready < s->len) {
        const char *from = s->buf + s->at + s->ready;
        size_t left = s->len - s->at - s->ready;
        if (s->body_left == 0) {
            size_t head_len = wire_head_len(from, left);
            if (head_len == 0)
                return;
            s->ready += head_len;
            left -= head_len;
            wire_content_length(from, head_len, &s->body_left);
        }
        size_t body = s->body_left < left ? s->body_left : left;
        s->ready += body;
        s->body_left -= body;
    }
}

/* Writes what is ready to the other side; false if that side is gone. */
static bool push(struct side *s)
{
    while (s->ready > 0) {
        ssize_t n = send(s->other->fd, s->buf + s->at, s->ready, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        s->at += (size_t)n;
        s->ready -= (size_t)n;
    }
    memmove(s->buf, s->buf + s->at, s->len - s->at);
    s->len -= s->at;
    s->at = 0;
    return true;
}

/* Reads and relays until it would block; false once either side is gone. */
static bool pump(struct side *s, bool closed)
{
    for (;;) {
        if (!push(s))
            return false;
        if (s->ready > 0)
            return true;
        size_t room = sizeof(s->buf) - s->len;
        if (room == 0)
            return false;
        ssize_t n = recv(s->fd, s->buf + s->len, room, 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        s->len += (size_t)n;
        scan(s);
        if ((size_t)n == room || closed)
            continue;
        return push(s);
    }
}

static void on_event(struct forwarder *f, struct side *s, uint32_t events)
{
    bool closed = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (s->pair->dead)
        return;
    /* room to write again: what waits came from the other side */
    if ((events & EPOLLOUT) != 0 && s->other->ready > 0 && !pump(s->other, true)) {
        pair_end(f, s->pair);
        return;
    }
    if ((events & EPOLLIN) != 0 || closed) {
        if (!pump(s, closed))
            pair_end(f, s->pair);
    }
}

static void serve(struct forwarder *f)
{
    struct epoll_event events[FORWARDER_EVENTS];
    for (;;) {
        int n = epoll_wait(f->epoll_fd, events, FORWARDER_EVENTS, -1);
        if (n < 0 && errno != EINTR)
            wire_die("forwarder: epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(f);
            else
                on_event(f, events[i].data.ptr, events[i].events);
        }
        while (f->num_dead > 0)
            free(f->dead[--f->num_dead]);
    }
}

int main(int argc, char **argv)
{
    static struct forwarder f;
    if (argc < 2 || argc > 3)
        wire_die("usage: forwarder UPSTREAM_PORT [PORT]");
    f.upstream_port = (uint16_t)wire_number("upstream port", argv[1], 1, 65535);
    f.listen_fd = wire_listen(argc == 3 ? (uint16_t)wire_number("port", argv[2], 0, 65535) : 0);
    f.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (f.epoll_fd < 0)
        wire_die("forwarder: epoll_create1");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(f.epoll_fd, EPOLL_CTL_ADD, f.listen_fd, &ev) < 0)
        wire_die("forwarder: epoll_ctl");
    printf("port %u\n", wire_port(f.listen_fd));
    fflush(stdout);
    serve(&f);
    return 0;
}
