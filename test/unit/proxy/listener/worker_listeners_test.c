/* A worker's listeners: what main publishes, who is found for an original destination, which worker
 * gets a connection, and what happens without descriptors. */
#include "test/support/listener_fixture.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CLIENTS = 16 };

static struct listener_fixture f;
static int clients[MAX_CLIENTS];
static unsigned num_clients;

static void setup(void)
{
    listener_fixture_start(&f);
    num_clients = 0;
}

static void teardown(void)
{
    while (num_clients)
        close(clients[--num_clients]);
    listener_fixture_stop(&f);
}

static void publish(enum publish_kind kind, struct listener *old, struct listener *next)
{
    for (unsigned i = 0; i < LISTENER_FIXTURE_WORKERS; i++)
        worker_listeners_publish(&f.workers[i], kind, old, next);
    listener_fixture_turn(&f, 3);
}

static void connect_some(unsigned port, unsigned n)
{
    for (; n; n--)
        clients[num_clients++] = listener_fixture_connect(port);
}

/* The listener of a name in the first worker's index. */
static struct listener *found(const char *dst)
{
    struct addr a;
    ck_assert(addr_parse_ip_port(str_of(dst), &a));
    return worker_listeners_hand_over(f.workers[0].listeners, &a);
}

START_TEST(hand_over)
{
    struct listener *exact = listener_fixture_compile(&f, 80, "bind_to_port: false");
    struct listener *wide = listener_fixture_compile(
        &f, 81,
        "bind_to_port: false, additional_addresses: [{address: {socket_address: {address: 0.0.0.0, "
        "port_value: 80}}}, {address: {socket_address: {address: '::', port_value: 82}}}]");
    publish(PUBLISH_ADD, NULL, exact);
    publish(PUBLISH_ADD, NULL, wide);
    ck_assert_ptr_eq(found("127.0.0.1:80"), exact);
    ck_assert_ptr_eq(found("127.0.0.1:81"), wide);
    ck_assert_ptr_eq(found("10.0.0.1:80"), wide);
    ck_assert_ptr_eq(found("10.0.0.1:82"), wide);
    ck_assert_ptr_null(found("10.0.0.1:83"));
    /* One that takes its place is found, and stays when the old one goes. */
    struct listener *next = listener_fixture_compile(&f, 80, "bind_to_port: false");
    publish(PUBLISH_REPLACE, exact, next);
    ck_assert_ptr_eq(found("127.0.0.1:80"), next);
    publish(PUBLISH_REMOVE, next, NULL);
    ck_assert_ptr_eq(found("127.0.0.1:80"), wide);
    publish(PUBLISH_STOP, wide, NULL);
    ck_assert_ptr_null(found("127.0.0.1:80"));
    listener_unref(exact);
    listener_unref(wide);
    listener_unref(next);
}
END_TEST

START_TEST(removed_accepts_no_more)
{
    struct listener *l = listener_fixture_compile(&f, 0, "listener_filters: []");
    unsigned port = listener_fixture_open(&f, l);
    connect_some(port, 3);
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_TOTAL, 3));
    publish(PUBLISH_REMOVE, l, NULL);
    listen_sockets_unref(l->sockets);
    l->sockets = NULL;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct addr a;
    ck_assert(addr_parse_ip(STR("127.0.0.1"), (uint16_t)port, &a));
    ck_assert_int_ne(addr_connect(fd, &a), 0);
    ck_assert_int_eq(errno, ECONNREFUSED);
    close(fd);
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_CX_TOTAL), 3);
    listener_unref(l);
}
END_TEST

static uint64_t on_worker(const struct listener *l, unsigned i)
{
    return stats_sum(l->worker_stats[i], LISTENER_WORKER_CX_ACTIVE);
}

static void close_client_of(const struct downstream *d)
{
    for (unsigned i = 0; i < num_clients; i++) {
        struct addr own;
        if (!addr_local(clients[i], &own) || !addr_eq(&own, &d->info.remote))
            continue;
        close(clients[i]);
        clients[i] = clients[--num_clients];
        return;
    }
    ck_abort_msg("no such client");
}

START_TEST(exact_balance)
{
    struct listener *l = listener_fixture_compile(&f, 0,
                                                  "connection_balance_config: {exact_balance: {}}");
    unsigned port = listener_fixture_open(&f, l);
    ck_assert(l->sockets->v[0].shared); /* one place accepts */
    connect_some(port, 8);
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_TOTAL, 8));
    ck_assert_uint_eq(on_worker(l, 0), 4);
    ck_assert_uint_eq(on_worker(l, 1), 4);
    /* Who has lost some gets the next ones, before anything else. */
    LIST_FOREACH(e, &f.workers[1].downstreams)
        close_client_of(CONTAINER_OF(e, struct downstream, link));
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_DESTROY, 4));
    ck_assert_uint_eq(on_worker(l, 1), 0);
    connect_some(port, 4);
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_TOTAL, 12));
    ck_assert_uint_eq(on_worker(l, 0), 4);
    ck_assert_uint_eq(on_worker(l, 1), 4);
    listener_unref(l);
}
END_TEST

/* Connections on their way to another worker when the workers end are not lost from the books. */
START_TEST(end_with_connections_on_their_way)
{
    struct listener *l = listener_fixture_compile(&f, 0,
                                                  "connection_balance_config: {exact_balance: {}}");
    unsigned port = listener_fixture_open(&f, l);
    unsigned accepting = l->accept_worker;
    connect_some(port, 6);
    usleep(10000);
    loop_set_thread_index(f.workers[accepting - 1].loop, accepting);
    (void)loop_run_once(f.workers[accepting - 1].loop, false);
    worker_listeners_stop(f.workers[accepting - 1].listeners);
    listener_unref(l);
}
END_TEST

/* A worker that has ended already closes what comes to it. */
START_TEST(given_to_a_worker_that_has_ended)
{
    struct listener *l = listener_fixture_compile(&f, 0,
                                                  "connection_balance_config: {exact_balance: {}}");
    unsigned port = listener_fixture_open(&f, l);
    struct worker *from = &f.workers[l->accept_worker - 1], *to = &f.workers[2 - l->accept_worker];
    connect_some(port, 2);
    usleep(10000);
    loop_set_thread_index(from->loop, from->index);
    (void)loop_run_once(from->loop, false);
    ck_assert_ptr_ne(from, to);
    loop_set_thread_index(to->loop, to->index);
    worker_listeners_free(&to->listeners);
    listener_fixture_turn(&f, 2);
    ck_assert(list_empty(&to->downstreams));
    listener_unref(l);
}
END_TEST

static rlim_t lowest_free_fd(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return (rlim_t)fd;
}

/* Out of descriptors: a pause, not a spin; those who wait are served when there are some again. */
START_TEST(out_of_descriptors)
{
    struct listener *l = listener_fixture_compile(&f, 0, "listener_filters: []");
    unsigned port = listener_fixture_open(&f, l);
    struct rlimit was, low;
    connect_some(port, 2);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = (struct rlimit){.rlim_cur = lowest_free_fd(), .rlim_max = was.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    bool paused = listener_fixture_until(&f, l, LISTENER_CX_OVERFLOW, 1);
    for (int i = 0; i < 200; i++)
        listener_fixture_turn(&f, 1);
    uint64_t tries = stats_sum(l->stats, LISTENER_CX_OVERFLOW);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    ck_assert(paused && tries < 100);
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_CX_TOTAL), 0);
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_TOTAL, 2));
    listener_unref(l);
}
END_TEST

/* What waits for its first bytes is drained and killed like any other. */
START_TEST(kill_while_filters_wait)
{
    struct listener *l = listener_fixture_compile(
        &f, 0,
        "listener_filters_timeout: 0s, listener_filters: [{name: "
        "envoy.filters.listener.http_inspector}]");
    unsigned port = listener_fixture_open(&f, l);
    connect_some(port, 2);
    ck_assert(listener_fixture_until(&f, l, LISTENER_PRE_CX_ACTIVE, 2));
    publish(PUBLISH_DRAIN, l, NULL);
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_PRE_CX_ACTIVE), 2);
    publish(PUBLISH_KILL, l, NULL);
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_PRE_CX_ACTIVE), 0);
    char c;
    ck_assert_int_eq(recv(clients[0], &c, 1, 0), 0);
    listener_unref(l);
}
END_TEST

int main(void)
{
    const TTest *tests[] = {
        hand_over,
        removed_accepts_no_more,
        exact_balance,
        end_with_connections_on_their_way,
        given_to_a_worker_that_has_ended,
        out_of_descriptors,
        kill_while_filters_wait,
    };
    Suite *s = suite_create("worker_listeners");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    for (size_t i = 0; i < ARRAY_LEN(tests); i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
