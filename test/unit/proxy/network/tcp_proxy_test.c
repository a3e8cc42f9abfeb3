#include "proxy/network/tcp_proxy.h"

#include "cluster/pools.h"
#include "proxy/listener/accept.h"
#include "proxy/listener/downstream.h"
#include "proxy/listener/listener.h"
#include "proxy/network/tcp_config.h"
#include "proxy/worker.h"
#include "test/support/cluster_fixture.h"
#include "test/support/far_end.h"
#include "test/support/yaml_message.h"
#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- a server, a client, and a connection between them ------------------------------------------
 */

enum { HOUR_MS = 3600000, MINUTE_MS = 60000 };

static struct cluster_fixture f;
static struct worker w;
static struct listener listener;
static struct downstream *d;
static struct far_end client;
static struct tcp_config *config;
static struct arena scratch;
static int server; /* accepts */
static int host_fd;
static char address[32];
static int gone;

static void on_free(void *arg)
{
    struct downstream *over = arg;
    struct arena *a = over->arena;
    gone++;
    d = NULL;
    arena_free(&a);
}

static void listen_loopback(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(server, (struct sockaddr *)&sin, sizeof(sin)), 0);
    ck_assert_int_eq(listen(server, 16), 0);
    ck_assert_int_eq(getsockname(server, (struct sockaddr *)&sin, &len), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(sin.sin_port));
}

static void setup(void)
{
    gone = 0;
    host_fd = -1;
    config = NULL;
    arena_init(&scratch, 0);
    fixture_start(&f);
    listen_loopback();
    w = (struct worker){.loop = f.loop, .index = 0, .clusters = f.worker};
    list_init(&w.downstreams);
}

static void teardown(void)
{
    if (d) {
        downstream_kill(d);
        fixture_turn(&f, 5);
        loop_advance(f.loop, 5000);
    }
    fixture_turn(&f, 20);
    ck_assert_int_eq(gone, 1);
    far_end_close(&client);
    if (host_fd >= 0)
        close(host_fd);
    if (server >= 0)
        close(server);
    if (config)
        tcp_config_free(config);
    arena_cleanup(&scratch);
    fixture_stop(&f);
}

static void open_with(const char *fields)
{
    struct errors e;
    struct compile_env env = {0};
    struct cluster_config *cluster = cluster_config_new(&f.home, STR("c"));
    struct host *h = fixture_host(&f, address);
    fixture_publish(&f, cluster, &h, 1);
    errors_init(&e);
    const char *yaml =
        arena_printf(&scratch, "{stat_prefix: t, cluster: c%s%s}", *fields ? ", " : "", fields).p;
    config = tcp_config_compile(
        &env,
        yaml_message("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", yaml, &scratch), &e);
    ck_assert_ptr_nonnull(config);
    errors_cleanup(&e);
    far_end_open(&client, f.loop);
    struct arena *a = arena_new(1024);
    d = ARENA_NEW(a, struct downstream);
    d->arena = a;
    d->worker = &w;
    d->listener = &listener;
    d->accepted_fd = -1;
    d->filter = &tcp_proxy_filter;
    ck_assert(addr_parse_ip(STR("127.0.0.1"), 99, &d->info.remote));
    d->info.local = d->info.direct_remote = d->info.remote;
    task_init(&d->free_task, on_free, d);
    list_push_tail(&w.downstreams, &d->link);
    conn_init_accepted(&d->conn, f.loop, client.near_fd, NULL, &d->info.local, &d->info.remote, 0,
                       NULL, NULL);
    static const struct conn_ops none;
    conn_set_owner(&d->conn, &none, NULL);
    tcp_proxy_filter.start(config, d);
}

/* Runs the loop for a while of real time, for the kernel to do its part. */
static void turn(void)
{
    fixture_turn(&f, 20);
    far_end_spin(&client, true);
}

static void accept_host(void)
{
    for (int i = 0; i < 100 && host_fd < 0; i++) {
        turn();
        host_fd = accept(server, NULL, NULL);
    }
    ck_assert_int_ge(host_fd, 0);
    turn();
}

static void host_says(const char *text)
{
    ck_assert_int_eq(send(host_fd, text, strlen(text), 0), strlen(text));
    turn();
}

static void expect_client(const char *text)
{
    turn();
    char *got = far_end_text(&client);
    ck_assert_str_eq(got, text);
    mem_free(got);
}

static uint64_t stat_of(uint32_t stat)
{
    return stats_sum(config->stats, stat);
}

/* --- quiet --- */

START_TEST(an_hour_of_silence)
{
    open_with("");
    accept_host();
    host_says("220 ready\r\n");
    expect_client("220 ready\r\n");
    loop_advance(f.loop, HOUR_MS - 1000);
    turn();
    ck_assert_int_eq(gone, 0);
    host_says("x"); /* which begins the hour anew */
    loop_advance(f.loop, HOUR_MS - 1000);
    turn();
    ck_assert_int_eq(gone, 0);
    loop_advance(f.loop, 1001);
    turn();
    ck_assert(client.ended || client.reset);
    ck_assert_int_eq(gone, 1);
    ck_assert_uint_eq(stat_of(TCP_IDLE), 1);
}
END_TEST

/* A side that has said its last word: not an hour. */
START_TEST(half_closed_has_its_own_time)
{
    open_with("");
    accept_host();
    if (_i == 0)
        far_end_shut(&client);
    else
        shutdown(host_fd, SHUT_WR);
    turn();
    loop_advance(f.loop, 5 * MINUTE_MS - 1000);
    turn();
    ck_assert_int_eq(gone, 0);
    if (_i == 0) {
        host_says("more"); /* the other direction goes on, and is not cut while it does */
        expect_client("more");
    } else {
        far_end_send(&client, "more", 4);
        turn();
    }
    loop_advance(f.loop, 5 * MINUTE_MS - 1000);
    turn();
    ck_assert_int_eq(gone, 0);
    loop_advance(f.loop, 1001);
    turn();
    ck_assert_int_eq(gone, 1);
    ck_assert_uint_eq(stat_of(TCP_HALF_CLOSE), 1);
    ck_assert_uint_eq(stat_of(TCP_IDLE), 0);
}
END_TEST

START_TEST(an_idle_timeout_that_is_set_is_for_half_closed_too)
{
    open_with("idle_timeout: 7200s");
    accept_host();
    far_end_shut(&client);
    turn();
    loop_advance(f.loop, 2 * HOUR_MS - 1000);
    turn();
    ck_assert_int_eq(gone, 0);
    loop_advance(f.loop, 1001);
    turn();
    ck_assert_int_eq(gone, 1);
    ck_assert_uint_eq(stat_of(TCP_IDLE), 1);
}
END_TEST

START_TEST(no_idle_timeout_at_all)
{
    open_with("idle_timeout: 0s");
    accept_host();
    far_end_shut(&client);
    turn();
    loop_advance(f.loop, 100 * HOUR_MS);
    turn();
    ck_assert_int_eq(gone, 0);
    host_says("late");
    expect_client("late");
}
END_TEST

START_TEST(duration_with_jitter)
{
    open_with("max_downstream_connection_duration: 60s, "
              "max_downstream_connection_duration_jitter_percentage: {value: 50}");
    accept_host();
    loop_advance(f.loop, MINUTE_MS - 1000);
    turn();
    ck_assert_int_eq(gone, 0);
    loop_advance(f.loop, MINUTE_MS / 2 + 1001);
    turn();
    ck_assert_int_eq(gone, 1);
    ck_assert_uint_eq(stat_of(TCP_MAX_DURATION), 1);
}
END_TEST

/* --- ends --- */

START_TEST(both_ends_end_it)
{
    open_with("");
    accept_host();
    far_end_send(&client, "bye", 3);
    far_end_shut(&client);
    turn();
    char got[8] = {0};
    ck_assert_int_eq(recv(host_fd, got, sizeof(got), 0), 3);
    ck_assert_int_eq(recv(host_fd, got, sizeof(got), 0), 0);
    host_says("ok");
    shutdown(host_fd, SHUT_WR);
    expect_client("ok");
    ck_assert(client.ended);
    ck_assert_int_eq(gone, 1);
}
END_TEST

/* A connection that lingers after its end is ended by the drain, not 5 s later. */
START_TEST(kill_ends_a_linger)
{
    close(server);
    server = -1;
    open_with("");
    turn();
    ck_assert(client.ended); /* nobody is there to talk to */
    loop_advance(f.loop, 1000);
    turn();
    ck_assert_int_eq(gone, 0); /* the client has not ended yet */
    downstream_kill(d);
    turn();
    ck_assert_int_eq(gone, 1);
}
END_TEST

START_TEST(linger_ends_by_itself)
{
    close(server);
    server = -1;
    open_with("");
    turn();
    loop_advance(f.loop, 4900);
    turn();
    ck_assert_int_eq(gone, 0);
    loop_advance(f.loop, 101);
    turn();
    ck_assert_int_eq(gone, 1);
}
END_TEST

/* --- connecting --- */

START_TEST(attempts_are_spaced)
{
    close(server);
    server = -1;
    open_with("max_connect_attempts: 3, backoff_options: {base_interval: 10s, max_interval: 20s}");
    turn();
    turn();
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_FAIL), 1);
    loop_advance(f.loop, 10000); /* at most so long, by chance */
    turn();
    ck_assert_uint_ge(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_FAIL), 2);
    loop_advance(f.loop, 20000);
    turn();
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_FAIL), 3);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED), 1);
    ck_assert(client.ended);
}
END_TEST

START_TEST(client_that_leaves_while_an_attempt_waits)
{
    close(server);
    server = -1;
    open_with("max_connect_attempts: 3, backoff_options: {base_interval: 10s}");
    turn();
    far_end_hang_up(&client);
    turn();
    loop_advance(f.loop, 100000);
    turn();
    if (d)
        conn_close(&d->conn, CONN_CLOSE_NOW, 0);
}
END_TEST

START_TEST(waits_for_data)
{
    open_with("upstream_connect_mode: ON_DOWNSTREAM_DATA, max_early_data_bytes: 100");
    turn();
    ck_assert_int_lt(accept(server, NULL, NULL), 0);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 0);
    far_end_send(&client, "hello", 5);
    accept_host();
    char got[8] = {0};
    ck_assert_int_eq(recv(host_fd, got, sizeof(got), 0), 5);
    ck_assert_str_eq(got, "hello");
    ck_assert_uint_eq(stat_of(TCP_EARLY_DATA), 1);
}
END_TEST

START_TEST(waits_for_data_that_never_comes)
{
    open_with("upstream_connect_mode: ON_DOWNSTREAM_DATA, max_early_data_bytes: 100");
    turn();
    far_end_shut(&client);
    turn();
    ck_assert_int_eq(gone, 1);
    ck_assert_uint_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 0);
}
END_TEST

/* --- configuration --- */

static struct {
    const char *fields, *path, *part;
} const wrong[] = {
    {"cluster: c, backoff_options: {base_interval: 2s, max_interval: 1s}",
     "backoff_options.max_interval", "less than"},
    {"cluster: c, upstream_connect_mode: ON_DOWNSTREAM_DATA", "max_early_data_bytes", "required"},
    {"cluster: c, tunneling_config: {hostname: 'a:1', post_path: /x}", "tunneling_config.post_path",
     "use_post"},
    {"cluster: c, tunneling_config: {hostname: '%NO_SUCH%'}", "tunneling_config.hostname", ""},
    {"cluster: c, tunneling_config: {hostname: 'a:1', headers_to_add: [{header: {key: Host, value: "
     "x}}]}",
     "tunneling_config.headers_to_add[0].header.key", "cannot"},
    {"cluster: c, proxy_protocol_tlvs: [{type: 3}]", "proxy_protocol_tlvs[0]", "required"},
    {"cluster: c, proxy_protocol_tlvs: [{type: 3, value: YQ==, format_string: {text_format_source: "
     "{inline_string: x}}}]",
     "proxy_protocol_tlvs[0]", "not both"},
};

START_TEST(configurations_that_are_wrong)
{
    struct errors e;
    struct arena a;
    struct compile_env env = {.validate = true};
    char yaml[400];
    arena_init(&a, 0);
    errors_init(&e);
    snprintf(yaml, sizeof(yaml), "{stat_prefix: t, %s}", wrong[_i].fields);
    ck_assert_ptr_null(tcp_config_compile(
        &env, yaml_message("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", yaml, &a),
        &e));
    expect_error(&e, wrong[_i].path, wrong[_i].part);
    errors_cleanup(&e);
    arena_cleanup(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("proxy/network/tcp_proxy");
    TCase *t = tcase_create("connections"), *c = tcase_create("configuration");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, an_hour_of_silence);
    tcase_add_loop_test(t, half_closed_has_its_own_time, 0, 2);
    tcase_add_test(t, an_idle_timeout_that_is_set_is_for_half_closed_too);
    tcase_add_test(t, no_idle_timeout_at_all);
    tcase_add_test(t, duration_with_jitter);
    tcase_add_test(t, both_ends_end_it);
    tcase_add_test(t, kill_ends_a_linger);
    tcase_add_test(t, linger_ends_by_itself);
    tcase_add_test(t, attempts_are_spaced);
    tcase_add_test(t, client_that_leaves_while_an_attempt_waits);
    tcase_add_test(t, waits_for_data);
    tcase_add_test(t, waits_for_data_that_never_comes);
    suite_add_tcase(s, t);
    tcase_add_loop_test(c, configurations_that_are_wrong, 0, ARRAY_LEN(wrong));
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
