/* Resolver: host names to addresses, asynchronously, on the loop of the main thread. One for the
 * process: a name is asked for once, however many ask, and its answer is kept for as long as each
 * of them takes it for fresh. What was right last is kept over failures. The search list and the
 * hosts file are those of the system. Everything here runs on the main thread. */
#pragma once

#include "base/addr.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/stats.h"

struct resolver;
struct resolver_name;

enum dns_family {
    DNS_AUTO,         /* IPv6, and IPv4 where there is none */
    DNS_V4_ONLY,      /* A */
    DNS_V6_ONLY,      /* AAAA */
    DNS_V4_PREFERRED, /* IPv4, and IPv6 where there is none */
    DNS_ALL,          /* both together */
};

/* How to ask. Who asks with equal options shares sockets and answers. */
struct resolver_options {
    struct str servers;       /* "10.0.0.1:53,[fd00::1]:53"; empty: those of the system */
    bool servers_as_fallback; /* only where the system names none */
    bool use_tcp;
    bool no_search; /* no search list of the system */
    bool filter_unroutable;
    bool rotate;
    bool reinit_on_timeout;
    uint32_t udp_max_queries; /* then another socket; 0: never */
    uint32_t edns_size;       /* 0: no EDNS */
    uint32_t tries;           /* 0: RESOLVER_TRIES */
    uint64_t timeout_ms;      /* of the first try; 0: RESOLVER_TIMEOUT_MS */
    uint64_t max_channel_ms;  /* so long on one socket; 0: for good */
};

enum dns_status {
    DNS_OK,
    DNS_NO_RECORDS, /* the servers say that there is no such name, or no address of it */
    DNS_FAILED,     /* they say nothing that helps */
};

struct dns_answer {
    enum dns_status status;
    uint64_t at_ms;           /* when it came, on the loop's clock */
    uint64_t ttl_ms;          /* the least of its records; 0: unknown */
    const struct addr *addrs; /* with port 0; DNS_FAILED: the last good ones */
    uint32_t num_addrs;
};

enum {
    RESOLVER_TIMEOUT_MS = 5000,
    RESOLVER_TRIES = 4,
    RESOLVER_TIMEOUT_MAX_S = 600,
    RESOLVER_TRIES_MAX = 100,
    RESOLVER_NAME_MAX = 253,     /* RFC 1035, section 3.1, in text */
    RESOLVER_LABEL_MAX = 63,     /* the same */
    RESOLVER_ADDRS_MAX = 1024,   /* of one answer; more are dropped and counted */
    RESOLVER_NAMES_MAX = 16384,  /* of one set of options; beyond, names that nobody waits for go */
    RESOLVER_CHANNELS_MAX = 64,  /* sets of options; beyond, one that nobody uses goes */
    RESOLVER_IN_FLIGHT = 128,    /* names asked for at a time with one set of options */
    RESOLVER_NEGATIVE_MS = 1000, /* a failure is not asked for again, at most */
};

#define RESOLVER_STATS(X)                                                                          \
    X(RESOLVER_TOTAL, "resolve_total", COUNTER)                                                    \
    X(RESOLVER_PENDING, "pending_resolutions", GAUGE)                                              \
    X(RESOLVER_NOT_FOUND, "not_found", COUNTER)                                                    \
    X(RESOLVER_GET_ADDR_FAILURE, "get_addr_failure", COUNTER)                                      \
    X(RESOLVER_TIMEOUTS, "timeouts", COUNTER)                                                      \
    X(RESOLVER_REINITS, "reinits", COUNTER)                                                        \
    X(RESOLVER_CACHE_HIT, "cache_hit", COUNTER)                                                    \
    X(RESOLVER_SHARED, "shared", COUNTER)                                                          \
    X(RESOLVER_BAD_NAME, "bad_name", COUNTER)                                                      \
    X(RESOLVER_OVERFLOW, "overflow", COUNTER)                                                      \
    X(RESOLVER_ADDRS_DROPPED, "addresses_dropped", COUNTER)

enum { RESOLVER_STATS(STATS_ENUM) RESOLVER_NUM_STATS };

/* A question, embedded in who asks; zeroed before first use. */
struct resolver_query {
    struct list link;
    struct resolver_name *name; /* NULL: not asking */
    void (*on_answer)(void *arg, const struct dns_answer *a);
    void *arg;
};

/* resolver_new makes a resolver without sockets; they come with the first question. resolver_free
 * drops what is still asked, without an answer; sets *r to NULL. */
struct resolver *resolver_new(struct loop *l);
void resolver_free(struct resolver **r);

/* resolver_ask answers q->on_answer once, later, unless resolver_cancel is called first. An answer
 * that is younger than max_age_ms, or with use_ttl than its TTL, is given from memory. The rest is
 * borrowed for the call. An answer is borrowed by on_answer, which may ask again. */
void resolver_ask(struct resolver *r, const struct resolver_options *o, struct str name,
                  enum dns_family family, uint64_t max_age_ms, bool use_ttl,
                  struct resolver_query *q);

/* resolver_cancel: on_answer will not run. Safe when q is not asking. */
void resolver_cancel(struct resolver_query *q);

/* resolver_name_valid says whether a name fits a question: lengths, and no byte outside of
 * printable ASCII. */
bool resolver_name_valid(struct str name);
