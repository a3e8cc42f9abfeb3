/* The origin behind every contender: one thread, one epoll, HTTP/1.1 keep-alive. It answers any
 * request with 200 and a body of fixed size made of the check word of the request's target, so that
 * the load generator can tell a wrong answer, or another request's, from the right one.
 *
 *   origin [-p PORT] [-s BODY_BYTES] [-w KIND] [-e N]
 *
 * It prints "port N" once it listens. -w makes every Nth answer wrong (status, body, length, other)
 * to prove that the load generator notices. It ends with SIGTERM. */
#include "test/bench/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ORIGIN_EVENTS 256
#define ORIGIN_HEAD_MAX 256

enum origin_wrong {
    ORIGIN_RIGHT,
    ORIGIN_WRONG_STATUS, /* 500 */
    ORIGIN_WRONG_BODY,   /* the last byte differs */
    ORIGIN_WRONG_LENGTH, /* shorter than promised to the load generator, but well formed */
    ORIGIN_WRONG_OTHER,  /* the right answer to another request */
};

struct origin {
    int epoll_fd;
    int listen_fd;
    size_t body_len;
    enum origin_wrong wrong;
    uint64_t wrong_every;
    uint64_t num_answers;
};

struct origin_conn {
    int fd;
    size_t in_len;
    size_t out_at;
    size_t out_len;
    char in[WIRE_BUF_SIZE];
    char out[WIRE_BUF_SIZE];
};

static void conn_free(struct origin_conn *c)
{
    close(c->fd);
    free(c);
}

static void accept_all(struct origin *o)
{
    int fd;
    while ((fd = wire_accept(o->listen_fd)) >= 0) {
        struct origin_conn *c = malloc(sizeof(*c));
        if (c == NULL)
            wire_die("origin: out of memory");
        c->fd = fd;
        c->in_len = c->out_at = c->out_len = 0;
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.ptr = c};
        if (epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
            wire_die("origin: epoll_ctl");
    }
}

/* Appends the answer to `target`; false if `out` has no room for it now. */
static bool answer(struct origin *o, struct origin_conn *c, const char *target, size_t target_len)
{
    if (sizeof(c->out) - c->out_len < o->body_len + ORIGIN_HEAD_MAX)
        return false;
    enum origin_wrong wrong = ++o->num_answers % o->wrong_every == 0 ? o->wrong : ORIGIN_RIGHT;
    size_t body_len = wrong == ORIGIN_WRONG_LENGTH ? o->body_len - 1 : o->body_len;
    char word[WIRE_WORD_LEN];
    char *at = c->out + c->out_len;
    int head_len = snprintf(at, ORIGIN_HEAD_MAX,
                            "HTTP/1.1 %s\r\ncontent-type: text/plain\r\n"
                            "content-length: %zu\r\n\r\n",
                            wrong == ORIGIN_WRONG_STATUS ? "500 Internal Server Error" : "200 OK",
                            body_len);
    wire_word(target, wrong == ORIGIN_WRONG_OTHER ? target_len - 1 : target_len, word);
    at += head_len;
    wire_body(word, at, body_len);
    if (wrong == ORIGIN_WRONG_BODY)
        at[body_len - 1] ^= 1;
    c->out_len += (size_t)head_len + body_len;
    return true;
}

/* Writes what is pending; false if the connection is gone. */
static bool flush(struct origin_conn *c)
{
    while (c->out_at < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        c->out_at += (size_t)n;
    }
    c->out_at = c->out_len = 0;
    return true;
}

/* Answers every whole request in `in` that there is room for; false if the connection is over. */
static bool answer_all(struct origin *o, struct origin_conn *c)
{
    size_t at = 0;
    while (at < c->in_len) {
        const char *target;
        size_t target_len, body_len = 0;
        size_t head_len = wire_head_len(c->in + at, c->in_len - at);
        if (head_len == 0)
            break;
        if (!wire_target(c->in + at, head_len, &target, &target_len))
            return false;
        wire_content_length(c->in + at, head_len, &body_len);
        if (head_len + body_len > sizeof(c->in))
            return false;
        if (head_len + body_len > c->in_len - at)
            break;
        if (!answer(o, c, target, target_len)) {
            if (!flush(c))
                return false;
            if (c->out_len > 0)
                break;
            continue;
        }
        at += head_len + body_len;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    return flush(c);
}

/* Runs the connection until it would block; false once it is over. */
static bool conn_run(struct origin *o, struct origin_conn *c, bool closed)
{
    bool drained = false;
    for (;;) {
        if (!answer_all(o, c))
            return false;
        if (c->out_len > 0 || drained)
            return true;
        size_t room = sizeof(c->in) - c->in_len;
        if (room == 0)
            return false;
        ssize_t n = recv(c->fd, c->in + c->in_len, room, 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        c->in_len += (size_t)n;
        /* edge-triggered: a short read has drained the socket unless the peer also closed */
        drained = (size_t)n < room && !closed;
    }
}

static void serve(struct origin *o)
{
    struct epoll_event events[ORIGIN_EVENTS];
    for (;;) {
        int n = epoll_wait(o->epoll_fd, events, ORIGIN_EVENTS, -1);
        if (n < 0 && errno != EINTR)
            wire_die("origin: epoll_wait");
        for (int i = 0; i < n; i++) {
            struct origin_conn *c = events[i].data.ptr;
            if (c == NULL) {
                accept_all(o);
                continue;
            }
            if (!conn_run(o, c, (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0))
                conn_free(c);
        }
    }
}

static enum origin_wrong parse_wrong(const char *text)
{
    static const char *const names[] = {
        [ORIGIN_WRONG_STATUS] = "status",
        [ORIGIN_WRONG_BODY] = "body",
        [ORIGIN_WRONG_LENGTH] = "length",
        [ORIGIN_WRONG_OTHER] = "other",
    };
    for (size_t i = ORIGIN_WRONG_STATUS; i <= ORIGIN_WRONG_OTHER; i++) {
        if (strcmp(text, names[i]) == 0)
            return (enum origin_wrong)i;
    }
    wire_die("origin: -w %s: want status, body, length or other", text);
}

int main(int argc, char **argv)
{
    struct origin o = {.body_len = 1024, .wrong = ORIGIN_RIGHT, .wrong_every = 1};
    uint16_t port = 0;
    int opt;
    while ((opt = getopt(argc, argv, "p:s:w:e:")) != -1) {
        if (opt == 'p')
            port = (uint16_t)wire_number("-p", optarg, 0, 65535);
        else if (opt == 's')
            o.body_len = wire_number("-s", optarg, 1, WIRE_BODY_MAX);
        else if (opt == 'w')
            o.wrong = parse_wrong(optarg);
        else if (opt == 'e')
            o.wrong_every = wire_number("-e", optarg, 1, UINT32_MAX);
        else
            return 2;
    }
    o.listen_fd = wire_listen(port);
    o.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (o.epoll_fd < 0)
        wire_die("origin: epoll_create1");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(o.epoll_fd, EPOLL_CTL_ADD, o.listen_fd, &ev) < 0)
        wire_die("origin: epoll_ctl");
    printf("port %u\n", wire_port(o.listen_fd));
    fflush(stdout);
    serve(&o);
    return 0;
}
