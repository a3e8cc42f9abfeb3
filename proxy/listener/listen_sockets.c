#include "proxy/listener/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static bool set_on(int fd, int level, int name)
{
    int on = 1;
    return setsockopt(fd, level, name, &on, sizeof(on)) == 0;
}

/* A socket that was left behind; nothing else is taken away. */
static void remove_stale(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
}

static int bind_pipe(int fd, const struct listen_address *a)
{
    const char *path = addr_path(&a->addr);
    if (path)
        remove_stale(path);
    if (addr_bind(fd, &a->addr) != 0)
        return errno;
    return path && a->mode && chmod(path, a->mode) != 0 ? errno : 0;
}

/* Options and bind; the failing call's errno, or 0. */
static int prepare(int fd, const struct listener *l, const struct listen_address *la,
                   const struct addr *a)
{
    int err = socket_options_apply(&la->options, fd, SOCKET_PREBIND);
    if (err)
        return err;
    if (addr_family(a) == ADDR_PIPE)
        return bind_pipe(fd, la);
    bool v6 = addr_family(a) == ADDR_IPV6;
    int level = v6 ? SOL_IPV6 : SOL_IP;
    set_on(fd, SOL_SOCKET, SO_REUSEADDR);
    if (v6)
        set_on(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    if ((l->reuse_port && !set_on(fd, SOL_SOCKET, SO_REUSEPORT)) ||
        (l->transparent && !set_on(fd, level, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT)) ||
        (l->freebind && !set_on(fd, level, v6 ? IPV6_FREEBIND : IP_FREEBIND)))
        return errno;
    return addr_bind(fd, a) == 0 ? 0 : errno;
}

static int open_one(const struct listener *l, const struct listen_address *la, const struct addr *a,
                    int *err)
{
    int protocol = l->mptcp && addr_is_ip(a) ? IPPROTO_MPTCP : 0;
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    *err = fd < 0 ? errno : prepare(fd, l, la, a);
    if (!*err)
        *err = socket_options_apply(&la->options, fd, SOCKET_BOUND);
    if (*err && fd >= 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool open_address(struct listen_sockets *s, const struct listener *l,
                         const struct listen_address *la, struct listen_socket *out,
                         struct errors *e)
{
    out->addr = la->addr;
    out->shared = !l->reuse_port || l->loads || addr_family(&la->addr) == ADDR_PIPE;
    out->fds = mem_alloc(s->num_workers * sizeof(int));
    for (unsigned i = 0; i < s->num_workers; i++)
        out->fds[i] = -1;
    for (unsigned i = 0; i < s->num_workers; i++) {
        if (i && out->shared) {
            out->fds[i] = out->fds[0];
            continue;
        }
        int err;
        out->fds[i] = open_one(l, la, &out->addr, &err);
        if (out->fds[i] < 0) {
            char text[ADDR_TEXT_MAX];
            struct str where = addr_format(&out->addr, text);
            errors_add(e, "address", "cannot bind '%.*s': %s", STR_ARG(where), strerror(err));
            return false;
        }
        /* Port 0: the others take the port that the first was given. */
        if (i == 0 && addr_is_ip(&out->addr) && !addr_local(out->fds[0], &out->addr))
            out->addr = la->addr;
    }
    return true;
}

struct listen_sockets *listen_sockets_open(const struct listener *l, unsigned num_workers,
                                           struct errors *e)
{
    struct listen_sockets *s = NEW(struct listen_sockets);
    refcount_init(&s->ref);
    s->num_workers = num_workers;
    s->v = mem_zalloc(l->num_addresses * sizeof(*s->v));
    for (size_t i = 0; i < l->num_addresses; i++) {
        size_t mark = i ? errors_push_index(e, "additional_addresses", i - 1) : 0;
        bool ok = open_address(s, l, &l->addresses[i], &s->v[s->num++], e);
        if (i)
            errors_pop(e, mark);
        if (!ok) {
            listen_sockets_unref(s);
            return NULL;
        }
    }
    return s;
}

static int listen_one(const struct listener *l, const struct listen_address *la, int fd)
{
    int queue = (int)l->fast_open;
    if (addr_is_ip(&la->addr) && l->set_fast_open &&
        setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)) != 0)
        return errno;
    if (listen(fd, l->backlog) != 0)
        return errno;
    return socket_options_apply(&la->options, fd, SOCKET_LISTENING);
}

int listen_sockets_listen(struct listen_sockets *s, const struct listener *l)
{
    for (size_t a = 0; a < s->num && !s->listening; a++) {
        for (unsigned i = 0; i < (s->v[a].shared ? 1 : s->num_workers); i++) {
            int err = listen_one(l, &l->addresses[a], s->v[a].fds[i]);
            if (err)
                return err;
        }
    }
    s->listening = true;
    return 0;
}

bool listen_sockets_fit(const struct listener *had, const struct listener *l)
{
    if (had->num_addresses != l->num_addresses || had->transparent != l->transparent ||
        had->reuse_port != l->reuse_port || had->freebind != l->freebind ||
        had->mptcp != l->mptcp || !had->loads != !l->loads ||
        had->set_fast_open != l->set_fast_open || had->fast_open != l->fast_open)
        return false;
    for (size_t i = 0; i < l->num_addresses; i++) {
        const struct listen_address *a = &had->addresses[i], *b = &l->addresses[i];
        if (!addr_eq(&a->addr, &b->addr) || a->mode != b->mode ||
            !socket_options_eq(&a->options, &b->options))
            return false;
    }
    return true;
}

struct listen_sockets *listen_sockets_ref(struct listen_sockets *s)
{
    if (s)
        refcount_inc(&s->ref);
    return s;
}

static void close_address(const struct listen_sockets *s, struct listen_socket *ls)
{
    for (unsigned i = 0; i < (ls->shared ? 1 : s->num_workers); i++) {
        if (ls->fds[i] >= 0)
            close(ls->fds[i]);
    }
    mem_free(ls->fds);
    ls->fds = NULL;
}

void listen_sockets_unref(struct listen_sockets *s)
{
    if (!s || !refcount_dec(&s->ref))
        return;
    for (size_t a = 0; a < s->num; a++)
        close_address(s, &s->v[a]);
    mem_free(s->v);
    mem_free(s);
}
