/* A DNS server over UDP on a port of 127.0.0.1, driven by the loop of the test: answers from a
 * small zone, or with what a test makes up. */
#pragma once

#include "base/loop.h"
#include "base/str.h"

struct fake_dns_name {
    const char *name, *addrs; /* "10.0.0.1 ::1"; empty: no records; NULL: no such name */
    uint32_t ttl;
};

struct fake_dns {
    struct loop *loop;
    int fd;
    struct io_watch watch;
    uint16_t port;   /* of the server */
    char server[32]; /* "127.0.0.1:port" */
    const struct fake_dns_name *zone;
    unsigned num_zone;
    unsigned rcode; /* not 0: every answer */
    bool silent;
    unsigned asked, asked_v6; /* questions */
    unsigned ports;           /* other ports than the question before */
    uint16_t last_port;
    /* lie writes what is sent for a question to out, at most cap bytes, in place of the zone's
     * answer; 0: nothing. */
    size_t (*lie)(void *arg, const uint8_t *question, size_t len, uint8_t *out, size_t cap);
    void *lie_arg;
};

/* fake_dns_start binds and watches; fake_dns_stop ends that. fake_dns_close and fake_dns_open do
 * the same to the socket alone: nobody is there meanwhile. */
void fake_dns_start(struct fake_dns *f, struct loop *l);
void fake_dns_stop(struct fake_dns *f);
void fake_dns_close(struct fake_dns *f);
void fake_dns_open(struct fake_dns *f);

/* fake_dns_answer writes the honest answer to a question: its length, 0 for none. */
size_t fake_dns_answer(struct fake_dns *f, const uint8_t *q, size_t len, uint8_t *out, size_t cap);

/* fake_dns_wait runs the loop until *flag is at least `n`, or fails the test after ten seconds. */
void fake_dns_wait(struct fake_dns *f, const unsigned *flag, unsigned n);
