#include "proxy/xds_stream.h"

#include "base/log.h"
#include "base/obj.h"
#include "cluster/clusters.h"
#include "proxy/server.h"
#include "tls/conn.h"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STREAM_MAGIC = 0x58445354, STREAM_LIMIT = 1 << 20, STREAM_FLUSH_MS = 1000 };

/* Two connections whose bytes are each other's. */
struct xds_stream {
    uint32_t magic;
    struct list link;
    struct loop *loop;
    struct conn near; /* our end of the socketpair */
    struct conn far;  /* to the control plane */
    struct clusters *clusters;
    struct clusters_dial dial;
    struct task free_task;
    bool near_open, far_open, far_ready;
    bool near_paused, far_paused;
};

static struct list streams = LIST_INIT(streams);

static void run_free(void *arg)
{
    struct xds_stream *s = OBJ_CAST(arg, struct xds_stream, STREAM_MAGIC);
    conn_cleanup(&s->near);
    conn_cleanup(&s->far);
    clusters_dial_release(&s->dial);
    list_remove(&s->link);
    s->magic = 0;
    mem_free(s);
}

static void closed(struct xds_stream *s)
{
    if (!s->near_open && !s->far_open)
        loop_defer_free(s->loop, &s->free_task);
}

static void near_connected(void *owner, struct conn *c)
{
}

static void far_connected(void *owner, struct conn *c)
{
    struct xds_stream *s = OBJ_CAST(owner, struct xds_stream, STREAM_MAGIC);
    s->far_ready = true;
    clusters_dial_opened(s->clusters, &s->dial);
    conn_read_again(&s->near);
}

static void near_read(void *owner, struct conn *c)
{
    struct xds_stream *s = OBJ_CAST(owner, struct xds_stream, STREAM_MAGIC);
    if (c->eof)
        conn_close(c, CONN_CLOSE_NOW, 0);
    if (s->far_ready && s->far_open)
        conn_write(&s->far, &c->in);
}

static void far_read(void *owner, struct conn *c)
{
    struct xds_stream *s = OBJ_CAST(owner, struct xds_stream, STREAM_MAGIC);
    if (s->near_open)
        conn_write(&s->near, &c->in);
    if (c->eof)
        conn_close(c, CONN_CLOSE_FLUSH, STREAM_FLUSH_MS);
}

static void near_above(void *owner, struct conn *c)
{
    struct xds_stream *s = owner;
    if (!s->far_open || s->far_paused)
        return;
    s->far_paused = true;
    conn_pause_read(&s->far);
}

static void near_below(void *owner, struct conn *c)
{
    struct xds_stream *s = owner;
    if (!s->far_open || !s->far_paused)
        return;
    s->far_paused = false;
    conn_resume_read(&s->far);
}

static void far_above(void *owner, struct conn *c)
{
    struct xds_stream *s = owner;
    if (!s->near_open || s->near_paused)
        return;
    s->near_paused = true;
    conn_pause_read(&s->near);
}

static void far_below(void *owner, struct conn *c)
{
    struct xds_stream *s = owner;
    if (!s->near_open || !s->near_paused)
        return;
    s->near_paused = false;
    conn_resume_read(&s->near);
}

static void near_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct xds_stream *s = OBJ_CAST(owner, struct xds_stream, STREAM_MAGIC);
    s->near_open = false;
    if (s->far_open)
        conn_close(&s->far, CONN_CLOSE_FLUSH, STREAM_FLUSH_MS);
    closed(s);
}

static void far_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct xds_stream *s = OBJ_CAST(owner, struct xds_stream, STREAM_MAGIC);
    if (!s->far_ready) {
        struct str failure = conn_failure(c);
        LOG_EVERY(5000, config, LOG_LEVEL_WARN, "control plane: cannot connect: %s %.*s",
                  c->err ? strerror(c->err) : "", (int)failure.len, failure.p ? failure.p : "");
    }
    s->far_open = false;
    if (s->far_ready)
        clusters_dial_closed(s->clusters, &s->dial, c);
    else
        clusters_dial_failed(s->clusters, &s->dial, why == CONN_CLOSED_CONNECT_TIMEOUT);
    if (s->near_open)
        conn_close(&s->near, CONN_CLOSE_FLUSH, STREAM_FLUSH_MS);
    closed(s);
}

static const struct conn_ops near_ops = {near_connected, near_read, near_below, near_above,
                                         near_closed};
static const struct conn_ops far_ops = {far_connected, far_read, far_below, far_above, far_closed};

int xds_stream_dial(void *arg, struct str cluster, char *why, size_t why_len)
{
    struct server *server = arg;
    int fds[2];
    if (!server->clusters) { /* the end has begun */
        snprintf(why, why_len, "shutting down");
        return -1;
    }
    struct xds_stream *s = NEW(struct xds_stream);
    s->clusters = server->clusters;
    if (!clusters_dial_target(server->clusters, cluster, &s->dial, why, why_len)) {
        mem_free(s);
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
        snprintf(why, why_len, "socketpair: %m");
        clusters_dial_release(&s->dial);
        mem_free(s);
        return -1;
    }
    struct addr none = {0};
    s->magic = STREAM_MAGIC;
    s->loop = server->loop;
    s->near_open = s->far_open = true;
    task_init(&s->free_task, run_free, s);
    list_push_tail(&streams, &s->link);
    conn_init_accepted(&s->near, s->loop, fds[0], NULL, &none, &none, 0, &near_ops, s);
    conn_init_connecting(&s->far, s->loop, &s->dial.how, &far_ops, s);
    conn_set_limits(&s->near, STREAM_LIMIT);
    conn_set_limits(&s->far, STREAM_LIMIT);
    return fds[1];
}

void xds_stream_close_all(void)
{
    while (!list_empty(&streams))
        run_free(CONTAINER_OF(streams.next, struct xds_stream, link));
}
