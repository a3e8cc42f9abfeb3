/* Event loop of one thread: file descriptors, coarse timers, a run queue with deferred frees, and
 * the time of the current iteration. The only user of libevent.
 *
 * One iteration: wait for events, run their callbacks, then the mailbox's, then the run queue (what
 * was posted before it started), then deferred frees. A callback casts, moves bytes and calls a
 * driver; work that must not run inside its caller is posted with loop_post.
 * All functions: the loop's own thread only, unless said otherwise. */
#pragma once

#include "base/alloc.h"
#include "base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;

/* --- time ------------------------------------------------------------------------------- */

/* loop_new makes a loop for the calling thread. `fake_clock`: time stands still until
 * loop_advance moves it (tests). */
struct loop *loop_new(bool fake_clock);

/* loop_free frees the loop and runs what is still deferred. Sets *l to NULL. */
void loop_free(struct loop **l);

/* loop_now_ms and loop_now_us: monotonic time, read once an iteration. */
uint64_t loop_now_ms(const struct loop *l);
uint64_t loop_now_us(const struct loop *l);

/* loop_wall_us: microseconds since the epoch, of the same instant as loop_now_us. */
uint64_t loop_wall_us(const struct loop *l);

/* loop_update_time reads the clock again (after long work). */
void loop_update_time(struct loop *l);

/* loop_advance moves a fake clock by `ms` and fires what is due, in order. */
void loop_advance(struct loop *l, uint64_t ms);

/* loop_run runs until loop_stop. loop_run_once runs one iteration, waiting at most until the next
 * event or timer when `block` is set; returns whether anything ran. */
void loop_run(struct loop *l);
bool loop_run_once(struct loop *l, bool block);

/* loop_stop makes loop_run return after the current iteration. */
void loop_stop(struct loop *l);

/* loop_thread_index is a small number set by the owner (0 main, 1.. workers) that says which
 * per-thread slot of stats and configuration belongs to this loop; loop_set_thread_index sets it.
 */
unsigned loop_thread_index(const struct loop *l);
void loop_set_thread_index(struct loop *l, unsigned index);

/* loop_this_thread is the index that the calling thread last gave to a loop of its own, 0 before:
 * for code that counts and has no loop at hand. Any thread. */
unsigned loop_this_thread(void);

/* --- file descriptors ------------------------------------------------------------------- */

enum { IO_READ = 1, IO_WRITE = 2, IO_CLOSED = 4 };

/* io_cb: `events` is a set of IO_*. IO_CLOSED: the peer closed its direction or an error is
 * pending; read to 0 to find out. */
typedef void (*io_cb)(void *arg, unsigned events);

struct io_watch {
    struct loop *loop;
    void *ev; /* libevent's */
    io_cb cb;
    void *arg;
    int fd;
};

/* io_watch_init registers fd once, for its life: read, write and close, edge-triggered, for `cb`.
 * The fd must be non-blocking; it stays the caller's. A short read counts as drained only if
 * IO_CLOSED was not among the events. Who stops reading for a budget or a pause must remember that
 * it may still be readable. */
void io_watch_init(struct io_watch *w, struct loop *l, int fd, io_cb cb, void *arg);

/* io_watch_init_level registers fd level-triggered for reading only (accept sockets, eventfds). */
void io_watch_init_level(struct io_watch *w, struct loop *l, int fd, io_cb cb, void *arg);

/* io_watch_pause and io_watch_resume take a level-triggered watch out of the loop and back. */
void io_watch_pause(struct io_watch *w);
void io_watch_resume(struct io_watch *w);

/* io_watch_cleanup unregisters; the callback will not run again. Call before closing the fd. */
void io_watch_cleanup(struct io_watch *w);

/* --- timers ----------------------------------------------------------------------------- */

typedef void (*timer_cb)(void *arg);

/* A deadline with millisecond ticks in a wheel: arming again and disarming are a few stores, no
 * system call. */
struct timer {
    struct list link;
    struct loop *loop;
    timer_cb cb;
    void *arg;
    uint64_t due_ms;  /* when it should fire; 0: not armed */
    uint64_t slot_ms; /* where it is filed; <= due_ms */
};

/* timer_init prepares a timer that is not armed. */
void timer_init(struct timer *t, struct loop *l, timer_cb cb, void *arg);

/* timer_arm (re)arms it to fire once, `ms` from now (at least 1 ms). */
void timer_arm(struct timer *t, uint64_t ms);

/* timer_disarm: the callback will not run. Safe on a zeroed or unarmed timer. Must be called before
 * the owner is freed. */
void timer_disarm(struct timer *t);

/* timer_armed says whether it will fire. */
static inline bool timer_armed(const struct timer *t)
{
    return t->due_ms != 0;
}

/* --- run queue -------------------------------------------------------------------------- */

typedef void (*task_cb)(void *arg);

struct task {
    struct list link;
    task_cb cb;
    void *arg;
};

/* task_init prepares a task embedded in its owner. */
void task_init(struct task *t, task_cb cb, void *arg);

/* loop_post queues the task to run later in this iteration, or in the next one if tasks have been
 * posted by tasks for several rounds: never before this returns. A task that is already queued
 * stays where it is. */
void loop_post(struct loop *l, struct task *t);

/* task_cancel takes it off the queue. Safe when it is not on it. */
void task_cancel(struct task *t);

/* loop_defer_free queues `t` to run at the very end of the iteration, when no callback of it is on
 * the stack: for freeing the owner. */
void loop_defer_free(struct loop *l, struct task *t);

/* --- signals (main thread) -------------------------------------------------------------- */

typedef void (*signal_cb)(void *arg, int signo);

/* loop_on_signal calls cb in the loop, on its thread, when the process gets `signo`. Lives as long
 * as the loop. */
void loop_on_signal(struct loop *l, int signo, signal_cb cb, void *arg);
