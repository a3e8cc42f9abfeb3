/* A connection from accept to its end: what it is counted as, where it is handed to, and where its
 * connections to hosts come from. */
#include "cluster/pool.h"
#include "test/support/listener_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROXY "{name: envoy.filters.listener.proxy_protocol}"
#define HTTP "{name: envoy.filters.listener.http_inspector}"

static struct listener_fixture f;
static int client;

static void setup(void)
{
    listener_fixture_start(&f);
    client = -1;
}

static void teardown(void)
{
    if (client >= 0)
        close(client);
    listener_fixture_stop(&f);
}

static void say(struct str bytes)
{
    ck_assert_int_eq(send(client, bytes.p, bytes.len, MSG_NOSIGNAL), (ssize_t)bytes.len);
}

static struct downstream *accepted(void)
{
    struct downstream *d = listener_fixture_newest(&f, 0);
    return d ? d : listener_fixture_newest(&f, 1);
}

START_TEST(counted_once_it_has_a_chain)
{
    struct listener *l = listener_fixture_compile(&f, 0, "listener_filters: []");
    client = listener_fixture_connect(listener_fixture_open(&f, l));
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_TOTAL, 1));
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_CX_ACTIVE), 1);
    close(client);
    client = -1;
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_DESTROY, 1));
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_CX_ACTIVE), 0);
    ck_assert_ptr_null(accepted());
    listener_unref(l);
}
END_TEST

START_TEST(without_a_chain_it_is_no_connection)
{
    f.chain_match = "{destination_port: 9}";
    struct listener *l = listener_fixture_compile(&f, 0, "listener_filters: []");
    client = listener_fixture_connect(listener_fixture_open(&f, l));
    ck_assert(listener_fixture_until(&f, l, LISTENER_NO_CHAIN, 1));
    char c;
    ck_assert_int_le(recv(client, &c, 1, 0), 0);
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_CX_TOTAL), 0);
    ck_assert_uint_eq(stats_sum(l->stats, LISTENER_CX_DESTROY), 0);
    listener_unref(l);
}
END_TEST

/* Both listeners' filters run, one after the other; it counts for the second one alone. */
START_TEST(handed_over)
{
    struct listener *first = listener_fixture_compile(
        &f, 0,
        "use_original_dst: true, listener_filters_timeout: 0s, listener_filters: [" PROXY "]");
    struct listener *other = listener_fixture_compile(
        &f, 2222,
        "bind_to_port: false, listener_filters_timeout: 0s, listener_filters: [" HTTP "]");
    for (unsigned i = 0; i < LISTENER_FIXTURE_WORKERS; i++)
        worker_listeners_publish(&f.workers[i], PUBLISH_ADD, NULL, other);
    client = listener_fixture_connect(listener_fixture_open(&f, first));
    say(STR("PROXY TCP4 10.1.2.3 127.0.0.1 1 2222\r\n"));
    ck_assert(listener_fixture_until(&f, other, LISTENER_PRE_CX_ACTIVE, 1));
    ck_assert_uint_eq(stats_sum(first->stats, LISTENER_PRE_CX_ACTIVE), 0);
    say(STR("GET / HTTP/1.1\r\n"));
    ck_assert(listener_fixture_until(&f, other, LISTENER_CX_TOTAL, 1));
    ck_assert_uint_eq(stats_sum(first->stats, LISTENER_CX_TOTAL), 0);
    ck_assert(str_eq(accepted()->info.listener_name, other->name));
    ck_assert(str_eq(accepted()->detected_alpn[0], STR("http/1.1")));
    listener_unref(first);
    listener_unref(other);
}
END_TEST

START_TEST(source_of_connections)
{
    struct listener *l = listener_fixture_compile(
        &f, 0,
        "listener_filters: [{name: x, typed_config: {'@type': "
        "type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc, mark: "
        "1337}}]");
    client = listener_fixture_connect(listener_fixture_open(&f, l));
    ck_assert(listener_fixture_until(&f, l, LISTENER_CX_TOTAL, 1));
    struct pool_options o, again;
    struct conn_info info = accepted()->info;
    struct cluster_config plain = {.proxy_header = false}, header = {.proxy_header = true};
    ck_assert_ptr_eq(downstream_pool_options(&info, &plain, NULL, &o), &o);
    char text[ADDR_TEXT_MAX];
    ck_assert(str_eq(addr_format(o.source, text), STR("127.0.0.1:0"))); /* the kernel's port */
    ck_assert_uint_eq(o.mark, 1337);
    ck_assert(o.key);
    struct conn_info two = info;
    ck_assert(addr_parse_ip(STR("127.0.0.2"), 0, &two.upstream_source));
    (void)downstream_pool_options(&two, &plain, NULL, &again);
    ck_assert(again.key != o.key);
    (void)downstream_pool_options(&info, &header, NULL, &again);
    ck_assert(again.key != o.key && again.source == o.source && again.transport.origin);
    struct conn_info none = {0};
    ck_assert_ptr_null(downstream_pool_options(&none, &plain, NULL, &again));
    struct proxy_tlv tlv = {NULL, 0xe1, STR("x")};
    ck_assert_ptr_eq(downstream_pool_options(&none, &header, &tlv, &again), &again);
    uint64_t without = again.key;
    ck_assert(!again.source && again.transport.origin->tlvs == &tlv);
    header.proxy_tlv_key = true;
    (void)downstream_pool_options(&none, &header, &tlv, &again);
    ck_assert(again.key != without);
    listener_unref(l);
}
END_TEST

int main(void)
{
    const TTest *tests[] = {
        counted_once_it_has_a_chain,
        without_a_chain_it_is_no_connection,
        handed_over,
        source_of_connections,
    };
    Suite *s = suite_create("downstream");
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
