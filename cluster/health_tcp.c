#include "base/obj.h"
#include "cluster/health_probe.h"

enum { TCP_PROBE_MAGIC = 0x48435443, TCP_ANSWER_MAX = 65536 };

/* A connection of its own for each, so that one that ends late disturbs no other. */
struct tcp_conn {
    uint32_t magic;
    struct conn conn;
    struct tcp_probe *probe; /* NULL: given up */
    struct loop *loop;
    struct list link;
    struct task free_task;
    bool connected;
};

struct tcp_probe {
    struct health_probe base;
    struct loop *loop;
    struct tcp_conn *now;
    struct list conns;
    bool checking;
};

static void conn_free(void *arg)
{
    struct tcp_conn *t = OBJ_CAST(arg, struct tcp_conn, TCP_PROBE_MAGIC);
    list_remove(&t->link);
    task_cancel(&t->free_task);
    conn_cleanup(&t->conn);
    t->magic = 0;
    mem_free(t);
}

static void give_up(struct tcp_probe *p)
{
    struct tcp_conn *t = p->now;
    p->now = NULL;
    if (!t)
        return;
    t->probe = NULL;
    conn_close(&t->conn, CONN_CLOSE_NOW, 0);
}

static void succeed(struct tcp_probe *p, bool keep)
{
    const struct health_result ok = {.ok = true};
    if (!keep)
        give_up(p);
    p->checking = false;
    health_session_done(p->base.session, &ok);
}

static void send_payload(struct tcp_probe *p)
{
    struct str send = health_session_config(p->base.session)->send;
    if (send.len == 0)
        return;
    buffer_add_str(&p->now->conn.out, send);
    conn_flush_soon(&p->now->conn);
}

static void on_connected(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_PROBE_MAGIC);
    t->connected = true;
    if (!t->probe || !t->probe->checking)
        return;
    if (health_session_config(t->probe->base.session)->receive.n == 0)
        succeed(t->probe, false);
    else
        send_payload(t->probe);
}

static struct str whole(struct tcp_conn *t, char **out)
{
    struct buffer *in = &t->conn.in;
    size_t n = in->len;
    *out = mem_alloc(n);
    buffer_copy_out(in, 0, *out, n);
    return str_n(*out, n);
}

static void on_read(void *owner, struct conn *c)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_PROBE_MAGIC);
    const struct health_config *config;
    char *text;
    bool found;

    if (!t->probe || !t->probe->checking) { /* nobody asked for it */
        buffer_drain(&c->in, c->in.len);
        if (c->eof)
            conn_close(c, CONN_CLOSE_NOW, 0);
        return;
    }
    config = health_session_config(t->probe->base.session);
    found = c->in.len && health_payloads_match(&config->receive, whole(t, &text));
    if (c->in.len)
        mem_free(text);
    if (found) {
        buffer_drain(&c->in, c->in.len);
        succeed(t->probe, config->reuse);
    } else if (c->eof) {
        conn_close(c, CONN_CLOSE_NOW, 0);
    }
}

static void on_mark(void *owner, struct conn *c)
{
    /* What is sent and what is waited for are bounded by the configuration. */
}

static void on_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct tcp_conn *t = OBJ_CAST(owner, struct tcp_conn, TCP_PROBE_MAGIC);
    const struct health_result bad = {.failure = HEALTH_NETWORK};
    struct tcp_probe *p = t->probe;

    loop_defer_free(t->loop, &t->free_task);
    if (!p)
        return;
    p->now = NULL;
    t->probe = NULL;
    if (!p->checking)
        return;
    p->checking = false;
    health_session_done(p->base.session, &bad);
}

static const struct conn_ops ops = {on_connected, on_read, on_mark, on_mark, on_closed};

static struct tcp_probe *of(struct health_probe *p)
{
    return CONTAINER_OF(p, struct tcp_probe, base);
}

static struct health_probe *make(struct health_session *s)
{
    struct tcp_probe *p = NEW(struct tcp_probe);
    p->base = (struct health_probe){&health_tcp_probe, s};
    p->loop = health_session_cluster(s)->loop;
    list_init(&p->conns);
    return &p->base;
}

static void check(struct health_probe *base)
{
    struct tcp_probe *p = of(base);
    struct transport_options opts;
    struct conn_connect how;

    p->checking = true;
    if (p->now && conn_closing(&p->now->conn))
        give_up(p);
    if (p->now) {
        send_payload(p);
        return;
    }
    struct tcp_conn *t = p->now = NEW(struct tcp_conn);
    t->magic = TCP_PROBE_MAGIC;
    t->probe = p;
    t->loop = p->loop;
    task_init(&t->free_task, conn_free, t);
    list_push_tail(&p->conns, &t->link);
    health_session_connect(base->session, NULL, 0, &opts, &how);
    conn_init_connecting(&t->conn, p->loop, &how, &ops, t);
    conn_set_limits(&t->conn, TCP_ANSWER_MAX);
}

static void abandon(struct health_probe *base)
{
    struct tcp_probe *p = of(base);
    p->checking = false;
    give_up(p);
}

static void probe_free(struct health_probe *base)
{
    struct tcp_probe *p = of(base);
    while (!list_empty(&p->conns))
        conn_free(CONTAINER_OF(p->conns.next, struct tcp_conn, link));
    mem_free(p);
}

const struct health_probe_ops health_tcp_probe = {
    .name = "TCP",
    .make = make,
    .check = check,
    .abandon = abandon,
    .free = probe_free,
};
