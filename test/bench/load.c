/* The load generator: a closed loop of N keep-alive connections, one request at a time on each,
 * bounded in requests and in time, that checks every answer. Each request has a target of its own,
 * and the answer must be 200 with the expected length and a body made of that target's check word:
 * an answer that is lost, cut, doubled or crossed with another is an error, not a count.
 *
 *   load [-c CONNECTIONS] [-n REQUESTS] [-t MILLISECONDS] [-s BODY_BYTES] PORT
 *
 * It prints one line of JSON (count, errors by kind, time, latency in microseconds) and ends with
 * status 0 only if there was no error; the first error is described on standard error. */
#include "test/bench/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOAD_EVENTS 256
#define LOAD_CONNS_MAX 4096
#define LOAD_REQUEST_MAX 256
#define LOAD_GRACE_NS 2000000000ULL /* for the answers still out when the time is over */
#define LOAD_CLOCK_EVERY 16

/* latency histogram: 32 steps in each power of two of nanoseconds, so 3 % wide */
#define LAT_STEP_BITS 5
#define LAT_BUCKETS ((64 - LAT_STEP_BITS + 1) << LAT_STEP_BITS)

enum load_error {
    LOAD_OK,
    LOAD_CONNECT,
    LOAD_CLOSED, /* before the whole answer */
    LOAD_STATUS,
    LOAD_LENGTH, /* Content-Length missing or not the expected one */
    LOAD_BODY,
    LOAD_EXTRA, /* bytes after the answer */
    LOAD_HUNG,  /* no answer within the grace */
    LOAD_NUM_ERRORS
};

static const char *const error_names[LOAD_NUM_ERRORS] = {
    [LOAD_OK] = "ok",         [LOAD_CONNECT] = "connect", [LOAD_CLOSED] = "closed",
    [LOAD_STATUS] = "status", [LOAD_LENGTH] = "length",   [LOAD_BODY] = "body",
    [LOAD_EXTRA] = "extra",   [LOAD_HUNG] = "hung",
};

struct load_conn {
    int fd; /* -1 once closed */
    bool busy;
    uint32_t id;
    uint64_t serial;
    uint64_t sent_ns;
    char word[WIRE_WORD_LEN];
    size_t head_len; /* 0 until the head of the answer is whole */
    size_t in_len;
    char in[WIRE_BUF_SIZE];
};

struct load {
    int epoll_fd;
    uint16_t port;
    size_t body_len;
    uint32_t num_conns;
    uint64_t max_requests;
    uint64_t max_ns;
    uint64_t end_ns;
    uint64_t num_sent;
    uint64_t num_ok;
    uint32_t num_busy;
    bool stop;
    uint64_t errors[LOAD_NUM_ERRORS];
    uint64_t latency[LAT_BUCKETS];
    struct load_conn *conns[LOAD_CONNS_MAX];
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static size_t latency_bucket(uint64_t ns)
{
    if (ns < 1u << LAT_STEP_BITS)
        return ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - LAT_STEP_BITS;
    return ((size_t)(shift + 1) << LAT_STEP_BITS) + ((ns >> shift) & ((1u << LAT_STEP_BITS) - 1));
}

/* the middle of a bucket, in microseconds */
static double latency_value(size_t bucket)
{
    size_t shift = bucket >> LAT_STEP_BITS;
    uint64_t step = bucket & ((1u << LAT_STEP_BITS) - 1);
    if (shift == 0)
        return (double)step / 1000;
    double width = (double)(1ULL << (shift - 1));
    return ((double)((1u << LAT_STEP_BITS) + step) + 0.5) * width / 1000;
}

static double latency_percentile(const struct load *l, double percent)
{
    uint64_t want = (uint64_t)((double)l->num_ok * percent / 100), seen = 0;
    for (size_t i = 0; i < LAT_BUCKETS; i++) {
        seen += l->latency[i];
        if (seen > want || (seen == l->num_ok && seen > 0))
            return latency_value(i);
    }
    return 0;
}

static void conn_fail(struct load *l, struct load_conn *c, enum load_error error)
{
    uint64_t before = 0;
    for (size_t i = 0; i < LOAD_NUM_ERRORS; i++)
        before += l->errors[i];
    if (before == 0) {
        fprintf(stderr,
                "load: %s error on connection %u, request %llu; %zu bytes of answer:\n%.*s\n",
                error_names[error], c->id, (unsigned long long)c->serial, c->in_len,
                (int)(c->in_len < 512 ? c->in_len : 512), c->in);
    }
    l->errors[error]++;
    l->num_busy -= c->busy;
    c->busy = false;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void conn_send(struct load *l, struct load_conn *c)
{
    char target[64], request[LOAD_REQUEST_MAX];
    if (l->stop || l->num_sent >= l->max_requests)
        return;
    int target_len = snprintf(target, sizeof(target), "/bench/%u/%llu", c->id,
                              (unsigned long long)++c->serial);
    int len = snprintf(request, sizeof(request),
                       "GET %s HTTP/1.1\r\nhost: bench.test\r\nuser-agent: attache-bench\r\n"
                       "accept: */*\r\n\r\n",
                       target);
    wire_word(target, (size_t)target_len, c->word);
    l->num_sent++;
    l->num_busy++;
    c->busy = true;
    c->head_len = c->in_len = 0;
    c->sent_ns = now_ns();
    if (send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
        conn_fail(l, c, LOAD_CLOSED);
}

static void conn_open(struct load *l, uint32_t id)
{
    struct load_conn *c = calloc(1, sizeof(*c));
    if (c == NULL)
        wire_die("load: out of memory");
    l->conns[id] = c;
    c->id = id;
    c->fd = wire_connect(l->port);
    if (c->fd < 0) {
        conn_fail(l, c, LOAD_CONNECT);
        return;
    }
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        wire_die("load: epoll_ctl");
}

/* Checks what has arrived of an answer: LOAD_OK while nothing is wrong, `*out_done` once it is
 * whole. */
static enum load_error check_answer(const struct load *l, struct load_conn *c, bool *out_done)
{
    static const char status[] = "HTTP/1.1 200 ";
    size_t body_len;
    *out_done = false;
    if (c->head_len == 0) {
        c->head_len = wire_head_len(c->in, c->in_len);
        if (c->head_len == 0)
            return LOAD_OK;
        if (memcmp(c->in, status, sizeof(status) - 1) != 0)
            return LOAD_STATUS;
        if (!wire_content_length(c->in, c->head_len, &body_len) || body_len != l->body_len)
            return LOAD_LENGTH;
    }
    if (c->in_len < c->head_len + l->body_len)
        return LOAD_OK;
    if (c->in_len > c->head_len + l->body_len)
        return LOAD_EXTRA;
    *out_done = true;
    return wire_body_ok(c->word, c->in + c->head_len, l->body_len) ? LOAD_OK : LOAD_BODY;
}

static void on_readable(struct load *l, struct load_conn *c, bool closed)
{
    bool done = false;
    while (!done) {
        size_t room = sizeof(c->in) - c->in_len;
        ssize_t n = room == 0 ? 0 : recv(c->fd, c->in + c->in_len, room, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            conn_fail(l, c, LOAD_CLOSED);
            return;
        }
        c->in_len += (size_t)n;
        enum load_error error = c->busy ? check_answer(l, c, &done) : LOAD_EXTRA;
        if (error != LOAD_OK) {
            conn_fail(l, c, error);
            return;
        }
        /* a short read has drained the socket, and what comes next is a new edge, unless the peer
         * closed: that came with this one */
        if (!done && (size_t)n < room && !closed)
            return;
    }
    c->busy = false;
    l->num_busy--;
    l->num_ok++;
    l->latency[latency_bucket(now_ns() - c->sent_ns)]++;
    conn_send(l, c);
}

static void run(struct load *l)
{
    struct epoll_event events[LOAD_EVENTS];
    uint64_t rounds = 0;
    l->end_ns = now_ns() + l->max_ns;
    for (uint32_t i = 0; i < l->num_conns; i++) {
        if (l->conns[i]->fd >= 0)
            conn_send(l, l->conns[i]);
    }
    while (l->num_busy > 0) {
        int n = epoll_wait(l->epoll_fd, events, LOAD_EVENTS, 100);
        if (n < 0 && errno != EINTR)
            wire_die("load: epoll_wait");
        for (int i = 0; i < n; i++) {
            struct load_conn *c = events[i].data.ptr;
            if (c->fd >= 0)
                on_readable(l, c, (events[i].events & EPOLLRDHUP) != 0);
        }
        if (n > 0 && ++rounds % LOAD_CLOCK_EVERY != 0)
            continue;
        uint64_t now = now_ns();
        l->stop = l->stop || now >= l->end_ns;
        if (now < l->end_ns + LOAD_GRACE_NS)
            continue;
        for (uint32_t i = 0; i < l->num_conns; i++) {
            if (l->conns[i]->busy)
                conn_fail(l, l->conns[i], LOAD_HUNG);
        }
    }
}

/* Prints the result; true if there was no error and every request was answered. */
static bool report(const struct load *l, double seconds)
{
    uint64_t num_errors = 0;
    for (size_t i = LOAD_CONNECT; i < LOAD_NUM_ERRORS; i++)
        num_errors += l->errors[i];
    printf("{\"requests\": %llu, \"ok\": %llu, \"errors\": %llu", (unsigned long long)l->num_sent,
           (unsigned long long)l->num_ok, (unsigned long long)num_errors);
    for (size_t i = LOAD_CONNECT; i < LOAD_NUM_ERRORS; i++)
        printf(", \"error_%s\": %llu", error_names[i], (unsigned long long)l->errors[i]);
    printf(", \"seconds\": %.6f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, "
           "\"p999_us\": %.1f, \"max_us\": %.1f}\n",
           seconds, latency_percentile(l, 50), latency_percentile(l, 90), latency_percentile(l, 99),
           latency_percentile(l, 99.9), latency_percentile(l, 100));
    return num_errors == 0 && l->num_ok == l->num_sent && l->num_ok > 0;
}

int main(int argc, char **argv)
{
    static struct load l = {.body_len = 1024, .num_conns = 1, .max_requests = UINT64_MAX};
    uint64_t max_ms = 1000;
    int opt;
    while ((opt = getopt(argc, argv, "c:n:t:s:")) != -1) {
        if (opt == 'c')
            l.num_conns = (uint32_t)wire_number("-c", optarg, 1, LOAD_CONNS_MAX);
        else if (opt == 'n')
            l.max_requests = wire_number("-n", optarg, 1, UINT32_MAX);
        else if (opt == 't')
            max_ms = wire_number("-t", optarg, 1, 3600000);
        else if (opt == 's')
            l.body_len = wire_number("-s", optarg, 1, WIRE_BODY_MAX);
        else
            return 2;
    }
    if (optind + 1 != argc)
        wire_die("usage: load [-c CONNECTIONS] [-n REQUESTS] [-t MILLISECONDS] [-s BODY] PORT");
    l.port = (uint16_t)wire_number("port", argv[optind], 1, 65535);
    l.max_ns = max_ms * 1000000;
    l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l.epoll_fd < 0)
        wire_die("load: epoll_create1");
    for (uint32_t i = 0; i < l.num_conns; i++)
        conn_open(&l, i);
    uint64_t start = now_ns();
    run(&l);
    return report(&l, (double)(now_ns() - start) / 1e9) ? 0 : 1;
}
