#include "tls/conn_race.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

struct attempt {
    struct conn_race *race;
    struct io_watch watch;
    int fd; /* -1: not begun, or over */
    uint32_t index;
};

struct conn_race {
    struct loop *loop;
    struct addr addrs[CONN_RACE_MAX];
    struct attempt attempts[CONN_RACE_MAX];
    uint32_t num, next, open;
    struct timer delay, limit;
    struct task told;
    void (*prepare)(void *arg, struct conn_connect *how);
    conn_race_cb cb;
    void *arg;
    int won; /* index of the winner, -1: none */
    int err;
};

/* --- the order --- */

uint32_t conn_race_order(const struct addr *first, const struct addr *others, uint32_t n,
                         int family, uint32_t count, struct addr *out)
{
    const struct addr *rest[2][CONN_RACE_MAX];
    uint32_t have[2] = {0}, at[2] = {0}, done = 0, run = 0;
    int want = family ? family : first->sa.sa_family;
    if (n > CONN_RACE_MAX - 1)
        n = CONN_RACE_MAX - 1;
    for (uint32_t i = 0; i <= n; i++) {
        const struct addr *a = i == 0 ? first : &others[i - 1];
        int other = a->sa.sa_family != want;
        rest[other][have[other]++] = a;
    }
    for (int side = 0; done <= n;) {
        if (at[side] == have[side]) {
            side = !side;
            run = 0;
            continue;
        }
        out[done++] = *rest[side][at[side]++];
        run++;
        if (side == 1 || run >= (at[0] > count ? 1 : count)) {
            side = !side;
            run = 0;
        }
    }
    return done;
}

/* --- attempts --- */

static void drop(struct attempt *a, bool keep_fd)
{
    if (a->fd < 0)
        return;
    io_watch_cleanup(&a->watch);
    if (!keep_fd)
        close(a->fd);
    a->fd = -1;
    a->race->open--;
}

/* From the run queue: who is told may free the race, and begin another connection. */
static void run_told(void *arg)
{
    struct conn_race *r = arg;
    struct addr peer = {0};
    int fd = -1;
    if (r->won >= 0) {
        peer = r->addrs[r->won];
        fd = r->attempts[r->won].fd;
        drop(&r->attempts[r->won], true);
    }
    conn_race_cb cb = r->cb;
    void *cb_arg = r->arg;
    int err = r->err;
    conn_race_free(&r);
    cb(cb_arg, fd, &peer, err);
}

static void end(struct conn_race *r)
{
    timer_disarm(&r->delay);
    timer_disarm(&r->limit);
    for (uint32_t i = 0; i < r->num; i++) {
        if ((int)i != r->won)
            drop(&r->attempts[i], false);
    }
    loop_post(r->loop, &r->told);
}

static void begin_next(struct conn_race *r);

static void failed(struct conn_race *r, int err)
{
    r->err = err;
    if (r->next < r->num)
        begin_next(r);
    else if (r->open == 0)
        end(r);
}

static void on_io(void *arg, unsigned events)
{
    struct attempt *a = arg;
    struct conn_race *r = a->race;
    int err = 0;
    socklen_t len = sizeof(err);
    if (r->won >= 0 || !(events & (IO_WRITE | IO_CLOSED)))
        return;
    (void)getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err) {
        drop(a, false);
        failed(r, err);
        return;
    }
    r->won = (int)a->index;
    end(r);
}

static void begin_next(struct conn_race *r)
{
    while (r->next < r->num) {
        struct attempt *a = &r->attempts[r->next++];
        struct conn_connect how = {.peer = &r->addrs[a->index]};
        int err;
        r->prepare(r->arg, &how);
        a->fd = conn_socket(&how, &err);
        if (a->fd < 0) {
            r->err = err;
            continue;
        }
        r->open++;
        io_watch_init(&a->watch, r->loop, a->fd, on_io, a);
        if (r->next < r->num)
            timer_arm(&r->delay, CONN_RACE_DELAY_MS);
        return;
    }
    if (r->open == 0)
        end(r);
}

static void on_delay(void *arg)
{
    begin_next(arg);
}

static void on_limit(void *arg)
{
    struct conn_race *r = arg;
    r->err = ETIMEDOUT;
    end(r);
}

struct conn_race *conn_race_new(struct loop *l, const struct addr *addrs, uint32_t n,
                                uint64_t timeout_ms,
                                void (*prepare)(void *arg, struct conn_connect *how),
                                conn_race_cb cb, void *arg)
{
    struct conn_race *r = NEW(struct conn_race);
    CHECK(n > 0 && n <= CONN_RACE_MAX);
    r->loop = l;
    r->num = n;
    r->prepare = prepare;
    r->cb = cb;
    r->arg = arg;
    r->won = -1;
    memcpy(r->addrs, addrs, n * sizeof(*addrs));
    for (uint32_t i = 0; i < n; i++) {
        r->attempts[i].race = r;
        r->attempts[i].index = i;
        r->attempts[i].fd = -1;
    }
    timer_init(&r->delay, l, on_delay, r);
    timer_init(&r->limit, l, on_limit, r);
    task_init(&r->told, run_told, r);
    if (timeout_ms)
        timer_arm(&r->limit, timeout_ms);
    begin_next(r);
    return r;
}

void conn_race_free(struct conn_race **rp)
{
    struct conn_race *r = *rp;
    if (!r)
        return;
    *rp = NULL;
    timer_disarm(&r->delay);
    timer_disarm(&r->limit);
    task_cancel(&r->told);
    for (uint32_t i = 0; i < r->num; i++)
        drop(&r->attempts[i], false);
    mem_free(r);
}
