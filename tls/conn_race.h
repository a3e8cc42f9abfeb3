/* Happy Eyeballs (RFC 8305, section 5): one connection to a host of several addresses. Attempts are
 * begun one after the other, the next when the last one has failed or after 300 ms; the first that
 * is connected wins and the others are closed. Belongs to one loop. */
#pragma once

#include "tls/conn.h"

enum { CONN_RACE_MAX = 8, CONN_RACE_DELAY_MS = 300 };

struct conn_race;

/* conn_race_cb: fd is connected to peer and the caller's; or -1, all have failed, the last with
 * errno `err` (ETIMEDOUT: how->timeout_ms is over). The race is freed when it returns. */
typedef void (*conn_race_cb)(void *arg, int fd, const struct addr *peer, int err);

/* conn_race_order writes `first` and the n others in the order of the attempts: the families take
 * turns, beginning with `count` addresses of `family` (AF_INET, AF_INET6; 0: first's); returns how
 * many, at most CONN_RACE_MAX. */
uint32_t conn_race_order(const struct addr *first, const struct addr *others, uint32_t n,
                         int family, uint32_t count, struct addr *out);

/* conn_race_new begins. prepare(arg, how) completes how->bind and its like for how->peer. cb comes
 * from the loop, once, unless conn_race_free comes before. */
struct conn_race *conn_race_new(struct loop *l, const struct addr *addrs, uint32_t n,
                                uint64_t timeout_ms,
                                void (*prepare)(void *arg, struct conn_connect *how),
                                conn_race_cb cb, void *arg);

/* conn_race_free closes what is under way and sets *r to NULL. */
void conn_race_free(struct conn_race **r);
