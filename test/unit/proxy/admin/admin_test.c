/* The port with real sockets: a client speaks to it byte by byte while the test turns its loop. */
#include "proxy/admin/admin.h"

#include "base/addr.h"
#include "base/buffer.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stats_visit.h"
#include "proxy/server.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct server server;
static struct options options;
static struct errors errs;
static struct admin *admin;
static int client;
static char got[1 << 16];
static size_t got_len;
static bool ended;

static int dial(const struct addr *a)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(addr_connect(fd, a), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void setup(void)
{
    struct addr any;
    stats_init(1);
    log_set_all(LOG_LEVEL_OFF);
    server = (struct server){.options = &options, .state = SERVER_LIVE};
    server.loop = loop_new(true);
    errors_init(&errs);
    ck_assert(addr_parse_ip(STR("127.0.0.1"), 0, &any));
    admin = admin_new(&server, &any, &errs);
    ck_assert_ptr_nonnull(admin);
    client = dial(admin_address(admin));
}

static void teardown(void)
{
    if (client >= 0)
        close(client);
    admin_free(&admin);
    errors_cleanup(&errs);
    loop_free(&server.loop);
    stats_cleanup();
    buffer_free_list_trim();
}

static void turn(int n)
{
    for (int i = 0; i < n; i++)
        loop_run_once(server.loop, false);
}

static void send_text(int fd, const char *text)
{
    size_t len = strlen(text);
    ck_assert_int_eq(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Turns the loop and reads until `want` responses' worth of quiet: nothing more comes. */
static const char *receive(int fd)
{
    got_len = 0;
    ended = false;
    for (int quiet = 0; quiet < 20 && !ended && got_len < sizeof(got) - 1;) {
        turn(2);
        ssize_t n = recv(fd, got + got_len, sizeof(got) - 1 - got_len, 0);
        ended = n == 0;
        quiet = n > 0 ? 0 : quiet + 1;
        got_len += n > 0 ? (size_t)n : 0;
    }
    got[got_len] = '\0';
    return got;
}

static const char *ask(const char *request)
{
    send_text(client, request);
    return receive(client);
}

static const char *body(void)
{
    const char *at = strstr(got, "\r\n\r\n");
    ck_assert_ptr_nonnull(at);
    return at + 4;
}

static uint64_t stat_of(const char *name)
{
    uint64_t n = UINT64_MAX;
    ck_assert_msg(stats_find(str_of(name), &n), "%s", name);
    return n;
}

START_TEST(test_get)
{
    ck_assert(strstr(ask("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 200 OK\r\n") == got);
    ck_assert(strstr(got, "\r\ncontent-type: text/plain; charset=UTF-8\r\n"));
    ck_assert(strstr(got, "\r\ncache-control: no-cache, max-age=0\r\n"));
    ck_assert(strstr(got, "\r\nx-content-type-options: nosniff\r\n"));
    ck_assert(strstr(got, "\r\ncontent-length: 5\r\n"));
    ck_assert(strstr(got, "\r\ndate: "));
    ck_assert(strstr(got, "\r\nserver: envoy\r\n"));
    ck_assert_str_eq(body(), "LIVE\n");
    ck_assert(!ended);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_total"), 1);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_2xx"), 1);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 0);
    ck_assert_uint_eq(stat_of("http.admin.downstream_cx_active"), 1);
    ck_assert_uint_eq(stat_of("listener.admin.downstream_cx_total"), 1);
}
END_TEST

START_TEST(test_keep_alive_and_pipelining)
{
    send_text(client, "GET /ready HTTP/1.1\r\nHost: a\r\n\r\nGET /nope HTTP/1.1\r\nHost: a\r\n\r\n"
                      "GET /hot_restart_version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    (void)receive(client);
    const char *first = strstr(got, "LIVE\n"), *second = strstr(got, "HTTP/1.1 404 Not Found\r\n");
    ck_assert(first && second && first < second);
    ck_assert(strstr(second, "\r\n\r\ndisabled"));
    ck_assert(ended);
    turn(20);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_completed"), 3);
}
END_TEST

START_TEST(test_head_has_no_body)
{
    ck_assert(strstr(ask("HEAD /ready HTTP/1.1\r\nHost: a\r\n\r\n"), "\r\ncontent-length: 5\r\n"));
    ck_assert_str_eq(body(), "");
    ck_assert(strstr(ask("HEAD /stats HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 200 OK\r\n") == got);
    ck_assert_str_eq(body(), "");
    ck_assert(strstr(ask("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"), "\r\n\r\nLIVE\n"));
}
END_TEST

START_TEST(test_unescaped_characters)
{
    (void)ask("GET /stats?usedonly&filter=^(http\\.admin\\.downstream_(cx_active|cx_total))$ "
              "HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(strstr(got, "HTTP/1.1 200 OK\r\n") == got);
    ck_assert(
        strstr(got, "http.admin.downstream_cx_active: 1\nhttp.admin.downstream_cx_total: 1\n"));
    (void)ask("GET /stats?filter=[{`\"<>}] HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(strstr(got, "HTTP/1.1 200 OK\r\n") == got);
}
END_TEST

START_TEST(test_post_without_body)
{
    (void)ask("POST /healthcheck/fail HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
              "Content-Type:\r\n\r\n");
    ck_assert_str_eq(body(), "OK\n");
    ck_assert(server.health_failed);
    (void)ask("POST /healthcheck/ok HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(!server.health_failed);
    (void)ask("GET /healthcheck/fail HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(strstr(got, "HTTP/1.1 405 Method Not Allowed\r\n") == got);
    ck_assert(!server.health_failed);
}
END_TEST

START_TEST(test_form)
{
    (void)ask("POST /runtime_modify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
              "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n\r\na=b");
    ck_assert(strstr(got, "HTTP/1.1 503 ") == got);
    (void)ask("POST /runtime_modify HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
              "Content-Type: text/plain\r\n\r\na=b");
    ck_assert(strstr(got, "HTTP/1.1 400 ") == got);
    (void)ask(
        "POST /runtime_modify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n3\r\na=b\r\n0\r\nx: y\r\n\r\n");
    ck_assert(strstr(got, "HTTP/1.1 503 ") == got);
}
END_TEST

START_TEST(test_body_limit)
{
    static char big[65537];
    memset(big, 'x', sizeof(big) - 1);
    send_text(client,
              "POST /healthcheck/fail HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
    send_text(client, big);
    (void)receive(client);
    ck_assert(strstr(got, "HTTP/1.1 200 OK\r\n") == got);
    ck_assert(server.health_failed);
    server.health_failed = false;
    send_text(client,
              "POST /healthcheck/fail HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n");
    send_text(client, big);
    send_text(client, "x");
    (void)receive(client);
    ck_assert(strstr(got, "HTTP/1.1 413 ") == got);
    ck_assert(!server.health_failed);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_4xx"), 1);
}
END_TEST

START_TEST(test_malformed)
{
    ck_assert(strstr(ask("nonsense\r\n\r\n"), "HTTP/1.1 400 Bad Request\r\n") == got);
    ck_assert(ended);
    ck_assert_uint_eq(stat_of("http.admin.downstream_cx_protocol_error"), 1);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_4xx"), 1);
    close(client);
    client = dial(admin_address(admin));
    ck_assert(strstr(ask("GET /ready#x HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 400 ") == got);
}
END_TEST

START_TEST(test_too_many_parameters)
{
    char request[1024] = "GET /ready?";
    size_t at = strlen(request);
    for (int i = 0; i < 256; i++, at += 2)
        (void)snprintf(request + at, sizeof(request) - at, "a&");
    (void)snprintf(request + at, sizeof(request) - at, " HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(strstr(ask(request), "HTTP/1.1 400 Bad Request\r\n") == got);
}
END_TEST

START_TEST(test_client_goes_in_the_middle)
{
    send_text(client, "POST /healthcheck/fail HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nxx");
    turn(20);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 1);
    close(client);
    client = -1;
    turn(20);
    ck_assert(!server.health_failed);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 0);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_rx_reset"), 1);
    ck_assert_uint_eq(stat_of("http.admin.downstream_cx_active"), 0);
    ck_assert_uint_eq(stat_of("http.admin.downstream_cx_destroy_remote"), 1);
}
END_TEST

/* A body of some megabytes in slices to a client that does not read waits, then goes on. */
#define LONG_NAME                                                                                  \
    "a_name_that_is_long_so_that_the_whole_is_more_than_what_sockets_and_buffers_hold_together_"
static const struct stats_def long_defs[] = {{LONG_NAME LONG_NAME "1", STATS_COUNTER},
                                             {LONG_NAME LONG_NAME "2", STATS_COUNTER}};
static struct stats_table long_table = STATS_TABLE(long_defs);

enum { MANY = 40000 };
static struct stats_scope *many[MANY];

static void make_many(void)
{
    for (int i = 0; i < MANY; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "s%06d", i);
        many[i] = stats_scope_new(&long_table, (struct stats_part[]){{str_of(name), NULL}}, 1);
    }
}

static void free_many(void)
{
    for (int i = 0; i < MANY; i++)
        stats_scope_free(&many[i]);
    mem_free(long_table.sorted);
    long_table.sorted = NULL;
}

START_TEST(test_slow_reader)
{
    size_t total = 0;
    make_many();
    send_text(client, "GET /stats?filter=^s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    turn(300);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 1); /* waits */
    while (!ended) {
        (void)receive(client);
        ck_assert_uint_gt(got_len, 0);
        total += got_len;
    }
    ck_assert_uint_gt(total, 2 * MANY * strlen(LONG_NAME LONG_NAME));
    ck_assert_str_eq(got + got_len - 5, "0\r\n\r\n");
    turn(20);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 0);
    free_many();
}
END_TEST

START_TEST(test_stalled_reader_is_cut)
{
    make_many();
    send_text(client, "GET /stats?filter=^s HTTP/1.1\r\nHost: a\r\n\r\n");
    turn(300);
    loop_advance(server.loop, 59000);
    turn(20);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 1);
    loop_advance(server.loop, 2000);
    turn(20);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 0);
    ck_assert_uint_eq(stat_of("http.admin.downstream_cx_active"), 0);
    free_many();
}
END_TEST

START_TEST(test_client_goes_in_the_middle_of_slices)
{
    make_many();
    send_text(client, "GET /stats?format=json HTTP/1.1\r\nHost: a\r\n\r\n");
    turn(3);
    close(client);
    client = dial(admin_address(admin));
    turn(50);
    ck_assert_uint_eq(stat_of("http.admin.downstream_rq_active"), 0);
    send_text(client, "GET /stats?format=json HTTP/1.1\r\nHost: a\r\n\r\n");
    turn(3);
    admin_free(&admin); /* frees what the slices still hold */
    free_many();
}
END_TEST

START_TEST(test_idle_connections_are_closed)
{
    (void)ask("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n");
    loop_advance(server.loop, 299000);
    (void)receive(client);
    ck_assert(!ended);
    loop_advance(server.loop, 2000);
    (void)receive(client);
    ck_assert(ended);
    turn(20);
    ck_assert_uint_eq(stat_of("http.admin.downstream_cx_destroy_local"), 1);
}
END_TEST

START_TEST(test_half_a_head_times_out)
{
    (void)ask("GET /ready HTTP/1.1\r\nHost:");
    loop_advance(server.loop, 11000);
    ck_assert(strstr(receive(client), "HTTP/1.1 408 ") == got);
}
END_TEST

START_TEST(test_too_many_connections)
{
    enum { MAX = 1024, MORE = 10 };
    static int fds[MAX + MORE];
    turn(20);
    for (int i = 0; i < MAX + MORE - 1; i++) {
        fds[i] = dial(admin_address(admin));
        turn(2);
    }
    turn(50);
    ck_assert_uint_eq(stat_of("http.admin.downstream_cx_active"), MAX);
    ck_assert_uint_eq(stat_of("listener.admin.downstream_cx_overflow"), MORE);
    (void)receive(fds[MAX + MORE - 2]);
    ck_assert(ended);
    close(fds[0]);
    turn(20);
    close(client);
    client = dial(admin_address(admin));
    ck_assert(strstr(ask("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"), "LIVE\n"));
    for (int i = 1; i < MAX + MORE - 1; i++)
        close(fds[i]);
}
END_TEST

START_TEST(test_quit_is_answered_first)
{
    server.exit_code = -1;
    send_text(client, "POST /quitquitquit HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(strstr(receive(client), "\r\n\r\nOK\n"));
}
END_TEST

START_TEST(test_address_in_use)
{
    struct addr again = *admin_address(admin);
    struct arena a;
    arena_init(&a, 0);
    ck_assert_ptr_null(admin_new(&server, &again, &errs));
    struct str text = errors_text(&errs, &a);
    ck_assert(str_starts(text, STR("admin.address: cannot listen on 127.0.0.1:")));
    ck_assert(str_find(text, STR("Address already in use")) > 0);
    arena_cleanup(&a);
}
END_TEST

START_TEST(test_unix_socket)
{
    char dir[] = "/tmp/admin-test-XXXXXX", path[64];
    struct addr where;
    struct stat st;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/sock", dir);
    ck_assert(addr_parse_pipe(str_of(path), &where));
    /* what a process left that did not end well is no hindrance, */
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(addr_bind(stale, &where), 0);
    close(stale);
    struct admin *second = admin_new(&server, &where, &errs);
    ck_assert_ptr_nonnull(second);
    int fd = dial(&where);
    send_text(fd, "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(strstr(receive(fd), "LIVE\n"));
    close(fd);
    /* one that is in use is. */
    ck_assert_ptr_null(admin_new(&server, &where, &errs));
    admin_free(&second);
    ck_assert(stat(path, &st) != 0 && errno == ENOENT);
    /* Nor is anything but a socket removed. */
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(file);
    ck_assert_ptr_null(admin_new(&server, &where, &errs));
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/admin/admin");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_get);
    tcase_add_test(tc, test_keep_alive_and_pipelining);
    tcase_add_test(tc, test_head_has_no_body);
    tcase_add_test(tc, test_unescaped_characters);
    tcase_add_test(tc, test_post_without_body);
    tcase_add_test(tc, test_form);
    tcase_add_test(tc, test_body_limit);
    tcase_add_test(tc, test_malformed);
    tcase_add_test(tc, test_too_many_parameters);
    tcase_add_test(tc, test_client_goes_in_the_middle);
    tcase_add_test(tc, test_slow_reader);
    tcase_add_test(tc, test_stalled_reader_is_cut);
    tcase_add_test(tc, test_client_goes_in_the_middle_of_slices);
    tcase_add_test(tc, test_idle_connections_are_closed);
    tcase_add_test(tc, test_half_a_head_times_out);
    tcase_add_test(tc, test_too_many_connections);
    tcase_add_test(tc, test_quit_is_answered_first);
    tcase_add_test(tc, test_address_in_use);
    tcase_add_test(tc, test_unix_socket);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
