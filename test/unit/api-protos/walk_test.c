#include "api-protos/message.h"

#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include <check.h>
#include <stdlib.h>

#define CLUSTER (&envoy__config__cluster__v3__cluster__descriptor)
#define ASSIGNMENT (&envoy__config__endpoint__v3__cluster_load_assignment__descriptor)
#define METADATA (&envoy__config__core__v3__metadata__descriptor)
#define RETRY (&envoy__config__route__v3__retry_policy__descriptor)

static struct arena arena;
static struct errors errors;
static struct pb_counts counts;
static struct pb_opts opts;

static void setup(void)
{
    arena_init(&arena, 0);
    errors_init(&errors);
    counts = (struct pb_counts){0};
    opts = (struct pb_opts){.counts = &counts};
}

static void teardown(void)
{
    errors_cleanup(&errors);
    arena_cleanup(&arena);
}

/* A length-delimited field (number below 2048) around some bytes. */
static struct str wrap(unsigned number, struct str inner)
{
    char *p = arena_bytes(&arena, inner.len + 12), *at = p;
    uint64_t tag = number << 3 | 2, len = inner.len;
    for (; tag > 0x7f; tag >>= 7)
        *at++ = (char)(0x80 | (tag & 0x7f));
    *at++ = (char)tag;
    for (; len > 0x7f; len >>= 7)
        *at++ = (char)(0x80 | (len & 0x7f));
    *at++ = (char)len;
    if (inner.len)
        memcpy(at, inner.p, inner.len);
    return str_n(p, (size_t)(at - p) + inner.len);
}

static struct str join(struct str a, struct str b)
{
    char *p = arena_bytes(&arena, a.len + b.len + 1);
    if (a.len)
        memcpy(p, a.p, a.len);
    if (b.len)
        memcpy(p + a.len, b.p, b.len);
    return str_n(p, a.len + b.len);
}

static void expect_error(const ProtobufCMessageDescriptor *type, struct str bytes, const char *path,
                         const char *text)
{
    ck_assert(!pb_walk(type, bytes, &errors, &opts));
    ck_assert_uint_ge(errors.num_errors, 1);
    const struct error_item *it = errors.first;
    ck_assert_msg(str_eq(it->path, str_of(path)), "path \"%.*s\", not \"%s\"", STR_ARG(it->path),
                  path);
    ck_assert_msg(str_find(it->text, str_of(text)) >= 0, "\"%.*s\", not \"%s\"", STR_ARG(it->text),
                  text);
    /* and unpack says the same */
    size_t n = errors.num_errors;
    ck_assert(!pb_unpack(type, bytes, &arena, &errors, &opts));
    ck_assert_uint_ge(errors.num_errors, n + 1);
    errors_cleanup(&errors);
    errors_init(&errors);
}

static void expect_ok(const ProtobufCMessageDescriptor *type, struct str bytes)
{
    bool ok = pb_walk(type, bytes, &errors, &opts);
    ck_assert_msg(ok, "%.*s", STR_ARG(errors_text(&errors, &arena)));
}

/* Writes a tag and a length of three bytes before what stands from `at` to `end`. */
static char *enclose(char *at, const char *end, char tag)
{
    size_t len = (size_t)(end - at);
    char head[4] = {tag, (char)(0x80 | (len & 0x7f)), (char)(0x80 | (len >> 7 & 0x7f)),
                    (char)(len >> 14)};
    memcpy(at - sizeof(head), head, sizeof(head));
    return at - sizeof(head);
}

START_TEST(test_nested)
{
    /* 20,000 lists in lists, below metadata: filter_metadata["a"].fields["b"].list_value... */
    size_t cap = 20000 * 8 + 3;
    char *end = arena_bytes(&arena, cap) + cap, *at = end - 3;
    memcpy(at, "\x1a\x01x", 3); /* string_value */
    for (int i = 0; i < 20000; i++)
        at = enclose(enclose(at, end, 0x0a), end, 0x32); /* list_value { values } */
    struct str value = str_n(at, (size_t)(end - at));
    struct str field = join(STR("\x0a\x01"
                                "b"),
                            wrap(2, value));
    struct str entry = join(STR("\x0a\x01"
                                "a"),
                            wrap(2, wrap(1, field)));
    ck_assert(!pb_walk(METADATA, wrap(1, entry), &errors, &opts));
    ck_assert_uint_eq(errors.num_errors, 1);
    ck_assert(str_starts(errors.first->path,
                         STR("filter_metadata[a].fields[b].list_value.values[0].list_value")));
    ck_assert(str_eq(errors.first->text, STR("messages nested deeper than 100")));
    ck_assert(!pb_unpack(METADATA, wrap(1, entry), &arena, &errors, &opts));
}
END_TEST

START_TEST(test_depth_limit)
{
    /* and_filter { filters { and_filter ... } }: two messages a level, and the root */
    struct str filter = STR("\x1a\x00"); /* not_health_check_filter {} */
    for (int i = 0; i < 49; i++)
        filter = wrap(6, wrap(1, filter));
    expect_ok(&envoy__config__accesslog__v3__access_log_filter__descriptor, filter);
    filter = wrap(6, wrap(1, filter));
    ck_assert(!pb_walk(&envoy__config__accesslog__v3__access_log_filter__descriptor, filter,
                       &errors, &opts));
}
END_TEST

START_TEST(test_wire_types)
{
    expect_error(CLUSTER, STR("\x08\x01"), "name", "wrong wire type");
    expect_error(CLUSTER, STR("\x0d\x01\0\0\0"), "name", "wrong wire type");
    expect_error(CLUSTER, STR("\x12\x01\x01"), "type", "wrong wire type");
    expect_error(CLUSTER, STR("\x20\x01"), "connect_timeout", "wrong wire type");
    expect_error(CLUSTER, wrap(4, STR("\x0a\x01x")), "connect_timeout.seconds", "wrong wire type");
    /* retriable_status_codes is packed or not, as it comes */
    expect_ok(RETRY, STR("\x3a\x03\xf4\x03\x05\x38\x07"));
    expect_error(RETRY, STR("\x3a\x02\xf4\x83"), "retriable_status_codes[0]", "packed values");
    expect_error(RETRY, STR("\x38\x01\x3d\0\0\0\0"), "retriable_status_codes[1]", "wire type");
}
END_TEST

START_TEST(test_strings)
{
    expect_ok(CLUSTER, STR("\x0a\x02\xc3\xa9"));
    expect_ok(CLUSTER, STR("\x0a\x00"));
    expect_error(CLUSTER, STR("\x0a\x02\xc3\x28"), "name", "invalid UTF-8");
    expect_error(CLUSTER, STR("\x0a\x03\xed\xa0\x80"), "name", "invalid UTF-8");
    expect_error(CLUSTER,
                 STR("\x0a\x03"
                     "a\0b"),
                 "name", "NUL byte");
    /* bytes may hold anything */
    expect_ok(&envoy__config__core__v3__data_source__descriptor, STR("\x12\x02\xff\0"));
}
END_TEST

START_TEST(test_structure)
{
    expect_error(CLUSTER, STR("\x0b\x0c"), "", "a group");
    expect_error(CLUSTER, STR("\x0c"), "", "a group");
    expect_error(CLUSTER, STR("\xc3\x3e\xc4\x3e"), "", "a group");
    expect_error(CLUSTER, STR("\x0a\x05x"), "", "beyond the end");
    expect_error(CLUSTER, wrap(4, STR("\x08\x80")), "connect_timeout", "varint");
    expect_error(CLUSTER, wrap(33, wrap(2, wrap(2, STR("\x0a\x01")))),
                 "load_assignment.endpoints[0].lb_endpoints[0]", "beyond the end");
}
END_TEST

START_TEST(test_paths)
{
    /* the fourth endpoint of the first locality; elements lie scattered between other fields */
    struct str good = wrap(2, STR("\x0a\x00")),
               bad = wrap(2, wrap(1, wrap(1, wrap(1, STR("\x12\x01\xff")))));
    struct str locality = join(join(good, STR("\x28\x00")), join(good, join(good, bad)));
    expect_error(ASSIGNMENT, wrap(2, locality),
                 "endpoints[0].lb_endpoints[3].endpoint.address.socket_address.address", "UTF-8");
    /* maps: string keys and what is no key at all */
    expect_error(METADATA, wrap(1, STR("\x0a\x02ke\x12\x02\x08\x01")), "filter_metadata[ke].fields",
                 "wire type");
    expect_error(METADATA, wrap(1, STR("\x0a\x03k\xff\n")), "filter_metadata[k??]", "UTF-8");
    expect_error(METADATA, wrap(1, STR("\x08\x01")), "filter_metadata[]", "wrong wire type");
}
END_TEST

START_TEST(test_unknown)
{
    struct str bytes = join(STR("\x0a\x01x"), STR("\xc0\x3e\x05\xca\x3e\x01x"));
    expect_ok(CLUSTER, bytes);
    ck_assert_uint_eq(counts.unknown_fields, 2);
    ck_assert_uint_eq(counts.unsupported_fields, 0);
    opts.reject_unknown = true;
    expect_error(CLUSTER, wrap(33, wrap(2, STR("\xc0\x3e\x05"))), "load_assignment.endpoints[0]",
                 "unknown field number 1000");
    /* without anything to count in */
    ck_assert(!pb_walk(CLUSTER, bytes, &errors, &(struct pb_opts){.reject_unknown = true}));
    ck_assert(pb_walk(CLUSTER, bytes, &errors, NULL));
}
END_TEST

/* The listed fields change with time; these three are far from being honoured. */
START_TEST(test_unsupported)
{
    /* Cluster.lrs_server (other): a warning, once in the life of the process */
    struct str other = STR("\xd2\x02\x00");
    expect_ok(CLUSTER, other);
    ck_assert_uint_eq(errors.num_warnings, 1);
    ck_assert(str_eq(errors.warn_first->path, STR("lrs_server")));
    expect_ok(CLUSTER, other);
    ck_assert_uint_eq(errors.num_warnings, 1);
    ck_assert_uint_eq(counts.unsupported_fields, 2);
    opts.strict = true;
    expect_error(CLUSTER, other, "lrs_server", "--strict-fields");
    opts.strict = false;
    /* Listener.udp_listener_config (matching) */
    expect_error(&envoy__config__listener__v3__listener__descriptor, wrap(18, STR("")),
                 "udp_listener_config", "what matches depends on it");
    /* FilterChain.use_proxy_proto (security) */
    expect_error(&envoy__config__listener__v3__filter_chain__descriptor, wrap(4, STR("")),
                 "use_proxy_proto", "security depends on it");
    /* Cluster.transport_socket_matcher (TLS) */
    expect_error(CLUSTER, wrap(59, STR("")), "transport_socket_matcher", "TLS depends on it");
    /* AccessLogFilter.extension_filter: one of the choices of a oneof that must be set */
    expect_error(&envoy__config__accesslog__v3__access_log_filter__descriptor, wrap(11, STR("")),
                 "extension_filter", "one of the supported choices is required");
    /* what is in it is not looked at */
    expect_ok(CLUSTER, wrap(42, STR("\xff\xff\xff")));
}
END_TEST

START_TEST(test_many_errors)
{
    /* half a million errors cost no half million paths */
    size_t n = 500000;
    char *p = arena_bytes(&arena, 2 * n);
    for (size_t i = 0; i < n; i++) {
        p[2 * i] = 0x10; /* ClusterLoadAssignment.endpoints as a varint */
        p[2 * i + 1] = 1;
    }
    ck_assert(!pb_walk(ASSIGNMENT, str_n(p, 2 * n), &errors, &opts));
    ck_assert_uint_eq(errors.num_errors, n);
    ck_assert(str_eq(errors.first->next->path, STR("endpoints[1]")));
}
END_TEST

START_TEST(test_unpack)
{
    struct str bytes = join(STR("\x0a\x04name"), wrap(4, STR("\x08\x05")));
    Envoy__Config__Cluster__V3__Cluster *c = PB_UNPACK(Envoy__Config__Cluster__V3__Cluster,
                                                       envoy__config__cluster__v3__cluster, bytes,
                                                       &arena, &errors, &opts);
    ck_assert(c);
    ck_assert_str_eq(c->name, "name");
    ck_assert_str_eq(c->alt_stat_name, "");
    ck_assert_int_eq(c->connect_timeout->seconds, 5);
    ck_assert(str_eq(pb_pack(&c->base, &arena), bytes));
    c = PB_NEW(Envoy__Config__Cluster__V3__Cluster, envoy__config__cluster__v3__cluster, &arena);
    ck_assert_str_eq(c->name, "");
    ck_assert_uint_eq(pb_pack(&c->base, &arena).len, 0);
}
END_TEST

/* Messages in pieces: a later piece adds to the earlier one, whatever protobuf-c makes of it. */
START_TEST(test_pieces)
{
    struct str bytes = join(wrap(4, STR("\x08\x05")),
                            wrap(33, join(STR("\x0a\x01y"), wrap(2, STR("")))));
    bytes = join(bytes, join(wrap(4, STR("\x10\x07")), STR("\x0a\x01x")));
    bytes = join(bytes, wrap(33, wrap(2, STR("\x28\x09"))));
    Envoy__Config__Cluster__V3__Cluster *c = PB_UNPACK(Envoy__Config__Cluster__V3__Cluster,
                                                       envoy__config__cluster__v3__cluster, bytes,
                                                       &arena, &errors, &opts);
    ck_assert_msg(c != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
    ck_assert_int_eq(c->connect_timeout->seconds, 5);
    ck_assert_int_eq(c->connect_timeout->nanos, 7);
    ck_assert_str_eq(c->name, "x");
    ck_assert_uint_eq(c->load_assignment->n_endpoints, 2);
    ck_assert_uint_eq(c->load_assignment->endpoints[1]->priority, 9);
    /* of a oneof what stood before another choice is gone: prefix, path, prefix */
    Envoy__Config__Accesslog__V3__AccessLogFilter *f = PB_UNPACK(
        Envoy__Config__Accesslog__V3__AccessLogFilter,
        envoy__config__accesslog__v3__access_log_filter,
        join(wrap(9, wrap(1, STR("UO"))), join(wrap(3, STR("")), wrap(9, wrap(1, STR("UF"))))),
        &arena, &errors, &opts);
    ck_assert_msg(f != NULL, "%.*s", STR_ARG(errors_text(&errors, &arena)));
    ck_assert_uint_eq(f->response_flag_filter->n_flags, 1);
    ck_assert_str_eq(f->response_flag_filter->flags[0], "UF");
}
END_TEST

START_TEST(test_memory_limit)
{
    /* two bytes an element, hundreds of bytes a struct */
    size_t n = 1 << 16;
    char *p = arena_bytes(&arena, 2 * n);
    for (size_t i = 0; i < n; i++) {
        p[2 * i] = 0x0a; /* Bootstrap.StaticResources.listeners */
        p[2 * i + 1] = 0;
    }
    ck_assert(!pb_unpack(&envoy__config__bootstrap__v3__bootstrap__static_resources__descriptor,
                         str_n(p, 2 * n), &arena, &errors, &opts));
    ck_assert(str_starts(errors.first->text, STR("takes too much memory")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("api-protos/walk");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_nested);
    tcase_add_test(tc, test_depth_limit);
    tcase_add_test(tc, test_wire_types);
    tcase_add_test(tc, test_strings);
    tcase_add_test(tc, test_structure);
    tcase_add_test(tc, test_paths);
    tcase_add_test(tc, test_unknown);
    tcase_add_test(tc, test_unsupported);
    tcase_add_test(tc, test_many_errors);
    tcase_add_test(tc, test_unpack);
    tcase_add_test(tc, test_pieces);
    tcase_add_test(tc, test_memory_limit);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
