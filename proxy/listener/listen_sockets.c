#include "proxy/listener/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Options and bind; the failing call's errno, or 0. */
static int prepare(int fd, const struct listener *l, const struct addr *a)
{
    int on = 1;
    if (addr_family(a) == ADDR_PIPE) {
        if (addr_path(a))
            unlink(addr_path(a));
        return addr_bind(fd, a) == 0 ? 0 : errno;
    }
    bool v6 = addr_family(a) == ADDR_IPV6;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (v6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (l->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)
        return errno;
    int level = v6 ? SOL_IPV6 : SOL_IP;
    int name = v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT;
    if (l->transparent && setsockopt(fd, level, name, &on, sizeof(on)) != 0)
        return errno;
    return addr_bind(fd, a) == 0 ? 0 : errno;
}

static int open_one(const struct listener *l, const struct addr *a, int *err)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *err = fd < 0 ? errno : prepare(fd, l, a);
    if (*err && fd >= 0) {
        close(fd);
        return -1;
    }
    return fd;
}

struct listen_sockets *listen_sockets_open(const struct listener *l, unsigned num_workers,
                                           struct errors *e)
{
    struct listen_sockets *s = NEW(struct listen_sockets);
    refcount_init(&s->ref);
    s->addr = l->addr;
    s->num = num_workers;
    s->fds = mem_alloc(num_workers * sizeof(int));
    s->shared = !l->reuse_port || addr_family(&l->addr) == ADDR_PIPE;
    s->backlog = l->backlog;
    for (unsigned i = 0; i < num_workers; i++)
        s->fds[i] = -1;
    for (unsigned i = 0; i < num_workers; i++) {
        if (i && s->shared) {
            s->fds[i] = s->fds[0];
            continue;
        }
        int err;
        s->fds[i] = open_one(l, &s->addr, &err);
        if (s->fds[i] < 0) {
            char text[ADDR_TEXT_MAX];
            struct str where = addr_format(&s->addr, text);
            errors_add(e, "address", "cannot bind '%.*s': %s", STR_ARG(where), strerror(err));
            listen_sockets_unref(s);
            return NULL;
        }
        /* Port 0: the others take the port that the first was given. */
        if (i == 0 && addr_is_ip(&s->addr) && !addr_local(s->fds[0], &s->addr))
            s->addr = l->addr;
    }
    return s;
}

bool listen_sockets_listen(struct listen_sockets *s)
{
    if (s->listening)
        return true;
    for (unsigned i = 0; i < (s->shared ? 1 : s->num); i++) {
        if (listen(s->fds[i], s->backlog) != 0)
            return false;
    }
    s->listening = true;
    return true;
}

struct listen_sockets *listen_sockets_ref(struct listen_sockets *s)
{
    if (s)
        refcount_inc(&s->ref);
    return s;
}

void listen_sockets_unref(struct listen_sockets *s)
{
    if (!s || !refcount_dec(&s->ref))
        return;
    for (unsigned i = 0; i < (s->shared ? 1 : s->num); i++) {
        if (s->fds[i] >= 0)
            close(s->fds[i]);
    }
    mem_free(s->fds);
    mem_free(s);
}
