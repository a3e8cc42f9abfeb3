#include "cluster/solo_conn.h"

#include "base/obj.h"
#include "cluster/pool_private.h"

static const struct conn_ops solo_ops;

static void conn_free(void *arg)
{
    struct pool_conn *pc = OBJ_CAST(arg, struct pool_conn, POOL_CONN_MAGIC);
    list_remove(&pc->link);
    task_cancel(&pc->free_task);
    if (pc->client && pc->proto->client_free)
        pc->proto->client_free(pc->client);
    conn_cleanup(&pc->conn);
    host_unref(pc->host);
    pc->magic = 0;
    mem_free(pc);
}

static void forget(struct pool_conn *pc)
{
    if (pc->solo->now == pc)
        pc->solo->now = NULL;
}

/* The socket is gone. The protocol may say so more than once. */
static void over(struct pool_conn *pc)
{
    if (pc->state == POOL_CONN_CLOSING)
        return;
    forget(pc);
    pc->state = POOL_CONN_CLOSING;
    loop_defer_free(pc->solo->loop, &pc->free_task);
}

static void shut(struct pool_conn *pc)
{
    forget(pc);
    pc->draining = true;
    if (!conn_closing(&pc->conn))
        conn_close(&pc->conn, CONN_CLOSE_NOW, 0);
}

static void take_back(struct pool_conn *pc)
{
    if (pc->proto->keeps_callbacks)
        return;
    if (pc->conn.ops != &solo_ops) {
        pc->client_ops = pc->conn.ops;
        pc->client_owner = pc->conn.owner;
    }
    conn_set_owner(&pc->conn, &solo_ops, pc);
    while (pc->conn.read_pauses > 0)
        conn_resume_read(&pc->conn);
}

static void hand_over(struct pool_conn *pc)
{
    pc->slots_used = 1;
    pc->requests++;
    if (!pc->proto->keeps_callbacks && pc->client_ops)
        conn_set_owner(&pc->conn, pc->client_ops, pc->client_owner);
}

void solo_released(struct pool_conn *pc, bool reusable)
{
    pc->slots_used = 0;
    if (pc->conn.fd < 0 && !list_linked(&pc->conn.closed_task.link)) {
        over(pc); /* the user has had on_closed */
        return;
    }
    take_back(pc);
    if (!reusable || pc->draining)
        shut(pc);
}

void solo_changed(struct pool_conn *pc)
{
    if (pc->draining && pc->slots_used == 0)
        shut(pc);
    else if (pc->draining)
        forget(pc);
}

void solo_ended(struct pool_conn *pc)
{
    over(pc);
}

/* --- the callbacks while no slot is in use --- */

static void on_connected(void *owner, struct conn *c)
{
    struct pool_conn *pc = OBJ_CAST(owner, struct pool_conn, POOL_CONN_MAGIC);
    struct solo *s = pc->solo;

    pc->state = POOL_CONN_FULL;
    if (s->now != pc || !s->wanted) {
        shut(pc);
        return;
    }
    s->wanted = false;
    pc->client = pc->proto->client_new(pc);
    hand_over(pc);
    s->ready(s->arg, pc);
}

/* Nobody has asked for anything. */
static void on_read(void *owner, struct conn *c)
{
    struct pool_conn *pc = OBJ_CAST(owner, struct pool_conn, POOL_CONN_MAGIC);
    shut(pc);
}

static void on_mark(void *owner, struct conn *c)
{
    /* Nothing is sent without a slot. */
}

static void on_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct pool_conn *pc = OBJ_CAST(owner, struct pool_conn, POOL_CONN_MAGIC);
    struct solo *s = pc->solo;
    bool failed = s->now == pc && s->wanted;

    over(pc);
    if (!failed)
        return;
    s->wanted = false;
    s->failed(s->arg);
}

static const struct conn_ops solo_ops = {on_connected, on_read, on_mark, on_mark, on_closed};

/* --- the user's side --- */

void solo_init(struct solo *s)
{
    list_init(&s->conns);
    s->now = NULL;
    s->wanted = false;
}

static bool is_fit(const struct pool_conn *pc)
{
    if (pc->draining || conn_closing(&pc->conn) || pc->conn.eof || pc->conn.closed_seen)
        return false;
    return pc->proto->keeps_callbacks || pc->conn.in.len == 0;
}

struct pool_conn *solo_acquire(struct solo *s, const struct conn_connect *how)
{
    struct pool_conn *pc = s->now;

    if (pc && !is_fit(pc)) {
        shut(pc);
        pc = NULL;
    }
    if (pc) {
        hand_over(pc);
        return pc;
    }
    pc = s->now = NEW(struct pool_conn);
    s->wanted = true;
    pc->magic = POOL_CONN_MAGIC;
    pc->solo = s;
    pc->proto = s->proto;
    pc->host = host_ref(s->host);
    pc->cluster = s->cluster;
    pc->state = POOL_CONN_CONNECTING;
    task_init(&pc->free_task, conn_free, pc);
    list_push_tail(&s->conns, &pc->link);
    conn_init_connecting(&pc->conn, s->loop, how, &solo_ops, pc);
    conn_set_limits(&pc->conn, s->cluster->config->buffer_limit);
    return NULL;
}

void solo_drop(struct solo *s)
{
    s->wanted = false;
    if (s->now)
        shut(s->now);
}

void solo_cleanup(struct solo *s)
{
    while (!list_empty(&s->conns))
        conn_free(CONTAINER_OF(s->conns.next, struct pool_conn, link));
    s->now = NULL;
}
