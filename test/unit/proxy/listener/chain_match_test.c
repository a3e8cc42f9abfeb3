/* Which filter chain a connection gets: Envoy's order of criteria, the most specific at each, no
 * way back; and which sets of chains are refused. */
#include "proxy/listener/chain_match.h"

#include "test/support/yaml_message.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_CHAINS = 8 };

static struct arena arena;
static struct errors errors;
static struct chain_match *made;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
}

static void teardown(void)
{
    chain_match_release(made);
    made = NULL;
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

/* One line a chain; "-": without a filter_chain_match. */
static struct chain_match *compile(const char *chains)
{
    const void *msgs[MAX_CHAINS];
    size_t n = 0;
    struct str rest = str_of(chains), line;
    while (str_next(&rest, '\n', &line)) {
        msgs[n++] = str_eq(line, STR("-"))
                        ? NULL
                        : yaml_message("envoy.config.listener.v3.FilterChainMatch",
                                       arena_str(&arena, line).p, &arena);
    }
    return made = chain_match_compile(&arena, msgs, n, &errors);
}

/* A connection: "local remote sni transport alpn,alpn", each '-' for nothing; the direct source is
 * the remote with 9 for its first digit group if `remote` begins with '!'. */
static int find(const struct chain_match *m, const char *connection)
{
    struct str rest = str_of(connection), f[5], alpn[4], one;
    for (size_t i = 0; i < 5; i++)
        ck_assert(str_next(&rest, ' ', &f[i]));
    struct addr local, remote, direct;
    if (str_eq(f[0], STR("pipe")))
        ck_assert(addr_parse_pipe(STR("/tmp/s"), &local));
    else
        ck_assert(addr_parse_ip_port(f[0], &local));
    bool proxied = f[1].p[0] == '!';
    if (proxied)
        f[1] = str_n(f[1].p + 1, f[1].len - 1);
    if (str_eq(f[1], STR("pipe")))
        ck_assert(addr_parse_pipe(STR("/tmp/c"), &remote));
    else
        ck_assert(addr_parse_ip_port(f[1], &remote));
    direct = remote;
    if (proxied)
        ck_assert(addr_parse_ip(STR("9.9.9.9"), 9, &direct));
    struct chain_match_input in = {.local = &local, .remote = &remote, .direct_remote = &direct};
    in.sni = str_eq(f[2], STR("-")) ? STR_NULL : f[2];
    in.transport_protocol = f[3];
    in.alpn = alpn;
    while (!str_eq(f[4], STR("-")) && str_next(&f[4], ',', &one))
        alpn[in.num_alpn++] = one;
    return chain_match_find(m, &in);
}

static const struct {
    const char *chains, *connection;
    int want;
} cases[] = {
    {"-", "1.1.1.1:80 2.2.2.2:5 - raw_buffer -", 0},
    {"{destination_port: 80}", "1.1.1.1:81 2.2.2.2:5 - raw_buffer -", -1},
    /* the port comes first, and there is no way back from it */
    {"{destination_port: 80, server_names: [a.com]}\n{server_names: [b.com]}",
     "1.1.1.1:80 2.2.2.2:5 b.com tls -", -1},
    {"{destination_port: 80}\n{server_names: [b.com]}", "1.1.1.1:80 2.2.2.2:5 b.com tls -", 0},
    {"{destination_port: 80}\n{server_names: [b.com]}", "1.1.1.1:81 2.2.2.2:5 b.com tls -", 1},
    /* the longest range; a chain without ranges is the shortest */
    {"{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}\n{prefix_ranges: "
     "[{address_prefix: 10.1.0.0, prefix_len: 16}]}\n-",
     "10.1.2.3:80 2.2.2.2:5 - raw_buffer -", 1},
    {"{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}\n{prefix_ranges: "
     "[{address_prefix: 10.1.0.0, prefix_len: 16}]}\n-",
     "10.2.2.3:80 2.2.2.2:5 - raw_buffer -", 0},
    {"{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}\n-",
     "11.2.2.3:80 2.2.2.2:5 - raw_buffer -", 1},
    {"{prefix_ranges: [{address_prefix: '::', prefix_len: 0}]}\n{prefix_ranges: [{address_prefix: "
     "0.0.0.0, prefix_len: 0}]}",
     "[2001::1]:80 [2001::2]:5 - raw_buffer -", 0},
    {"{prefix_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}], server_names: [a]}\n-",
     "10.1.0.1:80 2.2.2.2:5 b tls -", -1},
    {"{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}, {address_prefix: 11.0.0.0, "
     "prefix_len: 8}]}",
     "11.0.0.1:80 2.2.2.2:5 - raw_buffer -", 0},
    /* server names: exact, then the longest suffix, then none */
    {"{server_names: ['*.b.a.com']}\n{server_names: ['*.a.com', '*.com']}\n{server_names: "
     "[x.b.a.com]}\n-",
     "1.1.1.1:1 2.2.2.2:2 x.b.a.com tls -", 2},
    {"{server_names: ['*.b.a.com']}\n{server_names: ['*.a.com', '*.com']}\n-",
     "1.1.1.1:1 2.2.2.2:2 y.b.a.com tls -", 0},
    {"{server_names: ['*.b.a.com']}\n{server_names: ['*.a.com', '*.com']}\n-",
     "1.1.1.1:1 2.2.2.2:2 b.a.com tls -", 1},
    {"{server_names: ['*.b.a.com']}\n{server_names: ['*.a.com', '*.com']}\n-",
     "1.1.1.1:1 2.2.2.2:2 a.com tls -", 1},
    {"{server_names: ['*.b.a.com']}\n{server_names: ['*.a.com', '*.com']}\n-",
     "1.1.1.1:1 2.2.2.2:2 com tls -", 2},
    {"{server_names: [A.Com]}", "1.1.1.1:1 2.2.2.2:2 a.com tls -", 0},
    {"{server_names: [a.com]}", "1.1.1.1:1 2.2.2.2:2 - raw_buffer -", -1},
    {"{server_names: [a.com], transport_protocol: raw_buffer}\n{transport_protocol: tls}",
     "1.1.1.1:1 2.2.2.2:2 a.com tls -", -1},
    /* transport: PERMISSIVE's pair */
    {"{transport_protocol: tls, application_protocols: [istio]}\n{transport_protocol: "
     "raw_buffer}\n{transport_protocol: tls}",
     "1.1.1.1:1 2.2.2.2:2 - raw_buffer -", 1},
    {"{transport_protocol: tls, application_protocols: [istio]}\n{transport_protocol: "
     "raw_buffer}\n{transport_protocol: tls}",
     "1.1.1.1:1 2.2.2.2:2 - tls h2,istio", 0},
    {"{transport_protocol: tls, application_protocols: [istio]}\n{transport_protocol: "
     "raw_buffer}\n{transport_protocol: tls}",
     "1.1.1.1:1 2.2.2.2:2 - tls h2", 2},
    {"{transport_protocol: tls}\n-", "1.1.1.1:1 2.2.2.2:2 - raw_buffer -", 1},
    /* the client's order of protocols decides */
    {"{application_protocols: [h2]}\n{application_protocols: [http/1.1]}",
     "1.1.1.1:1 2.2.2.2:2 - tls http/1.1,h2", 1},
    {"{application_protocols: [h2]}\n{application_protocols: [http/1.1]}",
     "1.1.1.1:1 2.2.2.2:2 - tls x,h2,http/1.1", 0},
    {"{application_protocols: [h2]}", "1.1.1.1:1 2.2.2.2:2 - tls -", -1},
    /* sources */
    {"{direct_source_prefix_ranges: [{address_prefix: 9.0.0.0, prefix_len: 8}]}\n-",
     "1.1.1.1:1 !2.2.2.2:2 - raw_buffer -", 0},
    {"{direct_source_prefix_ranges: [{address_prefix: 9.0.0.0, prefix_len: 8}]}\n-",
     "1.1.1.1:1 2.2.2.2:2 - raw_buffer -", 1},
    {"{source_prefix_ranges: [{address_prefix: 2.0.0.0, prefix_len: 8}]}\n-",
     "1.1.1.1:1 !2.2.2.2:2 - raw_buffer -", 0},
    {"{source_type: SAME_IP_OR_LOOPBACK}\n{source_type: EXTERNAL}",
     "1.1.1.1:1 2.2.2.2:2 - raw_buffer -", 1},
    {"{source_type: SAME_IP_OR_LOOPBACK}\n{source_type: EXTERNAL}",
     "1.1.1.1:1 1.1.1.1:2 - raw_buffer -", 0},
    {"{source_type: SAME_IP_OR_LOOPBACK}\n{source_type: EXTERNAL}",
     "1.1.1.1:1 127.0.0.9:2 - raw_buffer -", 0},
    {"{source_type: SAME_IP_OR_LOOPBACK}\n{source_type: EXTERNAL}", "1.1.1.1:1 pipe - raw_buffer -",
     0},
    {"{source_type: EXTERNAL}\n-", "1.1.1.1:1 1.1.1.1:2 - raw_buffer -", 1},
    {"{source_type: EXTERNAL, source_ports: [7]}\n-", "1.1.1.1:1 2.2.2.2:2 - raw_buffer -", -1},
    {"{source_ports: [2, 3]}\n-", "1.1.1.1:1 2.2.2.2:3 - raw_buffer -", 0},
    {"{source_ports: [2, 3]}\n-", "1.1.1.1:1 2.2.2.2:4 - raw_buffer -", 1},
    {"{source_prefix_ranges: [{address_prefix: 2.2.2.2, prefix_len: 32}], source_ports: [7]}\n-",
     "1.1.1.1:1 2.2.2.2:8 - raw_buffer -", -1},
    /* a Unix socket has no port and is in no range */
    {"{destination_port: 80}\n-", "pipe pipe - raw_buffer -", 1},
    {"{prefix_ranges: [{address_prefix: 0.0.0.0, prefix_len: 0}]}\n-", "pipe pipe - raw_buffer -",
     1},
};

START_TEST(found)
{
    struct chain_match *m = compile(cases[_i].chains);
    ck_assert_msg(errors_ok(&errors), "%.*s", STR_ARG(errors_text(&errors, &arena)));
    int got = find(m, cases[_i].connection);
    ck_assert_msg(got == cases[_i].want, "%s\n%s: got %d, want %d", cases[_i].chains,
                  cases[_i].connection, got, cases[_i].want);
}
END_TEST

/* As Envoy 1.40 judges them (observed); path NULL: accepted. */
static const struct {
    const char *chains, *path, *text;
} sets[] = {
    {"-\n-", "filter_chains[1].filter_chain_match", "overlapping"},
    {"-\n{}", "filter_chains[1].filter_chain_match", "overlapping"},
    {"{server_names: [a]}\n{server_names: [a]}", "filter_chains[1].filter_chain_match",
     "chains[0]"},
    {"{server_names: [a, b]}\n{server_names: [c, b]}", "filter_chains[1].filter_chain_match",
     "overlapping"},
    {"{server_names: [a, b]}\n{server_names: [b, a]}", "filter_chains[1].filter_chain_match",
     "overlapping"},
    {"{server_names: [A]}\n{server_names: [a]}", "filter_chains[1].filter_chain_match",
     "overlapping"},
    {"{server_names: ['*.a']}\n{server_names: ['*.b.a', a]}", NULL, NULL},
    {"{server_names: ['*']}", "filter_chains[0].filter_chain_match.server_names[0]", "wildcard"},
    {"{server_names: ['*a.com']}", "filter_chains[0].filter_chain_match.server_names[0]",
     "wildcard"},
    {"{server_names: [b, 'a.*']}", "filter_chains[0].filter_chain_match.server_names[1]",
     "wildcard"},
    {"{destination_port: 80}\n{destination_port: 80, server_names: [x]}", NULL, NULL},
    {"{destination_port: 80}\n{destination_port: 80}", "filter_chains[1].filter_chain_match",
     "overlapping"},
    {"{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}\n{prefix_ranges: "
     "[{address_prefix: 10.1.0.0, prefix_len: 8}]}",
     "filter_chains[1].filter_chain_match", "overlapping"}, /* the same range */
    {"{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}]}\n{prefix_ranges: "
     "[{address_prefix: 10.0.0.0, prefix_len: 16}]}",
     NULL, NULL},
    {"{prefix_ranges: [{address_prefix: 0.0.0.0, prefix_len: 0}]}\n-", NULL, NULL},
    {"{application_protocols: [h2, a]}\n{application_protocols: [a]}",
     "filter_chains[1].filter_chain_match", "overlapping"},
    {"{transport_protocol: tls}\n{transport_protocol: raw_buffer}\n-", NULL, NULL},
    {"{source_ports: [1, 2]}\n{source_ports: [2]}", "filter_chains[1].filter_chain_match",
     "overlapping"},
    {"{source_type: EXTERNAL}\n-", NULL, NULL},
    {"{server_names: [a, b, a]}", "filter_chains[0].filter_chain_match", "twice"},
    {"{application_protocols: [a, a]}", "filter_chains[0].filter_chain_match", "twice"},
    {"{prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 8}, {address_prefix: 10.9.0.0, "
     "prefix_len: 8}]}",
     "filter_chains[0].filter_chain_match", "twice"},
    {"{server_names: ['*.*.a']}", NULL, NULL},
    {"{source_type: EXTERNAL}\n{source_type: EXTERNAL}", "filter_chains[1].filter_chain_match",
     "overlapping"},
    {"{prefix_ranges: [{address_prefix: x, prefix_len: 8}]}",
     "filter_chains[0].filter_chain_match.prefix_ranges[0]", "malformed"},
    {"{source_prefix_ranges: [{address_prefix: 1.2.3.4, prefix_len: 33}]}",
     "filter_chains[0].filter_chain_match.source_prefix_ranges[0]", "malformed"},
};

START_TEST(judged)
{
    (void)compile(sets[_i].chains);
    if (sets[_i].path)
        expect_error(&errors, sets[_i].path, sets[_i].text);
    else
        ck_assert_msg(errors_ok(&errors), "%.*s", STR_ARG(errors_text(&errors, &arena)));
}
END_TEST

/* Looked for one by one, by as many look-ups, these would take minutes. */
START_TEST(many_chains)
{
    enum { MANY = 8000 };
    const void **msgs = mem_alloc(MANY * sizeof(*msgs));
    for (int i = 0; i < MANY; i++) {
        struct str yaml = arena_printf(&arena,
                                       "{server_names: [h%d.a.com], prefix_ranges: "
                                       "[{address_prefix: 10.%d.%d.0, prefix_len: 24}]}",
                                       i, i / 250, i % 250);
        msgs[i] = yaml_message("envoy.config.listener.v3.FilterChainMatch", yaml.p, &arena);
    }
    made = chain_match_compile(&arena, msgs, MANY, &errors);
    ck_assert(errors_ok(&errors));
    struct addr local, remote;
    ck_assert(addr_parse_ip(STR("2.2.2.2"), 5, &remote));
    for (int i = 0; i < MANY; i++) {
        struct chain_match_input in = {.local = &local,
                                       .remote = &remote,
                                       .direct_remote = &remote,
                                       .transport_protocol = STR("tls")};
        ck_assert(addr_parse_ip(arena_printf(&arena, "10.%d.%d.7", i / 250, i % 250), 80, &local));
        struct str hit = arena_printf(&arena, "h%d.a.com", i);
        struct str miss = arena_printf(&arena, "h%d.a.com", i + 1);
        for (int k = 0; k < 50; k++) {
            in.sni = k % 2 ? miss : hit;
            ck_assert_int_eq(chain_match_find(made, &in), k % 2 ? -1 : i);
        }
    }
    mem_free(msgs);
}
END_TEST

/* Combinations of values multiply; they are counted before they are made. */
START_TEST(too_many_combinations)
{
    static char text[65536];
    const char *fields[] = {"server_names", "application_protocols"};
    size_t len = 0;
    for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s: [", f ? "], " : "{",
                                fields[f]);
        for (int i = 0; i < 3000; i++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "a%d, ", i);
    }
    snprintf(text + len, sizeof(text) - len, "]}");
    (void)compile(text);
    expect_error(&errors, "filter_chains[0].filter_chain_match", "too many combinations");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chain_match");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, found, 0, (int)ARRAY_LEN(cases));
    tcase_set_timeout(t, 60);
    tcase_add_test(t, many_chains);
    tcase_add_test(t, too_many_combinations);
    tcase_add_loop_test(t, judged, 0, (int)ARRAY_LEN(sets));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
