#include "cluster/membership.h"

#include "api-protos/message.h"
#include "cluster/cluster_config.h"
#include "cluster/health.h"
#include "test/support/fake_xds.h"
#include <check.h>

static struct arena arena;
static struct errors errs;
static struct cluster_config *config;
static struct cluster_state *state;
static struct membership m;

static void setup(void)
{
    stats_init(1);
    arena_init(&arena, 0);
    errors_init(&errs);
    config = cluster_config_new(NULL, STR("c"));
    state = cluster_state_new(NULL, config);
    membership_init(&m, NULL, state);
}

static void teardown(void)
{
    membership_cleanup(&m);
    cluster_state_unref(state);
    cluster_config_unref(config);
    errors_cleanup(&errs);
    arena_cleanup(&arena);
    stats_cleanup();
}

static struct load_assignment *compile(const char *members)
{
    struct str json = arena_printf(&arena, "{'cluster_name':'c'%s%s}", members[0] ? "," : "",
                                   members);
    char *p = (char *)(uintptr_t)json.p;
    for (size_t i = 0; i < json.len; i++) {
        if (p[i] == '\'')
            p[i] = '"';
    }
    return load_assignment_compile(
        json_to_pb("envoy.config.endpoint.v3.ClusterLoadAssignment", p, &arena), &errs, NULL);
}

#define EP(port, more)                                                                             \
    "{'endpoint':{'address':{'socket_address':{'address':'127.0.0.1','port_value':" #port          \
    "}}}" more "}"
#define GROUP(more, endpoints) "{" more "'lb_endpoints':[" endpoints "]}"

static enum membership_change update(const char *members)
{
    struct load_assignment *la = compile(members);
    enum membership_change change;
    ck_assert_msg(la != NULL, "%s", errors_text(&errs, &arena).p);
    change = membership_update(&m, la, config);
    load_assignment_unref(la);
    return change;
}

static const char *refusal(const char *members)
{
    struct load_assignment *la = compile(members);
    ck_assert_msg(la == NULL, "accepted: %s", members);
    return errors_text(&errs, &arena).p;
}

static struct host *host(unsigned i)
{
    ck_assert_uint_lt(i, m.num_hosts);
    return m.order[i];
}

/* healthy_checks gives the cluster EDS and a health check that every member passes. */
static void healthy_checks(void)
{
    config->type = CLUSTER_EDS;
    config->health = ARENA_NEW(&config->arena, struct health_config);
}

/* As if the host had been checked. */
static void check_passes(struct host *h)
{
    static char session;
    h->health_session = (struct health_session *)(void *)&session;
    host_clear_flag(h, HOST_FAILED_ACTIVE_HC);
}

START_TEST(healthy_host_stays)
{
    healthy_checks();
    (void)update(
        "'endpoints':[" GROUP("'locality':{'region':'a'},", EP(1, "") "," EP(2, "")) "," GROUP(
            "'locality':{'region':'b'},'priority':1,", EP(3, "")) "]");
    ck_assert_uint_eq(m.order[0]->health, HOST_FAILED_ACTIVE_HC);
    for (unsigned i = 0; i < 3; i++)
        check_passes(m.order[i]);
    struct host *two = m.order[1], *three = m.order[2];
    /* 2 and 3 are not listed any more: one has a group to belong to, one has none */
    ck_assert_int_eq(
        update("'endpoints':[" GROUP("'locality':{'region':'a'},", EP(1, "") "," EP(4, "")) "]"),
        MEMBERS_OTHER);
    ck_assert_uint_eq(m.num_hosts, 4);
    ck_assert_uint_eq(m.num_groups, 2);
    ck_assert_uint_eq(m.groups[0].num_hosts, 3);
    ck_assert(m.order[2] == two && m.order[3] == three && m.groups[1].priority == 1);
    ck_assert_uint_eq(two->health, HOST_PENDING_REMOVAL);
    ck_assert(!membership_kept_failed(&m));
    /* listed again */
    (void)update("'endpoints':[" GROUP("'locality':{'region':'a'},", EP(1, "") "," EP(2, "")) "]");
    ck_assert_uint_eq(two->health, 0);
    ck_assert_uint_eq(three->health, HOST_PENDING_REMOVAL);
    host_set_flag(three, HOST_FAILED_ACTIVE_HC);
    ck_assert(membership_kept_failed(&m));
    (void)update("'endpoints':[" GROUP("'locality':{'region':'a'},", EP(1, "") "," EP(2, "")) "]");
    ck_assert_uint_eq(m.num_hosts, 2);
    ck_assert_uint_eq(m.num_groups, 1);
    for (unsigned i = 0; i < 2; i++)
        m.order[i]->health_session = NULL;
}
END_TEST

START_TEST(host_goes_despite_its_health)
{
    healthy_checks();
    config->remove_despite_health = true;
    (void)update("'endpoints':[" GROUP("", EP(1, "") "," EP(2, "")) "]");
    check_passes(m.order[1]);
    (void)update("'endpoints':[" GROUP("", EP(1, "")) "]");
    ck_assert_uint_eq(m.num_hosts, 1);
}
END_TEST

START_TEST(where_it_is_checked)
{
    struct load_assignment *la = compile("'endpoints':[" GROUP(
        "", "{'endpoint':{'address':{'socket_address':{'address':'127.0.0.1','port_value':1}},"
            "'health_check_config':{'port_value':9,'hostname':'h',"
            "'address':{'socket_address':{'address':'127.0.0.2','port_value':3}}}}},"
            "{'endpoint':{'address':{'socket_address':{'address':'127.0.0.1','port_value':2}},"
            "'health_check_config':{'disable_active_health_check':true}}}") "]");
    char text[ADDR_TEXT_MAX];
    const struct assigned_endpoint *ep = la->localities[0].endpoints;
    ck_assert(str_eq(addr_format(&ep[0].hc_addr, text), STR("127.0.0.2:9")));
    ck_assert(str_eq(ep[0].hc_hostname, STR("h")) && !ep[0].hc_disabled);
    ck_assert(str_eq(addr_format(&ep[1].hc_addr, text), STR("127.0.0.1:2")));
    ck_assert(ep[1].hc_disabled);
    load_assignment_unref(la);
    ck_assert_ptr_nonnull(strstr(
        refusal("'endpoints':[" GROUP("", "{'endpoint':{'address':{'socket_address':{'address':"
                                          "'127.0.0.1','port_value':1}},'health_check_config':{"
                                          "'port_value':70000}}}") "]"),
        "port_value"));
}
END_TEST

/* --- the assignment
 * ------------------------------------------------------------------------------- */

START_TEST(compiles)
{
    struct load_assignment *la = compile(
        "'policy':{'overprovisioning_factor':200,'endpoint_stale_after':'3s',"
        "'weighted_priority_health':true,'drop_overloads':[{'category':'x','drop_percentage':{"
        "'numerator':25}}]},'endpoints':[" GROUP(
            "'priority':1,",
            EP(2, ",'health_status':'"
                  "DRAINING','load_balancing_"
                  "weight':7")) "," GROUP("'locality':{'region':'r','zone':'z','sub_zone':'s'},'"
                                          "load_balancing_weight':4,",
                                          EP(1, "") "," EP(3, "")) "]");
    ck_assert_ptr_nonnull(la);
    ck_assert_uint_eq(la->overprovisioning, 200);
    ck_assert_uint_eq(la->stale_after_ms, 3000);
    ck_assert(la->weighted_health);
    ck_assert_uint_eq(la->drop_ppm, 250000);
    ck_assert_uint_eq(la->num_localities, 2);
    ck_assert_uint_eq(la->localities[0].priority, 0); /* in order */
    ck_assert(str_eq(la->localities[0].zone, STR("z")));
    ck_assert_uint_eq(la->localities[0].weight, 4);
    ck_assert_uint_eq(la->localities[0].endpoints[0].weight, 1);
    ck_assert_uint_eq(la->localities[1].endpoints[0].weight, 7);
    ck_assert_uint_eq(la->localities[1].endpoints[0].health, 3);
    load_assignment_unref(la);
}
END_TEST

static const struct {
    const char *members, *error;
} bad[] = {
    {"'endpoints':[{'lb_endpoints':[{}]}]", "endpoints[0].lb_endpoints[0].endpoint: "},
    {"'endpoints':[{},{'lb_endpoints':[{'endpoint':{}}]}]",
     "endpoints[1].lb_endpoints[0].endpoint.address: an address is required"},
    {"'endpoints':[{'lb_endpoints':[{'endpoint':{'address':{'socket_address':{'address':'a.b',"
     "'port_value':1}}}}]}]",
     "socket_address.address: malformed IP address: a.b"},
    {"'endpoints':[{'lb_endpoints':[{'endpoint':{'address':{'socket_address':{'address':"
     "'127.0.0.1','port_value':65536}}}}]}]",
     "port_value: "},
    {"'endpoints':[{'lb_endpoints':[{'endpoint':{'address':{'socket_address':{'address':"
     "'127.0.0.1'}}}}]}]",
     "socket_address"},
    {"'endpoints':[{'lb_endpoints':[{'endpoint':{'address':{'socket_address':{'address':"
     "'127.0.0.1','port_value':1,'protocol':'UDP'}}}}]}]",
     "protocol: only TCP"},
    {"'endpoints':[{'lb_endpoints':[{'endpoint':{'address':{'pipe':{'path':'/"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxxxxx'}}}}]}]",
     "pipe.path: not a path of 1 to 107 bytes"},
    {"'endpoints':[" GROUP("'priority':129,", EP(1, "")) "]", "endpoints[0].priority: "},
    {"'endpoints':[" GROUP("", EP(1, ",'load_balancing_weight':0")) "]",
     "endpoints[0].lb_endpoints[0].load_balancing_weight: "},
    {"'endpoints':[" GROUP("", EP(1, ",'load_balancing_weight':4294967295") "," EP(2, "")) "]",
     "endpoints[0].lb_endpoints: the weights of the endpoints sum up to more than 4294967295"},
    {"'endpoints':[" GROUP("'load_balancing_weight':4294967295,", EP(1, "")) "," GROUP(
         "'load_balancing_weight':1,'locality':{'zone':'b'},", EP(2, "")) "]",
     "endpoints: the weights of the localities of priority 0 sum up"},
    {"'endpoints':[" GROUP("", EP(1, ",'health_status':9")) "]",
     "endpoints[0].lb_endpoints[0].health_status: "},
    {"'policy':{'drop_overloads':[{'category':'a','drop_percentage':{'numerator':1}},"
     "{'category':'b','drop_percentage':{'numerator':1}}]}",
     "policy.drop_overloads: 2 categories"},
    {"'policy':{'overprovisioning_factor':0}", "policy.overprovisioning_factor: "},
};

START_TEST(refused)
{
    const char *text = refusal(bad[_i].members);
    ck_assert_msg(strstr(text, bad[_i].error) != NULL, "%s\nis not in\n%s", bad[_i].error, text);
}
END_TEST

START_TEST(accepted_with_a_warning)
{
    struct load_assignment *la = compile(
        "'endpoints':[" GROUP("", EP(1, "") "," EP(1, "")) "," GROUP("", EP(2, "")) "]");
    ck_assert_ptr_nonnull(la);
    ck_assert_uint_eq(errs.num_warnings, 2); /* an address and a locality, twice each */
    ck_assert_uint_eq(la->localities[0].num_endpoints, 1);
    load_assignment_unref(la);
}
END_TEST

/* --- members
 * ---------------------------------------------------------------------------------------- */

START_TEST(matched_by_address)
{
    struct host *two, *three;
    ck_assert_int_eq(update("'endpoints':[" GROUP("", EP(1, "") "," EP(2, "")) "]"), MEMBERS_OTHER);
    two = host(1);
    ck_assert_int_eq(update("'endpoints':[" GROUP("", EP(1, "") "," EP(2, "")) "]"), MEMBERS_SAME);
    ck_assert_int_eq(update("'endpoints':[" GROUP("", EP(3, "") "," EP(2, "")) "]"), MEMBERS_OTHER);
    ck_assert_ptr_eq(host(1), two);
    three = host(0);
    ck_assert_int_eq(update("'endpoints':[" GROUP("", EP(2, "") "," EP(3, "")) "]"),
                     MEMBERS_CHANGED); /* another order */
    ck_assert_ptr_eq(host(1), three);
}
END_TEST

START_TEST(weight_health_priority)
{
    struct host *h;
    (void)update("'endpoints':[" GROUP("", EP(1, "")) "]");
    h = host(0);
    ck_assert_int_eq(update("'endpoints':[" GROUP("", EP(1, ",'load_balancing_weight':5")) "]"),
                     MEMBERS_CHANGED);
    ck_assert_uint_eq(h->weight, 5);
    ck_assert_int_eq(update("'endpoints':[" GROUP(
                         "", EP(1, ",'load_balancing_weight':5,'health_status':'UNHEALTHY'")) "]"),
                     MEMBERS_CHANGED);
    ck_assert(!host_healthy(h));
    ck_assert_int_eq(update("'endpoints':[" GROUP(
                         "", EP(1, ",'load_balancing_weight':5,'health_status':'DEGRADED'")) "]"),
                     MEMBERS_CHANGED);
    ck_assert(host_healthy(h));
    ck_assert_uint_eq(h->health, HOST_DEGRADED_EDS);
    ck_assert_int_eq(update("'endpoints':[" GROUP("'priority':2,", EP(1, "")) "]"),
                     MEMBERS_CHANGED);
    ck_assert_ptr_eq(host(0), h);
    ck_assert_uint_eq(h->priority, 2);
    ck_assert_uint_eq(h->health, 0);
}
END_TEST

START_TEST(another_place_another_host)
{
    struct host *h;
    (void)update("'endpoints':[" GROUP("'locality':{'zone':'a'},", EP(1, "")) "]");
    h = host_ref(host(0));
    ck_assert_int_eq(update("'endpoints':[" GROUP("'locality':{'zone':'b'},", EP(1, "")) "]"),
                     MEMBERS_OTHER);
    ck_assert_ptr_ne(host(0), h);
    ck_assert(h->removed);
    ck_assert_ptr_null(h->state);
    host_unref(h);
    ck_assert_uint_eq(m.num_hosts, 1);
}
END_TEST

START_TEST(policy_changes)
{
    struct host_set *set;
    (void)update("'endpoints':[" GROUP("", EP(1, "")) "]");
    ck_assert_int_eq(
        update("'policy':{'overprovisioning_factor':100},'endpoints':[" GROUP("", EP(1, "")) "]"),
        MEMBERS_CHANGED);
    ck_assert_int_eq(
        update("'policy':{'overprovisioning_factor':100,'drop_overloads':[{"
               "'category':'x','drop_percentage':{'numerator':50}}]},'endpoints':[" GROUP(
                   "", EP(1, "")) "]"),
        MEMBERS_CHANGED);
    set = membership_build(&m, config);
    ck_assert_uint_eq(set->drop_ppm, 500000);
    ck_assert_uint_eq(set->overprovisioning, 100);
    host_set_unref(set);
}
END_TEST

START_TEST(nothing_assigned)
{
    struct host_set *set;
    (void)update("'endpoints':[" GROUP("", EP(1, "")) "]");
    ck_assert_int_eq(membership_update(&m, NULL, config), MEMBERS_OTHER);
    ck_assert_int_eq(membership_update(&m, NULL, config), MEMBERS_SAME);
    set = membership_build(&m, config);
    ck_assert_uint_eq(set->num_hosts, 0);
    ck_assert_uint_eq(set->num_priorities, 1);
    host_set_unref(set);
}
END_TEST

START_TEST(groups_of_a_priority_stay_apart)
{
    struct host_set *set;
    config->locality_weighted = true;
    (void)update(
        "'endpoints':[" GROUP("'priority':1,'load_balancing_weight':1,", EP(1, "")) "," GROUP(
            "'load_balancing_weight':2,'locality':{'zone':'a'},",
            EP(2, "") "," EP(3, "")) "," GROUP("'load_balancing_weight':3,'locality':{'zone':'b'},",
                                               EP(4, "")) "]");
    set = membership_build(&m, config);
    ck_assert_uint_eq(set->num_hosts, 4);
    ck_assert_uint_eq(set->num_priorities, 2);
    ck_assert_uint_eq(set->priority_start[1], 3);
    ck_assert_uint_eq(set->priorities[0].num_localities, 2);
    ck_assert_uint_eq(set->priorities[0].localities[1].weight, 3);
    ck_assert_uint_eq(set->priorities[1].num_localities, 1);
    host_set_unref(set);
}
END_TEST

/* --- transport socket matches
 * --------------------------------------------------------------------- */

static struct labels *labels(const char *json)
{
    char *copy = arena_strdup(&arena, json);
    struct str bytes;
    const void *msg;
    for (char *p = copy; *p; p++) {
        if (*p == '\'')
            *p = '"';
    }
    bytes = json_to_pb("google.protobuf.Struct", copy, &arena);
    msg = pb_unpack(pb_find(STR("google.protobuf.Struct")), bytes, &arena, &errs, NULL);
    return labels_of(msg, &arena);
}

START_TEST(labels_are_compared)
{
    struct labels *istio = labels("{'tlsMode':'istio'}");
    ck_assert(labels_match(NULL, NULL));
    ck_assert(labels_match(NULL, istio));
    ck_assert(!labels_match(istio, NULL));
    ck_assert(labels_match(istio, labels("{'a':1,'tlsMode':'istio','z':true}")));
    ck_assert(!labels_match(istio, labels("{'tlsMode':'disabled'}")));
    ck_assert(!labels_match(istio, labels("{'tlsModes':'istio'}")));
    ck_assert(!labels_match(labels("{'a':1,'b':2}"), labels("{'a':1}")));
    ck_assert(labels_match(labels("{'a':1,'b':[1,{'x':'y','k':'l'}]}"),
                           labels("{'b':[1,{'k':'l','x':'y'}],'a':1,'c':null}")));
    ck_assert(!labels_match(labels("{'a':1}"), labels("{'a':'1'}")));
}
END_TEST

START_TEST(first_match_wins)
{
    struct transport_match matches[] = {{STR("istio"), labels("{'tlsMode':'istio'}")},
                                        {STR("any"), NULL}};
    struct transport_factory *transports[3] = {0};
    struct host *h;
    config->matches = matches;
    config->transports = transports;
    config->num_transports = 3;
    (void)update("'endpoints':[" GROUP(
        "",
        EP(1, ",'metadata':{'filter_metadata':{'envoy.transport_socket_match':{'tlsMode':'"
              "istio'}}}") "," EP(2, ",'metadata':{'filter_metadata':{'other':{'tlsMode':'istio'}}"
                                     "}")) "," GROUP("'locality':{'zone':'l'},'metadata':{'filter_"
                                                     "metadata':{'envoy.transport_socket_match':{"
                                                     "'tlsMode':'istio'}}},",
                                                     EP(3, "")) "]");
    ck_assert_uint_eq(host(0)->transport_index, 1);
    ck_assert_uint_eq(host(1)->transport_index, 2); /* {} matches everything */
    ck_assert_uint_eq(host(2)->transport_index, 1); /* by its locality's metadata */
    h = host_ref(host(0));
    config->num_transports = 1; /* an update without matches: connections are made otherwise */
    (void)update("'endpoints':[" GROUP("", EP(1, "")) "]");
    ck_assert_ptr_ne(host(0), h);
    host_unref(h);
    config->num_transports = 0;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster/membership");
    TCase *t = tcase_create("membership");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, healthy_host_stays);
    tcase_add_test(t, host_goes_despite_its_health);
    tcase_add_test(t, where_it_is_checked);
    tcase_add_test(t, compiles);
    tcase_add_loop_test(t, refused, 0, ARRAY_LEN(bad));
    tcase_add_test(t, accepted_with_a_warning);
    tcase_add_test(t, matched_by_address);
    tcase_add_test(t, weight_health_priority);
    tcase_add_test(t, another_place_another_host);
    tcase_add_test(t, policy_changes);
    tcase_add_test(t, nothing_assigned);
    tcase_add_test(t, groups_of_a_priority_stay_apart);
    tcase_add_test(t, labels_are_compared);
    tcase_add_test(t, first_match_wins);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
