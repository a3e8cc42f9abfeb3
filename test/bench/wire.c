#include "test/bench/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_BACKLOG 1024
#define FNV_OFFSET 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

void wire_die(const char *fmt, ...)
{
    int err = errno;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, err != 0 ? ": %s\n" : "\n", strerror(err));
    exit(2);
}

uint64_t wire_number(const char *what, const char *text, uint64_t min, uint64_t max)
{
    char *end = NULL;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    bool whole = text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
    errno = 0;
    if (!whole || n < min || n > max)
        wire_die("%s: '%s' is not a number from %llu to %llu", what, text, (unsigned long long)min,
                 (unsigned long long)max);
    return n;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void set_nodelay(int fd)
{
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
        wire_die("TCP_NODELAY");
}

int wire_listen(uint16_t port)
{
    struct sockaddr_in addr = loopback(port);
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        wire_die("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        wire_die("SO_REUSEADDR");
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        wire_die("bind to port %u", port);
    if (listen(fd, WIRE_BACKLOG) < 0)
        wire_die("listen on port %u", port);
    return fd;
}

uint16_t wire_port(int fd)
{
    struct sockaddr_in addr;
    socklen_t len = sizeof(addr);
    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        wire_die("getsockname");
    return ntohs(addr.sin_port);
}

int wire_connect(uint16_t port)
{
    struct sockaddr_in addr = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        wire_die("socket");
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    int on = 1;
    if (ioctl(fd, FIONBIO, &on) < 0)
        wire_die("FIONBIO");
    set_nodelay(fd);
    return fd;
}

int wire_accept(int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        set_nodelay(fd);
    return fd;
}

size_t wire_head_len(const char *buf, size_t buf_len)
{
    const char *end = memmem(buf, buf_len, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - buf) + 4;
}

/* the first byte after the line feed of the line at `at`, or `end` */
static const char *next_line(const char *at, const char *end)
{
    const char *lf = memchr(at, '\n', (size_t)(end - at));
    return lf == NULL ? end : lf + 1;
}

static bool parse_length(const char *at, const char *end, size_t *out_len)
{
    uint64_t n = 0;
    bool any = false;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        n = n * 10 + (uint64_t)(*at - '0');
        any = true;
        if (n > UINT32_MAX)
            return false;
    }
    *out_len = n;
    return any && at < end && *at == '\r';
}

bool wire_content_length(const char *head, size_t head_len, size_t *out_len)
{
    static const char name[] = "content-length:";
    const size_t name_len = sizeof(name) - 1;
    const char *end = head + head_len;
    for (const char *at = next_line(head, end); at < end; at = next_line(at, end)) {
        if ((size_t)(end - at) > name_len && strncasecmp(at, name, name_len) == 0)
            return parse_length(at + name_len, end, out_len);
    }
    return false;
}

bool wire_target(const char *head, size_t head_len, const char **out_target, size_t *out_len)
{
    const char *end = next_line(head, head + head_len);
    const char *first = memchr(head, ' ', (size_t)(end - head));
    if (first == NULL)
        return false;
    first++;
    const char *second = memchr(first, ' ', (size_t)(end - first));
    if (second == NULL || second == first)
        return false;
    *out_target = first;
    *out_len = (size_t)(second - first);
    return true;
}

void wire_word(const char *target, size_t target_len, char *word)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t hash = FNV_OFFSET;
    for (size_t i = 0; i < target_len; i++) {
        hash ^= (unsigned char)target[i];
        hash *= FNV_PRIME;
    }
    for (size_t i = 0; i < WIRE_WORD_LEN; i++)
        word[i] = digits[(hash >> (60 - 4 * i)) & 15];
}

void wire_body(const char *word, char *body, size_t body_len)
{
    size_t at = 0;
    for (; at + WIRE_WORD_LEN <= body_len; at += WIRE_WORD_LEN)
        memcpy(body + at, word, WIRE_WORD_LEN);
    memcpy(body + at, word, body_len - at);
}

bool wire_body_ok(const char *word, const char *body, size_t body_len)
{
    size_t at = 0;
    for (; at + WIRE_WORD_LEN <= body_len; at += WIRE_WORD_LEN) {
        if (memcmp(body + at, word, WIRE_WORD_LEN) != 0)
            return false;
    }
    return memcmp(body + at, word, body_len - at) == 0;
}
