/* The run of listener filters: what is waited for, what is learnt, what is left in the socket, and
 * the ways in which a connection ends before it has a chain. */
#include "test/support/listener_fixture.h"

#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ONE(kind, type)                                                                            \
    "{name: x, typed_config: {'@type': "                                                           \
    "type.googleapis.com/envoy.extensions.filters.listener." kind ".v3." type "}}"
#define TLS ONE("tls_inspector", "TlsInspector")
#define HTTP ONE("http_inspector", "HttpInspector")
#define PROXY ONE("proxy_protocol", "ProxyProtocol")
/* One worker accepts: which one does not matter, all connections are looked for on both. */
#define FOREVER ", listener_filters_timeout: 0s"

static struct listener_fixture f;
static struct listener *l;
static unsigned port;
static int client;

static void setup(void)
{
    listener_fixture_start(&f);
    l = NULL;
    client = -1;
}

static void teardown(void)
{
    if (client >= 0)
        close(client);
    listener_unref(l);
    listener_fixture_stop(&f);
}

static void open_with(const char *fields)
{
    l = listener_fixture_compile(&f, 0, fields);
    port = listener_fixture_open(&f, l);
    client = listener_fixture_connect(port);
}

static void say(struct str bytes)
{
    ck_assert_int_eq(send(client, bytes.p, bytes.len, MSG_NOSIGNAL), (ssize_t)bytes.len);
    for (int i = 0; i < 20; i++) {
        listener_fixture_turn(&f, 1);
        usleep(200);
    }
}

static uint64_t stat_of(uint32_t stat)
{
    return stats_sum(l->stats, stat);
}

static struct downstream *accepted(void)
{
    struct downstream *d = listener_fixture_newest(&f, 0);
    return d ? d : listener_fixture_newest(&f, 1);
}

static bool through(void)
{
    return listener_fixture_until(&f, l, LISTENER_CX_TOTAL, 1);
}

/* The connection is over for the client too. */
static bool cut(void)
{
    char c;
    ssize_t n = recv(client, &c, 1, 0);
    return n <= 0;
}

START_TEST(without_filters_nothing_is_waited_for)
{
    open_with("listener_filters: []");
    ck_assert(through());
    ck_assert(str_eq(accepted()->detected_protocol, STR("raw_buffer")));
    ck_assert_uint_eq(stat_of(LISTENER_PRE_CX_ACTIVE), 0);
}
END_TEST

START_TEST(waits_for_the_first_byte)
{
    open_with("listener_filters: [" TLS ", " HTTP "]" FOREVER);
    ck_assert(listener_fixture_until(&f, l, LISTENER_PRE_CX_ACTIVE, 1));
    ck_assert_uint_eq(stat_of(LISTENER_CX_TOTAL), 0);
    say(STR("\1"));
    ck_assert(through());
    ck_assert_uint_eq(stat_of(LISTENER_PRE_CX_ACTIVE), 0);
    ck_assert_uint_eq(accepted()->num_detected_alpn, 0);
}
END_TEST

START_TEST(byte_by_byte)
{
    open_with("listener_filters: [" TLS ", " HTTP "]" FOREVER);
    const char line[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (size_t i = 0; i < sizeof(line) - 1; i++) {
        ck_assert_uint_eq(stat_of(LISTENER_CX_TOTAL), 0);
        say(str_n(line + i, 1));
    }
    ck_assert(through());
    ck_assert_uint_eq(accepted()->num_detected_alpn, 1);
    ck_assert(str_eq(accepted()->detected_alpn[0], STR("h2c")));
    ck_assert(str_eq(accepted()->detected_protocol, STR("raw_buffer")));
}
END_TEST

/* What was looked at is still there for the network filter; a PROXY header is not. */
START_TEST(bytes_are_left)
{
    open_with("listener_filters: [" PROXY ", " HTTP "]" FOREVER);
    say(STR("PROXY TCP4 10.1.2.3 10.5.6.7 1 2\r\nGET / HTTP/1.1\r\nHost"));
    ck_assert(through());
    for (int i = 0; i < 20; i++)
        listener_fixture_turn(&f, 1);
    char text[ADDR_TEXT_MAX];
    struct downstream *d = accepted();
    ck_assert(str_eq(addr_format(&d->info.remote, text), STR("10.1.2.3:1")));
    ck_assert(str_eq(addr_format(&d->info.local, text), STR("10.5.6.7:2")));
    ck_assert_uint_eq(addr_port(&d->info.direct_local), port);
    ck_assert(str_eq(d->detected_alpn[0], STR("http/1.1")));
}
END_TEST

#define RULES                                                                                      \
    "listener_filters: [{name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions."   \
    "filters.listener.proxy_protocol.v3.ProxyProtocol, rules: [{tlv_type: 2, on_tlv_present: "     \
    "{key: k}}, {tlv_type: 3, on_tlv_present: {metadata_namespace: ns, key: k}}, {tlv_type: 4}], " \
    "pass_through_tlvs: {match_type: INCLUDE, tlv_type: [3, 5]}}}]"

/* CVE-2024-23324: metadata is text, whatever the TLV was. */
START_TEST(tlvs_cve_2024_23324)
{
    open_with(RULES FOREVER);
    say(STR("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x21"
            "\x0a\x01\x02\x03\x0a\x05\x06\x07\0\1\0\2"
            "\2\0\6"
            "a\xff\xc3\xa9\xc3("
            "\3\0\1"
            "b"
            "\4\0\0"
            "\5\0\2\0\xff"));
    ck_assert(through());
    const struct conn_info *info = &accepted()->info;
    struct str key = STR("k");
    const struct json *v = metadata_path(&info->metadata,
                                         STR("envoy.filters.listener.proxy_protocol"), &key, 1);
    ck_assert(v && str_eq(v->text, STR("a!\xc3\xa9!(")));
    v = metadata_path(&info->metadata, STR("ns"), &key, 1);
    ck_assert(v && str_eq(v->text, STR("b")));
    const struct proxy_tlv *t = info->tlvs;
    ck_assert(t && t->type == 3 && str_eq(t->value, STR("b")));
    ck_assert(t->next && t->next->type == 5 && str_eq(t->next->value, STR("\0\xff")));
    ck_assert_ptr_null(t->next->next);
}
END_TEST

/* The predicate sees the address that the filters before have found. */
START_TEST(disabled_by_an_address_found_before)
{
    open_with("listener_filters: [" PROXY ", {name: envoy.filters.listener.http_inspector, "
              "filter_disabled: {destination_port_range: {start: 2222, end: 2223}}}]" FOREVER);
    say(STR("PROXY TCP4 10.1.2.3 10.5.6.7 1 2222\r\n"));
    ck_assert(through()); /* although no byte follows */
}
END_TEST

START_TEST(client_that_leaves)
{
    open_with("listener_filters: [" TLS ", " HTTP "]" FOREVER);
    say(STR("GE"));
    close(client);
    client = -1;
    ck_assert(listener_fixture_until(&f, l, LISTENER_FILTER_REMOTE_CLOSE, 1));
    ck_assert_uint_eq(stat_of(LISTENER_PRE_CX_ACTIVE), 0);
    ck_assert_uint_eq(stat_of(LISTENER_CX_TOTAL) + stat_of(LISTENER_CX_DESTROY), 0);
    ck_assert_ptr_null(accepted());
}
END_TEST

/* An end of stream behind bytes that decide does not undo the decision. */
START_TEST(half_close_after_the_line)
{
    open_with("listener_filters: [" HTTP "]" FOREVER);
    ck_assert_int_eq(send(client, "GET / HTTP/1.0\n", 15, 0), 15);
    shutdown(client, SHUT_WR);
    ck_assert(through());
    ck_assert_uint_eq(stat_of(LISTENER_FILTER_REMOTE_CLOSE), 0);
}
END_TEST

START_TEST(timeout)
{
    open_with("listener_filters: [" HTTP "], listener_filters_timeout: 0.05s");
    ck_assert(listener_fixture_until(&f, l, LISTENER_PRE_CX_TIMEOUT, 1));
    ck_assert(cut());
    ck_assert_uint_eq(stat_of(LISTENER_CX_TOTAL), 0);
}
END_TEST

START_TEST(timeout_that_goes_on)
{
    open_with("listener_filters: [" HTTP "], listener_filters_timeout: 0.05s, "
              "continue_on_listener_filters_timeout: true");
    ck_assert(through());
    ck_assert_uint_eq(stat_of(LISTENER_PRE_CX_TIMEOUT), 1);
    ck_assert_uint_eq(accepted()->num_detected_alpn, 0);
}
END_TEST

/* A line without an end is looked at up to a limit. */
START_TEST(endless_line)
{
    open_with("listener_filters: [" HTTP "]" FOREVER);
    char block[4096];
    memset(block, 'a', sizeof(block));
    for (int i = 0; i < 40 && accepted(); i++) {
        (void)!send(client, block, sizeof(block), MSG_NOSIGNAL | MSG_DONTWAIT);
        listener_fixture_turn(&f, 5);
        usleep(500);
        listener_fixture_turn(&f, 5);
    }
    ck_assert_ptr_null(accepted());
    ck_assert_uint_eq(stat_of(LISTENER_CX_TOTAL) + stat_of(LISTENER_PRE_CX_ACTIVE), 0);
}
END_TEST

START_TEST(refused_by_a_filter)
{
    open_with("listener_filters: [" PROXY "]" FOREVER);
    say(STR("GET / HTTP/1.1\r\n"));
    ck_assert(cut());
    ck_assert_ptr_null(accepted());
    ck_assert_uint_eq(stat_of(LISTENER_FILTER_ERROR), 0); /* the filter has its own */
}
END_TEST

/* The worker ends while filters wait. */
START_TEST(end_while_waiting)
{
    open_with("listener_filters: [" HTTP "]" FOREVER);
    ck_assert(listener_fixture_until(&f, l, LISTENER_PRE_CX_ACTIVE, 1));
}
END_TEST

int main(void)
{
    const TTest *tests[] = {
        without_filters_nothing_is_waited_for,
        waits_for_the_first_byte,
        byte_by_byte,
        bytes_are_left,
        tlvs_cve_2024_23324,
        disabled_by_an_address_found_before,
        client_that_leaves,
        half_close_after_the_line,
        timeout,
        timeout_that_goes_on,
        endless_line,
        refused_by_a_filter,
        end_while_waiting,
    };
    Suite *s = suite_create("peek");
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
