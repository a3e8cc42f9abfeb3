#include "base/loop.h"

#include "base/wheel.h"
#include <event2/event.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { TASK_ROUNDS = 4 };

struct signal_watch {
    struct signal_watch *next;
    struct event *ev;
    signal_cb cb;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct event *wake; /* the wheel's next deadline */
    uint64_t wake_ms;   /* when `wake` is set to fire, UINT64_MAX: not set */
    struct wheel wheel;
    struct list tasks;   /* posted, not yet run */
    struct list running; /* being run now */
    struct list dying;   /* deferred frees */
    struct signal_watch *signals;
    uint64_t now_us;
    int64_t wall_off_us;   /* wall time minus monotonic time */
    uint64_t wall_read_us; /* when that was measured */
    unsigned thread_index;
    bool fake;
    bool stopped;
    bool ran;
    bool stale; /* waited since the clock was read */
};

static uint64_t clock_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* Steps of the wall clock are noticed within a tenth of a second. */
enum { WALL_EVERY_US = 100000 };

static void read_wall(struct loop *l)
{
    l->wall_off_us = (int64_t)clock_us(CLOCK_REALTIME) - (int64_t)l->now_us;
    l->wall_read_us = l->now_us;
}

void loop_update_time(struct loop *l)
{
    if (l->fake)
        return;
    l->now_us = clock_us(CLOCK_MONOTONIC);
    if (l->now_us - l->wall_read_us > WALL_EVERY_US)
        read_wall(l);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;
    l->wake_ms = UINT64_MAX;
}

struct loop *loop_new(bool fake_clock)
{
    struct loop *l = NEW(struct loop);
    struct event_config *cfg = event_config_new();
    CHECK(cfg);
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NO_CACHE_TIME);
    event_config_require_features(cfg, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE);
    l->base = event_base_new_with_config(cfg);
    CHECK(l->base);
    event_config_free(cfg);
    l->wake = evtimer_new(l->base, on_wake, l);
    CHECK(l->wake);
    l->wake_ms = UINT64_MAX;
    list_init(&l->tasks);
    list_init(&l->running);
    list_init(&l->dying);
    l->now_us = clock_us(CLOCK_MONOTONIC);
    read_wall(l);
    l->fake = fake_clock;
    wheel_init(&l->wheel, l->now_us / 1000);
    return l;
}

static void run_list(struct list *tasks)
{
    struct list *e;
    while ((e = list_pop_head(tasks))) {
        struct task *t = CONTAINER_OF(e, struct task, link);
        t->cb(t->arg);
    }
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp;
    if (!l)
        return;
    *lp = NULL;
    while (!list_empty(&l->tasks) || !list_empty(&l->dying)) {
        list_move_all(&l->running, &l->tasks);
        run_list(&l->running);
        run_list(&l->dying);
    }
    while (l->signals) {
        struct signal_watch *s = l->signals;
        l->signals = s->next;
        event_free(s->ev);
        mem_free(s);
    }
    event_free(l->wake);
    event_base_free(l->base);
    mem_free(l);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_us / 1000;
}

uint64_t loop_now_us(const struct loop *l)
{
    return l->now_us;
}

uint64_t loop_wall_us(const struct loop *l)
{
    return (uint64_t)((int64_t)l->now_us + l->wall_off_us);
}

unsigned loop_thread_index(const struct loop *l)
{
    return l->thread_index;
}

static _Thread_local unsigned this_thread;

void loop_set_thread_index(struct loop *l, unsigned index)
{
    l->thread_index = index;
    this_thread = index;
}

unsigned loop_this_thread(void)
{
    return this_thread;
}

/* --- timers --- */

void timer_init(struct timer *t, struct loop *l, timer_cb cb, void *arg)
{
    *t = (struct timer){.loop = l, .cb = cb, .arg = arg};
}

/* A timer that was collected as due is on a list of its own until it has run. */
static void unfile(struct timer *t)
{
    if (t->slot_ms == UINT64_MAX)
        list_remove(&t->link);
    else
        wheel_take(&t->loop->wheel, t);
}

void timer_arm(struct timer *t, uint64_t ms)
{
    struct loop *l = t->loop;
    uint64_t now = loop_now_ms(l);
    uint64_t due = ms > UINT64_MAX / 2 ? UINT64_MAX / 2 : now + (ms ? ms : 1);
    if (list_linked(&t->link)) {
        if (t->slot_ms <= due && t->slot_ms > l->wheel.now_ms) {
            t->due_ms = due;
            return;
        }
        unfile(t);
    }
    t->due_ms = due;
    wheel_file(&l->wheel, t);
}

void timer_disarm(struct timer *t)
{
    if (!t->loop)
        return;
    if (list_linked(&t->link))
        unfile(t);
    t->due_ms = 0;
}

/* Fires what is due by l->now_us. */
static void run_timers(struct loop *l)
{
    struct list due = LIST_INIT(due);
    wheel_advance(&l->wheel, loop_now_ms(l), &due);
    LIST_FOREACH(e, &due)
        CONTAINER_OF(e, struct timer, link)->slot_ms = UINT64_MAX;
    struct list *e;
    while ((e = list_pop_head(&due))) {
        struct timer *t = CONTAINER_OF(e, struct timer, link);
        t->due_ms = 0;
        t->slot_ms = 0;
        l->ran = true;
        t->cb(t->arg);
    }
}

static void set_wake(struct loop *l)
{
    uint64_t next = wheel_next(&l->wheel);
    if (next == UINT64_MAX || l->fake || next >= l->wake_ms)
        return;
    uint64_t now_us = l->now_us;
    uint64_t wait_us = next * 1000 > now_us ? next * 1000 - now_us : 0;
    struct timeval tv = {(time_t)(wait_us / 1000000), (suseconds_t)(wait_us % 1000000)};
    l->wake_ms = next;
    event_add(l->wake, &tv);
}

void loop_advance(struct loop *l, uint64_t ms)
{
    CHECK(l->fake);
    uint64_t end = loop_now_ms(l) + ms;
    for (;;) {
        uint64_t next = wheel_next(&l->wheel);
        uint64_t step = next < end ? next : end;
        uint64_t delta = step > loop_now_ms(l) ? (step - loop_now_ms(l)) * 1000 : 0;
        l->now_us += delta;
        run_timers(l);
        for (int i = 0; i < 1000 && loop_run_once(l, false); i++)
            continue;
        if (step == end)
            return;
    }
}

/* --- iterations --- */

void loop_stop(struct loop *l)
{
    l->stopped = true;
}

bool loop_run_once(struct loop *l, bool block)
{
    l->ran = false;
    bool pending = !list_empty(&l->tasks) || !list_empty(&l->dying) || l->stopped;
    int flags = EVLOOP_ONCE | (block && !pending ? 0 : EVLOOP_NONBLOCK);
    if (block && !pending)
        set_wake(l);
    l->stale = true;
    event_base_loop(l->base, flags);
    if (l->stale)
        loop_update_time(l);
    l->stale = false;
    run_timers(l);
    /* A task that posts another (a slot is given, then written, then flushed) should not cost a
     * look at the sockets each time; nor may it keep them waiting for ever. */
    for (int round = 0; round < TASK_ROUNDS && !list_empty(&l->tasks); round++) {
        l->ran = true;
        list_move_all(&l->running, &l->tasks);
        run_list(&l->running);
    }
    if (!list_empty(&l->dying)) {
        l->ran = true;
        run_list(&l->dying);
    }
    return l->ran;
}

void loop_run(struct loop *l)
{
    l->stopped = false;
    while (!l->stopped)
        loop_run_once(l, true);
}

/* --- file descriptors --- */

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct io_watch *w = arg;
    unsigned events = 0;
    if (what & EV_READ)
        events |= IO_READ;
    if (what & EV_WRITE)
        events |= IO_WRITE;
    if (what & EV_CLOSED)
        events |= IO_CLOSED;
    w->loop->ran = true;
    if (w->loop->stale) /* the first event of an iteration reads the time */
        loop_update_time(w->loop);
    w->loop->stale = false;
    w->cb(w->arg, events);
}

static void watch_init(struct io_watch *w, struct loop *l, int fd, short what, io_cb cb, void *arg)
{
    *w = (struct io_watch){.loop = l, .cb = cb, .arg = arg, .fd = fd};
    w->ev = event_new(l->base, fd, what, on_io, w);
    CHECK(w->ev);
    CHECK(event_add(w->ev, NULL) == 0);
}

void io_watch_init(struct io_watch *w, struct loop *l, int fd, io_cb cb, void *arg)
{
    watch_init(w, l, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, cb, arg);
}

void io_watch_init_level(struct io_watch *w, struct loop *l, int fd, io_cb cb, void *arg)
{
    watch_init(w, l, fd, EV_READ | EV_PERSIST, cb, arg);
}

void io_watch_pause(struct io_watch *w)
{
    if (w->ev)
        event_del(w->ev);
}

void io_watch_resume(struct io_watch *w)
{
    if (w->ev)
        event_add(w->ev, NULL);
}

void io_watch_cleanup(struct io_watch *w)
{
    if (!w->ev)
        return;
    event_free(w->ev);
    w->ev = NULL;
}

/* --- run queue --- */

void task_init(struct task *t, task_cb cb, void *arg)
{
    *t = (struct task){.cb = cb, .arg = arg};
}

void loop_post(struct loop *l, struct task *t)
{
    if (!list_linked(&t->link))
        list_push_tail(&l->tasks, &t->link);
}

void task_cancel(struct task *t)
{
    list_remove(&t->link);
}

void loop_defer_free(struct loop *l, struct task *t)
{
    list_remove(&t->link);
    list_push_tail(&l->dying, &t->link);
}

/* --- signals --- */

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
    struct signal_watch *s = arg;
    s->cb(s->arg, signo);
}

void loop_on_signal(struct loop *l, int signo, signal_cb cb, void *arg)
{
    struct signal_watch *s = NEW(struct signal_watch);
    s->cb = cb;
    s->arg = arg;
    s->ev = evsignal_new(l->base, signo, on_signal, s);
    CHECK(s->ev && event_add(s->ev, NULL) == 0);
    s->next = l->signals;
    l->signals = s;
}
