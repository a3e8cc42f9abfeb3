#include "base/loop.h"

#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NUM_TIMERS = 500 };

struct rig {
    struct loop *l;
    struct timer timers[NUM_TIMERS];
    uint64_t due[NUM_TIMERS]; /* what the test expects; 0: not armed */
    uint64_t last_fired;
    int fired;
};

struct entry {
    struct rig *r;
    int i;
};

static struct entry entries[NUM_TIMERS];

static void on_timer(void *arg)
{
    struct entry *e = arg;
    uint64_t now = loop_now_ms(e->r->l);
    ck_assert_uint_eq(e->r->due[e->i], now);
    ck_assert_uint_ge(now, e->r->last_fired);
    e->r->last_fired = now;
    e->r->due[e->i] = 0;
    e->r->fired++;
}

static uint64_t some_ms(void)
{
    static const uint64_t span[] = {3, 200, 300, 70000, 20000000, 8000000000};
    return 1 + (uint64_t)rand() % span[(size_t)rand() % ARRAY_LEN(span)];
}

START_TEST(timers_fire_at_their_deadline_and_in_order)
{
    struct rig *r = NEW(struct rig);
    r->l = loop_new(true);
    srand(7);
    for (int i = 0; i < NUM_TIMERS; i++) {
        entries[i] = (struct entry){r, i};
        timer_init(&r->timers[i], r->l, on_timer, &entries[i]);
    }
    for (int round = 0; round < 400; round++) {
        for (int k = 0; k < 20; k++) {
            int i = rand() % NUM_TIMERS;
            if (rand() % 4 == 0) {
                timer_disarm(&r->timers[i]);
                r->due[i] = 0;
                continue;
            }
            uint64_t ms = some_ms();
            timer_arm(&r->timers[i], ms);
            r->due[i] = loop_now_ms(r->l) + ms;
        }
        uint64_t end = loop_now_ms(r->l) + some_ms() % 3000000;
        loop_advance(r->l, end - loop_now_ms(r->l));
        ck_assert_uint_eq(loop_now_ms(r->l), end);
        for (int i = 0; i < NUM_TIMERS; i++) {
            ck_assert(r->due[i] == 0 || r->due[i] > end);
            ck_assert_int_eq(timer_armed(&r->timers[i]), r->due[i] != 0);
        }
    }
    ck_assert_int_gt(r->fired, 1000);
    for (int i = 0; i < NUM_TIMERS; i++)
        timer_disarm(&r->timers[i]);
    loop_free(&r->l);
    mem_free(r);
}
END_TEST

struct pair {
    struct timer a, b;
    int a_fired, b_fired;
};

static void on_a(void *arg)
{
    struct pair *p = arg;
    p->a_fired++;
    timer_disarm(&p->b); /* due in the same tick */
    timer_arm(&p->a, 5);
}

static void on_b(void *arg)
{
    struct pair *p = arg;
    p->b_fired++;
}

START_TEST(a_timer_disarmed_by_another_of_its_tick_does_not_fire)
{
    struct loop *l = loop_new(true);
    struct pair p = {0};
    timer_init(&p.a, l, on_a, &p);
    timer_init(&p.b, l, on_b, &p);
    timer_arm(&p.a, 10);
    timer_arm(&p.b, 10);
    loop_advance(l, 10);
    ck_assert_int_eq(p.a_fired, 1);
    ck_assert_int_eq(p.b_fired, 0);
    timer_arm(&p.b, 1);
    loop_advance(l, 5);
    ck_assert_int_eq(p.a_fired, 2);
    ck_assert_int_eq(p.b_fired, 1);
    timer_disarm(&p.a);
    loop_free(&l);
}
END_TEST

struct chain {
    struct loop *l;
    struct task t, free;
    int runs, freed;
};

static void on_task(void *arg)
{
    struct chain *c = arg;
    c->runs++;
    loop_post(c->l, &c->t);
}

static void on_free(void *arg)
{
    ((struct chain *)arg)->freed++;
}

START_TEST(tasks_posted_by_tasks_run_on_for_a_few_rounds)
{
    struct loop *l = loop_new(false);
    struct chain c = {.l = l};
    task_init(&c.t, on_task, &c);
    task_init(&c.free, on_free, &c);
    loop_post(l, &c.t);
    loop_post(l, &c.t); /* once */
    loop_defer_free(l, &c.free);
    ck_assert_int_eq(c.runs, 0);
    loop_run_once(l, true);
    int once = c.runs;
    ck_assert_int_gt(once, 1);
    ck_assert_int_lt(once, 10);
    ck_assert_int_eq(c.freed, 1);
    loop_run_once(l, true); /* comes back to the sockets although a task is always there */
    ck_assert_int_eq(c.runs, 2 * once);
    task_cancel(&c.t);
    ck_assert(!loop_run_once(l, false));
    ck_assert_int_eq(c.runs, 2 * once);
    loop_free(&l);
}
END_TEST

static void on_events(void *arg, unsigned events)
{
    *(unsigned *)arg |= events;
}

START_TEST(an_fd_reports_data_and_close_together)
{
    struct loop *l = loop_new(false);
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct io_watch w;
    unsigned events = 0;
    io_watch_init(&w, l, fds[0], on_events, &events);
    loop_run_once(l, true);
    ck_assert_uint_eq(events, IO_WRITE);
    events = 0;
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    shutdown(fds[1], SHUT_WR);
    loop_run_once(l, true);
    ck_assert_uint_eq(events & (IO_READ | IO_CLOSED), IO_READ | IO_CLOSED);
    io_watch_cleanup(&w);
    close(fds[0]);
    close(fds[1]);
    loop_free(&l);
}
END_TEST

static void stop(void *arg)
{
    loop_stop(arg);
}

START_TEST(a_real_clock_wakes_for_its_timer)
{
    struct loop *l = loop_new(false);
    struct timer t;
    timer_init(&t, l, stop, l);
    uint64_t from = loop_now_ms(l);
    timer_arm(&t, 30);
    loop_run(l);
    loop_update_time(l);
    ck_assert_uint_ge(loop_now_ms(l) - from, 30);
    ck_assert_uint_lt(loop_now_ms(l) - from, 5000);
    loop_free(&l);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loop");
    TCase *t = tcase_create("loop");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, timers_fire_at_their_deadline_and_in_order);
    tcase_add_test(t, a_timer_disarmed_by_another_of_its_tick_does_not_fire);
    tcase_add_test(t, tasks_posted_by_tasks_run_on_for_a_few_rounds);
    tcase_add_test(t, an_fd_reports_data_and_close_together);
    tcase_add_test(t, a_real_clock_wakes_for_its_timer);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
