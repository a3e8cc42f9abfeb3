#include "base/mailbox.h"

#include <check.h>
#include <pthread.h>

enum { SENDERS = 4, EACH = 20000 };

struct rig {
    struct loop *l;
    struct mailbox box;
    int next[SENDERS];
    int got;
};

struct letter {
    struct message msg;
    struct rig *r;
    int sender, number;
};

static void deliver(void *arg)
{
    struct letter *m = arg;
    ck_assert_int_eq(m->number, m->r->next[m->sender]++);
    if (++m->r->got == SENDERS * EACH)
        loop_stop(m->r->l);
    mem_free(m);
}

struct sender {
    struct rig *r;
    int index;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < EACH; i++) {
        struct letter *m = NEW(struct letter);
        *m = (struct letter){{.deliver = deliver, .arg = m}, s->r, s->index, i};
        mailbox_send(&s->r->box, &m->msg);
    }
    return NULL;
}

START_TEST(messages_of_a_sender_arrive_once_and_in_order)
{
    struct rig r = {.l = loop_new(false)};
    mailbox_init(&r.box, r.l);
    pthread_t threads[SENDERS];
    struct sender senders[SENDERS];
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&r, i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    loop_run(r.l);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(r.got, SENDERS * EACH);
    mailbox_cleanup(&r.box);
    loop_free(&r.l);
}
END_TEST

static void count(void *arg)
{
    ++*(int *)arg;
}

START_TEST(cleanup_delivers_what_is_left)
{
    struct loop *l = loop_new(false);
    struct mailbox box;
    int n = 0;
    mailbox_init(&box, l);
    mailbox_call(&box, count, &n);
    mailbox_call(&box, count, &n);
    ck_assert_int_eq(n, 0);
    mailbox_cleanup(&box);
    ck_assert_int_eq(n, 2);
    loop_free(&l);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mailbox");
    TCase *t = tcase_create("mailbox");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, messages_of_a_sender_arrive_once_and_in_order);
    tcase_add_test(t, cleanup_delivers_what_is_left);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
