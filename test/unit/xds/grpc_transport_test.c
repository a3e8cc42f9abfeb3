/* The transport against a server of the official Python library, in a process of its own. */
#include "test/unit/xds/fixture.c"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 20000, MAX_MESSAGE = 32 * 1024 * 1024 };

/* --- the server ------------------------------------------------------------------------------- */

static pid_t server_pid;
static int server_port, server_stdin;

static void server_stop(void)
{
    close(server_stdin);
    kill(server_pid, SIGKILL);
    waitpid(server_pid, NULL, 0);
}

static bool server_start(void)
{
    int in[2], out[2];
    char line[32] = "";
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return false;
    server_pid = fork();
    if (server_pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl("tools/venv-python", "venv-python", "test/unit/xds/grpc_server.py", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server_stdin = in[1];
    for (size_t len = 0; len < sizeof(line) - 1 && !strchr(line, '\n'); len++) {
        if (read(out[0], line + len, 1) != 1)
            break;
    }
    close(out[0]);
    server_port = (int)strtol(line, NULL, 10);
    if (!server_port)
        server_stop();
    return server_port != 0;
}

static int server_connect(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* --- a call and what it told ------------------------------------------------------------------ */

struct talk {
    struct loop *loop;
    void *transport;
    struct xds_call *call;
    char *text; /* the last message */
    size_t len;
    size_t num_messages, num_sent, num_closes;
    int status;
    char reason[256];
};

static void on_talk_message(void *arg, struct str bytes)
{
    struct talk *t = arg;
    mem_free(t->text);
    t->text = mem_strndup(bytes.p, bytes.len);
    t->len = bytes.len;
    t->num_messages++;
}

static void on_talk_sent(void *arg)
{
    ((struct talk *)arg)->num_sent++;
}

static void on_talk_close(void *arg, int status, struct str text)
{
    struct talk *t = arg;
    t->num_closes++;
    t->status = status;
    snprintf(t->reason, sizeof(t->reason), "%.*s", STR_ARG(text));
}

static const struct xds_call_events talk_events = {on_talk_message, on_talk_sent, on_talk_close};

static void talk_open(struct talk *t, int fd)
{
    static const struct xds_header headers[] = {{{"x-key", 5}, {"value", 5}},
                                                {{"Bad Name", 8}, {"dropped", 7}}};
    struct xds_call_options opts = {.method = "/some.Service/Stream",
                                    .authority = STR("control.plane"),
                                    .headers = headers,
                                    .num_headers = 2};
    t->call = grpc_transport.open(t->transport, fd, &opts, &talk_events, t);
}

static void talk_init_idle(struct talk *t)
{
    *t = (struct talk){0};
    t->loop = loop_new(false);
    t->transport = grpc_transport.start(t->loop, MAX_MESSAGE);
}

static void talk_init(struct talk *t)
{
    talk_init_idle(t);
    talk_open(t, server_connect());
}

static void talk_cleanup(struct talk *t)
{
    if (t->call)
        grpc_transport.close(t->call);
    grpc_transport.stop(t->transport);
    loop_free(&t->loop);
    mem_free(t->text);
}

static void on_too_long(void *arg)
{
    ck_abort_msg("nothing came");
}

/* Turns the loop until *counter is `want`. */
static void turn_until(struct loop *l, const size_t *counter, size_t want)
{
    struct timer limit;
    timer_init(&limit, l, on_too_long, NULL);
    timer_arm(&limit, WAIT_MS);
    while (*counter < want)
        loop_run_once(l, true);
    timer_disarm(&limit);
}

static void on_nap(void *arg)
{
    *(size_t *)arg = 1;
}

static void turn_for(struct loop *l, uint64_t ms)
{
    struct timer nap;
    size_t over = 0;
    timer_init(&nap, l, on_nap, &over);
    timer_arm(&nap, ms);
    while (!over)
        loop_run_once(l, true);
}

static void say_to(struct talk *t, const char *text)
{
    size_t sent = t->num_sent;
    grpc_transport.send(t->call, str_of(text));
    turn_until(t->loop, &t->num_sent, sent + 1);
}

static void hear(struct talk *t)
{
    size_t n = t->num_messages;
    grpc_transport.receive(t->call);
    turn_until(t->loop, &t->num_messages, n + 1);
}

/* --- tests ------------------------------------------------------------------------------------ */

START_TEST(test_messages_both_ways)
{
    struct talk t;
    char text[32];
    talk_init(&t);
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "echo %d", i);
        say_to(&t, text);
        hear(&t);
        ck_assert_str_eq(t.text, text);
    }
    say_to(&t, "meta");
    hear(&t);
    ck_assert_ptr_nonnull(strstr(t.text, "x-key=value"));
    ck_assert_ptr_nonnull(strstr(t.text, "user-agent=attache"));
    ck_assert_ptr_null(strstr(t.text, "dropped"));
    ck_assert_uint_eq(t.num_closes, 0);
    talk_cleanup(&t);
}
END_TEST

START_TEST(test_a_message_comes_only_when_asked_for)
{
    struct talk t;
    talk_init(&t);
    say_to(&t, "three");
    turn_for(t.loop, 100);
    ck_assert_uint_eq(t.num_messages, 0);
    hear(&t);
    ck_assert_str_eq(t.text, "one");
    turn_for(t.loop, 100);
    ck_assert_uint_eq(t.num_messages, 1);
    hear(&t);
    hear(&t);
    ck_assert_str_eq(t.text, "three");
    talk_cleanup(&t);
}
END_TEST

START_TEST(test_large_message_and_the_limit)
{
    struct talk t;
    talk_init(&t);
    say_to(&t, "big 20000000");
    hear(&t);
    ck_assert_uint_eq(t.len, 20000000);
    say_to(&t, "big 40000000");
    grpc_transport.receive(t.call);
    turn_until(t.loop, &t.num_closes, 1);
    ck_assert_int_eq(t.status, 8); /* RESOURCE_EXHAUSTED */
    ck_assert_uint_eq(t.num_messages, 1);
    talk_cleanup(&t);
}
END_TEST

START_TEST(test_the_servers_status_is_told_once)
{
    struct talk t;
    talk_init(&t);
    say_to(&t, "abort");
    turn_until(t.loop, &t.num_closes, 1);
    ck_assert_int_eq(t.status, 7);
    ck_assert_str_eq(t.reason, "not you");
    grpc_transport.close(t.call);
    talk_open(&t, server_connect());
    say_to(&t, "end");
    grpc_transport.receive(t.call);
    turn_until(t.loop, &t.num_closes, 2);
    ck_assert_int_eq(t.status, 0);
    ck_assert_uint_eq(t.num_messages, 0);
    turn_for(t.loop, 50);
    ck_assert_uint_eq(t.num_closes, 2);
    talk_cleanup(&t);
}
END_TEST

START_TEST(test_close_at_any_moment_is_silent)
{
    struct talk t;
    talk_init(&t);
    grpc_transport.close(t.call); /* nothing was even sent */
    for (int i = 0; i < 8; i++) {
        talk_open(&t, server_connect());
        if (i & 1)
            grpc_transport.send(t.call, STR("big 5000000"));
        if (i & 2)
            grpc_transport.receive(t.call);
        if (i & 4)
            turn_for(t.loop, 20);
        t.num_messages = t.num_sent = 0;
        grpc_transport.close(t.call);
        turn_for(t.loop, 20);
        ck_assert_uint_eq(t.num_messages + t.num_sent + t.num_closes, 0);
    }
    t.call = NULL;
    talk_cleanup(&t);
}
END_TEST

START_TEST(test_a_peer_that_goes_away_or_talks_nonsense)
{
    struct talk t;
    int pair[2];
    talk_init_idle(&t);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    talk_open(&t, pair[0]);
    ck_assert_int_eq(write(pair[1], "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 28);
    turn_until(t.loop, &t.num_closes, 1);
    ck_assert_int_ne(t.status, 0);
    close(pair[1]);
    grpc_transport.close(t.call);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    close(pair[1]);
    talk_open(&t, pair[0]);
    turn_until(t.loop, &t.num_closes, 2);
    ck_assert_int_eq(t.status, 14);
    talk_cleanup(&t);
}
END_TEST

static size_t count_fds(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

START_TEST(test_a_stream_leaves_no_descriptor_behind)
{
    struct talk t;
    size_t before = 0;
    talk_init_idle(&t);
    for (int i = 0; i < 40; i++) {
        talk_open(&t, server_connect());
        if (i & 1)
            say_to(&t, "echo x");
        grpc_transport.close(t.call);
        turn_for(t.loop, 5);
        if (i == 9)
            before = count_fds();
    }
    t.call = NULL;
    turn_for(t.loop, 200);
    ck_assert_uint_le(count_fds(), before);
    talk_cleanup(&t);
}
END_TEST

START_TEST(test_server_killed_in_the_middle)
{
    struct talk t;
    ck_assert(server_start()); /* one of this test's own */
    talk_init(&t);
    say_to(&t, "echo x");
    hear(&t);
    server_stop();
    grpc_transport.receive(t.call);
    turn_until(t.loop, &t.num_closes, 1);
    ck_assert_int_eq(t.status, 14);
    talk_cleanup(&t);
}
END_TEST

/* --- the whole client ------------------------------------------------------------------------- */

static int dial_server(void *arg, struct str cluster, char *why, size_t why_len)
{
    return server_connect();
}

static const struct resource_ops strict_ops = WILD_OPS(CDS_URL, "cds");
static struct fixture real;
static size_t num_applied;

static bool strict_apply(void *owner, struct str name, void *compiled, struct str version,
                         struct errors *e)
{
    if (((struct compiled *)compiled)->value == 3) {
        errors_add(e, "priority", "is the number of the beast");
        return false;
    }
    num_applied++;
    return res_apply(owner, name, compiled, version, e);
}

START_TEST(test_the_client_with_a_real_stream)
{
    struct resource_ops ops = strict_ops;
    struct xds_options opts = {.node = STR("\n\x02me")};
    ops.apply = strict_apply;
    stats_init(1);
    real.loop = loop_new(false);
    real.x = xds_new(real.loop, &opts);
    xds_set_dial(real.x, dial_server, NULL);
    xds_set_ads(real.x, &ads_server);
    xds_register(real.x, &ops, &real);
    xds_collect(real.x, &from_ads, &ops, NULL, NULL, NULL);
    turn_until(real.loop, &num_applied, 3);
    turn_for(real.loop, 50);
    ck_assert_str_eq(real.log, "( a=1@1 b=2@1 ) ( ) ( ack:True,nack:True=4@3 -a -b )");
    ck_assert(str_eq(xds_control_plane(real.x), STR("scripted")));
    xds_free(&real.x);
    ck_assert_uint_eq(real.num_live, 0);
    loop_free(&real.loop);
    stats_cleanup();
}
END_TEST

static bool have_server;

static void add(TCase *t)
{
    tcase_add_test(t, test_a_peer_that_goes_away_or_talks_nonsense);
    if (!have_server)
        return;
    tcase_add_test(t, test_messages_both_ways);
    tcase_add_test(t, test_a_message_comes_only_when_asked_for);
    tcase_add_test(t, test_large_message_and_the_limit);
    tcase_add_test(t, test_the_servers_status_is_told_once);
    tcase_add_test(t, test_close_at_any_moment_is_silent);
    tcase_add_test(t, test_a_stream_leaves_no_descriptor_behind);
    tcase_add_test(t, test_server_killed_in_the_middle);
    tcase_add_test(t, test_the_client_with_a_real_stream);
}

int main(void)
{
    log_set_all(LOG_LEVEL_OFF);
    have_server = server_start();
    if (!have_server)
        puts("most tests skipped: no Python with grpcio (tools/deps makes one)");
    int failed = test_main("xds/grpc_transport", add);
    if (have_server)
        server_stop();
    return failed || (!have_server && getenv("ATTACHE_REQUIRE_SHARED"));
}
