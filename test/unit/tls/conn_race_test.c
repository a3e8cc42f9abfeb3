#include "tls/conn_race.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static struct loop *loop;
static struct conn_race *race;
static int told, won_fd, won_err, prepared;
static struct addr won;

static struct addr address(const char *text)
{
    struct addr a;
    ck_assert(addr_parse_ip_port(str_of(text), &a));
    return a;
}

static void prepare(void *arg, struct conn_connect *how)
{
    ck_assert_ptr_eq(arg, &told);
    prepared++;
}

static void on_told(void *arg, int fd, const struct addr *peer, int err)
{
    ck_assert_int_eq(told, 0);
    told = 1;
    won_fd = fd;
    won_err = err;
    won = *peer;
    race = NULL;
}

static int listen_at(struct addr *out, int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct addr a = address("127.0.0.1:0");
    ck_assert_int_eq(addr_bind(fd, &a), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    ck_assert(addr_local(fd, out));
    return fd;
}

/* An address that refuses. */
static struct addr nobody(void)
{
    struct addr a;
    close(listen_at(&a, 1));
    return a;
}

/* One that does not answer: a queue that is full. */
static int silent(struct addr *out, int *filler)
{
    int fd = listen_at(out, 0);
    for (int i = 0; i < 4; i++) {
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)addr_connect(filler[i], out);
    }
    return fd;
}

static void setup(void)
{
    told = prepared = 0;
    won_fd = -1;
    loop = loop_new(true);
}

static void teardown(void)
{
    if (won_fd >= 0)
        close(won_fd);
    conn_race_free(&race);
    loop_free(&loop);
}

static void spin(void)
{
    for (int i = 0; i < 50 && !told; i++) {
        (void)loop_run_once(loop, false);
        usleep(1000);
    }
}

static void begin(const struct addr *addrs, uint32_t n)
{
    race = conn_race_new(loop, addrs, n, 5000, prepare, on_told, &told);
    ck_assert_int_eq(told, 0);
    spin();
}

START_TEST(the_first_wins)
{
    struct addr a[2];
    int fd = listen_at(&a[0], 4), other = listen_at(&a[1], 4);
    begin(a, 2);
    ck_assert_int_eq(told, 1);
    ck_assert_int_ge(won_fd, 0);
    ck_assert(addr_eq(&won, &a[0]));
    ck_assert_int_eq(prepared, 1);
    close(fd);
    close(other);
}
END_TEST

START_TEST(a_refusal_begins_the_next_at_once)
{
    struct addr a[3] = {nobody(), nobody()};
    int fd = listen_at(&a[2], 4);
    begin(a, 3);
    ck_assert_int_eq(told, 1);
    ck_assert_int_ge(won_fd, 0);
    ck_assert(addr_eq(&won, &a[2]));
    ck_assert_int_eq(prepared, 3);
    close(fd);
}
END_TEST

START_TEST(silence_begins_the_next_after_a_while)
{
    struct addr a[2];
    int filler[4], hole = silent(&a[0], filler), fd = listen_at(&a[1], 4);
    begin(a, 2);
    ck_assert_int_eq(told, 0);
    ck_assert_int_eq(prepared, 1);
    loop_advance(loop, CONN_RACE_DELAY_MS);
    spin();
    ck_assert_int_eq(told, 1);
    ck_assert(addr_eq(&won, &a[1]));
    for (int i = 0; i < 4; i++)
        close(filler[i]);
    close(hole);
    close(fd);
}
END_TEST

START_TEST(all_fail)
{
    struct addr a[2] = {nobody(), nobody()};
    begin(a, 2);
    ck_assert_int_eq(told, 1);
    ck_assert_int_eq(won_fd, -1);
    ck_assert_int_eq(won_err, ECONNREFUSED);
}
END_TEST

START_TEST(time_is_bounded_for_all_together)
{
    struct addr a[2];
    int filler[4], hole = silent(&a[0], filler);
    a[1] = a[0];
    begin(a, 2);
    loop_advance(loop, 4000);
    spin();
    ck_assert_int_eq(told, 0);
    loop_advance(loop, 1001);
    spin();
    ck_assert_int_eq(told, 1);
    ck_assert_int_eq(won_fd, -1);
    ck_assert_int_eq(won_err, ETIMEDOUT);
    for (int i = 0; i < 4; i++)
        close(filler[i]);
    close(hole);
}
END_TEST

START_TEST(given_up)
{
    struct addr a[2];
    int fd = listen_at(&a[0], 4);
    a[1] = a[0];
    race = conn_race_new(loop, a, 2, 5000, prepare, on_told, &told);
    for (int i = 0; i < _i; i++)
        (void)loop_run_once(loop, false);
    if (!told)
        conn_race_free(&race);
    loop_advance(loop, 10000);
    ck_assert_ptr_null(race);
    close(fd);
}
END_TEST

static struct {
    const char *first, *more[4];
    int family;
    uint32_t count;
    const char *order;
} const orders[] = {
    {"1.1.1.1:1", {"1.1.1.2:1", "[::1]:1", "[::2]:1"}, 0, 1, "1 :1 2 :2"},
    {"[::1]:1", {"1.1.1.1:1", "1.1.1.2:1"}, 0, 1, ":1 1 2"},
    {"1.1.1.1:1", {"[::1]:1", "[::2]:1"}, AF_INET6, 1, ":1 1 :2"},
    {"1.1.1.1:1", {"1.1.1.2:1", "1.1.1.3:1", "[::1]:1"}, AF_INET, 2, "1 2 :1 3"},
    {"1.1.1.1:1", {"1.1.1.2:1"}, AF_INET6, 3, "1 2"},
};

START_TEST(order)
{
    struct addr first = address(orders[_i].first), more[4], out[CONN_RACE_MAX];
    uint32_t n = 0;
    char got[64] = "", one[ADDR_TEXT_MAX];
    for (; n < 4 && orders[_i].more[n]; n++)
        more[n] = address(orders[_i].more[n]);
    ck_assert_uint_eq(conn_race_order(&first, more, n, orders[_i].family, orders[_i].count, out),
                      n + 1);
    for (uint32_t i = 0; i <= n; i++) {
        struct str ip = addr_format_ip(&out[i], one);
        size_t len = strlen(got);
        snprintf(got + len, sizeof(got) - len, "%s%s%c", i ? " " : "",
                 out[i].sa.sa_family == AF_INET6 ? ":" : "", ip.p[ip.len - 1]);
    }
    ck_assert_str_eq(got, orders[_i].order);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tls/conn_race");
    TCase *t = tcase_create("race");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_first_wins);
    tcase_add_test(t, a_refusal_begins_the_next_at_once);
    tcase_add_test(t, silence_begins_the_next_after_a_while);
    tcase_add_test(t, all_fail);
    tcase_add_test(t, time_is_bounded_for_all_together);
    tcase_add_loop_test(t, given_up, 0, 5);
    tcase_add_loop_test(t, order, 0, ARRAY_LEN(orders));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
