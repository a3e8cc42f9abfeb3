#include "test/support/fake_dns.h"

#include "base/addr.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 12, TYPE_A = 1, TYPE_AAAA = 28, NXDOMAIN = 3 };

/* The name of the question in text; the offset behind it, 0 if it is no question. */
static size_t read_name(const uint8_t *q, size_t len, char *out, size_t cap)
{
    size_t at = HEAD, n = 0;
    while (at < len && q[at]) {
        size_t label = q[at++];
        if (at + label >= len || n + label + 2 > cap)
            return 0;
        for (size_t i = 0; i < label; i++)
            out[n++] = (char)(q[at + i] >= 'A' && q[at + i] <= 'Z' ? q[at + i] + 32 : q[at + i]);
        out[n++] = '.';
        at += label;
    }
    out[n ? n - 1 : 0] = 0;
    return at + 5 <= len ? at + 1 : 0;
}

static size_t put_record(uint8_t *out, unsigned type, uint32_t ttl, const void *addr, size_t len)
{
    const uint8_t head[] = {0xc0,
                            HEAD,
                            0,
                            (uint8_t)type,
                            0,
                            1,
                            (uint8_t)(ttl >> 24),
                            (uint8_t)(ttl >> 16),
                            (uint8_t)(ttl >> 8),
                            (uint8_t)ttl,
                            0,
                            (uint8_t)len};
    memcpy(out, head, sizeof(head));
    memcpy(out + sizeof(head), addr, len);
    return sizeof(head) + len;
}

static const struct fake_dns_name *find(const struct fake_dns *f, const char *name)
{
    for (unsigned i = 0; i < f->num_zone; i++) {
        if (strcmp(f->zone[i].name, name) == 0 && f->zone[i].addrs)
            return &f->zone[i];
    }
    return NULL;
}

size_t fake_dns_answer(struct fake_dns *f, const uint8_t *q, size_t len, uint8_t *out, size_t cap)
{
    char name[256];
    size_t at = read_name(q, len, name, sizeof(name));
    const struct fake_dns_name *n;
    unsigned records = 0, type;
    size_t used;

    if (at == 0 || at + 4 > cap)
        return 0;
    n = find(f, name);
    type = q[at + 1];
    used = at + 4;
    memcpy(out, q, used);
    out[2] = 0x81;
    out[3] = (uint8_t)(0x80 | (f->rcode ? f->rcode : n ? 0 : NXDOMAIN));
    for (const char *p = n && !f->rcode ? n->addrs : ""; *p;) {
        struct str one = {p, strcspn(p, " ")};
        struct addr a;
        if (addr_parse_ip(one, 0, &a) && (type == TYPE_AAAA) == (addr_family(&a) == ADDR_IPV6) &&
            used + 28 <= cap) {
            struct str bytes = addr_ip_bytes(&a);
            used += put_record(out + used, type, n->ttl, bytes.p, bytes.len);
            records++;
        }
        p += one.len;
        p += *p == ' ';
    }
    out[6] = (uint8_t)(records >> 8);
    out[7] = (uint8_t)records;
    out[8] = out[9] = out[10] = out[11] = 0;
    return used;
}

static void on_question(void *arg, unsigned events)
{
    struct fake_dns *f = arg;
    uint8_t q[512], out[65536];
    struct sockaddr_in peer;
    socklen_t peer_len = sizeof(peer);
    ssize_t n = recvfrom(f->fd, q, sizeof(q), MSG_DONTWAIT, (struct sockaddr *)&peer, &peer_len);
    char name[256];
    size_t at, len;

    if (n < HEAD || (at = read_name(q, (size_t)n, name, sizeof(name))) == 0)
        return;
    f->asked++;
    f->asked_v6 += q[at + 1] == TYPE_AAAA;
    f->ports += peer.sin_port != f->last_port;
    f->last_port = peer.sin_port;
    if (f->silent)
        return;
    len = f->lie ? f->lie(f->lie_arg, q, (size_t)n, out, sizeof(out))
                 : fake_dns_answer(f, q, (size_t)n, out, sizeof(out));
    if (len)
        (void)!sendto(f->fd, out, len > 65000 ? 65000 : len, 0, (struct sockaddr *)&peer, peer_len);
}

void fake_dns_open(struct fake_dns *f)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(f->port)};
    socklen_t len = sizeof(sa);

    f->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (f->fd < 0 || bind(f->fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
        getsockname(f->fd, (struct sockaddr *)&sa, &len) != 0)
        abort();
    f->port = ntohs(sa.sin_port);
    snprintf(f->server, sizeof(f->server), "127.0.0.1:%u", f->port);
    io_watch_init_level(&f->watch, f->loop, f->fd, on_question, f);
}

void fake_dns_close(struct fake_dns *f)
{
    io_watch_cleanup(&f->watch);
    close(f->fd);
    f->fd = -1;
}

void fake_dns_start(struct fake_dns *f, struct loop *l)
{
    *f = (struct fake_dns){.loop = l};
    fake_dns_open(f);
}

void fake_dns_stop(struct fake_dns *f)
{
    fake_dns_close(f);
}

void fake_dns_wait(struct fake_dns *f, const unsigned *flag, unsigned n)
{
    time_t start = time(NULL);
    while (*flag < n) {
        if (!loop_run_once(f->loop, false))
            usleep(200);
        if (time(NULL) - start > 10) {
            fprintf(stderr, "fake_dns: %u, not %u, after ten seconds\n", *flag, n);
            abort();
        }
    }
}
