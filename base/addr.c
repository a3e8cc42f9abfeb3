#include "base/addr.h"
#include "base/hash.h"
#include "base/map.h"

#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>

/* linux/netfilter_ipv4.h and ip6_tables.h clash with the C library's headers. */
enum { SO_ORIGINAL_DST = 80 };

_Static_assert(sizeof(struct addr) == 32, "an address is copied freely");

/* --- names of Unix sockets --- */

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map names; /* name -> its copy */
static bool names_ready;

/* The one copy of a name; NULL if there are too many already. Never on a request's way: names come
 * from configurations, and from peers that bound their socket. */
static const char *keep_name(struct str name)
{
    pthread_mutex_lock(&names_lock);
    if (!names_ready)
        map_init(&names, true);
    names_ready = true;
    char *kept = map_get(&names, name);
    if (!kept && map_count(&names) < ADDR_PIPE_NAMES) {
        kept = mem_alloc(name.len + 1);
        memcpy(kept, name.p, name.len);
        kept[name.len] = '\0';
        map_put(&names, name, kept);
    }
    pthread_mutex_unlock(&names_lock);
    return kept;
}

static void set_pipe(struct addr *out, struct str name)
{
    *out = (struct addr){0};
    out->pipe.family = AF_UNIX;
    out->pipe.name = name.len ? keep_name(name) : NULL;
    out->pipe.len = out->pipe.name ? (uint16_t)name.len : 0;
}

/* The bytes of a path (without its NUL) or of an abstract name (with its leading one). */
static struct str pipe_name(const struct addr *a)
{
    return str_n(a->pipe.name, a->pipe.len);
}

const char *addr_path(const struct addr *a)
{
    return a->sa.sa_family == AF_UNIX && a->pipe.len && a->pipe.name[0] ? a->pipe.name : NULL;
}

socklen_t addr_sockaddr(const struct addr *a, struct sockaddr_storage *out)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    *out = (struct sockaddr_storage){0};
    switch (addr_family(a)) {
    case ADDR_NONE:
        return 0;
    case ADDR_IPV4:
        memcpy(out, &a->in, sizeof(a->in));
        return sizeof(a->in);
    case ADDR_IPV6:
        memcpy(out, &a->in6, sizeof(a->in6));
        return sizeof(a->in6);
    case ADDR_PIPE:
        break;
    }
    memcpy(un.sun_path, a->pipe.name, a->pipe.len);
    memcpy(out, &un, sizeof(un));
    /* The length of an abstract name counts exactly; a path's ends with its NUL. */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + a->pipe.len +
                       (addr_path(a) != NULL));
}

int addr_connect(int fd, const struct addr *a)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_sockaddr(a, &ss);
    return connect(fd, (const struct sockaddr *)&ss, len);
}

int addr_bind(int fd, const struct addr *a)
{
    struct sockaddr_storage ss;
    socklen_t len = addr_sockaddr(a, &ss);
    return bind(fd, (const struct sockaddr *)&ss, len);
}

enum addr_family addr_family(const struct addr *a)
{
    switch (a->sa.sa_family) {
    case AF_INET:
        return ADDR_IPV4;
    case AF_INET6:
        return ADDR_IPV6;
    case AF_UNIX:
        return ADDR_PIPE;
    default: /* sa_family_t is a number, not an enum */
        return ADDR_NONE;
    }
}

static bool from_unix(struct addr *out, const struct sockaddr *sa, socklen_t len)
{
    struct sockaddr_un un = {0};
    size_t n = len - offsetof(struct sockaddr_un, sun_path);
    memcpy(&un, sa, len);
    if (n && un.sun_path[0] != '\0')
        n = strnlen(un.sun_path, n);
    set_pipe(out, str_n(un.sun_path, n));
    return true;
}

bool addr_from_sockaddr(struct addr *out, const struct sockaddr *sa, socklen_t len)
{
    *out = (struct addr){0};
    if (len < sizeof(sa_family_t))
        return false;
    if (sa->sa_family == AF_INET && len >= sizeof(out->in))
        len = sizeof(out->in);
    else if (sa->sa_family == AF_INET6 && len >= sizeof(out->in6))
        len = sizeof(out->in6);
    else if (sa->sa_family == AF_UNIX && len <= sizeof(struct sockaddr_un))
        return from_unix(out, sa, len);
    else
        return false;
    memcpy(out, sa, len);
    /* Padding and the flow label take no part in comparing. */
    if (sa->sa_family == AF_INET)
        memset(out->in.sin_zero, 0, sizeof(out->in.sin_zero));
    else if (sa->sa_family == AF_INET6)
        out->in6.sin6_flowinfo = 0;
    return true;
}

static bool parse_v4(struct str s, struct in_addr *out)
{
    char text[INET_ADDRSTRLEN];
    if (s.len == 0 || s.len >= sizeof(text) || memchr(s.p, '\0', s.len))
        return false;
    memcpy(text, s.p, s.len);
    text[s.len] = '\0';
    return inet_pton(AF_INET, text, out) == 1;
}

static bool parse_scope(struct str s, uint32_t *out)
{
    char name[IF_NAMESIZE];
    uint64_t n;
    if (str_to_u64(s, &n)) {
        *out = (uint32_t)n;
        return n <= UINT32_MAX;
    }
    if (s.len == 0 || s.len >= sizeof(name) || memchr(s.p, '\0', s.len))
        return false;
    memcpy(name, s.p, s.len);
    name[s.len] = '\0';
    *out = if_nametoindex(name);
    return *out != 0;
}

static bool parse_v6(struct str s, struct sockaddr_in6 *out)
{
    char text[INET6_ADDRSTRLEN];
    ptrdiff_t percent = str_chr(s, '%');
    if (percent >= 0) {
        if (!parse_scope(str_n(s.p + percent + 1, s.len - (size_t)percent - 1),
                         &out->sin6_scope_id))
            return false;
        s.len = (size_t)percent;
    }
    if (s.len == 0 || s.len >= sizeof(text) || memchr(s.p, '\0', s.len))
        return false;
    memcpy(text, s.p, s.len);
    text[s.len] = '\0';
    return inet_pton(AF_INET6, text, &out->sin6_addr) == 1;
}

bool addr_parse_ip(struct str ip, uint16_t port, struct addr *out)
{
    struct addr a = {0};
    *out = a;
    if (str_chr(ip, ':') < 0) {
        if (!parse_v4(ip, &a.in.sin_addr))
            return false;
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons(port);
    } else {
        if (!parse_v6(ip, &a.in6))
            return false;
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons(port);
    }
    *out = a;
    return true;
}

bool addr_parse_ip_port(struct str text, struct addr *out)
{
    *out = (struct addr){0};
    const char *colon = text.len ? memrchr(text.p, ':', text.len) : NULL;
    uint64_t port;
    if (!colon)
        return false;
    struct str ip = str_n(text.p, (size_t)(colon - text.p));
    struct str port_text = str_n(colon + 1, text.len - ip.len - 1);
    if (port_text.len > 5 || !str_to_u64(port_text, &port) || port > UINT16_MAX)
        return false;
    bool brackets = ip.len >= 2 && ip.p[0] == '[' && ip.p[ip.len - 1] == ']';
    if (brackets)
        ip = str_n(ip.p + 1, ip.len - 2);
    if (brackets != (str_chr(ip, ':') >= 0)) /* IPv6 has them, IPv4 does not */
        return false;
    return addr_parse_ip(ip, (uint16_t)port, out);
}

bool addr_parse_pipe(struct str path, struct addr *out)
{
    *out = (struct addr){0};
    if (path.len == 0 || path.len > ADDR_PIPE_MAX || memchr(path.p, '\0', path.len))
        return false;
    char name[ADDR_PIPE_MAX];
    memcpy(name, path.p, path.len);
    if (name[0] == '@')
        name[0] = '\0'; /* abstract */
    set_pipe(out, str_n(name, path.len));
    return out->pipe.name != NULL;
}

static char *put_decimal(char *p, unsigned n)
{
    char digits[5]; /* at most a port */
    size_t i = sizeof(digits);
    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n && i > 0);
    memcpy(p, digits + i, sizeof(digits) - i);
    return p + sizeof(digits) - i;
}

/* Each request may log several of these: glibc's inet_ntop and snprintf take half a microsecond. */
static char *put_ipv4(char *p, const struct addr *a)
{
    unsigned char ip[4];
    memcpy(ip, &a->in.sin_addr, sizeof(ip));
    for (size_t i = 0; i < sizeof(ip); i++) {
        if (i)
            *p++ = '.';
        p = put_decimal(p, ip[i]);
    }
    return p;
}

struct str addr_format_ip(const struct addr *a, char *buf)
{
    if (a->sa.sa_family == AF_INET) {
        char *end = put_ipv4(buf, a);
        *end = '\0';
        return str_n(buf, (size_t)(end - buf));
    }
    buf[0] = '\0';
    if (!addr_is_ip(a) || !inet_ntop(AF_INET6, &a->in6.sin6_addr, buf, ADDR_TEXT_MAX))
        return str_n(buf, 0);
    size_t len = strlen(buf);
    if (a->in6.sin6_scope_id)
        len += (size_t)snprintf(buf + len, ADDR_TEXT_MAX - len, "%%%u", a->in6.sin6_scope_id);
    return str_n(buf, len);
}

struct str addr_format(const struct addr *a, char *buf)
{
    char ip[ADDR_TEXT_MAX];
    buf[0] = '\0';
    switch (addr_family(a)) {
    case ADDR_NONE:
        return str_n(buf, 0);
    case ADDR_PIPE: {
        struct str name = pipe_name(a);
        for (size_t i = 0; i < name.len; i++)
            buf[i] = name.p[i] ? name.p[i] : '@';
        buf[name.len] = '\0';
        return str_n(buf, name.len);
    }
    case ADDR_IPV4: {
        char *end = put_ipv4(buf, a);
        *end++ = ':';
        end = put_decimal(end, addr_port(a));
        *end = '\0';
        return str_n(buf, (size_t)(end - buf));
    }
    case ADDR_IPV6:
        break;
    }
    struct str s = addr_format_ip(a, ip);
    int n = snprintf(buf, ADDR_TEXT_MAX, "[%.*s]:%u", STR_ARG(s), addr_port(a));
    return str_n(buf, (size_t)n);
}

uint16_t addr_port(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohs(a->in.sin_port);
    return a->sa.sa_family == AF_INET6 ? ntohs(a->in6.sin6_port) : 0;
}

void addr_set_port(struct addr *a, uint16_t port)
{
    if (a->sa.sa_family == AF_INET)
        a->in.sin_port = htons(port);
    else if (a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons(port);
}

struct str addr_ip_bytes(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return str_n((const char *)&a->in.sin_addr, 4);
    if (a->sa.sa_family == AF_INET6)
        return str_n((const char *)&a->in6.sin6_addr, 16);
    return STR_NULL;
}

static uint32_t scope(const struct addr *a)
{
    return a->sa.sa_family == AF_INET6 ? a->in6.sin6_scope_id : 0;
}

bool addr_eq_ip(const struct addr *a, const struct addr *b)
{
    return addr_is_ip(a) && a->sa.sa_family == b->sa.sa_family &&
           str_eq(addr_ip_bytes(a), addr_ip_bytes(b)) && scope(a) == scope(b);
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_UNIX)
        return str_eq(pipe_name(a), pipe_name(b));
    if (!addr_is_ip(a))
        return true;
    return addr_port(a) == addr_port(b) && addr_eq_ip(a, b);
}

uint64_t addr_hash(const struct addr *a)
{
    if (a->sa.sa_family == AF_UNIX)
        return hash_str(pipe_name(a));
    return hash_combine(hash_str(addr_ip_bytes(a)), (uint64_t)scope(a) << 16 | addr_port(a));
}

bool addr_is_v4_mapped(const struct addr *a)
{
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr);
}

void addr_unmap(struct addr *a)
{
    if (!addr_is_v4_mapped(a))
        return;
    struct addr v4 = {0};
    v4.in.sin_family = AF_INET;
    v4.in.sin_port = a->in6.sin6_port;
    memcpy(&v4.in.sin_addr, &a->in6.sin6_addr.s6_addr[12], 4);
    *a = v4;
}

bool addr_is_loopback(const struct addr *a)
{
    struct addr u = *a;
    addr_unmap(&u);
    if (u.sa.sa_family == AF_INET)
        return ntohl(u.in.sin_addr.s_addr) >> 24 == 127;
    return u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&u.in6.sin6_addr);
}

bool addr_is_any(const struct addr *a)
{
    struct addr u = *a;
    addr_unmap(&u);
    if (u.sa.sa_family == AF_INET)
        return u.in.sin_addr.s_addr == 0;
    return u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&u.in6.sin6_addr);
}

/* The kernel's answer may be longer than sockaddr_un holds: it then names a path of 108 bytes. */
static bool take(struct addr *out, const struct sockaddr_storage *ss, socklen_t len)
{
    if (!addr_from_sockaddr(out, (const struct sockaddr *)ss, len))
        return false;
    addr_unmap(out);
    return true;
}

bool addr_local(int fd, struct addr *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    *out = (struct addr){0};
    return getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && take(out, &ss, len);
}

bool addr_peer(int fd, struct addr *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    *out = (struct addr){0};
    return getpeername(fd, (struct sockaddr *)&ss, &len) == 0 && take(out, &ss, len);
}

bool addr_original_dst(int fd, struct addr *out)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    struct addr local;
    *out = (struct addr){0};
    if (!addr_local(fd, &local) || !addr_is_ip(&local))
        return false;
    /* A v4 connection on a dual-stack socket is in the IPv4 table, and asked for at SOL_IP. */
    int level = local.sa.sa_family == AF_INET ? SOL_IP : SOL_IPV6;
    return getsockopt(fd, level, SO_ORIGINAL_DST, &ss, &len) == 0 && take(out, &ss, len);
}
