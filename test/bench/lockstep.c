/* Client and origin of one proxy in one thread and in lockstep: the client writes a request, the
 * origin reads it and answers, the client reads the answer, and only then comes the next. So the
 * proxy sees the same wake-ups in the same order in every run, and its instructions can be counted.
 *
 *   lockstep [-s BODY_BYTES] [-w SECONDS] ORIGIN_PORT PROXY_PORT REQUESTS
 *
 * It listens on ORIGIN_PORT at once, waits up to -w seconds (default 60) for PROXY_PORT to accept,
 * runs REQUESTS requests on one connection, checks every answer and ends with status 0, or 2 with
 * the reason on standard error. */
#include "test/bench/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOCKSTEP_WAIT_MS 20000 /* for one step of a proxy that runs under an emulator */
#define LOCKSTEP_RETRY_NS 20000000L
#define LOCKSTEP_REQUEST_MAX 256

struct lockstep {
    int listen_fd;
    int client_fd;
    int origin_fd; /* -1 until the proxy connects */
    size_t body_len;
    uint64_t serial;
    char word[WIRE_WORD_LEN];
};

static int connect_patiently(uint16_t port, uint64_t wait_s)
{
    const struct timespec pause = {.tv_nsec = LOCKSTEP_RETRY_NS};
    uint64_t tries = wait_s * (1000000000ULL / LOCKSTEP_RETRY_NS);
    for (uint64_t i = 0; i <= tries; i++) {
        int fd = wire_connect(port);
        if (fd >= 0)
            return fd;
        nanosleep(&pause, NULL);
    }
    wire_die("lockstep: nothing accepts on port %u", port);
}

/* Waits until `fd` is readable; if the client becomes readable instead, the proxy has answered by
 * itself, and that ends the run. */
static void wait_readable(const struct lockstep *l, int fd, const char *what)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = l->client_fd, .events = POLLIN}};
    int n = poll(fds, fd == l->client_fd ? 1 : 2, LOCKSTEP_WAIT_MS);
    if (n < 0)
        wire_die("lockstep: poll");
    if (n == 0)
        wire_die("lockstep: request %llu: no %s", (unsigned long long)l->serial, what);
    if (fds[0].revents != 0)
        return;
    char said[512];
    ssize_t got = recv(l->client_fd, said, sizeof(said), 0);
    wire_die("lockstep: request %llu: instead of %s the proxy said:\n%.*s",
             (unsigned long long)l->serial, what, got > 0 ? (int)got : 0, said);
}

static size_t read_some(int fd, char *buf, size_t len, const char *what)
{
    ssize_t n = recv(fd, buf + len, WIRE_BUF_SIZE - len, 0);
    if (n <= 0)
        wire_die("lockstep: %s: closed", what);
    return len + (size_t)n;
}

static void client_send(struct lockstep *l)
{
    char target[64], request[LOCKSTEP_REQUEST_MAX];
    /* always as many digits: the work on a request must not depend on its number */
    int target_len = snprintf(target, sizeof(target), "/bench/0/%010llu",
                              (unsigned long long)++l->serial);
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nhost: bench.test\r\nuser-agent: attache-bench\r\n"
                       "accept: */*\r\n\r\n",
                       target);
    wire_word(target, (size_t)target_len, l->word);
    if (send(l->client_fd, request, (size_t)len, MSG_NOSIGNAL) != len)
        wire_die("lockstep: the proxy does not take request %llu", (unsigned long long)l->serial);
}

static void origin_answer(struct lockstep *l)
{
    static char in[WIRE_BUF_SIZE], out[WIRE_BUF_SIZE];
    const char *target;
    char word[WIRE_WORD_LEN];
    size_t in_len = 0, target_len, head_len;
    while (l->origin_fd < 0) {
        wait_readable(l, l->listen_fd, "connection to the origin");
        l->origin_fd = wire_accept(l->listen_fd);
    }
    do {
        wait_readable(l, l->origin_fd, "request at the origin");
        in_len = read_some(l->origin_fd, in, in_len, "origin");
        head_len = wire_head_len(in, in_len);
    } while (head_len == 0);
    if (head_len != in_len || !wire_target(in, head_len, &target, &target_len))
        wire_die("lockstep: the origin was sent:\n%.*s", (int)in_len, in);
    wire_word(target, target_len, word);
    int out_len = snprintf(out, sizeof(out),
                           "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
                           "content-length: %zu\r\n\r\n",
                           l->body_len);
    wire_body(word, out + out_len, l->body_len);
    ssize_t all = out_len + (ssize_t)l->body_len;
    if (send(l->origin_fd, out, (size_t)all, MSG_NOSIGNAL) != all)
        wire_die("lockstep: the proxy does not take answer %llu", (unsigned long long)l->serial);
}

static void client_check(const struct lockstep *l)
{
    static char in[WIRE_BUF_SIZE];
    size_t in_len = 0, head_len, body_len;
    do {
        wait_readable(l, l->client_fd, "answer");
        in_len = read_some(l->client_fd, in, in_len, "client");
        head_len = wire_head_len(in, in_len);
    } while (head_len == 0 || in_len < head_len + l->body_len);
    bool good = memcmp(in, "HTTP/1.1 200 ", 13) == 0 && in_len == head_len + l->body_len &&
                wire_content_length(in, head_len, &body_len) && body_len == l->body_len &&
                wire_body_ok(l->word, in + head_len, body_len);
    if (!good)
        wire_die("lockstep: wrong answer %llu:\n%.*s", (unsigned long long)l->serial, (int)in_len,
                 in);
}

int main(int argc, char **argv)
{
    struct lockstep l = {.origin_fd = -1, .client_fd = -1, .body_len = 1024};
    uint64_t wait_s = 60;
    int opt;
    while ((opt = getopt(argc, argv, "s:w:")) != -1) {
        if (opt == 's')
            l.body_len = wire_number("-s", optarg, 1, WIRE_BODY_MAX);
        else if (opt == 'w')
            wait_s = wire_number("-w", optarg, 1, 3600);
        else
            return 2;
    }
    if (optind + 3 != argc)
        wire_die("usage: lockstep [-s BODY] [-w SECONDS] ORIGIN_PORT PROXY_PORT REQUESTS");
    l.listen_fd = wire_listen((uint16_t)wire_number("origin port", argv[optind], 1, 65535));
    uint16_t port = (uint16_t)wire_number("proxy port", argv[optind + 1], 1, 65535);
    uint64_t requests = wire_number("requests", argv[optind + 2], 1, UINT32_MAX);
    l.client_fd = connect_patiently(port, wait_s);
    for (uint64_t i = 0; i < requests; i++) {
        client_send(&l);
        origin_answer(&l);
        client_check(&l);
    }
    return 0;
}
