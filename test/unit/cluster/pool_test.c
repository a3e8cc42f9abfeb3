#include "cluster/pool.h"

#include "cluster/pools.h"
#include "test/support/cluster_fixture.h"
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* --- a server and an asker ------------------------------------------------------------------- */

static struct cluster_fixture f;
static int listener;
static char address[32];
static struct host *host; /* the test's own reference */

static int listen_loopback(int backlog)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(sin.sin_port));
    return fd;
}

static int accept_one(void)
{
    int fd = accept(listener, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    return fd;
}

struct ask {
    struct pool_request rq;
    struct pool_conn *pc;
    enum pool_result result;
    char detail[128];
    int done;
};

static void on_slot(void *arg, struct pool_conn *pc, enum pool_result r, struct str detail)
{
    struct ask *a = arg;
    ck_assert_int_eq(a->done, 0);
    ck_assert((pc != NULL) == (r == POOL_READY));
    a->pc = pc;
    a->result = r;
    snprintf(a->detail, sizeof(a->detail), "%.*s", STR_ARG(detail));
    a->done = 1;
}

/* A protocol like HTTP/1: one slot, reused. The client counts itself. */
static int clients;

struct client {
    struct pool_conn *pc;
    int closed;
};

static void on_client_closed(void *owner, struct conn *c, enum conn_close_reason why)
{
    struct client *cl = owner;
    cl->closed = 1;
    pool_release(cl->pc, false);
}

static void on_client_read(void *owner, struct conn *c)
{
    if (c->eof)
        conn_close(c, CONN_CLOSE_NOW, 0);
}

static const struct conn_ops client_conn_ops = {.on_read = on_client_read,
                                                .on_closed = on_client_closed};

static void *client_new(struct pool_conn *pc)
{
    struct client *cl = NEW(struct client);
    cl->pc = pc;
    clients++;
    conn_set_owner(&pc->conn, &client_conn_ops, cl);
    return cl;
}

static void client_free(void *arg)
{
    clients--;
    mem_free(arg);
}

static const struct pool_protocol proto = {.name = "fake",
                                           .stat = CLUSTER_UPSTREAM_CX_HTTP1_TOTAL,
                                           .client_new = client_new,
                                           .client_free = client_free};

static struct cluster *cluster(void)
{
    struct cluster *c = worker_clusters_find(f.worker, STR("c"));
    ck_assert_ptr_nonnull(c);
    return c;
}

static void publish(struct cluster_config *config)
{
    struct host *h = host_ref(host);
    fixture_publish(&f, config, &h, 1);
}

static struct cluster_config *config_new(void)
{
    struct cluster_config *config = cluster_config_new(&f.home, STR("c"));
    config->connect_timeout_ms = 1000;
    return config;
}

static void setup(void)
{
    clients = 0;
    fixture_start(&f);
    listener = listen_loopback(64);
    host = fixture_host(&f, address);
}

static void teardown(void)
{
    host_unref(host);
    if (listener >= 0)
        close(listener);
    fixture_stop(&f);
    ck_assert_int_eq(clients, 0);
}

static void ask(struct ask *a)
{
    *a = (struct ask){0};
    pool_acquire(cluster(), host, &proto, NULL, PRIORITY_DEFAULT, &a->rq, on_slot, a);
    ck_assert_int_eq(a->done, 0); /* never inside the call */
}

static void get(struct ask *a)
{
    ask(a);
    fixture_spin(&f, &a->done);
    ck_assert_int_eq(a->result, POOL_READY);
}

/* --- tests --------------------------------------------------------------------------------------
 */

START_TEST(gives_and_reuses)
{
    struct ask a, b;
    struct pool_conn *first;
    int peer;
    publish(config_new());
    get(&a);
    peer = accept_one();
    first = a.pc;
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE), 1);
    ck_assert_int_eq(host->rq_active, 1);
    pool_release(a.pc, true);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE), 0);
    get(&b);
    ck_assert_ptr_eq(b.pc, first);
    pool_release(b.pc, true);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_HTTP1_TOTAL), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_TOTAL), 2);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_PENDING_TOTAL), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_PENDING_ACTIVE), 0);
    ck_assert_int_eq(host->rq_pending_active, 0);
    ck_assert_int_eq(circuit_active(cluster()->circuit, PRIORITY_DEFAULT, CIRCUIT_RQ), 0);
    ck_assert_int_eq(circuit_active(cluster()->circuit, PRIORITY_DEFAULT, CIRCUIT_CX), 1);
    close(peer);
}
END_TEST

START_TEST(most_recently_used_first)
{
    struct ask a, b, c;
    publish(config_new());
    get(&a);
    get(&b);
    ck_assert_ptr_ne(a.pc, b.pc);
    pool_release(b.pc, true);
    pool_release(a.pc, true);
    get(&c);
    ck_assert_ptr_eq(c.pc, a.pc);
    pool_release(c.pc, true);
}
END_TEST

START_TEST(fin_before_reuse_is_seen)
{
    struct ask a, b;
    publish(config_new());
    get(&a);
    pool_release(a.pc, true);
    close(accept_one());
    /* No turn of the loop in between: only the look before reuse can find the FIN. */
    ask(&b);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(b.result, POOL_READY);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 2);
    pool_release(b.pc, true);
}
END_TEST

START_TEST(fin_while_idle_closes)
{
    struct ask a;
    publish(config_new());
    get(&a);
    pool_release(a.pc, true);
    close(accept_one());
    for (int i = 0; i < 1000 && pools_num_conns(cluster()->pools); i++)
        fixture_turn(&f, 1);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_DESTROY_REMOTE), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ), 0);
    ck_assert_int_eq(circuit_active(cluster()->circuit, PRIORITY_DEFAULT, CIRCUIT_CX), 0);
    fixture_turn(&f, 2);
    ck_assert_int_eq(pools_num_pools(cluster()->pools), 0); /* an idle host costs nothing */
}
END_TEST

START_TEST(fin_between_grant_and_callback)
{
    struct ask a, b;
    int peer;
    publish(config_new());
    get(&a);
    pool_release(a.pc, true);
    peer = accept_one();
    ask(&b); /* granted the idle connection, its callback is queued */
    shutdown(peer, SHUT_WR);
    fixture_spin(&f, &b.done);
    /* Either it still got the old one (the FIN was not seen yet) or a fresh one; never a failure.
     */
    ck_assert_int_eq(b.result, POOL_READY);
    pool_release(b.pc, false);
    close(peer);
}
END_TEST

START_TEST(unexpected_bytes_while_idle_close)
{
    struct ask a;
    int peer;
    publish(config_new());
    get(&a);
    pool_release(a.pc, true);
    peer = accept_one();
    ck_assert_int_eq(write(peer, "HTTP/1.1 408 \r\n\r\n", 17), 17);
    for (int i = 0; i < 1000 && pools_num_conns(cluster()->pools); i++)
        fixture_turn(&f, 1);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_PROTOCOL_ERROR), 1);
    close(peer);
}
END_TEST

START_TEST(idle_timeout)
{
    struct ask a;
    struct cluster_config *config = config_new();
    config->idle_timeout_ms = 3000;
    publish(config);
    get(&a);
    loop_advance(f.loop, 60000); /* in use: not idle */
    fixture_turn(&f, 2);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 1);
    pool_release(a.pc, true);
    loop_advance(f.loop, 2990);
    fixture_turn(&f, 2);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 1);
    loop_advance(f.loop, 20);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_IDLE_TIMEOUT), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_DESTROY_LOCAL), 1);
}
END_TEST

START_TEST(max_requests_and_age)
{
    struct ask a, b;
    struct cluster_config *config = config_new();
    config->max_requests_per_connection = 2;
    config->max_connection_duration_ms = 10000;
    publish(config);
    get(&a);
    pool_release(a.pc, true);
    get(&a);
    pool_release(a.pc, true);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_MAX_REQUESTS), 1);
    get(&b);
    loop_advance(f.loop, 10001); /* in use: ends with its last slot */
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_MAX_DURATION_REACHED), 1);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 1);
    pool_release(b.pc, true);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
}
END_TEST

START_TEST(refused)
{
    struct ask a, b;
    close(listener);
    listener = -1;
    publish(config_new());
    ask(&a);
    ask(&b);
    fixture_spin(&f, &a.done);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(a.result, POOL_CONNECT_FAILED);
    ck_assert_str_eq(a.detail, "delayed_connect_error:_Connection_refused");
    ck_assert_int_eq(b.result, POOL_CONNECT_FAILED);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_FAIL), 2);
    ck_assert_int_eq(host->cx_connect_fail, 2);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_PENDING_FAILURE_EJECT), 2);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_DESTROY_REMOTE), 2);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_TOTAL), 0);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_pools(cluster()->pools), 0);
}
END_TEST

START_TEST(connect_timeout)
{
    struct ask a;
    int fillers[8];
    close(listener);
    listener = listen_loopback(0);
    host_unref(host);
    host = fixture_host(&f, address);
    for (unsigned i = 0; i < ARRAY_LEN(fillers); i++) { /* fill the backlog */
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!addr_connect(fillers[i], &host->addr);
    }
    publish(config_new());
    ask(&a);
    fixture_turn(&f, 5);
    ck_assert_int_eq(a.done, 0);
    loop_advance(f.loop, 1001);
    fixture_spin(&f, &a.done);
    ck_assert_int_eq(a.result, POOL_CONNECT_TIMEOUT);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_TIMEOUT), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_FAIL), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_DESTROY_LOCAL), 1);
    for (unsigned i = 0; i < ARRAY_LEN(fillers); i++)
        close(fillers[i]);
}
END_TEST

START_TEST(cancel_leaves_the_attempt_to_the_next)
{
    struct ask a, b;
    publish(config_new());
    ask(&a);
    pool_cancel(&a.rq);
    pool_cancel(&a.rq); /* harmless */
    ask(&b);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(b.result, POOL_READY);
    ck_assert_int_eq(a.done, 0);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_CANCELLED), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_PENDING_ACTIVE), 0);
    pool_release(b.pc, true);
}
END_TEST

START_TEST(cancel_after_grant_gives_the_slot_back)
{
    struct ask a, b;
    struct pool_request zero = {0};
    publish(config_new());
    get(&a);
    pool_release(a.pc, true);
    ask(&b);
    pool_cancel(&b.rq);
    fixture_turn(&f, 3);
    ck_assert_int_eq(b.done, 0);
    ck_assert_int_eq(circuit_active(cluster()->circuit, PRIORITY_DEFAULT, CIRCUIT_RQ), 0);
    get(&b);
    ck_assert_ptr_eq(b.pc, a.pc);
    pool_release(b.pc, true);
    pool_cancel(&zero);
}
END_TEST

START_TEST(pending_limit)
{
    struct ask a, b, c;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_PENDING] = 2;
    publish(config);
    ask(&a);
    ask(&b);
    ask(&c);
    fixture_spin(&f, &c.done);
    ck_assert_int_eq(c.result, POOL_OVERFLOW);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_PENDING_OVERFLOW), 1);
    fixture_spin(&f, &a.done);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(a.result, POOL_READY);
    pool_release(a.pc, true);
    pool_release(b.pc, true);
}
END_TEST

START_TEST(request_limit)
{
    struct ask a, b;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_RQ] = 1;
    publish(config);
    get(&a);
    ask(&b);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(b.result, POOL_OVERFLOW);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_RQ_ACTIVE_OVERFLOW), 1);
    pool_release(a.pc, true);
    get(&b);
    pool_release(b.pc, true);
}
END_TEST

START_TEST(connection_limit_queues)
{
    struct ask a, b;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 1;
    publish(config);
    get(&a);
    ask(&b);
    fixture_turn(&f, 20);
    ck_assert_int_eq(b.done, 0); /* waits for the only connection */
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_OVERFLOW), 1);
    pool_release(a.pc, true);
    fixture_spin(&f, &b.done);
    ck_assert_ptr_eq(b.pc, a.pc);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 1);
    pool_release(b.pc, false);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
}
END_TEST

START_TEST(limit_zero_still_allows_one_connection)
{
    struct ask a;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 0;
    publish(config);
    get(&a);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_OVERFLOW), 1);
    pool_release(a.pc, true);
}
END_TEST

START_TEST(tcp_does_not_wait_for_connections)
{
    struct ask a;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 0;
    publish(config);
    a = (struct ask){0};
    pool_acquire(cluster(), host, &pool_protocol_tcp, NULL, PRIORITY_DEFAULT, &a.rq, on_slot, &a);
    fixture_spin(&f, &a.done);
    ck_assert_int_eq(a.result, POOL_OVERFLOW);
}
END_TEST

START_TEST(pools_have_a_limit)
{
    struct ask a, b;
    struct pool_options other = {.key = 7};
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_POOLS] = 1;
    publish(config);
    get(&a);
    b = (struct ask){0};
    pool_acquire(cluster(), host, &proto, &other, PRIORITY_DEFAULT, &b.rq, on_slot, &b);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(b.result, POOL_OVERFLOW);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_POOL_OVERFLOW), 1);
    pool_acquire(cluster(), host, &proto, &other, PRIORITY_DEFAULT, &b.rq, on_slot, &b);
    pool_cancel(&b.rq); /* before it was told */
    pool_release(a.pc, false);
    fixture_turn(&f, 3);
    b = (struct ask){0}; /* the first pool is gone with its last connection */
    pool_acquire(cluster(), host, &proto, &other, PRIORITY_DEFAULT, &b.rq, on_slot, &b);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(b.result, POOL_READY);
    pool_release(b.pc, true);
}
END_TEST

START_TEST(preconnect_opens_ahead)
{
    struct ask a, b, c;
    struct cluster_config *config = config_new();
    config->preconnect_ratio = 2;
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 3;
    publish(config);
    get(&a);
    fixture_turn(&f, 20);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 2);
    get(&b); /* on the one that is there, and another is begun, as far as the breaker goes */
    fixture_turn(&f, 20);
    ck_assert_ptr_ne(a.pc, b.pc);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 3);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_OVERFLOW), 0);
    get(&c);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 3);
    pool_release(a.pc, true);
    pool_release(b.pc, true);
    pool_release(c.pc, true);
}
END_TEST

static void give_address(const char *text)
{
    host->more = mem_alloc(sizeof(*host->more));
    host->num_more = 1;
    ck_assert(addr_parse_ip_port(str_of(text), host->more));
}

START_TEST(several_addresses)
{
    struct ask a;
    give_address(address);
    ck_assert(addr_parse_ip_port(STR("127.0.0.1:1"), &host->addr)); /* refuses */
    publish(config_new());
    get(&a);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_FAIL), 0);
    ck_assert(addr_eq(&a.pc->conn.peer, host->more));
    pool_release(a.pc, true);
}
END_TEST

START_TEST(several_addresses_that_refuse)
{
    struct ask a;
    give_address("127.0.0.1:2");
    ck_assert(addr_parse_ip_port(STR("127.0.0.1:1"), &host->addr));
    publish(config_new());
    ask(&a);
    fixture_spin(&f, &a.done);
    ck_assert_int_eq(a.result, POOL_CONNECT_FAILED);
    ck_assert_str_eq(a.detail, "delayed_connect_error:_Connection_refused");
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_CONNECT_FAIL), 1);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
}
END_TEST

/* The worker ends, or the cluster goes, while addresses are tried. */
START_TEST(end_while_addresses_are_tried)
{
    struct ask a;
    give_address("127.0.0.1:2");
    publish(config_new());
    ask(&a);
    if (_i & 1)
        pool_cancel(&a.rq);
    if (_i & 2)
        fixture_remove(&f, "c");
    if (_i & 4)
        fixture_turn(&f, 20);
    if (a.pc)
        pool_release(a.pc, false);
    else
        pool_cancel(&a.rq);
}
END_TEST

START_TEST(not_reusable_is_closed)
{
    struct ask a;
    char byte;
    int peer;
    publish(config_new());
    get(&a);
    peer = accept_one();
    pool_release(a.pc, false);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
    ck_assert_int_eq(read(peer, &byte, 1), 0);
    close(peer);
}
END_TEST

START_TEST(closed_while_in_use)
{
    struct ask a;
    int peer;
    publish(config_new());
    get(&a);
    peer = accept_one();
    close(peer);
    for (int i = 0; i < 1000 && pools_num_conns(cluster()->pools); i++)
        fixture_turn(&f, 1);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ), 1);
    ck_assert_int_eq(circuit_active(cluster()->circuit, PRIORITY_DEFAULT, CIRCUIT_RQ), 0);
    ck_assert_int_eq(host->rq_active, 0);
    ck_assert_int_eq(host->cx_active, 0);
}
END_TEST

START_TEST(waiter_is_served_when_the_only_connection_dies)
{
    struct ask a, b;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 1;
    publish(config);
    get(&a);
    ask(&b);
    close(accept_one());
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(b.result, POOL_READY);
    pool_release(b.pc, true);
}
END_TEST

START_TEST(removed_host_drains)
{
    struct ask a, b;
    struct host *other;
    publish(config_new());
    get(&a);
    get(&b);
    pool_release(b.pc, true);
    other = fixture_host(&f, "127.0.0.1:9");
    host->removed = true;
    fixture_publish(&f, config_new(), &other, 1);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 1); /* the idle one is gone */
    pool_release(a.pc, true);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
    ck_assert_int_eq(pools_num_pools(cluster()->pools), 0);
}
END_TEST

START_TEST(pools_survive_an_update_that_does_not_touch_them)
{
    struct ask a;
    struct cluster_config *config;
    struct pool_conn *first;
    publish(config_new());
    get(&a);
    first = a.pc;
    pool_release(a.pc, true);
    publish(config_new());
    fixture_turn(&f, 3);
    get(&a);
    ck_assert_ptr_eq(a.pc, first);
    pool_release(a.pc, true);
    config = config_new();
    config->connection_hash = 7; /* another certificate, say */
    publish(config);
    fixture_turn(&f, 3);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 0);
}
END_TEST

START_TEST(removed_cluster_lives_while_held)
{
    struct ask a, b;
    struct cluster *c;
    publish(config_new());
    c = cluster();
    get(&a);
    ask(&b);
    fixture_remove(&f, "c");
    ck_assert_ptr_null(worker_clusters_find(f.worker, STR("c")));
    fixture_spin(&f, &b.done); /* a waiter is still served */
    ck_assert_int_eq(b.result, POOL_READY);
    ck_assert(c->removed);
    pool_release(a.pc, true);
    pool_release(b.pc, true);
    fixture_turn(&f, 4);
    ck_assert(list_empty(&f.worker->removed)); /* and then it is gone */
}
END_TEST

START_TEST(end_of_worker_with_everything_under_way)
{
    struct ask a, b, c;
    struct cluster *held;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 1;
    publish(config);
    get(&a);
    ask(&b);
    fixture_remove(&f, "c");
    publish(config_new());
    ask(&c);
    cluster_hold(cluster());
    held = cluster();
    worker_clusters_send(f.worker, f.table); /* still in the box when the worker ends */
    worker_clusters_free(&f.worker);
    pool_cancel(&b.rq); /* late, as from a deferred free: harmless */
    pool_cancel(&c.rq);
    cluster_release(held);
    mailbox_cleanup(&f.box);
    fixture_turn(&f, 2);
    ck_assert_int_eq(b.done, 0);
    mailbox_init(&f.box, f.loop);
    f.worker = worker_clusters_new(f.loop, &f.box);
}
END_TEST

START_TEST(options_and_priority_key_pools)
{
    struct ask a, b, c;
    struct pool_options opts = {.transport = {.sni_override = STR("x")}, .key = 1};
    publish(config_new());
    get(&a);
    pool_release(a.pc, true);
    b = c = (struct ask){0};
    pool_acquire(cluster(), host, &proto, &opts, PRIORITY_DEFAULT, &b.rq, on_slot, &b);
    pool_acquire(cluster(), host, &proto, NULL, PRIORITY_HIGH, &c.rq, on_slot, &c);
    fixture_spin(&f, &b.done);
    fixture_spin(&f, &c.done);
    ck_assert_ptr_ne(a.pc, b.pc);
    ck_assert_ptr_ne(a.pc, c.pc);
    ck_assert_int_eq(pools_num_pools(cluster()->pools), 3);
    ck_assert_int_eq(circuit_active(cluster()->circuit, PRIORITY_HIGH, CIRCUIT_RQ), 1);
    pool_release(b.pc, true);
    pool_release(c.pc, true);
}
END_TEST

START_TEST(per_host_limit)
{
    struct ask a, b;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max_cx_per_host = 1;
    publish(config);
    get(&a);
    ask(&b);
    fixture_turn(&f, 20);
    ck_assert_int_eq(b.done, 0);
    pool_release(a.pc, true);
    fixture_spin(&f, &b.done);
    pool_release(b.pc, true);
}
END_TEST

static void ask_fresh(struct ask *a)
{
    const struct pool_options options = {.fresh = true};
    *a = (struct ask){0};
    pool_acquire(cluster(), host, &proto, &options, PRIORITY_DEFAULT, &a->rq, on_slot, a);
}

START_TEST(fresh_passes_the_idle_ones_by)
{
    struct ask a, b, c;
    publish(config_new());
    get(&a);
    pool_release(a.pc, true);
    ask_fresh(&b);
    fixture_spin(&f, &b.done);
    ck_assert_ptr_ne(b.pc, a.pc);
    get(&c); /* the idle one is there for others */
    ck_assert_ptr_eq(c.pc, a.pc);
    pool_release(b.pc, true);
    pool_release(c.pc, true);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 2);
}
END_TEST

START_TEST(fresh_takes_the_place_of_an_idle_one_at_the_limit)
{
    struct ask a, b;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 1;
    publish(config);
    get(&a);
    pool_release(a.pc, true);
    ask_fresh(&b);
    fixture_spin(&f, &b.done);
    ck_assert_int_eq(b.result, POOL_READY);
    ck_assert_uint_eq(b.pc->requests, 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_ACTIVE), 1);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 2);
    pool_release(b.pc, true);
}
END_TEST

START_TEST(fresh_waits_for_a_used_one_to_go_at_the_limit)
{
    struct ask a, b, c;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 1;
    publish(config);
    get(&a);
    ask_fresh(&b);
    ask(&c);
    fixture_turn(&f, 20);
    ck_assert(!b.done && !c.done);
    pool_release(a.pc, true); /* will do for c, which came later, but not for b */
    fixture_spin(&f, &c.done);
    ck_assert(!b.done);
    ck_assert_uint_eq(c.pc->requests, 2);
    pool_release(c.pc, true);
    fixture_spin(&f, &b.done);
    ck_assert_uint_eq(b.pc->requests, 1);
    pool_release(b.pc, true);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TOTAL), 2);
}
END_TEST

START_TEST(fresh_can_be_cancelled)
{
    struct ask a, b;
    struct cluster_config *config = config_new();
    config->limits[PRIORITY_DEFAULT].max[CIRCUIT_CX] = 1;
    publish(config);
    get(&a);
    ask_fresh(&b);
    fixture_turn(&f, 3);
    pool_cancel(&b.rq);
    pool_release(a.pc, true);
    fixture_turn(&f, 3);
    ck_assert(!b.done);
    ck_assert_int_eq(pools_num_conns(cluster()->pools), 1);
}
END_TEST

START_TEST(bytes_are_counted)
{
    struct ask a;
    char buf[8];
    int peer;
    publish(config_new());
    get(&a);
    peer = accept_one();
    buffer_add(&a.pc->conn.out, "hello", 5);
    conn_flush_soon(&a.pc->conn);
    fixture_turn(&f, 3);
    ck_assert_int_eq(read(peer, buf, sizeof(buf)), 5);
    pool_release(a.pc, true);
    ck_assert_int_eq(fixture_stat(&f, CLUSTER_UPSTREAM_CX_TX_BYTES_TOTAL), 5);
    close(peer);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/pool");
    TCase *t = tcase_create("pool");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, gives_and_reuses);
    tcase_add_test(t, most_recently_used_first);
    tcase_add_test(t, fin_before_reuse_is_seen);
    tcase_add_test(t, fin_while_idle_closes);
    tcase_add_test(t, fin_between_grant_and_callback);
    tcase_add_test(t, unexpected_bytes_while_idle_close);
    tcase_add_test(t, idle_timeout);
    tcase_add_test(t, max_requests_and_age);
    tcase_add_test(t, refused);
    tcase_add_test(t, connect_timeout);
    tcase_add_test(t, cancel_leaves_the_attempt_to_the_next);
    tcase_add_test(t, cancel_after_grant_gives_the_slot_back);
    tcase_add_test(t, pending_limit);
    tcase_add_test(t, request_limit);
    tcase_add_test(t, connection_limit_queues);
    tcase_add_test(t, limit_zero_still_allows_one_connection);
    tcase_add_test(t, tcp_does_not_wait_for_connections);
    tcase_add_test(t, pools_have_a_limit);
    tcase_add_test(t, preconnect_opens_ahead);
    tcase_add_test(t, several_addresses);
    tcase_add_test(t, several_addresses_that_refuse);
    tcase_add_loop_test(t, end_while_addresses_are_tried, 0, 8);
    tcase_add_test(t, not_reusable_is_closed);
    tcase_add_test(t, closed_while_in_use);
    tcase_add_test(t, waiter_is_served_when_the_only_connection_dies);
    tcase_add_test(t, removed_host_drains);
    tcase_add_test(t, pools_survive_an_update_that_does_not_touch_them);
    tcase_add_test(t, removed_cluster_lives_while_held);
    tcase_add_test(t, end_of_worker_with_everything_under_way);
    tcase_add_test(t, options_and_priority_key_pools);
    tcase_add_test(t, per_host_limit);
    tcase_add_test(t, fresh_passes_the_idle_ones_by);
    tcase_add_test(t, fresh_takes_the_place_of_an_idle_one_at_the_limit);
    tcase_add_test(t, fresh_waits_for_a_used_one_to_go_at_the_limit);
    tcase_add_test(t, fresh_can_be_cancelled);
    tcase_add_test(t, bytes_are_counted);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
