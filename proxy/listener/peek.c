#include "proxy/listener/accept.h"

#include "base/obj.h"
#include "proxy/worker.h"
#include "tls/client_hello.h"
#include <errno.h>
#include <sys/socket.h>

enum { PEEK_MAGIC = 0x5045454b, PEEK_FIRST = 2048 };

struct peek {
    uint32_t magic;
    struct downstream *d;
    struct io_watch watch;
    struct timer timer;
    struct task first; /* bytes may be there already */
    int fd;
    char *bytes;
    size_t cap;
    size_t seen;
    void (*done)(struct downstream *d, enum peek_result r);
};

void peek_stop(struct downstream *d)
{
    struct peek *p = d->peek;
    if (!p)
        return;
    d->peek = NULL;
    p->magic = 0;
    timer_disarm(&p->timer);
    task_cancel(&p->first);
    io_watch_cleanup(&p->watch);
    mem_free(p->bytes);
    p->bytes = NULL;
}

static void finish(struct peek *p, enum peek_result r)
{
    struct downstream *d = p->d;
    void (*done)(struct downstream *, enum peek_result) = p->done;
    peek_stop(d);
    done(d, r);
}

static void keep_hello(struct downstream *d, const struct client_hello *h)
{
    d->detected_protocol = STR("tls");
    d->info.sni = arena_str(d->arena, h->sni);
    struct str *alpn = arena_alloc(d->arena, (h->num_alpn + 1) * sizeof(*alpn));
    for (size_t i = 0; i < h->num_alpn; i++)
        alpn[i] = arena_str(d->arena, h->alpn[i]);
    d->detected_alpn = alpn;
    d->num_detected_alpn = h->num_alpn;
}

/* Looks at what is in the socket; false while more is needed. */
static bool look(struct peek *p)
{
    struct client_hello hello;
    void *workspace = mem_alloc(p->seen);
    enum client_hello_status st = client_hello_parse(str_n(p->bytes, p->seen), 0, workspace,
                                                     &hello);
    bool over = true;
    if (st == CLIENT_HELLO_OK)
        keep_hello(p->d, &hello);
    mem_free(workspace);
    switch (st) {
    case CLIENT_HELLO_NEED_MORE:
        over = false;
        break;
    case CLIENT_HELLO_OK:
    case CLIENT_HELLO_NOT_TLS:
        finish(p, PEEK_DONE);
        break;
    case CLIENT_HELLO_ERROR:
        finish(p, PEEK_ERROR);
        break;
    }
    return over;
}

static void read_more(struct peek *p)
{
    for (;;) {
        ssize_t n = recv(p->fd, p->bytes, p->cap, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0 && errno == EINTR)
            continue;
        /* An end after bytes that may still become a hello: nothing more will come. */
        if (n <= 0 || ((size_t)n == p->seen && p->seen < p->cap)) {
            if (n > 0)
                return;
            finish(p, PEEK_CLOSED);
            return;
        }
        p->seen = (size_t)n;
        if (look(p))
            return;
        if (p->seen < p->cap)
            return;
        if (p->cap >= CLIENT_HELLO_MAX) {
            finish(p, PEEK_ERROR);
            return;
        }
        p->cap *= 4;
        p->bytes = mem_realloc(p->bytes, p->cap);
    }
}

static void on_io(void *arg, unsigned events)
{
    struct peek *p = OBJ_CAST(arg, struct peek, PEEK_MAGIC);
    struct downstream *d = p->d;
    if (events & (IO_READ | IO_CLOSED))
        read_more(p);
    if ((events & IO_CLOSED) && d->peek == p)
        finish(p, PEEK_CLOSED);
}

static void on_first(void *arg)
{
    read_more(OBJ_CAST(arg, struct peek, PEEK_MAGIC));
}

static void on_timer(void *arg)
{
    finish(OBJ_CAST(arg, struct peek, PEEK_MAGIC), PEEK_TIMEOUT);
}

void peek_start(struct downstream *d, int fd, uint64_t timeout_ms,
                void (*done)(struct downstream *d, enum peek_result r))
{
    struct peek *p = ARENA_NEW(d->arena, struct peek);
    struct loop *l = d->worker->loop;
    p->magic = PEEK_MAGIC;
    p->d = d;
    p->fd = fd;
    p->done = done;
    p->cap = d->listener->peek_first ? d->listener->peek_first : PEEK_FIRST;
    p->bytes = mem_alloc(p->cap);
    d->peek = p;
    timer_init(&p->timer, l, on_timer, p);
    task_init(&p->first, on_first, p);
    if (timeout_ms)
        timer_arm(&p->timer, timeout_ms);
    io_watch_init(&p->watch, l, fd, on_io, p);
    loop_post(l, &p->first);
}
