/* Socket addresses: IPv4, IPv6 with scope id, Unix paths (abstract ones too). A plain value of 32
 * bytes, copied freely: the names of Unix sockets are kept once for the process, for good. Text is
 * never resolved: a name is not an address. Any thread. */
#pragma once

#include "base/str.h"
#include "base/alloc.h"
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

enum addr_family { ADDR_NONE, ADDR_IPV4, ADDR_IPV6, ADDR_PIPE };

struct addr {
    union {
        struct sockaddr sa; /* sa_family 0: ADDR_NONE, as in a zeroed addr */
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct {
            sa_family_t family;
            uint16_t len;     /* of the name: a path without its NUL, or NUL and an abstract name */
            const char *name; /* kept for good, one for each name; NULL: unnamed */
        } pipe;
    };
};

enum {
    ADDR_TEXT_MAX = 128,     /* fits every addr_format, NUL included */
    ADDR_PIPE_MAX = 107,     /* longest path, as in Envoy */
    ADDR_PIPE_NAMES = 65536, /* kept; a peer beyond is taken for unnamed */
};

/* addr_family says what it holds. */
enum addr_family addr_family(const struct addr *a);

/* addr_is_ip says whether it is IPv4 or IPv6. */
static inline bool addr_is_ip(const struct addr *a)
{
    return a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6;
}

/* addr_sockaddr writes what bind and connect are given; returns its length. */
socklen_t addr_sockaddr(const struct addr *a, struct sockaddr_storage *out);

/* addr_connect, addr_bind: the system calls. */
int addr_connect(int fd, const struct addr *a);
int addr_bind(int fd, const struct addr *a);

/* addr_path is the path of a Unix socket in the file system, NUL-terminated; NULL for anything
 * else.
 */
const char *addr_path(const struct addr *a);

/* addr_key views bytes that are equal if and only if addr_eq says so, for maps. */
static inline struct str addr_key(const struct addr *a)
{
    return str_n((const char *)a, sizeof(*a));
}

/* addr_from_sockaddr takes over a kernel address; false (and ADDR_NONE) for another family or a
 * wrong length. */
bool addr_from_sockaddr(struct addr *out, const struct sockaddr *sa, socklen_t len) WARN_UNUSED;

/* addr_parse_ip parses "10.0.0.1", "::1" or "fe80::1%2" (number or interface name) without brackets
 * and sets `port`. False on anything else; *out is then ADDR_NONE. IPv4 in strict dotted quads: no
 * octal, no short forms. */
bool addr_parse_ip(struct str ip, uint16_t port, struct addr *out) WARN_UNUSED;

/* addr_parse_ip_port parses "10.0.0.1:80" or "[::1]:80". */
bool addr_parse_ip_port(struct str text, struct addr *out) WARN_UNUSED;

/* addr_parse_pipe takes a path of 1 to ADDR_PIPE_MAX bytes without NUL; a leading '@' means the
 * abstract namespace. */
bool addr_parse_pipe(struct str path, struct addr *out) WARN_UNUSED;

/* addr_format writes "10.0.0.1:80", "[::1]:80" or the path (abstract: with '@'; a NUL inside is
 * shown as '@' too) and a NUL into buf, of at least ADDR_TEXT_MAX bytes; returns a view of it. */
struct str addr_format(const struct addr *a, char *buf);

/* addr_format_ip the same without port and brackets; empty for what is not IP. */
struct str addr_format_ip(const struct addr *a, char *buf);

/* addr_port and addr_set_port: host byte order; 0 and no effect when not IP. */
uint16_t addr_port(const struct addr *a);
void addr_set_port(struct addr *a, uint16_t port);

/* addr_ip_bytes views the 4 or 16 address bytes in network order; empty when not IP. */
struct str addr_ip_bytes(const struct addr *a);

/* addr_eq compares family, address, scope and port (or path); addr_eq_ip leaves the port out and is
 * false for what is not IP. */
bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_eq_ip(const struct addr *a, const struct addr *b);

/* addr_hash hashes what addr_eq compares. Differs between processes. */
uint64_t addr_hash(const struct addr *a);

/* addr_is_loopback: 127/8, ::1, or v4-mapped 127/8. addr_is_any: 0.0.0.0, :: or ::ffff:0.0.0.0. */
bool addr_is_loopback(const struct addr *a);
bool addr_is_any(const struct addr *a);

/* addr_is_v4_mapped: ::ffff:a.b.c.d. addr_unmap turns that into a.b.c.d and leaves others alone. */
bool addr_is_v4_mapped(const struct addr *a);
void addr_unmap(struct addr *a);

/* addr_local and addr_peer read a socket's ends, unmapped. False and ADDR_NONE on error. An unnamed
 * Unix end gives ADDR_PIPE with an empty path. */
bool addr_local(int fd, struct addr *out) WARN_UNUSED;
bool addr_peer(int fd, struct addr *out) WARN_UNUSED;

/* addr_original_dst reads where a redirected connection was going (SO_ORIGINAL_DST, or
 * IP6T_SO_ORIGINAL_DST on an IPv6 socket), unmapped. False when netfilter knows nothing of it. A
 * tracked connection that was not redirected gives its own local address. */
bool addr_original_dst(int fd, struct addr *out) WARN_UNUSED;
